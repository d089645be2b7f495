"""Raw refs, annotations and masks -> the refs table."""

import json
import os
import pickle
import re
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco

from partialres.data.masks import encode_segmentation
from partialres.data.refer import PROBLEMS, check_splits, read_refs
from partialres.files import DataError, read_table, write_table
from partialres.geometry import contour
from partialres.geometry.rle import run_lengths

SQUARE = [1.0, 1.0, 6.0, 1.0, 6.0, 5.0, 1.0, 5.0]
HEIGHT, WIDTH = 8, 10

shared = pytest.mark.skipif("PARTIALRES_SHARED" not in os.environ, reason="PARTIALRES_SHARED names no folder")


def ref(ref_id=1, ann_id=11, *, split="train", texts=("the cat",), image_id=5):
    sentences = [{"raw": text, "sent": text, "sent_id": n, "tokens": text.split()} for n, text in enumerate(texts)]
    return {
        "ref_id": ref_id,
        "ann_id": ann_id,
        "image_id": image_id,
        "category_id": 3,
        "split": split,
        "file_name": "a_1.jpg",
        "sentences": sentences,
        "sent_ids": [],
    }


def annotation(ann_id=11, segmentation=(SQUARE,), bbox=(1.0, 1.0, 5.0, 4.0), image_id=5):
    segmentation = list(segmentation) if isinstance(segmentation, tuple) else segmentation
    return {
        "id": ann_id,
        "image_id": image_id,
        "category_id": 7,
        "bbox": list(bbox),
        "segmentation": segmentation,
    }


def write(folder: Path, refs, annotations=None, images=({"id": 5, "file_name": "a.jpg"},), split_by="unc"):
    folder.mkdir(exist_ok=True)
    (folder / f"refs({split_by}).p").write_bytes(refs if isinstance(refs, bytes) else pickle.dumps(refs, protocol=2))
    content = {
        "images": [{"height": HEIGHT, "width": WIDTH, **image} for image in images],
        "annotations": [annotation()] if annotations is None else annotations,
    }
    (folder / "instances.json").write_text(json.dumps(content))
    (folder / "a.jpg").touch()
    return folder


def read(folder: Path, split_by="unc", on_problem="report", **options):
    return read_refs(folder, folder, split_by, on_problem=on_problem, **options)


def test_a_ref_becomes_a_row_with_its_annotations_box_and_mask(tmp_path):
    table, problems = read(write(tmp_path, [ref(texts=("The Cat!", "it"))]), on_problem="refuse")
    row = table.iloc[0]
    assert (row.ref_id, row.ann_id, row.image_id, row.category_id) == (1, 11, 5, 3)
    assert (row.file_name, row.height, row.width, row.split) == ("a.jpg", HEIGHT, WIDTH, "train")
    assert row.bbox == [1.0, 1.0, 5.0, 4.0]
    assert row.parts == [SQUARE]
    assert row.expressions == ["The Cat!", "it"], "raw text, cleaned only where words are needed"
    mask = coco.decode({"size": [HEIGHT, WIDTH], "counts": row["mask"].encode()})
    assert mask.sum() == 20 and mask[1:5, 1:6].all()
    assert not problems
    assert problems.report()["splits"] == {"train": {"images": 1, "refs": 1, "expressions": 2}}


def test_the_table_keeps_its_schema_through_parquet(tmp_path):
    refs = [ref(), ref(2, 12), ref(3, 13)]
    runs = {"size": [HEIGHT, WIDTH], "counts": [8, 16, 56]}
    annotations = [annotation(), annotation(12, runs), annotation(13, ())]
    write_table(read(write(tmp_path, refs, annotations))[0], tmp_path / "refs.parquet")
    table = read_table(tmp_path / "refs.parquet")
    columns = ["ref_id", "ann_id", "image_id", "file_name", "height", "width", "category_id", "split"]
    assert list(table.columns) == [*columns, "bbox", "mask", "parts", "expressions"]
    assert {str(table[c].dtype) for c in ("ref_id", "ann_id", "image_id")} == {"int64"}
    assert {str(table[c].dtype) for c in ("height", "width", "category_id")} == {"int32"}
    assert table["mask"].isna().tolist() == [False, False, True]
    assert [None if parts is None else len(parts) for parts in table["parts"]] == [1, 0, None]
    assert table["parts"][0][0].tolist() == SQUARE


def test_our_own_layout_gives_the_same_table(tmp_path):
    folder = write(tmp_path, [ref(0, texts=("left cat", "it"))])
    own = [{"annotation_id": 11, "split": "train", "expressions": ["left cat", "it"]}]
    (folder / "expressions.json").write_text(json.dumps(own))
    published, _ = read(folder)
    ours, _ = read(folder, None)
    assert ours["category_id"].tolist() == [7], "from the annotation"
    assert ours.drop(columns="category_id").equals(published.drop(columns="category_id"))


