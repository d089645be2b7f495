"""Downloads from a web server on this machine: cut connections, wrong checksums, files put there by hand; unpacking."""

from __future__ import annotations

import functools
import hashlib
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from click.testing import CliRunner

from partialres.cli import main
from partialres.data import download as files
from partialres.data.download import Item, download, read_items, unpack, unpack_one
from partialres.files import DataError
from tests.server import serving

ROOT = Path(__file__).parents[2]
CONTENT = bytes(range(256)) * 1200
SHA256 = hashlib.sha256(CONTENT).hexdigest()
pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@dataclass
class Site:
    """How the server behaves, and which requests it got."""

    content: bytes = CONTENT
    cut: list[int] = field(default_factory=list)  # for each answer in turn, the bytes after which the connection breaks
    ranges: bool = True  # whether it supports Range requests
    status: list[int] = field(default_factory=list)  # status codes that it answers with first
    asked: list[str] = field(default_factory=list)  # the Range header of each request
    address: str = ""


class Handler(BaseHTTPRequestHandler):
    def __init__(self, site: Site, *arguments) -> None:
        self.site = site
        super().__init__(*arguments)

    def do_GET(self) -> None:
        site, wanted = self.site, self.headers.get("Range", "")
        site.asked.append(wanted)
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/file")
            self.end_headers()
            return
        status = site.status.pop(0) if site.status else 404 if self.path != "/file" else 200
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted and site.ranges else 0
        if status == 200 and start >= len(site.content):
            status = 416
        self.send_response(206 if status == 200 and start else status)
        body = site.content[start:] if status == 200 else b"<html>no</html>"
        if status == 200 and start:
            self.send_header("Content-Range", f"bytes {start}-{len(site.content) - 1}/{len(site.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        sent = site.cut.pop(0) if site.cut and status == 200 else len(body)
        self.wfile.write(body[:sent])
        self.close_connection = True

    def do_CONNECT(self) -> None:
        self.send_error(403)

    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    served = Site()
    with serving(functools.partial(Handler, served)) as served.address:
        yield served


@pytest.fixture
def item(site: Site) -> Item:
    return Item("data.bin", f"{site.address}/file", len(CONTENT), SHA256, "made up")


def test_a_file_arrives_whole_with_its_checksum_in_sha256sums_form(item, site, tmp_path):
    download(item, tmp_path / "new/folder", wait=0)
    assert (tmp_path / "new/folder/data.bin").read_bytes() == CONTENT
    assert (tmp_path / "new/folder/data.bin.sha256").read_text() == f"{SHA256}  data.bin\n"
    assert site.asked == [""] and not list((tmp_path / "new/folder").glob("*.part"))


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_cut_connection_goes_on_from_the_byte_it_broke_at(item, site, tmp_path, size):
    site.cut = [100_000, 50_000, 1]
    download(replace(item, bytes=size), tmp_path, wait=0)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert site.asked == ["", "bytes=100000-", "bytes=150000-", "bytes=150001-"]


def test_a_transfer_that_was_killed_goes_on_in_the_next_call(item, site, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:77])
    download(item, tmp_path, wait=0)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT and site.asked == ["bytes=77-"]


@pytest.mark.parametrize(("size", "sha256", "requests"), [(len(CONTENT), SHA256, 0), (None, SHA256, 2), (None, "", 2)])
def test_a_transfer_killed_after_its_last_byte_ends_well(item, site, tmp_path, size, sha256, requests):
    (tmp_path / "data.bin.part").write_bytes(CONTENT)
    download(replace(item, bytes=size, sha256=sha256), tmp_path, wait=0)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT and len(site.asked) == requests


