"""Decode and resize every image once, and keep all pixels in one memory-mapped file shared by all loader processes."""

from __future__ import annotations

import shutil
from multiprocessing.pool import ThreadPool
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from partialres.files import DataError, atomic, progress, read_table, write_table

Image = NDArray[np.uint8]  # [height, width, 3], RGB


def resized(height: int, width: int, size: int) -> tuple[int, int]:
    """Return (height, width) scaled so that the longer side has `size` pixels; the other is rounded."""
    long = max(height, width)
    high, wide = (max(1, (2 * side * size + long) // (2 * long)) for side in (height, width))
    return high, wide


def read_image(path: Path, height: int, width: int) -> Image:
    """Read an image file as RGB [height, width, 3], ignoring its EXIF orientation because the annotations do.

    Raises DataError that names the file if it is missing, cannot be decoded or does not have height x width pixels.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise DataError(f"{path}: missing or cannot be decoded; unpack the images there again")
    high, wide = image.shape[:2]
    if (high, wide) != (height, width):
        raise DataError(f"{path}: is {wide} x {high} pixels, the annotations say {width} x {height}; use their images")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize an image [h, w, ...], averaging areas if it shrinks and interpolating bilinearly if it grows."""
    if image.shape[:2] == (height, width):
        return image
    how = cv2.INTER_AREA if max(height, width) < max(image.shape[:2]) else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=how)


def cache_images(refs: pd.DataFrame, folder: Path, out_dir: Path, size: int, *, workers: int = 1) -> pd.DataFrame:
    """Resize each distinct image of the refs to a long side of `size` pixels; write images.npy and index.parquet.

    refs: has image_id, file_name, height, width. folder: file names are relative to it. workers: decoding threads.
    images.npy is uint8: all images [h, w, 3] RGB, flattened, one after another. The index holds the offset and the
    sizes of each. It is written last: if it exists, images.npy is complete.
    Returns the index. Raises DataError that names the file if an image is missing, broken or not of its refs' size.
    """
    folder, out_dir = Path(folder), Path(out_dir)
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
    out_dir.mkdir(parents=True, exist_ok=True)
    total, free = int(ends[-1]), shutil.disk_usage(out_dir).free
    if free < total:  # a full disk under a memory-mapped file kills the process silently
        raise DataError(f"{out_dir}: the images take {total / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; make room")
    with atomic(out_dir / "images.npy") as temporary:
        pixels = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=(total,))

        def place(row: tuple[str, int, int, int, int, int]) -> None:
            file_name, offset, height, width, original_height, original_width = row
            image = resize(read_image(folder / file_name, original_height, original_width), height, width)
            pixels[offset : offset + image.size] = image.reshape(-1)

        rows = index[index.columns[1:]].itertuples(index=False, name=None)
        with ThreadPool(workers) as pool:  # OpenCV releases Python's lock; the first error stops all
            for _ in progress(pool.imap(place, rows), "images", total=len(index)):
                pass
        pixels.flush()
        (out_dir / "index.parquet").unlink(missing_ok=True)  # an earlier cache's index does not fit these images
    write_table(index, out_dir / "index.parquet")
    return index


class ImageCache:
    """Reads the cache that `cache_images` wrote. Only its folder is pickled, so that loader processes map one file.

    size: the long side of the resized images in pixels. rows: maps an image_id to the row that the methods take.
    shape, original_shape: height and width of the resized images and of the files, int64 [rows, 2].
    """

    def __init__(self, folder: Path) -> None:
        """Open a cache; raises DataError if the folder does not hold a complete one."""
        self.folder = Path(folder)
        index_path, pixels_path = self.folder / "index.parquet", self.folder / "images.npy"
        if not index_path.is_file() or not pixels_path.is_file():
            raise DataError(f"{self.folder}: no complete image cache (images.npy, index.parquet); run cache-images")
        index = read_table(index_path)
        self.offset: NDArray[np.int64] = index["offset"].to_numpy()
        self.shape: NDArray[np.int64] = index[["height", "width"]].to_numpy(dtype=np.int64)
        self.original_shape: NDArray[np.int64] = index[["original_height", "original_width"]].to_numpy(dtype=np.int64)
        self.rows = {image_id: row for row, image_id in enumerate(index["image_id"].tolist())}
        self.size = int(self.shape.max())
        self.pixels: NDArray[np.uint8] = np.load(pixels_path, mmap_mode="r").view(np.ndarray)
        if len(self.pixels) != 3 * int(self.shape.prod(axis=1).sum()):
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
