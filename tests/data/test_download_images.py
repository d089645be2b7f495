"""Single images from a web server on this machine: cut connections, missing files, slow answers, wrong pictures."""

from __future__ import annotations

import functools
import io
import json
import shutil
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from partialres.data import download_images as module
from partialres.data.download import COLUMNS
from partialres.data.download_images import download_images
from partialres.files import DataError
from tests.commands import done, run
from tests.server import serving

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
SIZE = (40, 60)
NAMES = ["one.jpg", "more/two.jpg", 'a "b" [c]#1.jpg', "four.jpg"]
SIZES = dict.fromkeys(NAMES, SIZE)


def jpeg(height: int, width: int) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


@dataclass
class Site:
    """How the server behaves, by image, and what was asked for."""

    cut: dict[str, int] = field(default_factory=dict)  # how many answers break off
    missing: set[str] = field(default_factory=set)
    slow: dict[str, int] = field(default_factory=dict)  # how many answers stop for seconds
    content: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    address: str = ""


class Handler(BaseHTTPRequestHandler):
    def __init__(self, site: Site, *arguments) -> None:
        self.site = site
        super().__init__(*arguments)

    def do_GET(self) -> None:
        site, name = self.site, unquote(self.path).removeprefix("/images/")
        site.asked.append(name)
        if name in site.missing:
            self.send_error(404)
            return
        body = site.content.get(name, jpeg(*SIZE))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.take(site.cut, name):
            body = body[:-2]  # the end mark, without which it still decodes
        if self.take(site.slow, name):
            time.sleep(3)
        self.wfile.write(body)
        self.close_connection = True

    def take(self, left: dict[str, int], name: str) -> bool:
        left[name] = left.get(name, 0) - 1
        return left[name] >= 0

    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture
def site(monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    served = Site()
    with serving(functools.partial(Handler, served)) as address:
        served.address = f"{address}/images"
        yield served


def get(site, tmp_path, sizes=SIZES):
    return download_images(sizes, site.address, tmp_path / "in", tmp_path / "in.txt", wait=0, stall=1)


def test_every_image_arrives_once_and_the_list_last(site, tmp_path):
    assert get(site, tmp_path) == 4
    assert all((tmp_path / "in" / name).read_bytes() == jpeg(*SIZE) for name in NAMES)
    assert sorted(site.asked) == sorted(NAMES)
    assert (tmp_path / "in.txt").read_text().splitlines() == sorted(NAMES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "in.txt"]


def test_what_is_there_is_not_asked_for_again(site, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/one.jpg").write_bytes(b"by hand")
    assert get(site, tmp_path) == 3 and "one.jpg" not in site.asked
    assert (tmp_path / "in/one.jpg").read_bytes() == b"by hand"


def test_an_image_whose_connection_is_cut_is_fetched_again(site, tmp_path):
    site.cut = {"one.jpg": 2}
    assert get(site, tmp_path) == 4
    assert site.asked.count("one.jpg") == 3 and (tmp_path / "in/one.jpg").read_bytes() == jpeg(*SIZE)


def test_an_answer_that_stalls_ends_and_is_asked_for_again(site, tmp_path):
    site.slow = {"one.jpg": 1}
    assert get(site, tmp_path) == 4 and site.asked.count("one.jpg") == 2


def test_missing_images_are_named_and_the_others_kept_for_the_next_run(site, tmp_path):
    site.missing = {"one.jpg"}
    with pytest.raises(DataError, match=r"has no one\.jpg, 1 images in all \(3 of 4 were downloaded\)"):
        get(site, tmp_path)
    assert not (tmp_path / "in.txt").exists() and (tmp_path / "in/four.jpg").exists()
    site.missing, site.asked = set(), []
    assert get(site, tmp_path) == 1 and site.asked == ["one.jpg"]


@pytest.mark.parametrize("content", [jpeg(60, 40), b"<html>sorry</html>"])
def test_a_wrong_picture_is_never_kept(site, tmp_path, monkeypatch, content):
    monkeypatch.setattr(module, "ATTEMPTS", 2)
    site.content["one.jpg"] = content
    with pytest.raises(DataError, match=r"1 of 4 images did not arrive whole, such as one\.jpg \(200\)"):
        get(site, tmp_path)
    assert not (tmp_path / "in/one.jpg").exists() and site.asked.count("one.jpg") == 2


def test_no_server_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    with pytest.raises(DataError, match=r"4 of 4 images did not arrive whole.*curl's error 7"):
        download_images(SIZES, "http://127.0.0.1:9/images", tmp_path / "in", tmp_path / "in.txt", wait=0)


def test_the_command_takes_only_what_refs_name_and_prepare_finds_it(site, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 40, "width": 60} for i in range(6)]
    boxes = [{"id": 10 + i, "image_id": i, "bbox": [5, 5, 20, 20]} for i in range(6)]
    (raw / "instances.json").write_text(json.dumps({"images": images, "annotations": boxes}))
    refs = [{"annotation_id": 12, "split": "train", "expressions": ["left"]},
            {"annotation_id": 14, "split": "val", "expressions": ["right"]}]  # fmt: skip
    (raw / "expressions.json").write_text(json.dumps(refs))
    table = tmp_path / "table.tsv"
    table.write_text("\t".join(COLUMNS) + f"\nimages\t{site.address}\t\t\tmade up\n")
    place = ["--table", table, "--image-folder", tmp_path / "in", "--list", tmp_path / "in.txt"]
    done("download-images", raw, *place, "--row", "images")
    assert sorted(site.asked) == ["2.jpg", "4.jpg"]
    done("prepare", raw, "--image-folder", tmp_path / "in", "--out", tmp_path)
    answer = run("download-images", raw, *place, "--row", "nowhere")
    assert answer.exit_code == 1 and "has no address of nowhere" in answer.output
