"""Read and write files so that none is ever left half-written; errors that tell what to do; progress messages."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from tqdm import tqdm

Item = TypeVar("Item")


class DataError(ValueError):
    """Input that cannot be used; the message names the file, the row if there is one, and the cure."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which step and why."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with the same suffix; rename it to `path` if the block succeeds.

    On an exception the temporary file is removed and an existing file at `path` stays untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's 0600 would hide results from a shared cluster folder
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(text: str, path: Path) -> None:
    """Write UTF-8 text atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(value: Any, path: Path) -> None:
    """Write JSON atomically, with keys in the order given; raises ValueError for NaN and infinity."""
    write_text(json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n", path)


def read_json(path: Path) -> Any:
    """Read JSON; raises DataError that names the file if it is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: not valid JSON ({error})") from error


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as parquet, atomically."""
    with atomic(path) as temporary:
        table.to_parquet(temporary, index=False)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a parquet table, or only some of its columns; raises DataError naming the file and missing columns."""
    try:
        table = pd.read_parquet(path, columns=list(columns) if columns is not None else None)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a parquet table with columns {columns}: {error}") from error
    return table


def progress(
    items: Iterable[Item], label: str, total: int | None = None, seconds: float = 15.0, note: Callable[[], str] = str
) -> Iterator[Item]:
    """Yield the items and show progress: as a bar on a terminal, elsewhere as a line every `seconds` seconds.

    note: called for each line, gives text to append.
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    if sys.stderr.isatty():
        bar = tqdm(items, desc=label, total=total, leave=False)
        for item in bar:
            yield item
            bar.set_postfix_str(note(), refresh=False)
        return
    start = last = time.monotonic()
    count = 0
    for count, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= seconds:
            last = now
            spent = now - start
            all_, left = (f" of {total}", f", {spent / count * (total - count):.0f} s left") if total else ("", "")
            said = f", {note()}" if note() else ""
            say(f"{label}: {count}{all_}{said} ({spent:.0f} s{left})")
    say(f"{label}: {count} done in {time.monotonic() - start:.1f} s")


def say(message: str) -> None:
    """Print a line for the user on standard error."""
    print(message, file=sys.stderr, flush=True)