def test_where_the_server_knows_no_ranges_the_file_is_fetched_anew(item, site, tmp_path):
    site.ranges, site.cut = False, [1000]
    download(item, tmp_path, wait=0)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_server_that_is_busy_is_asked_again_and_an_address_that_moved_is_followed(item, site, tmp_path):
    site.status = [503, 500]
    download(replace(item, address=f"{site.address}/moved"), tmp_path, wait=0)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_the_file_removed_so_that_the_next_call_starts_anew(item, site, tmp_path):
    site.content = CONTENT[:-1] + b"!"
    with pytest.raises(DataError, match=rf"SHA-256 is \w+, not {SHA256}; it was removed.*correct the table"):
        download(item, tmp_path, wait=0)
    assert list(tmp_path.iterdir()) == []
    site.content = CONTENT
    download(item, tmp_path, wait=0)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_file_of_another_size_is_refused(item, site, tmp_path):
    site.content = CONTENT + b"more"
    with pytest.raises(DataError, match=f"has {len(CONTENT) + 4} bytes, data.bin has {len(CONTENT)}"):
        download(item, tmp_path, wait=0)


def test_a_file_put_there_by_hand_is_taken_without_asking_the_server(item, site, tmp_path):
    (tmp_path / "data.bin").write_bytes(CONTENT)
    download(item, tmp_path, wait=0)
    assert site.asked == [] and (tmp_path / "data.bin.sha256").read_text().startswith(SHA256)


def test_a_wrong_file_put_there_by_hand_is_refused_and_left_alone(item, site, tmp_path):
    (tmp_path / "data.bin").write_bytes(CONTENT[::-1])
    with pytest.raises(DataError, match=r"data\.bin: its SHA-256 is .*put the right file there"):
        download(item, tmp_path, wait=0)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT[::-1] and not (tmp_path / "data.bin.sha256").exists()


def test_without_a_checksum_in_the_table_the_files_own_is_printed(item, tmp_path, capsys):
    download(replace(item, sha256="", bytes=None), tmp_path, wait=0)
    output = capsys.readouterr().err
    assert SHA256 in output and "record this one" in output


def test_an_address_that_does_not_exist_is_named_at_once(item, site, tmp_path):
    with pytest.raises(DataError, match=r"cannot download .*/gone .*404.*correct the address"):
        download(replace(item, address=f"{site.address}/gone"), tmp_path, wait=0)
    assert len(site.asked) == 1 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("refusal", ["nobody listens", "a proxy forbids it", "the server forbids it"])
def test_without_a_network_the_folder_for_the_file_is_named_at_once(item, site, tmp_path, monkeypatch, refusal):
    if refusal == "nobody listens":
        item = replace(item, address="http://127.0.0.1:1/file")
    elif refusal == "a proxy forbids it":
        monkeypatch.setenv("https_proxy", site.address)
        item = replace(item, address="https://example.invalid/file")
    else:
        site.status = [403]
    with pytest.raises(DataError, match=rf"no network to .*; connect to it, or, .* put the file in {tmp_path}"):
        download(item, tmp_path, wait=0)
    assert len(site.asked) <= 1


def test_a_server_that_brings_nothing_more_is_given_up_and_what_came_is_kept(item, site, tmp_path):
    site.cut = [500] + [0] * files.ATTEMPTS
    with pytest.raises(DataError, match="500 bytes are kept; run again to continue"):
        download(item, tmp_path, wait=0)
    download(item, tmp_path, wait=0)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_what_needs_a_login_comes_with_instructions(item, tmp_path):
    about = "It is in the folder that the README links to"
    with pytest.raises(DataError, match=rf"without a login\. {about}\. Put it there by hand"):
        download(replace(item, address="", about=about), tmp_path, wait=0)


def test_the_table_names_each_file_once_with_checksums_as_far_as_they_are_known():
    items = read_items(ROOT / "workflow/resources/downloads.tsv")
    assert {"refcoco.zip", "refcoco+.zip", "refcocog.zip", "train2014.zip", "yolov3.weights"} < set(items)
    assert [name for name, item in items.items() if not item.address] == ["darknet.weights"]
    assert all(item.about for item in items.values())


