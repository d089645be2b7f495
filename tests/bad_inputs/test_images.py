"""Pictures that are cut, damaged, too large or no pictures: named, and never taken for grey ones."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from partialres.data.images import ImageCache, cache_images
from partialres.files import DataError

HEIGHT, WIDTH = 96, 128
COARSE = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
PICTURE = cv2.resize(COARSE, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
JPEG, PNG, PROGRESSIVE = (
    cv2.imencode(kind, PICTURE, how)[1].tobytes()
    for kind, how in ((".jpg", []), (".png", []), (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]))
)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def bomb(side: int) -> bytes:
    """A PNG of a few kilobytes that says that it is side x side pixels large."""
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    )


def broken(content: bytes, place: float, noise: bytes) -> bytes:
    start = int(place * len(content))
    return content[:start] + noise + content[start + len(noise) :]


CASES = {
    **{f"jpeg cut at {share:.1%}": JPEG[: int(share * len(JPEG))]
       for share in (0, 0.005, 0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999)},
    **{f"progressive jpeg cut at {share:.0%}": PROGRESSIVE[: int(share * len(PROGRESSIVE))]
       for share in (0.02, 0.3, 0.6, 0.95, 0.99)},
    **{f"png cut at {share:.1%}": PNG[: int(share * len(PNG))] for share in (0.001, 0.02, 0.3, 0.6, 0.95, 0.999)},
    **{f"jpeg with a marker at {place:.0%}": broken(JPEG, place, b"\xff\xd9") for place in (0.3, 0.5, 0.7, 0.9)},
    **{f"jpeg with restart marks at {place:.0%}": broken(JPEG, place, b"\xff\xd3\xff\xd5")
       for place in (0.4, 0.6, 0.8)},
    **{f"png with noise at {place:.0%}": broken(PNG, place, b"\x55\xaa\x55") for place in (0.2, 0.5, 0.8)},
    "png bomb of 30,000 pixels a side": bomb(30_000), "png bomb of 10^9 pixels a side": bomb(10**9),
    "png of no side": bomb(0), "web page": b"<!DOCTYPE html><html></html>", "text": b"image", "zeros": bytes(5000),
    "another size": cv2.imencode(".png", PICTURE[:-1])[1].tobytes(),
    "turned by a quarter": cv2.imencode(".jpg", np.rot90(PICTURE))[1].tobytes(),
    "magic number alone": b"\xff\xd8\xff", "gif without a picture": b"GIF89a\x80\x00\x60\x00\x00\x00\x00;",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='128' height='96'/>",
}  # fmt: skip
REFS = pd.DataFrame(
    [(number, f"{number}.jpg", HEIGHT, WIDTH) for number in range(3)],
    columns=["image_id", "file_name", "height", "width"],
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in (0, 2):
        (folder / f"{number}.jpg").write_bytes(JPEG)
    return folder


@pytest.mark.parametrize("content", CASES.values(), ids=CASES)
def test_a_damaged_picture_is_named_and_no_cache_is_written(folder, tmp_path, content):
    (folder / "1.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"1\.jpg: (missing|is damaged|is \d+ x \d+ pixels, the annotations)"):
        cache_images(REFS, folder, tmp_path, 64, workers=2)
    assert not (tmp_path / "images.npy").exists()


def test_whole_pictures_of_any_kind_are_taken_and_what_is_printed_meanwhile_is_seen(folder, tmp_path, capfd):
    for content in (JPEG, PNG, PROGRESSIVE, cv2.imencode(".webp", PICTURE)[1].tobytes(), JPEG + bytes(9)):
        (folder / "1.jpg").write_bytes(content)
        cache_images(REFS, folder, tmp_path / "cache", WIDTH, workers=2)
    assert np.abs(ImageCache(tmp_path / "cache").image(0).astype(int) - PICTURE[..., ::-1]).mean() < 9
    assert capfd.readouterr().err.count("images: 3 done") == 5


CUT = CASES["jpeg with a marker at 90%"]
EXTRA = JPEG[:-2] + bytes(9) + JPEG[-2:]  # whole, with bytes too many before the end, of which decoders complain too


@pytest.mark.parametrize("content", [EXTRA, CUT], ids=["bytes too many", "lines missing"])
def test_damaged_pictures_are_all_named_or_taken_as_they_decode(tmp_path, content, capfd):
    names = [*REFS["file_name"], "3.jpg"]
    for name, held in zip(names, (JPEG, content, JPEG, content), strict=True):
        (tmp_path / name).write_bytes(held)
    refs = REFS.reindex([0, 1, 2, 2]).assign(image_id=range(4), file_name=names)
    with pytest.raises(DataError) as caught:
        cache_images(refs, tmp_path, tmp_path / "cache", WIDTH)
    said = str(caught.value)
    assert [name in said for name in names] == [False, True, False, True] and "\n" not in said
    assert said.endswith("put the whole image there, or set on_problem: report to take it as it decodes")
    cache_images(refs, tmp_path, tmp_path / "cache", WIDTH, on_problem="report")
    warned = capfd.readouterr().err
    assert [f"{name}: is damaged (Corrupt JPEG data" in warned for name in names] == [False, True, False, True]
    cache = ImageCache(tmp_path / "cache")
    assert (cache.image(1)[:64] == cache.image(0)[:64]).all() and (cache.image(3) == cache.image(1)).all()
    assert (cache.image(1) != cache.image(0)).any() == (content is CUT)


def test_a_file_that_is_a_folder_is_named(folder, tmp_path):
    (tmp_path / "1.jpg").mkdir()
    with pytest.raises(DataError, match=r"1\.jpg: missing or cannot be decoded"):
        cache_images(REFS[1:2], tmp_path, tmp_path / "cache", 64)
