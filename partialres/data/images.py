"""Decode and resize every image once, and keep all pixels in one memory-mapped file shared by all loader processes."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from multiprocessing.pool import ThreadPool
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image as Pillow

from partialres.files import DataError, OnProblem, new_array, progress, read_table, say, write_table

INDEX = ["image_id", "offset", "height", "width", "original_height", "original_width"]
Image = NDArray[np.uint8]  # [height, width, 3], RGB
SHOWN = 5  # damaged pictures named in one message
DAMAGE = re.compile("[Cc]orrupt|[Pp]remature|truncated|[Ee]rror")  # in a message of a decoder


def resized(height: int, width: int, size: int) -> tuple[int, int]:
    """Return (height, width) scaled so that the longer side has `size` pixels; the other is rounded."""
    long = max(height, width)
    high, wide = (max(1, (2 * side * size + long) // (2 * long)) for side in (height, width))
    return high, wide


def read_image(path: Path, height: int, width: int) -> Image:
    """Read an image file as RGB [height, width, 3], ignoring its EXIF orientation because the annotations do.

    Raises DataError that names the file if it is missing, cannot be decoded or does not have height x width pixels.
    """
    try:
        with Pillow.open(path) as header:  # reads no pixel: a small file may decode to gigabytes
            wide, high = header.size
    except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError):
        wide = high = 0
    if (high, wide) != (height, width) and high:
        raise DataError(f"{path}: is {wide} x {high} pixels, the annotations say {width} x {height}; use their images")
    image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if high else None
    if image is None or image.shape[:2] != (height, width):
        raise DataError(f"{path}: missing or cannot be decoded; unpack the images there again")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


@contextmanager
def decoder_messages() -> Iterator[Callable[[], str]]:
    """Collect what the image decoders print, their only sign of damage; our own messages still appear.

    Yields a function that returns the first new message about damage, or nothing.
    """

    def damage() -> str:
        lines = [line.strip() for line in printed if DAMAGE.search(line)]  # all: the next call starts after them
        return lines[0] if lines else ""

    with (
        tempfile.NamedTemporaryFile() as file,
        open(file.name, errors="replace") as printed,
        os.fdopen(os.dup(2), "w", buffering=1) as terminal,
        redirect_stderr(terminal) if sys.stderr is sys.__stderr__ else nullcontext(),
    ):
        os.dup2(file.fileno(), 2)
        try:
            yield damage
        finally:
            os.dup2(terminal.fileno(), 2)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize an image [h, w, ...], averaging areas if it shrinks and interpolating bilinearly if it grows."""
    if image.shape[:2] == (height, width):
        return image
    how = cv2.INTER_AREA if max(height, width) < max(image.shape[:2]) else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=how)


