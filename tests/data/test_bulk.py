"""`prepare` and `split` on many refs and on the real data sets' words: nothing is lost, and everything is counted.

The data set here is a 25th of RefCOCO's size; docs/real-data.md has the times for all of it.
"""

from __future__ import annotations

import json
import os
import pickle
from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from partialres.cli import main
from partialres.data.vocabulary import Vocabulary, clean
from partialres.files import read_json, read_table

shared = pytest.mark.skipif("PARTIALRES_SHARED" not in os.environ, reason="PARTIALRES_SHARED names no folder")
IMAGES, REFS, EXPRESSIONS = 800, 2_000, 5_689
# Most words, and expressions per split, of the shared files: they have no train split, so val stands in for it.
TEXT = {"refcoco": (15, {"val": 10834, "testA": 5657, "testB": 5095}),
        "refcoco+": (15, {"val": 10758, "testA": 5726, "testB": 4889}),
        "refcocog": (20, {"val": 4896, "test": 9602})}  # fmt: skip


def call(*arguments) -> None:
    answer = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert answer.exit_code == 0, answer.output


@pytest.fixture(scope="module")
def bulk(tmp_path_factory) -> tuple[Path, list[dict]]:
    """A raw folder in RefCOCO's layout, with empty files as images, and its refs."""
    folder = tmp_path_factory.mktemp("bulk")
    random = np.random.default_rng(0)
    words = [f"{kind}{number}" for number in range(300) for kind in ("left", "cat's", "t-shirt")]
    images = [
        {"id": 7 * number, "file_name": f"COCO_train2014_{7 * number:012d}.jpg", "height": 480, "width": 640}
        for number in range(IMAGES)
    ]
    for image in images:
        (folder / str(image["file_name"])).touch()
    annotations = []
    for number in range(3 * REFS):  # two in three have no ref
        x, y, side = (round(float(value), 2) for value in random.uniform((0, 0, 20), (500, 400, 80)))
        square = [x, y, x + side, y, x + side, y + side, x, y + side]
        annotations.append(
            {"id": number, "image_id": 7 * (number % IMAGES), "category_id": 1, "iscrowd": 0,
             "bbox": [x, y, side, side], "segmentation": [square]}
        )  # fmt: skip
    counts = np.full(REFS, EXPRESSIONS // REFS) + (np.arange(REFS) < EXPRESSIONS % REFS)
    splits = random.choice(["train", "val", "testA", "testB"], size=IMAGES, p=[0.85, 0.07, 0.04, 0.04])
    refs = [
        {"ref_id": number, "ann_id": 3 * number, "image_id": 7 * (3 * number % IMAGES), "category_id": 1,
         "split": str(splits[3 * number % IMAGES]),  # images are in one split each
         "sentences": [{"raw": " ".join(random.choice(words, size=random.integers(1, 20)))} for _ in range(count)]}
        for number, count in enumerate(counts)
    ]  # fmt: skip
    (folder / "instances.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    (folder / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    return folder, refs


def test_of_many_refs_every_expression_is_kept_and_counted(bulk, tmp_path):
    folder, refs = bulk
    call("prepare", folder, "--split-by", "unc", "--image-folder", folder, "--out", tmp_path)
    table, report = read_table(tmp_path / "refs.parquet"), read_json(tmp_path / "vocabulary.json")["report"]
    assert table["ref_id"].tolist() == [ref["ref_id"] for ref in refs]
    assert [list(some) for some in table["expressions"]] == [[s["raw"] for s in ref["sentences"]] for ref in refs]
    assert (report["refs"], report["expressions"], report["problems"]) == (REFS, EXPRESSIONS, {})
    assert report["annotations_without_ref"] == 2 * REFS and table["mask"].notna().all()
    train = [clean(s["raw"]) for ref in refs if ref["split"] == "train" for s in ref["sentences"]]
    vocabulary = Vocabulary.from_json(read_json(tmp_path / "vocabulary.json"))
    assert dict(zip(vocabulary.words[2:], vocabulary.counts[2:], strict=True)) == Counter(chain.from_iterable(train))
    assert vocabulary.truncated_share["train"] == sum(len(words) > 15 for words in train) / len(train) > 0.1


def test_of_many_refs_each_ratio_labels_its_share_and_holds_the_smaller_ones(bulk, tmp_path):
    call("prepare", bulk[0], "--split-by", "unc", "--image-folder", bulk[0], "--out", tmp_path)
    smaller: set[int] = set()
    for ratio in (1, 5, 10, 100):
        call("split", tmp_path / "refs.parquet", "--ratio", ratio, "--seed", 3, "--out", tmp_path / "split.parquet")
        rows = read_table(tmp_path / "split.parquet")
        labelled = set(rows.loc[rows["labelled"], "ref_id"])
        assert len(labelled) == round(len(rows) * ratio / 100) and smaller <= labelled
        assert rows["mask"].notna().tolist() == rows["labelled"].tolist()
        smaller = labelled


@shared
@pytest.mark.parametrize("name", TEXT)
def test_real_expressions_are_cleaned_counted_and_cut_with_the_shares_in_the_vocabulary_file(name, tmp_path):
    max_words, splits = TEXT[name]
    images, annotations, entries = {}, {}, []
    for split in splits:
        file = Path(os.environ["PARTIALRES_SHARED"]) / f"refcoco-text/{name}_{split}.json"
        grouped: dict[tuple, dict] = {}
        for row in json.loads(file.read_text()):
            sentences = row["sents"] if isinstance(row["sents"], list) else [row["sents"]]
            size = {"height": row["height"], "width": row["width"]}
            image = images.setdefault(row["img_id"], {"id": len(images), "file_name": f"{row['img_id']}.jpg", **size})
            key = (split, row["img_id"], *row["bbox"])
            if key not in grouped:
                annotations[key] = {"id": len(annotations), "image_id": image["id"], "bbox": row["bbox"]}
                grouped[key] = {"annotation_id": annotations[key]["id"], "expressions": [],
                                "split": "train" if split == "val" else split}  # fmt: skip
            grouped[key]["expressions"] += sentences
        entries += grouped.values()
    for image in images.values():
        (tmp_path / image["file_name"]).touch()
    (tmp_path / "instances.json").write_text(
        json.dumps({"images": list(images.values()), "annotations": list(annotations.values())})
    )
    (tmp_path / "expressions.json").write_text(json.dumps(entries))
    call("prepare", tmp_path, "--image-folder", tmp_path, "--on-problem", "report",
         "--max-words", max_words, "--out", tmp_path / "out")  # fmt: skip
    vocabulary = Vocabulary.from_json(read_json(tmp_path / "out/vocabulary.json"))
    refs = read_table(tmp_path / "out/refs.parquet")
    dropped = vocabulary.report["problems"].get("empty expression", {"count": 0})["count"]
    given = sum(len(entry["expressions"]) for entry in entries)
    assert given == sum(splits.values())
    assert given - refs["expressions"].map(len).sum() == sum(
        not clean(text) for entry in entries for text in entry["expressions"]
    )
    assert dropped <= 3 and set(vocabulary.report["problems"]) <= {"empty expression", "ref without expressions"}
    assert vocabulary.unknown_share["train"] == 0
    for split in vocabulary.unknown_share.keys() - {"train"}:
        assert 0 < vocabulary.unknown_share[split] < 0.1  # words known: those of a tenth of the text
    assert all(0 < share < 0.06 for share in vocabulary.truncated_share.values())
    encoded = [vocabulary.encode(text) for some in refs["expressions"] for text in some]
    assert all(len(indices) == max_words and indices[0] > 0 for indices in encoded)
