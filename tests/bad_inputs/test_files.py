"""Files of the project that are damaged, of another kind or changed by hand: named, with what to do."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from partialres.checkpoints.model_file import HEADER, save_model
from partialres.data.download import COLUMNS, read_items, unpack
from partialres.data.inputs import Inputs
from partialres.files import DataError, new_array, read_table, write_table, write_text
from tests.bad_inputs.test_raw import WHOLE_FILES, key_of
from tests.commands import evaluate, run, sources

INTEGERS: list[Any] = ["1", 1.5, None, [1], True, 1e300]
NUMBERS: list[Any] = ["1", np.inf, [1.0]]
TEXTS: list[Any] = [5, None, ["a"], 1.5]
CELLS: dict[str, list[Any]] = {
    "ref_id": INTEGERS, "image_id": INTEGERS, "height": [*INTEGERS, 0, -5, 2**15 + 1], "width": [*INTEGERS, 0, 2**40],
    "split": TEXTS, "labelled": ["yes", 1, None, 0.5], "mask": [5, ["a"], 1.5],
    "expressions": [None, [], "a cup", 5, [5], [None], [["a"]]],
    "bbox": [None, [], [1.0, 2.0, 3.0], [1.0] * 5, [1.0, 2.0, np.nan, 4.0], [1.0, 2.0, np.inf, 4.0],
             [1.0, 2.0, 0.0, 4.0], "1234", ["1", "2", "3", "4"], 7],
    "points": [None, 5, "a", [5.0], [[1.0]], [[1.0, 2.0, 3.0]], [[1e12, 1.0]], [[np.inf, 1.0]], [[1.0, -1e7]]],
    "d": NUMBERS, "iou": [*NUMBERS, None],
}  # fmt: skip
GOOD: dict[str, Any] = {
    "ref_id": 1, "image_id": 5, "height": 8, "width": 10, "split": "val", "labelled": True, "mask": "`1o1", "iou": 0.5,
    "expressions": ["a cup"], "bbox": [1.0, 1.0, 3.0, 3.0], "points": [[1.0, 2.0], [3.0, 4.0]], "d": 0.5,
}  # fmt: skip


@pytest.mark.parametrize(
    ("column", "value"),
    [pytest.param(key, value, id=f"{key}-{key_of(value)}") for key, values in CELLS.items() for value in values],
)
def test_a_cell_of_another_type_or_range_is_named_by_row_and_column(tmp_path, column, value):
    path = tmp_path / "table.parquet"
    pd.DataFrame({name: pd.Series([good if name != column else value]) for name, good in GOOD.items()}).to_parquet(path)
    with pytest.raises(DataError, match=rf"table\.parquet: row 0: {column} is .*; make the file again"):
        read_table(path, [*GOOD])


@pytest.mark.parametrize("column", GOOD)
def test_a_column_that_is_missing_is_named(tmp_path, column):
    write_table(pd.DataFrame({name: [good] for name, good in GOOD.items() if name != column}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=column):
        read_table(tmp_path / "a.parquet", [*GOOD])


RUNS = ["", "\x00", "~", "P", "PPPPPPPP0", "0", "5", "o" * 4000, "0O=", "é", "_Y1", "1" * 9000]


@pytest.mark.parametrize("counts", RUNS, ids=key_of)
def test_a_damaged_mask_is_named_by_file_and_ref_and_ends_at_once(data, tiny_model, tmp_path, refuses, counts):
    refs = data.refs.assign(mask=[counts if row == 0 else mask for row, mask in enumerate(data.refs["mask"])])
    refs = pd.concat([refs[:1].assign(split="val"), refs[1:]])
    write_table(refs, tmp_path / "refs.parquet")
    points = pd.DataFrame({"ref_id": refs["ref_id"][:1], "points": [[[1.0, 1.0], [9.0, 1.0], [9.0, 9.0]]], "d": [0.5]})
    write_table(points, tmp_path / "points.parquet")
    save_model(tiny_model(4), tmp_path / "model.safetensors", words=data.vocabulary, size=data.inputs.size,
               provenance={})  # fmt: skip
    words = ["refs.parquet: ref", "broken mask", "prepare the data set again"]
    both = [tmp_path / "points.parquet"] * 2
    refuses(words, "score-pseudo", *both, "--truth", tmp_path / "refs.parquet", "--out", tmp_path / "out.json")
    model = ["--model", tmp_path / "model.safetensors", "--out", tmp_path / "out"]
    refuses(words, "evaluate", tmp_path / "refs.parquet", *model, *sources(data))


@pytest.mark.parametrize("content", WHOLE_FILES, ids=lambda content: ascii(content)[:30])
@pytest.mark.parametrize("name", ["vocabulary.json", "model.safetensors", "refs.parquet"])
def test_a_file_of_anything_else_is_named(data, tiny_model, tmp_path, refuses, written, name, content):
    save_model(tiny_model(4), tmp_path / "model.safetensors", words=data.vocabulary, size=data.inputs.size,
               provenance={})  # fmt: skip
    places = {"vocabulary.json": data.folder, "refs.parquet": data.folder, "model.safetensors": tmp_path}
    files = {each: folder / each for each, folder in places.items()} | {name: written(f"bad/{name}", content)}
    options = ["--model", files["model.safetensors"], "--vocabulary", files["vocabulary.json"]]
    words = ["vocabulary"] if name == "vocabulary.json" else [name]
    refuses(words, "evaluate", files["refs.parquet"], *options, "--images", data.folder / "images", "--out", tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("words", []), ("words", ["a"]), ("words", [5, 6]), ("words", None), ("words", "ab"), ("words", [["<pad>"]]),
     ("counts", []), ("counts", None), ("counts", 5), ("max_words", 0), ("max_words", -1), ("max_words", "15"),
     ("max_words", 1.5), ("max_words", None), ("max_words", 10**9), ("max_words", True), ("frequency", 3),
     ("words", ["<pad>", "<unk>", "a", "a"]), ("words", {"a": 1})],
)  # fmt: skip
def test_a_changed_vocabulary_is_refused(data, tiny_model, tmp_path, refuses, key, value):
    content = json.loads((data.folder / "vocabulary.json").read_text()) | {key: value}
    (tmp_path / "vocabulary.json").write_text(json.dumps(content))
    save_model(tiny_model(4), tmp_path / "model.safetensors", words=data.vocabulary, size=64, provenance={})
    options = ["--model", tmp_path / "model.safetensors", "--vocabulary", tmp_path / "vocabulary.json"]
    refuses(["vocabulary"], "evaluate", data.folder / "refs.parquet", *options, "--images", data.folder / "images",
            "--out", tmp_path)  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"),
    [("vocabulary", "many"), ("vocabulary", {}), ("vocabulary", None), ("vocabulary", {"words": [], "max_words": 15}),
     ("vocabulary", {"words": ["a", 5], "max_words": 15}), ("points", "0x4"), ("points", ""), ("points", 5),
     ("points", 2.5), ("points", 10**12), ("points", True), ("image_size", None), ("image_size", "64"),
     ("image_size", 0), ("image_size", 96), ("model", "{"), ("model", []), ("model", None), ("model", {"width": -1}),
     ("model", {"layers": 2}), ("format", "1"), ("format", 3), ("vocabulary", 5), ("model", {"width": 64, "heads": 4})],
)  # fmt: skip
def test_a_changed_header_of_a_model_is_refused(data, tiny_model, tmp_path, refuses, key, value):
    path = tmp_path / "model.safetensors"
    model = tiny_model(4)
    save_model(model, path, words=data.vocabulary, size=data.inputs.size, provenance={})
    with safetensors.safe_open(path, "pt") as stream:
        header = json.loads(stream.metadata()[HEADER]) | {key: value}
    safetensors.torch.save_file(model.state_dict(), path, metadata={HEADER: json.dumps(header)})
    evaluate(data, tmp_path, tmp_path / "out", call=lambda *arguments: refuses([], *arguments))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(data, tiny_model, tmp_path, refuses, value):
    model = tiny_model(4)
    with torch.no_grad():
        model.predictor[0].bias[0] = value
    path = tmp_path / "model.safetensors"
    save_model(model, path, words=data.vocabulary, size=data.inputs.size, provenance={})
    words = ["model.safetensors", "predictor.0.bias", "NaN or infinite"]
    evaluate(data, tmp_path, tmp_path / "out", call=lambda *arguments: refuses(words, *arguments))


def test_predictions_without_a_pixel_are_counted(data, tiny_model, tmp_path):
    model = tiny_model(4)
    with torch.no_grad():
        for parameter in model.predictor[-1].parameters():
            parameter.zero_()  # every point in one place
    path = tmp_path / "model.safetensors"
    save_model(model, path, words=data.vocabulary, size=data.inputs.size, provenance={})
    evaluate(data, tmp_path, tmp_path / "out")
    scores = json.loads((tmp_path / "out/val/metrics.json").read_text())
    assert scores["degenerate"] == scores["expressions"] and scores["mIoU"] == 0


@pytest.mark.parametrize("name", ["features.npy", "features.json"])
@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"{}", b"[]", b'{"visual": 5', bytes(100)], ids=key_of)
def test_a_damaged_cache_of_features_is_named(data, tmp_path, name, content):
    np.save(tmp_path / "features.npy", np.zeros((3, 16, 4, 4), np.float16))
    (tmp_path / "features.json").write_text('{"visual": "a"}')
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"run cache-features again|not valid JSON"):
        Inputs(data.folder / "images", 16, tmp_path)


@pytest.mark.parametrize("name", ["images.npy", "index.parquet"])
@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"PAR1", bytes(1000)], ids=key_of)
def test_a_damaged_cache_of_images_is_named(data, tmp_path, name, content):
    for each in ("images.npy", "index.parquet"):
        (tmp_path / each).write_bytes((data.folder / "images" / each).read_bytes())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        Inputs(tmp_path, 16)


ROWS = [
    "a\t-o/etc/passwd\t\t\t", "a\tfile:///etc/passwd\t\t\t", "a\t--help\t\t\t", "a\tscp://x/a\t\t\t", "a\tftps:a\t\t\t",
    "a\tjavascript:x\t\t\t", "../a\thttps://x/a\t\t\t", "a/b\thttps://x\t\t\t", "..\thttps://x/a\t\t\t", "a\t\t-5\t\t",
    "a\thttps://x/a\t1e9\t\t", "a\thttps://x/a\t\tabc\t", "a", "", "a\thttps://x/a", "\thttps://x/a\t\t\t", ".\t\t\t\t",
    " https://x\t\t\t\t\t", "a\tHTTPS//x\t\t\t", "a\tdict://x\t\t\t",
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=key_of)
def test_a_row_of_downloads_that_is_none_is_named(written, row):
    table = written("downloads.tsv", "\t".join(COLUMNS) + "\n" + row + "\n")
    with pytest.raises(DataError, match=r"downloads\.tsv: line 2"):
        read_items(table)


def archive(path: Path, name: str, content: bytes = b"text") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as stream:
        stream.writestr(name, content)
    return path


def changed(path: Path, place: int, noise: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[place : place + len(noise)] = noise
    path.write_bytes(content)


def test_a_zip_that_holds_far_more_than_its_size_is_refused(tmp_path):
    bomb = archive(tmp_path / "bomb.zip", "a.txt", bytes(50 * 10**6))
    with pytest.raises(DataError, match=r"bomb\.zip: would unpack to 0\.1 GB"):
        unpack(bomb, tmp_path / "out", tmp_path / "list.txt")


@pytest.mark.parametrize("place", [0, 8, 14, 31, 40, 60, 90])
@pytest.mark.parametrize("noise", [b"\xff\xff\xff\xff", b"\x63\x00"], ids=key_of)
def test_a_damaged_zip_is_named_or_whole(tmp_path, place, noise):
    path = archive(tmp_path / "data.zip", "a.txt", b"some text " * 20)
    changed(path, place, noise)
    try:
        unpack(path, tmp_path / "out", tmp_path / "list.txt")
    except DataError as error:
        assert "data.zip" in str(error)


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "a/.."])
def test_a_zip_that_would_write_outside_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="outside its folder"):
        unpack(archive(tmp_path / "data.zip", name), tmp_path / "out", tmp_path / "list.txt")


# The disk, and places that cannot be written


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError(), RecursionError("deep")])
def test_what_disk_and_memory_do_to_any_command_is_a_line_with_a_cure(data, tmp_path, monkeypatch, refuses, error):
    def full(*_, **__):
        raise error

    monkeypatch.setattr("pandas.DataFrame.to_parquet", full)
    words = ["split", "refs.parquet"]
    message = refuses(words, "split", data.folder / "refs.parquet", "--ratio", 10, "--out", tmp_path / "out.parquet")
    assert "\n" not in message and "; " in message and not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["file/out", "file/a/b", "/proc/1/x"])
def test_an_output_that_cannot_be_written_is_noticed_before_any_work(data, tmp_path, refuses, written, place):
    written("file", "text")
    out = tmp_path / place
    message = refuses(["--out"], "split", data.folder / "refs.parquet", "--ratio", 10, "--out", out)
    assert "cannot be written" in message or "is a directory" in message


def test_a_file_in_place_of_a_folder_and_a_seed_beyond_any_are_refused(data, tmp_path, refuses, written):
    refs = data.folder / "refs.parquet"
    place = written("file", "text")
    refuses(["--out"], "evaluate", refs, "--model", refs, "--out", place, *sources(data))
    for seed in (2**64, 2**31, -1, "1.0", "ten"):
        refuses(["--seed"], "split", refs, "--ratio", 10, "--seed", seed, "--out", tmp_path / "out")


def test_room_for_a_mapped_file_is_taken_before_it_is_filled(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with (
        pytest.raises(OSError, match=r"left.*features\.npy"),
        new_array(tmp_path / "features.npy", "u1", (9,)),
    ):
        raise AssertionError("nothing may be filled")
    assert not list(tmp_path.iterdir())


def test_text_that_no_file_can_hold_leaves_nothing(tmp_path):
    with pytest.raises(UnicodeError):
        write_text("\ud800", tmp_path / "a.txt")
    assert not list(tmp_path.iterdir()) and run