def cache_images(
    refs: pd.DataFrame, folder: Path, out_dir: Path, size: int, *, workers: int = 1, on_problem: OnProblem = "refuse"
) -> None:
    """Resize each distinct image of the refs to a long side of `size` pixels; write images.npy and index.parquet.

    refs: has image_id, file_name, height, width. folder: file names are relative to it. workers: decoding threads.
    on_problem: "report" takes pictures about which a decoder complains as it decodes them, and names them in a warning.
    images.npy is uint8: all images [h, w, 3] RGB, flattened, one after another. The index holds the offset and the
    sizes of each. It is written last: if it exists, images.npy is complete.
    Raises DataError that names the file if an image is missing, broken or not of its refs' size.
    """
    images = refs[["image_id", "file_name", "height", "width"]].drop_duplicates(ignore_index=True)
    twice = images.loc[images["image_id"].duplicated(), "image_id"].tolist()
    if twice:
        raise DataError(f"image {twice[0]} has two file names or sizes in the refs table; prepare the data set again")
    sizes = [resized(h, w, size) for h, w in images[["height", "width"]].itertuples(index=False)]
    height, width = np.array(sizes, dtype=np.int64).T
    ends = np.cumsum(3 * height * width)
    index = images[["image_id", "file_name"]].assign(offset=ends - 3 * height * width, height=height, width=width)
    index = index.join(images[["height", "width"]].add_prefix("original_"))
    index = index.astype({"image_id": "int64"} | dict.fromkeys(index.columns[3:], "int32"))
    with new_array(out_dir / "images.npy", np.uint8, (int(ends[-1]),)) as pixels:

        def place(row: tuple[str, int, int, int, int, int]) -> None:
            file_name, offset, height, width, original_height, original_width = row
            image = resize(read_image(folder / file_name, original_height, original_width), height, width)
            pixels[offset : offset + image.size] = image.reshape(-1)

        rows = list(index[index.columns[1:]].itertuples(index=False, name=None))
        with decoder_messages() as damage, ThreadPool(workers) as pool:  # OpenCV decodes without Python's lock
            for _ in progress(pool.imap(place, rows), "images", total=len(index)):  # the first error stops all
                pass
            damaged = []
            for row in rows if damage() else ():  # decode each alone, to know which are damaged
                place(row)
                if reason := damage():
                    damaged.append(f"{folder / row[0]}: is damaged ({reason})")
        if damaged:
            named = "; ".join(damaged[:SHOWN]) + (f"; {len(damaged) - SHOWN} more" if len(damaged) > SHOWN else "")
            cure = "put the whole image there, or set on_problem: report to take it as it decodes"
            if on_problem == "refuse":
                raise DataError(f"{named}; {cure}")
            say(f"warning: {named}; taken as decoded, so parts may be grey or shifted")
        (out_dir / "index.parquet").unlink(missing_ok=True)  # an earlier cache's index does not fit these images
    write_table(index, out_dir / "index.parquet")


class ImageCache:
    """Reads the cache that `cache_images` wrote. Only its folder is pickled, so that loader processes map one file.

    size: the long side of the resized images in pixels. rows: maps an image_id to the row that the methods take.
    shape, original_shape: height and width of the resized images and of the files, int64 [rows, 2].
    """

    def __init__(self, folder: Path) -> None:
        """Open a cache; raises DataError if the folder does not hold a complete one."""
        self.folder = folder
        index_path, pixels_path = folder / "index.parquet", folder / "images.npy"
        if not index_path.is_file() or not pixels_path.is_file():
            raise DataError(f"{folder}: no complete image cache (images.npy, index.parquet); run cache-images")
        index = read_table(index_path, INDEX)
        self.offset: NDArray[np.int64] = index["offset"].to_numpy()
        self.shape: NDArray[np.int64] = index[["height", "width"]].to_numpy(dtype=np.int64)
        self.original_shape: NDArray[np.int64] = index[["original_height", "original_width"]].to_numpy(dtype=np.int64)
        self.rows = {image_id: row for row, image_id in enumerate(index["image_id"].tolist())}
        self.size = int(self.shape.max())
        try:
            self.pixels: NDArray[np.uint8] = np.load(pixels_path, mmap_mode="r").view(np.ndarray)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{pixels_path}: cannot be read ({error}); run cache-images again") from error
        ends = 3 * self.shape.prod(axis=1).cumsum()
        if (self.offset[1:] != ends[:-1]).any() or self.pixels.shape != ends[-1:] or self.pixels.dtype != np.uint8:
            raise DataError(f"{folder}: images.npy and index.parquet do not belong together; run cache-images again")

    def __len__(self) -> int:
        return len(self.offset)

    def __reduce__(self) -> tuple[type[ImageCache], tuple[Path]]:
        return ImageCache, (self.folder,)

    def image(self, row: int) -> Image:
        """Return the resized image, RGB uint8 [h, w, 3]: a read-only view of the file."""
        height, width = self.shape[row]
        start = self.offset[row]
        return self.pixels[start : start + 3 * height * width].reshape(height, width, 3)

    def original(self, row: int) -> tuple[int, int]:
        """Return height and width of the image file in pixels."""
        height, width = self.original_shape[row].tolist()
        return height, width
