"""Download single images with curl, 16 at a time, and keep those that decode and have the size in instances.json."""

import shutil
import subprocess
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from partialres.files import DataError, progress, say, write_text

ATTEMPTS = 8  # for each image
CHUNK = 400  # images per call of curl, between which progress is shown
AT_ONCE = 16  # connections
GONE = {"403", "404", "410"}  # answers that no further attempt changes


def download_images(
    sizes: Mapping[str, tuple[int, int]],
    address: str,
    folder: Path,
    listing: Path,
    *,
    wait: float = 3.0,
    stall: int = 30,
) -> int:
    """Download the images that the folder lacks from `address`/NAME, and return how many were downloaded.

    sizes: (height, width) in pixels by name, relative to the folder. listing: file for the names, written last.
    wait: seconds before failed images are tried again. stall: seconds after which a transfer of less than 1 kB/s ends.
    An image is written to a folder beside `listing`, and moved once it is whole. Raises DataError, which counts and
    names the images that could not be downloaded; the others are kept.
    """
    parts = listing.with_suffix(".part")  # one for each data set: two jobs may want the same image
    lacking = [name for name in sizes if not (folder / name).is_file()]
    total = len(lacking)
    if lacking and shutil.which("curl") is None:
        raise DataError(f"curl, which downloads images, is not installed; install it, or put the images into {folder}")
    for attempt in range(ATTEMPTS):
        failed: dict[str, str] = {}
        chunks = [lacking[start : start + CHUNK] for start in range(0, len(lacking), CHUNK)]
        for chunk in progress(chunks, f"download images in {CHUNK}s") if chunks else ():
            answers = _transfer(chunk, address, parts, stall)
            with ThreadPoolExecutor() as pool:
                kept = pool.map(lambda name: _keep(parts / name, folder / name, sizes[name]), answers)
            failed |= {name: code for (name, code), good in zip(answers.items(), kept, strict=True) if not good}
        lacking = [name for name, code in failed.items() if code not in GONE]
        gone = [name for name, code in failed.items() if code in GONE]
        if gone:
            raise DataError(
                f"{address}: has no {', '.join(gone[:3])}, {len(gone)} images in all ({total - len(failed)} of {total} "
                f"were downloaded); correct the address in the downloads table, or put them into {folder}"
            )
        if not lacking:
            break
        say(f"{len(lacking)} images failed, such as {lacking[0]} ({failed[lacking[0]]}); attempt {attempt + 2}")
        time.sleep(wait)
    if lacking:
        raise DataError(
            f"{address}: {len(lacking)} of {total} images did not arrive whole, such as {', '.join(lacking[:3])} "
            f"({failed[lacking[0]]}); the others are kept: run again to continue"
        )
    shutil.rmtree(parts, ignore_errors=True)
    write_text("".join(f"{name}\n" for name in sorted(sizes)), listing)
    say(f"{folder}: {total} images downloaded, {len(sizes) - total} were there already")
    return total


def _transfer(names: list[str], address: str, parts: Path, stall: int) -> dict[str, str]:
    """Download images to a folder with one call of curl; return the server's answers, such as "200", by name.

    Images that were cut off, which curl notices by the length that the server announced, are removed.
    """
    asked = "".join(
        f"url = {_quoted(f'{address}/{quote(name)}')}\noutput = {_quoted(str(parts / name))}\n" for name in names
    )
    answer = subprocess.run(
        [
            "curl", "--config", "-", "--parallel", "--parallel-max", str(AT_ONCE), "--fail", "--location", "--silent",
            "--globoff", "--create-dirs", "--connect-timeout", "30", "--speed-limit", "1000",
            "--speed-time", str(stall),
            "--proto", "=http,https", "--write-out", r"%{exitcode} %{http_code} %{urlnum}\n",
        ],
        input=asked, capture_output=True, text=True,
    )  # fmt: skip
    answers = dict.fromkeys(names, answer.stderr.strip()[:200] or "no answer")
    for line in answer.stdout.splitlines():
        status, code, place = line.split()
        name = names[int(place)]
        answers[name] = code if code != "000" else f"curl's error {status}"
        if status != "0":
            (parts / name).unlink(missing_ok=True)
    return answers


def _quoted(text: str) -> str:
    """Quote a value for curl's config."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _keep(part: Path, path: Path, size: tuple[int, int]) -> bool:
    """Move an image to its path if it decodes to (height, width), else remove it; return whether it was kept."""
    try:
        with Image.open(part) as image:
            image.load()
            whole = image.size == size[::-1]
    except (OSError, SyntaxError, ValueError):
        whole = False
    if whole:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.replace(path)
    else:
        part.unlink(missing_ok=True)
    return whole