@pytest.mark.parametrize(
    "line", ["a\tb\tc\td\te", "a\tb\t1\tABC\te", "a\tb\t1", "a\tb\t1\t\te\tf", "a/b\tb\t1\t\te", "\tb\t1\t\te", ""]
)
def test_a_row_of_the_table_that_is_not_as_it_should_be_is_named(tmp_path, line):
    table = tmp_path / "table.tsv"
    table.write_text("\t".join(files.COLUMNS) + f"\n{line}\n")
    with pytest.raises(DataError, match="line 2 is not name, address, bytes"):
        read_items(table)


def test_the_command_names_the_files_there_are(site, tmp_path):
    table = tmp_path / "table.tsv"
    table.write_text("\t".join(files.COLUMNS) + f"\ndata.bin\t{site.address}/file\t\t{SHA256}\tmade up\n")
    options = ["--table", str(table), "--folder", str(tmp_path / "files")]
    answer = CliRunner().invoke(main, ["download", "date.bin", *options])
    assert answer.exit_code == 1 and "has no date.bin; it has data.bin" in answer.output
    answer = CliRunner().invoke(main, ["download", "data.bin", *options])
    assert answer.exit_code == 0, answer.output
    assert (tmp_path / "files/data.bin").read_bytes() == CONTENT


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w") as content:
        content.writestr("refcoco/refs(unc).p", b"refs")
        content.writestr("refcoco/instances.json", b"{}" * 1000)
        content.writestr("__MACOSX/refcoco/._refs", b"junk")
        content.mkdir("refcoco/empty")
    return path


def test_a_zip_is_unpacked_and_its_files_listed(archive, tmp_path):
    assert unpack(archive, tmp_path / "out", tmp_path / "out/refcoco.txt") == 2
    assert (tmp_path / "out/refcoco/refs(unc).p").read_bytes() == b"refs"
    assert (tmp_path / "out/refcoco.txt").read_text() == "refcoco/instances.json\nrefcoco/refs(unc).p\n"
    assert sorted(path.name for path in (tmp_path / "out/refcoco").iterdir()) == ["instances.json", "refs(unc).p"]


def test_unpacking_that_was_stopped_goes_on_with_what_is_missing(archive, tmp_path):
    (tmp_path / "out/refcoco").mkdir(parents=True)
    whole, cut = tmp_path / "out/refcoco/refs(unc).p", tmp_path / "out/refcoco/instances.json"
    whole.write_bytes(b"refs")
    cut.write_bytes(b"{}")
    before = whole.stat().st_mtime_ns
    unpack(archive, tmp_path / "out", tmp_path / "list.txt")
    assert whole.stat().st_mtime_ns == before and cut.read_bytes() == b"{}" * 1000


def test_a_damaged_zip_is_refused_and_nothing_is_listed(archive, tmp_path):
    content = bytearray(archive.read_bytes())
    content[content.index(b"{}{}") + 5] ^= 255
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"data\.zip: damaged .*download again"):
        unpack(archive, tmp_path / "out", tmp_path / "list.txt")
    assert not (tmp_path / "list.txt").exists() and not (tmp_path / "out/refcoco/instances.json").exists()
    archive.write_bytes(b"<html>")
    with pytest.raises(DataError, match="damaged"):
        unpack_one(archive, "refcoco/refs(unc).p", tmp_path / "refs.p")


@pytest.mark.parametrize("name", ["../outside", "/outside", "refcoco/../../outside"])
def test_a_zip_that_would_write_outside_its_folder_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as content:
        content.writestr(zipfile.ZipInfo(name), b"x")
    with pytest.raises(DataError, match="outside its folder"):
        unpack(tmp_path / "bad.zip", tmp_path / "out", tmp_path / "list.txt")


def test_one_file_of_a_zip_may_be_taken_alone(archive, tmp_path):
    unpack_one(archive, "refcoco/refs(unc).p", tmp_path / "refs.p")
    assert (tmp_path / "refs.p").read_bytes() == b"refs"
    with pytest.raises(DataError, match=r"holds no refs\.p, only refcoco/refs\(unc\)\.p"):
        unpack_one(archive, "refs.p", tmp_path / "other.p")
