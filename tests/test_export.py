"""Results in other projects' forms, read back by those projects' own tools."""

import contextlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import partialres
from partialres.files import read_json, read_table, write_table
from partialres.refshapes import generate, scenes
from tests.commands import done, evaluate, run
from tests.test_use import write_model

RUN = "refshapes/seed0/ratio10/ours/retrain"


@pytest.fixture(scope="module")
def results(data, tmp_path_factory):
    """A results folder with the predictions of a model on two splits."""
    folder = tmp_path_factory.mktemp("results")
    (folder / "refshapes").mkdir()
    shutil.copy(data.folder / "refs.parquet", folder / "refshapes")
    for points, run_ in ((6, RUN), (2, "refshapes/seed0/rec/points")):
        (folder / run_).mkdir(parents=True)
        write_model(data, folder / run_, points=points)
        for split in ("val", "testA"):
            evaluate(data, folder / run_, folder / run_, split=split)
    return folder


def scored(data, path, kind):
    """What pycocotools scores: average precision over IoU thresholds, of the objects that were asked for."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(data.raw / "instances.json"))
        judge = COCOeval(truth, truth.loadRes(str(path)), kind)
        asked = {each["ann_id"] for each in json.loads(path.read_text())}
        for images in judge.cocoGt.imgToAnns.values():
            images[:] = [each for each in images if each["id"] in asked]
        judge.params.imgIds = sorted({each["image_id"] for each in json.loads(path.read_text())})
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge.stats[0]


def test_pycocotools_gives_the_true_masks_full_marks_and_others_less(data, results, tmp_path):
    table = read_table(results / RUN / "val/predictions.parquet").drop_duplicates("ref_id")
    truth = data.refs.set_index("ref_id")
    write_table(table.assign(mask=truth.loc[table["ref_id"], "mask"].tolist()), tmp_path / "true.parquet")
    refs = ["--refs", data.folder / "refs.parquet"]
    done("export-coco", tmp_path / "true.parquet", *refs, "--out", tmp_path / "true.json")
    assert scored(data, tmp_path / "true.json", "segm") > 0.9  # polygons are traced with an IoU above 0.97
    done("export-coco", results / RUN / "val/predictions.parquet", "--out", tmp_path / "predicted.json")
    assert 0 <= scored(data, tmp_path / "predicted.json", "segm") < 0.9


def test_a_result_an_expression_with_the_mask_that_was_predicted(data, results, tmp_path):
    path = results / RUN / "val/predictions.parquet"
    done("export-coco", path, "--out", tmp_path / "out.json")
    table, refs = read_table(path), data.refs.set_index("ref_id")
    written = read_json(tmp_path / "out.json")
    assert [each["segmentation"]["counts"] for each in written] == table["mask"].tolist()
    assert [each["expression"] for each in written] == table["expression"].tolist()
    for each in written:
        ref = refs.loc[each["ref_id"]]
        assert (each["image_id"], each["category_id"], each["ann_id"]) == tuple(
            ref[["image_id", "category_id", "ann_id"]]
        )
        assert each["segmentation"]["size"] == [ref["height"], ref["width"]] and each["score"] == 1


def test_boxes_of_step_1_are_scored_as_boxes(data, results, tmp_path):
    done("export-coco", results / "refshapes/seed0/rec/points/val/predictions.parquet", "--out", tmp_path / "out.json")
    assert 0 <= scored(data, tmp_path / "out.json", "bbox") <= 1
    assert all(len(each["bbox"]) == 4 for each in read_json(tmp_path / "out.json"))


def test_predictions_without_their_refs_are_refused(data, results, tmp_path):
    path = shutil.copy(results / RUN / "val/predictions.parquet", tmp_path / "predictions.parquet")
    answer = run("export-coco", path, "--out", tmp_path / "out.json")
    assert answer.exit_code == 1 and "no folder above it has refs.parquet; name it with --refs" in answer.output
    write_table(data.train, tmp_path / "refs.parquet")
    answer = run("export-coco", path, "--out", tmp_path / "out.json")
    assert answer.exit_code == 1 and "give the refs that were scored" in answer.output
    answer = run("export-coco", tmp_path / "refs.parquet", "--out", tmp_path / "out.json")
    assert answer.exit_code == 1 and "with columns ref_id, expression" in answer.output


# ------------------------------------------------------------------------------------------------------------ the card


def test_a_card_has_the_scores_with_intervals_and_its_folder_is_a_model(data, results, tmp_path):
    model = results / RUN / "model.safetensors"
    metrics = [results / RUN / split / "metrics.json" for split in ("val", "testA")]
    done("export-card", model, *metrics, "--out", tmp_path / "card")
    assert {path.name for path in (tmp_path / "card").iterdir()} == {"model.safetensors", "config.json", "README.md"}
    _, head, body = (tmp_path / "card/README.md").read_text().split("---\n", 2)
    about = yaml.safe_load(head)
    assert about["license"] == "mit" and about["pipeline_tag"] == "image-segmentation"
    scores = read_json(metrics[0])
    assert about["model-index"][0]["results"][0]["metrics"][0]["value"] == pytest.approx(scores["mIoU"], abs=0.01)
    assert f"| val | {scores['expressions']} | {scores['mIoU']:.1f} [" in body and "| testA |" in body
    assert "10 % of their masks; experiment ours, step 3, seed 0" in body and "## Limits" in body
    assert read_json(tmp_path / "card/config.json")["model"]["bins"] == 32
    picture, text = data.pictures / data.refs["file_name"].iloc[0], data.refs["expressions"].iloc[0][0]
    answers = [partialres.load(path).segment(picture, text) for path in (tmp_path / "card", model)]
    assert np.array_equal(answers[0].mask, answers[1].mask)


def test_figures_of_several_models_or_of_step_1_make_no_card(results, tmp_path):
    model, rec = results / RUN / "model.safetensors", results / "refshapes/seed0/rec/points/val/metrics.json"
    for metrics in ([rec], [results / RUN / "val/metrics.json", rec]):
        answer = run("export-card", model, *metrics, "--out", tmp_path / "card")
        assert answer.exit_code == 1 and "give the metrics.json of one model of step 2 or 3" in answer.output
    twice = [results / RUN / "val/metrics.json"] * 2
    answer = run("export-card", model, *twice, "--out", tmp_path / "card")
    assert answer.exit_code == 1 and "is given twice" in answer.output
    other = results / "refshapes/seed0/rec/points/model.safetensors"
    answer = run("export-card", other, twice[0], "--out", tmp_path / "card")
    assert answer.exit_code == 1 and "which is another model" in answer.output
    assert not (tmp_path / "card").exists()


def test_the_data_card_tells_the_generators_own_numbers():
    card = (Path(__file__).parents[1] / "docs/refshapes-card.md").read_text()
    assert f"{len(scenes.KINDS)} kinds in {len(scenes.COLOURS)} colours" in card
    assert f"{min(scenes.EXTENTS)} to {max(scenes.EXTENTS)} shapes" in card
    assert f"in {100 * scenes.BAR_SHARE:.0f} % of the pictures a bar" in card
    assert f"at most {100 * (1 - scenes.MIN_VISIBLE):.0f} % hidden" in card
    assert f"{100 * generate.RLE_SHARE:.0f} % RLE" in card
    assert len(scenes.ASPECTS) == 6 and "six aspect ratios" in card
