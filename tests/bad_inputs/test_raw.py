"""Own data and published refs with one value wrong: refused by entry and key, or left out and counted."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from partialres.data.images import cache_images
from partialres.data.inputs import Inputs
from partialres.data.refer import read_refs
from partialres.data.vocabulary import clean
from partialres.files import DataError, read_json
from partialres.training.pretraining import read_scenes
from tests.commands import run

SQUARE = [10.0, 10.0, 40.0, 10.0, 40.0, 30.0, 10.0, 30.0]
INSTANCES: dict[str, Any] = {
    "images": [{"id": number, "file_name": f"{number}.png", "height": 48, "width": 64} for number in (1, 2, 3)],
    "annotations": [
        {"id": 10 * number, "image_id": number, "bbox": [10.0, 10.0, 30.0, 20.0], "segmentation": [SQUARE]}
        for number in (1, 2, 3)
    ],
}
EXPRESSIONS = [
    {"annotation_id": 10, "split": "train", "expressions": ["red cup", "cup"]},
    {"annotation_id": 20, "split": "train", "expressions": ["blue cup"]},
    {"annotation_id": 30, "split": "val", "expressions": ["a cup"]},
]
LONE = "\ud800"
HUGE = "9" * 30

NO_ID: list[Any] = ["10", 1.9, 1e30, None, True, [10], {"id": 10}, -1, 2**63, 2**64, "", "ten", math.nan]
SIDES: list[Any] = ["48", 48.0, None, True, [48], 0, -48, 2**15 + 1, 2**32 + 48, 2**63, math.inf, math.nan, 1e9]
CATEGORIES: list[Any] = ["1", 1.5, True, [1], {}, -1, 2**31, 2**40, math.nan]
TEXTS: list[Any] = [None, 5, 1.5, True, ["cup"], {"raw": "cup"}, LONE, f"cup {LONE}"]
BOXES: list[Any] = [
    None, [], [1, 2, 3], [1, 2, 3, 4, 5], "1234", {"x": 1}, ["1", "2", "3", "4"], [1, 2, math.nan, 4], 7,
    [1, 2, math.inf, 4], [1, 2, 0, 4], [1, 2, -3, 4], [64, 0, 5, 5], [0, 48, 5, 5], [-9, -9, 5, 5], [True, 0, 5, 5],
    [1e300, 0, 5, 5], [int(HUGE) ** 20, 0, 5, 5], [[1, 2], [3, 4]], [None, None, 5, 5],
]  # fmt: skip
MASKS: list[Any] = [
    [["1", "2", "3", "4", "5", "6"]], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5]], [[1, 2, math.nan, 4, 5, 6]],
    [[[1, 2], [3, 4]]],
    [[1e12, 1, 5, 5, 1, 5]], [[math.inf, 1, 5, 5, 1, 5]], [[int(HUGE) ** 20, 1, 5, 5, 1, 5]], [[True, 1, 5, 5, 1, 5]],
    "polygon", 7, [None], [[]], [[5, 5, 5, 5, 5, 5]], [[100, 100, 120, 100, 120, 120]],
    {"counts": [0, 1], "size": [48, 64]}, {"counts": [2**63, 2**63, 48 * 64], "size": [48, 64]},
    {"counts": [-5, 5 + 48 * 64], "size": [48, 64]}, {"counts": [1.5, 48 * 64 - 1.5], "size": [48, 64]},
    {"counts": [48 * 64], "size": [64, 48]}, {"counts": "", "size": [48, 64]}, {"counts": "\x00", "size": [48, 64]},
    {"counts": "é", "size": [48, 64]}, {"counts": "PPPPPPPP0", "size": [48, 64]}, {"size": [48, 64]}, {"counts": None},
    {"counts": [0, 48 * 64], "size": None}, {"counts": {"a": 1}}, {"counts": ["0", "3072"]}, {"counts": [[0, 3072]]},
    {"counts": [2**70, 3072]}, {"counts": "o" * 5000},
]  # fmt: skip
NAMES: list[Any] = [
    "/etc/passwd", "../1.png", "a/../../1.png", "..", "1.png\0.jpg", None, 5, ["1.png"], LONE, "//1.png", "a/..",
]  # fmt: skip


def key_of(value: Any) -> str:
    return ascii(value)[:40]


def case(kind: str, where: str, key: str, values: list[Any]) -> list[Any]:
    return [pytest.param(where, key, value, id=f"{kind}-{key}-{key_of(value)}") for value in values]


REFUSED = [
    *case("image", "images", "id", NO_ID), *case("annotation", "annotations", "id", NO_ID),
    *case("annotation", "annotations", "image_id", NO_ID), *case("ref", "expressions", "annotation_id", NO_ID),
    *case("image", "images", "height", SIDES), *case("image", "images", "width", SIDES),
    *case("annotation", "annotations", "category_id", CATEGORIES), *case("image", "images", "file_name", NAMES),
    *case("ref", "expressions", "split", TEXTS), *case("ref", "expressions", "expressions", ["cup", 5, None, {"a": 1}]),
    *case("annotation", "annotations", "attributes", ["red", 5, ["red"], {"colour": None}, {"colour": ["red"]},
                                                      {"colour": 1.5}, {"colour": True}]),
]  # fmt: skip
REFUSED_TEXT = [pytest.param([text], id=f"expression-{key_of(text)}") for text in TEXTS]
LEFT_OUT = [
    *case("box", "annotations", "bbox", BOXES), *case("mask", "annotations", "segmentation", MASKS),
    *case("ref", "expressions", "split", ["minival", "", "Train", "train "]),
    *case("ref", "expressions", "expressions", [[], [""], ["..."], ["\u200b"], ["\u200d\ufeff", " \u2060 "], ["\u3164"],
                                                ["\u0301"], ["\x07"], ["\xa0"], ["\ufe0f"]]),
    *case("ref", "expressions", "annotation_id", [11, 0, 2**63 - 1]), *case("image", "images", "id", [9, 2**62]),
    *case("image", "images", "file_name", ["none.png", "", ".", "sub/1.png"]),
]  # fmt: skip


def write(folder: Path, instances: Any, expressions: Any) -> Path:
    for image in INSTANCES["images"]:
        noise = np.random.default_rng(image["id"]).integers(0, 256, (48, 64, 3), np.uint8)
        cv2.imwrite(str(folder / image["file_name"]), noise)
    (folder / "instances.json").write_text(json.dumps(instances))
    (folder / "expressions.json").write_text(json.dumps(expressions))
    return folder


def changed(folder: Path, where: str, key: str, value: Any) -> Path:
    """Own data in which the first entry of a list has one value changed."""
    content = copy.deepcopy(INSTANCES | {"expressions": EXPRESSIONS})
    content[where][0][key] = value
    return write(folder, {name: content[name] for name in INSTANCES}, content["expressions"])


@pytest.mark.parametrize(("where", "key", "value"), REFUSED)
def test_a_value_of_another_type_or_range_is_refused_by_entry_and_key(tmp_path, where, key, value):
    folder = changed(tmp_path, where, key, value)
    with pytest.raises(DataError) as error:
        read_refs(folder, folder, None, on_problem="report")
    source = "expressions.json: entry 0" if where == "expressions" else f"instances.json: {where[:-1]} 0"
    words = ["surrogates"] if isinstance(value, str) and LONE in value else [key.removesuffix("s")]
    assert all(word in str(error.value) for word in [source, *words]), error.value
    assert len(str(error.value)) < 500 and "\n" not in str(error.value)


@pytest.mark.parametrize("texts", REFUSED_TEXT)
def test_an_expression_that_is_no_text_is_refused(tmp_path, texts):
    folder = changed(tmp_path, "expressions", "expressions", texts)
    with pytest.raises(DataError, match=r"expressions\.json: entry 0 is malformed"):
        read_refs(folder, folder, None, on_problem="report")


@pytest.mark.parametrize(("where", "key", "value"), LEFT_OUT)
def test_what_is_broken_is_left_out_and_counted_or_refused_as_asked(tmp_path, where, key, value):
    folder = changed(tmp_path, where, key, value)
    table, problems = read_refs(folder, folder, None, on_problem="report")
    assert problems.report()["problems"] and len(table) == (3 if key == "segmentation" else 2)
    if key == "segmentation":
        assert table["mask"].isna().tolist() == [True, False, False]
    with pytest.raises(DataError, match="cure"):
        read_refs(folder, folder, None, on_problem="refuse")


@pytest.mark.parametrize(
    "key", ["id", "image_id", "annotation_id", "height", "width", "file_name", "split", "expressions"]
)
def test_a_key_that_is_missing_is_named_with_its_entry(tmp_path, key):
    for where in ("images", "annotations", "expressions"):
        content = copy.deepcopy(INSTANCES | {"expressions": EXPRESSIONS})
        if key not in content[where][1]:
            continue
        del content[where][1][key]
        folder = write(tmp_path, {name: content[name] for name in INSTANCES}, content["expressions"])
        with pytest.raises(DataError, match=rf" 1 has no '{key}'; add it"):
            read_refs(folder, folder, None, on_problem="report")


@pytest.mark.parametrize(
    ("where", "entry", "problem"),
    [
        ("images", {"id": 1, "file_name": "2.png", "height": 48, "width": 64}, "duplicate image id"),
        ("annotations", INSTANCES["annotations"][1] | {"id": 10}, "duplicate annotation id"),
        ("expressions", EXPRESSIONS[0] | {"split": "val"}, "image in train and another split"),
        ("expressions", EXPRESSIONS[2] | {"split": "train"}, "image in train and another split"),
    ],
)  # fmt: skip
def test_what_stands_twice_or_in_two_splits_is_named(tmp_path, where, entry, problem):
    content = copy.deepcopy(INSTANCES | {"expressions": EXPRESSIONS})
    content[where].append(entry)
    folder = write(tmp_path, {name: content[name] for name in INSTANCES}, content["expressions"])
    table, problems = read_refs(folder, folder, None, on_problem="report")
    assert list(problems.cases) == [problem]
    assert not {*table["image_id"][table["split"] == "train"]} & {*table["image_id"][table["split"] != "train"]}
    assert table["file_name"].tolist() == [f"{image}.png" for image in table["image_id"]], "the first entry counts"
    with pytest.raises(DataError, match=problem):
        read_refs(folder, folder, None, on_problem="refuse")


WHOLE_FILES = [
    "", "{", "[", "null", "5", '"text"', "[]", "{}", "[null]", "[5]", "[[]]", '["a"]', "\ufeff[]", "[" * 100_000,
    '{"a":' * 100_000, f"[{'9' * 5000}]", b"\xff\xfe", b"\x00" * 50, '{"images": 5, "annotations": []}',
    '{"images": {}, "annotations": {}}', '{"images": [], "annotations": [[]]}', '{"images": [5], "annotations": []}',
]  # fmt: skip


@pytest.mark.parametrize("name", ["instances.json", "expressions.json"])
@pytest.mark.parametrize("content", WHOLE_FILES, ids=lambda content: ascii(content)[:30])
def test_a_file_that_is_no_such_file_is_named(tmp_path, refuses, written, name, content):
    write(tmp_path, INSTANCES, EXPRESSIONS)
    written(name, content)
    words = [tmp_path] if (name, content) == ("expressions.json", "[]") else [name]
    refuses(words, "prepare", tmp_path, "--image-folder", tmp_path, "--out", tmp_path / "out")
    if name == "instances.json":
        with pytest.raises(DataError, match=r"instances\.json"):
            read_scenes(tmp_path / name, [], inputs_of(tmp_path))


def inputs_of(folder: Path) -> Inputs:
    """The cached images of own data."""
    if not (folder / "cache/index.parquet").exists():
        whole = folder / "whole"
        whole.mkdir()
        refs, _ = read_refs(write(whole, INSTANCES, EXPRESSIONS), whole, None, on_problem="refuse")
        cache_images(refs, whole, folder / "cache", 64)
    return Inputs(folder / "cache", 16)


@pytest.mark.parametrize(
    ("key", "value"),
    [pytest.param(key, value, id=f"{key}-{key_of(value)}") for key, values in
     (("id", NO_ID), ("image_id", NO_ID), ("category_id", CATEGORIES), ("attributes", [5, ["red"], {"a": None}]))
     for value in values],
)  # fmt: skip
def test_pretraining_refuses_what_prepare_refuses(tmp_path, key, value):
    content = copy.deepcopy(INSTANCES)
    content["annotations"][0][key] = value
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"annotation 0 .*{key}"):
        read_scenes(path, [1, 2], inputs_of(tmp_path))


@pytest.mark.parametrize("box", BOXES, ids=key_of)
def test_pretraining_leaves_a_box_that_is_none_out_and_counts_it(tmp_path, capsys, box):
    content = copy.deepcopy(INSTANCES)
    content["annotations"][0]["bbox"] = box
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    assert read_scenes(path, [1, 2], inputs_of(tmp_path)).present.any(axis=(1, 2)).tolist() == [False, True]
    assert "1 annotations without a usable bbox are left out" in capsys.readouterr().err


def test_a_masks_area_decides_nothing_in_pretraining(tmp_path):
    path, made = tmp_path / "instances.json", []
    for area in (None, 1e9, -5, "large"):
        content = copy.deepcopy(INSTANCES)
        content["annotations"].append(content["annotations"][0] | {"id": 11, "bbox": [0, 0, 60, 40], "category_id": 4})
        content["annotations"][0]["area"] = area
        path.write_text(json.dumps(content))
        made.append(read_scenes(path, [1, 2], inputs_of(tmp_path)))
    assert all((each.labels == made[0].labels).all() and (each.sides == made[0].sides).all() for each in made)


def test_what_is_left_out_is_counted_in_the_vocabulary(tmp_path):
    folder = changed(tmp_path, "expressions", "expressions", ["\u200b", "cup"])
    out = tmp_path / "out"
    assert run("prepare", folder, "--image-folder", folder, "--on-problem", "report", "--out", out).exit_code == 0
    report = read_json(out / "vocabulary.json")["report"]
    assert report["problems"]["empty expression"]["count"] == 1 and report["expressions"] == 3


def test_words_are_what_can_be_seen():
    assert clean("a\u200b cup \u200b \u2060\ufeff") == ["a\u200b", "cup"]
    assert clean("naïve 猫 🐈") == ["naïve", "猫", "🐈"]