def test_the_documented_example_of_own_data_is_read_without_a_problem(tmp_path):
    page = (Path(__file__).parents[2] / "docs/own-data.md").read_text()
    instances, expressions = re.findall(r"```json\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "instances.json").write_text(instances)
    (tmp_path / "expressions.json").write_text(expressions)
    for image in json.loads(instances)["images"]:
        (tmp_path / image["file_name"]).parent.mkdir(exist_ok=True)
        (tmp_path / image["file_name"]).touch()
    table, problems = read_refs(tmp_path, tmp_path, None, on_problem="refuse")
    assert not problems and table["split"].tolist() == ["train", "train", "val"]
    assert table["mask"].isna().tolist() == [False, True, False]
    chair = contour.decode(table["mask"][2], 640, 427)
    assert chair.sum() == 2 * 230 and chair[140:370, 28:30].all()


def test_an_evaluated_split_without_refs_or_masks_is_named_before_any_training(tmp_path):
    table, _ = read(write(tmp_path, [ref(1), ref(2)]))
    check_splits(table, [], tmp_path)
    with pytest.raises(DataError, match=r"no refs in testA, val, only in train \(2 refs\); correct `split`"):
        check_splits(table, ["val", "testA"], tmp_path)
    with pytest.raises(DataError, match="no refs in train"):
        check_splits(table.assign(split="val"), ["val"], tmp_path)
    with pytest.raises(DataError, match="1 refs of val, the first 2, have no mask"):
        check_splits(table.assign(split=["train", "val"], mask=[table["mask"][0], None]), ["val"], tmp_path)


def test_the_row_order_is_the_files(tmp_path):
    table, _ = read(write(tmp_path, [ref(9), ref(2), ref(5)]))
    assert table["ref_id"].tolist() == [9, 2, 5]


# Pickles


def test_a_python_2_pickle_is_read_whatever_its_encoding(tmp_path):
    # Pickles as Python 2's cPickle writes them, protocols 0 and 2: str is bytes, here once UTF-8 and once Latin-1.
    fields = b"S'ref_id'\nI1\nsS'ann_id'\nL11L\nsS'image_id'\nI5\nsS'category_id'\nI3\nsS'split'\nS'train'\ns"
    old = b"(lp0\n(d" + fields + b"S'sentences'\n(l(dS'raw'\nS'caf\\xc3\\xa9'\nsa(dS'raw'\nS'caf\\xe9 na\\xefve'\nsa"
    old += b"(dS'raw'\nVcaf\\u00e9\nsasa."
    table, _ = read(write(tmp_path, old))
    assert table["expressions"][0] == ["café", "café naïve", "café"]


def test_plain_containers_of_any_protocol_are_read(tmp_path):
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        refs = [OrderedDict(ref(), sent_ids={1, 2})]
        assert len(read(write(tmp_path, pickle.dumps(refs, protocol=protocol)))[0]) == 1


@pytest.mark.parametrize(
    ("attack", "name"),
    [
        (b"cos\nsystem\n(S'touch hacked'\ntR.", "os.system"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "builtins.eval"),
        (pickle.dumps([np.float64(1.0)]), "numpy"),
        (pickle.dumps([Path("x")]), "pathlib"),
    ],
)
def test_a_pickle_of_anything_else_is_refused_by_name(tmp_path, attack, name):
    with pytest.raises(DataError, match=name) as error:
        read(write(tmp_path, attack))
    assert "refs(unc).p" in str(error.value)


@pytest.mark.parametrize("broken", [b"", b"\x80\x02]", b"hello", pickle.dumps([ref()])[:-30], b"I1\n."])
def test_a_damaged_pickle_is_named(tmp_path, broken):
    with pytest.raises(DataError, match=r"refs\(unc\)\.p"):
        read(write(tmp_path, broken))


def test_an_entry_that_lacks_a_key_is_named_with_its_row(tmp_path):
    broken = ref(2)
    del broken["ann_id"]
    with pytest.raises(DataError, match="entry 1 has no 'ann_id'"):
        read(write(tmp_path, [ref(), broken]))


def test_a_missing_split_by_is_answered_with_those_that_exist(tmp_path):
    with pytest.raises(DataError, match=r"refs\(google\)\.p: no such file; there is refs\(unc\)\.p"):
        read(write(tmp_path, [ref()]), "google")


# Problems

LONG = [*SQUARE[:4], float("nan"), 5.0, 1.0, 5.0]
CASES = {
    "duplicate ref_id": ([ref(), ref(2), ref(2), ref(2)], [annotation()], [1, 2]),
    "unknown split": ([ref(), ref(2, split="minival")], [annotation()], [1]),
    "ref without annotation": ([ref(), ref(2, 99)], [annotation()], [1]),
    "annotation of another image": ([ref(), ref(2, image_id=6)], [annotation()], [1]),
    "annotation without image entry": (
        [ref(), ref(2, 12, image_id=6)],
        [annotation(), annotation(12, image_id=6)],
        [1],
    ),
    "duplicate annotation id": ([ref()], [annotation(), annotation(bbox=(0, 0, 1, 1))], [1]),
    "box without area in the image": (
        [ref(), ref(2, 12)],
        [annotation(), annotation(12, bbox=(20, 1, 5, 4))],
        [1],
    ),
    "empty expression": ([ref(texts=("cat", " ?! "))], [annotation()], [1]),
    "ref without expressions": ([ref(), ref(2, texts=("...",)), ref(3, texts=())], [annotation()], [1]),
    "broken polygon": ([ref(), ref(2, 12)], [annotation(), annotation(12, (LONG,))], [1, 2]),
    "broken run-length mask": (
        [ref()],
        [annotation(segmentation={"counts": [1, 2], "size": [HEIGHT, WIDTH]})],
        [1],
    ),
    "mask without pixels": ([ref()], [annotation(segmentation=([1, 1, 1.1, 1, 1.1, 1.1],))], [1]),
}


@pytest.mark.parametrize("kind", CASES)
def test_a_problem_is_left_out_and_reported_or_refused_as_asked(tmp_path, kind):
    refs, annotations, kept = CASES[kind]
    write(tmp_path, refs, annotations)
    table, problems = read(tmp_path)
    assert kind in problems.cases and table["ref_id"].tolist() == kept
    report = json.loads(json.dumps(problems.report()))
    assert report["refs_read"] == len(refs) and report["refs"] == len(kept)
    assert report["problems"][kind]["count"] >= 1 and report["problems"][kind]["examples"]
    with pytest.raises(DataError, match=f"{kind}: [0-9]") as error:
        read(tmp_path, on_problem="refuse")
    assert PROBLEMS[kind][1] in str(error.value), "the cure"


def test_missing_images_are_counted_once_each_and_their_refs_left_out(tmp_path):
    images = [{"id": 5, "file_name": "a.jpg"}, {"id": 6, "file_name": "train/b.jpg"}]
    refs = [ref(), ref(2, 12, image_id=6), ref(3, 12, image_id=6)]
    write(tmp_path, refs, [annotation(), annotation(12, image_id=6)], images)
    table, problems = read(tmp_path)
    assert table["ref_id"].tolist() == [1]
    assert list(problems.cases["missing image"]) == ["train/b.jpg"]
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "b.jpg").touch()
    assert len(read(tmp_path, on_problem="refuse")[0]) == 3


