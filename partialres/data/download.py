"""Download public files with curl, check and unpack them. Files that were put there by hand are only checked.

A tab-separated table with a header lists the files: name, address (empty if a login is needed), bytes and sha256
(empty if unknown), about. A file is downloaded as NAME.part, so that an interrupted transfer can continue, and then
renamed to NAME. NAME.sha256 beside it holds its checksum in the form that `sha256sum --check` reads.
"""

import re
import shutil
import subprocess
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from partialres.files import DataError, atomic, progress, say, sha256, stays_inside, write_text

COLUMNS = ("name", "address", "bytes", "sha256", "about")
ROW = re.compile(r"([^\t/]+)\t([^\t]*)\t(\d*)\t((?:[0-9a-f]{64})?)\t([^\t]*)")
ATTEMPTS = 20  # per file; each continues where the one before stopped
TIMES = 200  # an archive of pictures or text unpacks to at most so many times its size
RANGE_REFUSED = 33  # curl's exit status if the server cannot continue a partial download
UNREACHABLE = (5, 6, 7)  # curl's exit statuses if the proxy or the server has no address or does not answer


@dataclass(frozen=True)
class Item:
    """Holds one row of the table."""

    name: str
    address: str
    bytes: int | None
    sha256: str
    about: str


def read_items(path: Path) -> dict[str, Item]:
    """Read the table as a dict from name to row; raises DataError that names a malformed row."""
    items: dict[str, Item] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()[1:], 2):
        row = ROW.fullmatch(line)
        if row is None:
            form = "a name has no slash, bytes are digits or none, sha256 64 of the digits 0-9a-f or none"
            raise DataError(f"{path}: line {number} is not {', '.join(COLUMNS)}, separated by tabs; {form}")
        name, address, size, checksum, about = row.groups()
        if name in (".", "..") or not re.match(r"(https?|ftp)://|$", address):
            raise DataError(f"{path}: line {number}: {name}: {address!r} is no http, https or ftp address; correct it")
        items[name] = Item(name, address, int(size) if size else None, checksum, about)
    return items


def download(item: Item, folder: Path, *, wait: float = 3.0) -> None:
    """Download a file to the folder unless it is there; check it, and write its checksum beside it.

    wait: seconds before an interrupted transfer continues. Raises DataError if the file cannot be downloaded or is bad.
    """
    path = folder / item.name
    if path.is_file():
        digest = _checked(item, path, "put the right file there, or remove it to have it downloaded")
        say(f"{path}: was there already; SHA-256 {digest}")
    else:
        if not item.address:
            raise DataError(f"{path}: cannot be downloaded without a login. {item.about}. Put it there by hand")
        part = path.with_name(f"{item.name}.part")
        _transfer(item, part, wait)
        try:
            digest = _checked(item, part, f"it was removed; try again, or correct the table if {item.address} changed")
        except DataError:
            part.unlink()
            raise
        part.replace(path)
        say(f"{path}: {path.stat().st_size} bytes from {item.address}; SHA-256 {digest}")
    if not item.sha256:
        say(f"the table has no SHA-256 of {item.name} to compare with; record this one there if you trust the file")
    write_text(f"{digest}  {item.name}\n", path.with_name(f"{item.name}.sha256"))


def _checked(item: Item, path: Path, cure: str) -> str:
    """Return the file's SHA-256; raise DataError, ending in `cure`, if size or checksum differ from the table's."""
    size = path.stat().st_size
    if item.bytes is not None and size != item.bytes:
        raise DataError(f"{path}: has {size} bytes, {item.name} has {item.bytes}; {cure}")
    digest = sha256(path)
    if item.sha256 and digest != item.sha256:
        raise DataError(f"{path}: its SHA-256 is {digest}, not {item.sha256}; {cure}")
    return digest


