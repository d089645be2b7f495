"""Read files with checks, and write them so that none is left half-written; also errors and progress messages."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import pandas as pd
from tqdm import tqdm

if TYPE_CHECKING:
    import pyarrow as pa

Item = TypeVar("Item")
OnProblem = Literal["refuse", "report"]

MAX_SIDE, MAX_PIXELS = 2**15, 2**27  # of an image: a side, and in all
REACH = 4 * MAX_SIDE  # pixels from 0 to a point, at most: pycocotools walks along every pixel between points

# What values must be, the test for it, and the columns that it holds for.
_COLUMNS: list[tuple[str, Callable[[Any], Any], str]] = [
    ("a whole number", lambda value: type(value) is int, "ref_id ann_id image_id category_id offset"),
    (f"a whole number from 1 to {MAX_SIDE}", lambda value: type(value) is int and 1 <= value <= MAX_SIDE,
     "height width original_height original_width"),
    ("text", lambda value: isinstance(value, str), "file_name split expression mask"),
    ("a finite number", lambda value: isinstance(value, int | float) and np.isfinite(value), "d iou_upstream box_iou"),
    ("a number from 0 to 1", lambda value: isinstance(value, int | float) and 0 <= value <= 1, "iou"),
    ("true or false", lambda value: isinstance(value, bool), "labelled"),
    ("texts", lambda value: len(value) and {*map(type, value)} == {str} != {type(value)}, "expressions"),
    ("finite x, y, width and height, the last two above 0",
     lambda value: len(value) == 4 and np.isfinite(value).all() and min(value[2:]) > 0, "bbox"),
    (f"points x, y of at most {REACH} pixels", lambda value: not any(
        len(point) != 2 or (np.abs(point) > REACH).any() for point in value), "points"),
    ("polygons", lambda value: all(np.isfinite(part).all() for part in value), "parts"),
]  # fmt: skip
COLUMNS = {name: (meaning, holds) for meaning, holds, names in _COLUMNS for name in names.split()}
NULLABLE = ("mask", "parts", "d")


class DataError(ValueError):
    """Input that cannot be used; the message names the file, the row if there is one, and the cure."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which step and why."""


def stays_inside(name: str) -> bool:
    """Tell whether a file name from outside stays in the folder that it is relative to."""
    path = PurePosixPath(name)
    return not (path.is_absolute() or ".." in path.parts or "\0" in name)


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
    except OSError as error:
        error.filename = error.filename or str(path)  # the error of a full disk names none
        raise
    finally:
        temporary.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def new_array(path: Path, dtype: Any, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Yield a memory-mapped array to fill; it becomes the .npy file `path` if the block succeeds.

    Its disk space is reserved first, because a full disk under a mapped file kills the process without a message.
    Raises DataError if there is too little.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    size, free = int(np.prod(shape)) * np.dtype(dtype).itemsize, shutil.disk_usage(path.parent).free
    if free < size:
        raise DataError(f"{path}: takes {size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; make room")
    with atomic(path) as temporary:
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
        if hasattr(os, "posix_fallocate"):  # not on macOS
            with temporary.open("r+b") as stream:
                os.posix_fallocate(stream.fileno(), 0, os.path.getsize(temporary))
        yield array
        array.flush()


def write_text(text: str, path: Path) -> None:
    """Write UTF-8 text atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(value: Any, path: Path) -> None:
    """Write JSON atomically, with keys in the order given; raises ValueError for NaN and infinity."""
    write_text(json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n", path)


def read_json(path: Path, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Read JSON, each object through a hook if given; raises DataError that names the file if it is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"), object_hook=object_hook)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error}); correct it or make it again") from error


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as parquet, atomically."""
    with atomic(path) as temporary:
        table.to_parquet(temporary, index=False)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a parquet table, or only some of its columns.

    Raises DataError that names the file and missing columns, or the row of a value that its column may not have.
    """
    with _readable(path, columns):
        table = pd.read_parquet(path, columns=list(columns) if columns is not None else None)
    return _checked(table, path)


@contextmanager
def new_table(path: Path, schema: pa.Schema) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Yield a function that appends a table's rows to the parquet file `path`, as one group, so that memory is freed.

    The file is written atomically. Equal groups make an equal file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with atomic(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:

        def append(rows: pd.DataFrame) -> None:
            if len(rows):  # the columns of an empty table may have any type
                writer.write_table(pa.Table.from_pandas(rows, schema, preserve_index=False))

        yield append


def read_metadata(path: Path) -> dict[str, str]:
    """Return the texts that the schema of a parquet table carries. Raises DataError as `read_table` does."""
    import pyarrow.parquet as pq

    with _readable(path, None):
        metadata = pq.read_schema(path).metadata or {}
    return {name.decode(): text.decode() for name, text in metadata.items()}


def read_groups(path: Path, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Read columns of a parquet table one group of rows after another, so that only one is in memory.

    Raises DataError as `read_table` does.
    """
    import pyarrow.parquet as pq

    with _readable(path, columns):
        file = pq.ParquetFile(path)
        for name in columns:
            file.schema_arrow.field(name)
    first = 0
    with file:
        for group in range(file.num_row_groups):
            with _readable(path, columns):
                table = file.read_row_group(group, columns=list(columns)).to_pandas()
            table.index += first
            first += len(table)
            yield _checked(table, path)


@contextmanager
def _readable(path: Path, columns: Sequence[str] | None) -> Iterator[None]:
    """Say which file cannot be read as a table with these columns."""
    try:
        yield
    except (OSError, ValueError, KeyError, NotImplementedError) as error:
        text = " ".join(str(error).split())
        wanted = f" with columns {', '.join(columns)}" if columns else ""
        raise DataError(f"{path}: cannot be read as a parquet table{wanted} ({text}); make it again") from error


def _checked(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return a table read from a file; raises DataError that names the row of a value that its column may not have."""
    for name in filter(COLUMNS.__contains__, table.columns):
        (meaning, holds), absent = COLUMNS[name], table[name].isna()
        for row, value in table[name][~absent if name in NULLABLE else slice(None)].items():
            try:
                good = holds(value.item() if isinstance(value, np.generic) else value)
            except (TypeError, ValueError):
                good = False
            if not good:
                raise DataError(f"{path}: row {row}: {name} is {value!r:.80}, not {meaning}; make the file again")
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
