"""Public files fetched by curl, checked, and unpacked; files put there by hand are taken as they are, but checked too.

A table names them, tab-separated with a header: name, address (empty: not to be had without a login), bytes and sha256
(empty: not known), about. A file lies in a folder under its name. A transfer goes to NAME.part, which a broken one goes
on from; beside a whole file NAME.sha256 holds its checksum, in the form that `sha256sum --check` reads.
"""

from __future__ import annotations

import csv
import hashlib
import re
import shutil
import subprocess
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from partialres.files import DataError, atomic, progress, say, write_text

COLUMNS = ("name", "address", "bytes", "sha256", "about")
PATIENCE = 5  # transfers in a row that bring nothing before it is given up
RANGE_REFUSED = 33  # curl: the server cannot go on from the middle
HTTP_ERROR = 22  # curl --fail: the server answered 400 or above
BAD_ADDRESS = (3, 6)  # curl: no such form of address, no such host
_CHUNK = 2**20


@dataclass(frozen=True)
class Item:
    """A row of the table."""

    name: str
    address: str
    bytes: int | None
    sha256: str
    about: str


def read_items(path: Path) -> dict[str, Item]:
    """The table's files by name; raises DataError that names the row that is not as it should be."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(stream, delimiter="\t")
        if tuple(rows.fieldnames or ()) != COLUMNS:
            raise DataError(f"{path}: its columns are not {', '.join(COLUMNS)}, parted by tabs")
        items: dict[str, Item] = {}
        for number, row in enumerate(rows, 2):
            if None in row or None in row.values() or not row["name"] or "/" in row["name"]:
                raise DataError(f"{path}: line {number} has not {len(COLUMNS)} fields, or no name without a slash")
            if not re.fullmatch(r"\d*", row["bytes"]) or not re.fullmatch(r"([0-9a-f]{64})?", row["sha256"]):
                raise DataError(f"{path}: line {number}: bytes is a number, sha256 64 lower-case hexadecimal digits")
            size = int(row["bytes"]) if row["bytes"] else None
            items[row["name"]] = Item(row["name"], row["address"], size, row["sha256"], row["about"])
    return items


def download(item: Item, folder: Path, *, wait: float = 3.0) -> Path:
    """Bring a file to the folder, or take the one that is there; check it, and write its checksum beside it.

    wait: seconds before a broken transfer goes on.
    Returns the file of the checksum. Raises DataError if the file cannot be had or is not the one of the table.
    """
    path = folder / item.name
    if path.is_file():
        found = _checked(item, path, "put the right file there, or remove it to have it downloaded")
        say(f"{path}: was there already; SHA-256 {found}")
    else:
        if not item.address:
            raise DataError(f"{path}: cannot be downloaded without a login. {item.about}. Put it there by hand")
        part = path.with_name(f"{item.name}.part")
        _transfer(item, part, wait)
        try:
            found = _checked(item, part, f"it was removed; try again, or correct the table if {item.address} changed")
        except DataError:
            part.unlink()
            raise
        part.replace(path)
        say(f"{path}: {path.stat().st_size} bytes from {item.address}; SHA-256 {found}")
    if not item.sha256:
        say(f"no SHA-256 of {item.name} is in the table to compare with; record this one there if you trust the file")
    record = path.with_name(f"{item.name}.sha256")
    write_text(f"{found}  {item.name}\n", record)
    return record


def _checked(item: Item, path: Path, cure: str) -> str:
    """The file's SHA-256; raises DataError if it, or the size, is not the table's."""
    size = path.stat().st_size
    if item.bytes is not None and size != item.bytes:
        raise DataError(f"{path}: has {size} bytes, {item.name} has {item.bytes}; {cure}")
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if item.sha256 and found != item.sha256:
        raise DataError(f"{path}: its SHA-256 is {found}, not {item.sha256}; {cure}")
    return found


def _transfer(item: Item, part: Path, wait: float) -> None:
    """Fetch to `part`, going on from what is there, until it is whole; raises DataError if that cannot be."""
    part.parent.mkdir(parents=True, exist_ok=True)
    if shutil.which("curl") is None:
        raise DataError(f"{item.name}: curl, which downloads it, is not installed; install it, or get {item.address}")
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        if item.bytes is not None and before >= item.bytes:
            return
        # curl's own --retry starts again from nothing, so the loop is here. A stalled transfer is cut after a minute.
        answer = subprocess.run(
            [
                "curl", "--fail", "--location", "--silent", "--show-error", "--continue-at", "-", "--output", part,
                "--connect-timeout", "30", "--speed-limit", "1000", "--speed-time", "60",
                "--write-out", "%{http_code}", item.address,
            ],
            capture_output=True, text=True,
        )  # fmt: skip
        code, reason = answer.stdout[-3:], answer.stderr.strip() or f"curl ended with {answer.returncode}"
        if code == "416" and item.sha256:  # nothing comes after what is here: whole, or another file; the sum will tell
            return
        if code == "416" or answer.returncode == RANGE_REFUSED:
            part.unlink(missing_ok=True)
        elif answer.returncode == 0:
            return
        elif answer.returncode in BAD_ADDRESS or (answer.returncode == HTTP_ERROR and code.startswith("4")):
            raise DataError(f"{item.name}: {item.address} cannot be had ({reason}); correct the address in the table")
        after = part.stat().st_size if part.exists() else 0
        failures = 0 if after > before else failures + 1
        if failures == PATIENCE:
            raise DataError(f"{item.name}: {item.address}: {reason}; {after} bytes are kept, run again to go on")
        say(f"{item.name}: {reason}; going on from {after} bytes")
        time.sleep(wait)


def unpack(archive: Path, folder: Path, listing: Path) -> int:
    """Unpack a zip into a folder and write the names of its files, last of all: where the list is, all are there.

    Files of the right size that are there already, of an unpacking that was stopped, stay. Returns their number.
    Raises DataError if the zip is damaged or would write outside the folder.
    """
    names: list[str] = []
    try:
        with zipfile.ZipFile(archive) as content:
            members = [one for one in content.infolist() if not one.is_dir() and "__MACOSX" not in one.filename]
            for member in members:
                if PurePosixPath(member.filename).is_absolute() or ".." in PurePosixPath(member.filename).parts:
                    raise DataError(f"{archive}: holds {member.filename}, which is outside its folder; do not trust it")
            for member in progress(members, f"unpack {archive.name}"):
                place = folder / member.filename
                if not (place.is_file() and place.stat().st_size == member.file_size):
                    _extract(content, member, place)
                names.append(member.filename)
    except zipfile.BadZipFile as error:
        raise DataError(f"{archive}: damaged ({error}); remove it and its .sha256, and download again") from error
    write_text("".join(f"{name}\n" for name in sorted(names)), listing)
    return len(names)


def unpack_one(archive: Path, name: str, out: Path) -> None:
    """One file of a zip, by its name there; raises DataError if it is not in it or the zip is damaged."""
    try:
        with zipfile.ZipFile(archive) as content:
            if name not in content.namelist():
                raise DataError(f"{archive}: holds no {name}, only {', '.join(content.namelist()[:8])}")
            _extract(content, content.getinfo(name), out)
    except zipfile.BadZipFile as error:
        raise DataError(f"{archive}: damaged ({error}); remove it and its .sha256, and download again") from error


def _extract(content: zipfile.ZipFile, member: zipfile.ZipInfo, place: Path) -> None:
    with atomic(place) as temporary, content.open(member) as source, temporary.open("wb") as target:
        shutil.copyfileobj(source, target, _CHUNK)