def test_a_missing_images_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such folder"):
        read_refs(write(tmp_path, [ref()]), tmp_path / "nowhere", "unc", on_problem="report")


def test_no_ref_left_is_an_error_even_when_problems_are_only_reported(tmp_path):
    with pytest.raises(DataError, match="no ref is left of 1"):
        read(write(tmp_path, [ref(split="minival")]))


def test_boxes_are_cut_to_the_image_and_the_others_left_to_the_digit(tmp_path):
    inside, outside = (0.1, 0.2, 0.3, 0.7), (-2.0, 3.0, 20.0, 30.0)
    annotations = [annotation(bbox=inside), annotation(12, bbox=outside)]
    table, problems = read(write(tmp_path, [ref(), ref(2, 12)], annotations), on_problem="refuse")
    assert table["bbox"].tolist() == [list(inside), [0.0, 3.0, WIDTH, HEIGHT - 3.0]]
    assert problems.report()["boxes_cut"] == 1


@pytest.mark.parametrize("bbox", [[1, 2, 0, 3], [1, 2, float("nan"), 3], [1, 2, 3], "1234", [1, 2, -3, 4], None])
def test_a_box_that_is_none_loses_its_ref(tmp_path, bbox):
    broken = {**annotation(12), "bbox": bbox}
    table, problems = read(write(tmp_path, [ref(), ref(2, 12)], [annotation(), broken]))
    assert table["ref_id"].tolist() == [1] and list(problems.cases) == ["box without area in the image"]


def test_annotations_without_a_ref_are_only_counted(tmp_path):
    table, problems = read(write(tmp_path, [ref()], [annotation(), annotation(12, "broken")]), on_problem="refuse")
    assert len(table) == 1 and problems.report()["annotations_without_ref"] == 1


# Masks