def _transfer(item: Item, part: Path, wait: float) -> None:
    """Download to `part`, continuing what is there, until it is complete; raise DataError if that fails."""
    if shutil.which("curl") is None:
        raise DataError(f"{item.name}: curl, which downloads it, is not installed; install it, or get {item.address}")
    part.parent.mkdir(parents=True, exist_ok=True)
    # curl's own --retry starts over, hence the loop below. The speed options end a transfer that stalls for a minute.
    command = [
        "curl", "--fail", "--location", "--silent", "--show-error", "--continue-at", "-", "--output", str(part),
        "--connect-timeout", "30", "--speed-limit", "1000", "--speed-time", "60",
        "--write-out", " %{http_code} %{http_connect}", "--proto", "=http,https,ftp", "--url", item.address,
    ]  # fmt: skip
    for _ in range(ATTEMPTS):
        if item.bytes is not None and _size(part) >= item.bytes:
            return
        answer = subprocess.run(command, capture_output=True, text=True)
        (code, proxy), reason = answer.stdout.split()[-2:], answer.stderr.strip()  # status codes, 000 if none came
        if code == "416" or answer.returncode == RANGE_REFUSED:  # it cannot be continued: start over
            part.unlink(missing_ok=True)
        elif answer.returncode == 0:
            return
        elif code == "404":
            raise DataError(f"{item.name}: cannot download {item.address} ({reason}); correct the address in the table")
        elif "4" in (code[0], proxy[0]) or (answer.returncode in UNREACHABLE and not _size(part)):
            by_hand = f"without one, put the file in {part.parent}"
            raise DataError(f"{item.name}: no network to {item.address} ({reason}); connect to it, or, {by_hand}")
        say(f"{item.name}: {reason}; continuing after {_size(part)} bytes")
        time.sleep(wait)
    raise DataError(f"{item.name}: {item.address}: {reason}; {_size(part)} bytes are kept; run again to continue")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def unpack(archive: Path, folder: Path, listing: Path) -> int:
    """Unpack a zip into a folder and return the number of its files.

    listing: file for their names, written last: if it exists, all files are there. Existing files of the right size, as
    an interrupted call leaves them, are kept. Raises DataError if the zip is damaged or would write outside the folder.
    """
    with _opened(archive) as content:
        members = [each for each in content.infolist() if not each.is_dir() and "__MACOSX" not in each.filename]
        for member in members:
            if not stays_inside(member.filename):
                raise DataError(f"{archive}: holds {member.filename}, which is outside its folder; do not trust it")
        total, free = sum(member.file_size for member in members), shutil.disk_usage(archive.parent).free
        if total > min(free, TIMES * archive.stat().st_size + 2**20):
            reason = f"would unpack to {total / 1e9:.1f} GB, more than it can hold or than is free"
            raise DataError(f"{archive}: {reason}; make room, or download it again if it should be smaller")
        for member in progress(members, f"unpack {archive.name}"):
            place = folder / member.filename
            if not (place.is_file() and place.stat().st_size == member.file_size):
                _extract(content, member, place)
    write_text("".join(f"{name}\n" for name in sorted(member.filename for member in members)), listing)
    return len(members)


def unpack_one(archive: Path, name: str, out: Path) -> None:
    """Unpack the file called `name` from a zip to `out`; raises DataError if the zip lacks it or is damaged."""
    with _opened(archive) as content:
        if name not in content.namelist():
            held = ", ".join(content.namelist()[:8])
            raise DataError(f"{archive}: holds no {name}, only {held}; take the archive that has it")
        _extract(content, content.getinfo(name), out)


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(archive) as content:
            yield content
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeError) as error:
        raise DataError(f"{archive}: damaged ({error}); remove it and its .sha256, and download again") from error


def _extract(content: zipfile.ZipFile, member: zipfile.ZipInfo, place: Path) -> None:
    with atomic(place) as temporary, content.open(member) as source, temporary.open("wb") as target:
        shutil.copyfileobj(source, target, 2**20)
