"""The image cache."""

import os
import pickle
import struct
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from partialres.data.images import ImageCache, cache_images, read_image, resized
from partialres.data.refer import read_refs
from partialres.files import DataError

shared = pytest.mark.skipif("PARTIALRES_SHARED" not in os.environ, reason="PARTIALRES_SHARED names no folder")


def write_image(path: Path, height: int, width: int, seed: int = 0) -> np.ndarray:
    """A random RGB image, written losslessly (PNG)."""
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return image


def table(*rows):
    return pd.DataFrame(rows, columns=["image_id", "file_name", "height", "width"])


REFS = table((5, "a.png", 20, 40), (9, "sub/b.png", 30, 10), (5, "a.png", 20, 40))


@pytest.fixture
def images(tmp_path):
    return [write_image(tmp_path / "a.png", 20, 40), write_image(tmp_path / "sub/b.png", 30, 10, 1)]


def test_every_distinct_image_is_there_once_with_its_long_side_at_size(tmp_path, images):
    cache_images(REFS, tmp_path, tmp_path / "cache", 32)
    cache = ImageCache(tmp_path / "cache")
    assert (len(cache), cache.size, cache.rows) == (2, 32, {5: 0, 9: 1})
    assert cache.image(0).shape == (16, 32, 3) and cache.image(1).shape == (32, 11, 3)
    assert cache.original(0) == (20, 40) and cache.original(1) == (30, 10)


def test_an_image_that_has_the_size_is_kept_to_the_bit_in_rgb(tmp_path, images):
    cache_images(REFS, tmp_path, tmp_path / "cache", 40)
    assert (ImageCache(tmp_path / "cache").image(0) == images[0]).all()


def test_shrinking_averages_areas_and_growing_is_bilinear(tmp_path, images):
    cache_images(REFS, tmp_path, tmp_path / "small", 20)
    blocks = images[0].reshape(10, 2, 20, 2, 3).mean(axis=(1, 3))
    assert np.abs(ImageCache(tmp_path / "small").image(0) - blocks).max() <= 0.5
    cache_images(REFS, tmp_path, tmp_path / "large", 80)
    grown = cv2.resize(images[0], (80, 40), interpolation=cv2.INTER_LINEAR)
    assert (ImageCache(tmp_path / "large").image(0) == grown).all()


def test_any_number_of_workers_writes_the_same_files(tmp_path):
    refs = table(*((n, f"{n}.png", 10 + n, 20) for n in range(12)))
    for n in range(12):
        write_image(tmp_path / f"{n}.png", 10 + n, 20, n)
    for workers in (1, 3):
        cache_images(refs, tmp_path, tmp_path / str(workers), 16, workers=workers)
    for name in ("images.npy", "index.parquet"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "3" / name).read_bytes()


def test_a_grey_image_gets_three_equal_channels(tmp_path):
    grey = np.arange(200, dtype=np.uint8).reshape(10, 20)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    assert (read_image(tmp_path / "grey.png", 10, 20) == grey[..., None]).all()


def test_the_exif_orientation_is_ignored(tmp_path):
    _, data = cv2.imencode(".jpg", np.full((10, 20, 3), 128, np.uint8))
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)  # orientation 6: a quarter turn
    block = b"Exif\0\0" + tiff
    jpeg = data.tobytes()
    (tmp_path / "turned.jpg").write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:])
    assert cv2.imread(str(tmp_path / "turned.jpg")).shape == (20, 10, 3), "OpenCV by itself would turn it"
    assert read_image(tmp_path / "turned.jpg", 10, 20).shape == (10, 20, 3)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_missing_broken_or_wrong_image_is_named_and_nothing_is_left(tmp_path, images, workers):
    (tmp_path / "broken.png").write_bytes(b"no image")
    for row, says in (
        ((7, "missing.png", 5, 5), "missing.png: missing or cannot be decoded"),
        ((7, "broken.png", 5, 5), "broken.png: missing or cannot be decoded"),
        ((7, "sub/b.png", 10, 30), "b.png: is 10 x 30 pixels, the annotations say 30 x 10"),
    ):
        refs = table((5, "a.png", 20, 40), row)
        with pytest.raises(DataError, match=says):
            cache_images(refs, tmp_path, tmp_path / "cache", 32, workers=workers)
        assert list((tmp_path / "cache").iterdir()) == []
        with pytest.raises(DataError, match="run cache-images"):
            ImageCache(tmp_path / "cache")


def test_a_failed_run_leaves_the_earlier_cache_whole(tmp_path, images):
    cache_images(REFS, tmp_path, tmp_path / "cache", 40)
    (tmp_path / "sub/b.png").write_bytes(b"no image")
    with pytest.raises(DataError):
        cache_images(REFS, tmp_path, tmp_path / "cache", 20)
    assert (ImageCache(tmp_path / "cache").image(0) == images[0]).all()


def test_a_disk_that_is_too_small_is_noticed_before_anything_is_written(tmp_path, images, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=3000))
    with pytest.raises(DataError, match="make room"):
        cache_images(REFS, tmp_path, tmp_path / "cache", 40)
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_index_of_another_run_is_noticed(tmp_path, images):
    cache_images(REFS, tmp_path, tmp_path / "cache", 40)
    cache_images(REFS, tmp_path, tmp_path / "other", 20)
    (tmp_path / "other/index.parquet").rename(tmp_path / "cache/index.parquet")
    with pytest.raises(DataError, match="do not belong together"):
        ImageCache(tmp_path / "cache")


def test_one_image_id_has_one_file_and_size(tmp_path):
    with pytest.raises(DataError, match="image 5 has two"):
        cache_images(table((5, "a.png", 20, 40), (5, "a.png", 40, 20)), tmp_path, tmp_path / "cache", 32)


def test_a_cache_is_read_only_views_and_cheap_to_send_to_a_worker(tmp_path, images):
    cache_images(REFS, tmp_path, tmp_path / "cache", 40)
    cache = ImageCache(tmp_path / "cache")
    assert not cache.image(0).flags.owndata and not cache.image(0).flags.writeable
    sent = pickle.dumps(cache)
    assert len(sent) < 500 + len(str(tmp_path))
    assert (pickle.loads(sent).image(1) == cache.image(1)).all()


@pytest.mark.parametrize(
    ("height", "width", "size", "expected"),
    [
        (480, 640, 640, (480, 640)),
        (427, 640, 96, (64, 96)),
        (3, 1000, 100, (1, 100)),
        (1, 1000, 100, (1, 100)),
    ],
)
def test_the_short_side_is_in_proportion_rounded_and_at_least_one(height, width, size, expected):
    assert resized(height, width, size) == expected
    assert resized(width, height, size) == expected[::-1]


@shared
def test_real_images_have_the_size_of_their_annotations(tmp_path):
    sample = Path(os.environ["PARTIALRES_SHARED"]) / "refcoco-sample"
    images = sample / "images/train2014"
    refs, _ = read_refs(sample / "refcoco", images, "unc", on_problem="refuse")
    cache_images(refs, images, tmp_path / "cache", 640, workers=2)
    cache = ImageCache(tmp_path / "cache")
    assert len(cache) == 13
    for row in refs.itertuples():
        assert cache.original(cache.rows[row.image_id]) == (row.height, row.width)
        assert max(cache.image(cache.rows[row.image_id]).shape) == 640