@pytest.mark.parametrize(
    ("part", "why"),
    [
        ([1, 1, 5, 5], "of at least 3 points"),
        ([1, 1, 5, 5, 1], "of at least 3 points"),
        ([1, 1, 5, float("inf"), 1, 5], "finite numbers"),
        ([1, 1, 5, 5, 3, 3], "on one line"),
        ([2, 2, 2, 2, 2, 2], "on one line"),
        ([11, 1, 15, 1, 15, 5], "wholly outside"),
        ([1, 1, 1e9, 1, 1, 5], "an image's size beyond"),
        (["a", 1, 5, 5, 1, 5], "convert"),
        ({"x": 1}, "counts"),
        (7, "x, y, x, y"),
    ],
)
def test_a_broken_part_is_left_out_and_the_others_stay(part, why):
    counts, parts, faults = encode_segmentation([SQUARE, part], HEIGHT, WIDTH)
    assert (counts, parts) == encode_segmentation([SQUARE], HEIGHT, WIDTH)[:2]
    assert len(faults) == 1 and why in faults[0][1]
    assert encode_segmentation([part], HEIGHT, WIDTH)[:2] == (None, None)


def test_a_figure_of_eight_is_no_broken_polygon():
    assert encode_segmentation([[0, 0, 6, 6, 6, 0, 0, 6]], HEIGHT, WIDTH)[2] == []


def test_parts_are_merged_and_overlaps_count_once():
    shifted = [value + 1 for value in SQUARE]
    counts, *_ = encode_segmentation([SQUARE, shifted], HEIGHT, WIDTH)
    both = coco.decode({"size": [HEIGHT, WIDTH], "counts": counts.encode()})
    assert both.sum() == 20 + 20 - 12


masks = arrays.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 1))


@settings(deadline=None)
@given(masks)
def test_runs_plain_or_compressed_give_the_mask_back(mask):
    height, width = mask.shape
    rle = coco.encode(np.asfortranarray(mask))
    runs = run_lengths(rle["counts"])
    assert (mask == np.repeat(np.arange(len(runs)) % 2, runs).reshape(width, height).T).all()
    for given_counts in (runs.tolist(), rle["counts"].decode()):
        counts, parts, faults = encode_segmentation({"size": [height, width], "counts": given_counts}, height, width)
        if mask.any():
            assert counts == rle["counts"].decode() and parts == [] and not faults
        else:
            assert counts is None and parts is None and faults[0][0] == "mask without pixels"


@settings(deadline=None)
@given(st.one_of(st.text(max_size=20), st.binary(max_size=20), st.lists(st.integers(-9, 99), max_size=6)))
def test_no_text_or_runs_get_past_that_do_not_fill_the_image(counts):
    encoded, _, faults = encode_segmentation({"size": [HEIGHT, WIDTH], "counts": counts}, HEIGHT, WIDTH)
    if encoded is None:
        assert faults
    else:
        assert run_lengths(encoded.encode()).sum() == HEIGHT * WIDTH


def test_runs_of_another_image_size_are_broken():
    rle = {"size": [WIDTH, HEIGHT], "counts": [0, HEIGHT * WIDTH]}
    assert encode_segmentation(rle, HEIGHT, WIDTH)[2][0][0] == "broken run-length mask"


# Real files


@shared
@pytest.mark.parametrize(("name", "split_by"), [("refcoco", "unc"), ("refcoco+", "unc"), ("refcocog", "umd")])
def test_real_files_give_the_counts_that_come_with_them(name, split_by):
    sample = Path(os.environ["PARTIALRES_SHARED"]) / "refcoco-sample"
    expected = json.loads((sample / "counts.json").read_text())[name]
    for which, splits in ((split_by, "official_split_refs"), ("smoke", "smoke_split_refs")):
        images = sample / "images" / "train2014"
        table, problems = read_refs(sample / name, images, which, on_problem="refuse")
        report = problems.report()
        assert len(table) == report["refs"] == expected["refs"]
        assert report["expressions"] == expected["sentences"]
        assert table["image_id"].nunique() == expected["images"]
        assert Counter(table["split"]) == expected[splits]
        assert report["annotations"] == expected["anns"]
        assert table["mask"].notna().all()


@shared
def test_real_masks_have_the_area_and_parts_that_the_released_code_finds():
    folder = Path(os.environ["PARTIALRES_SHARED"])
    golden = json.loads((folder / "golden" / "refcoco_sample_upstream.json").read_text())
    for name, split_by in (("refcoco", "unc"), ("refcoco+", "unc"), ("refcocog", "umd")):
        data = folder / "refcoco-sample" / name
        table, _ = read_refs(data, data.with_name("images") / "train2014", split_by, on_problem="refuse")
        rows = table.set_index("ref_id")
        of_set = [case for case in golden if case["dataset"] == name]
        assert len(of_set) == len(rows)
        for case in of_set:
            row = rows.loc[case["ref_id"]]
            area = coco.area({"size": [row.height, row.width], "counts": row["mask"].encode()})
            assert (area, len(row.parts), row.ann_id) == (case["area"], case["parts"], case["ann_id"])
