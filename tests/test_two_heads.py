"""The two-head peer through the commands: both steps, evaluation, and what it cannot do."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import safetensors.torch
import torch

from partialres.config import TrainConfig
from partialres.data.mask_targets import make_mask_samples
from partialres.evaluation import evaluate_masks, predict, select_split
from partialres.files import DataError, read_table, write_table
from partialres.geometry import boxes, contour
from partialres.model.build import build_model
from partialres.model.mask_head import MaskHeadModel
from partialres.training.checkpoint import Resume, load_model, load_weights
from partialres.training.loop import train
from tests.test_stages import done, equal, evaluate, run, sources
from tests.tiny import SHORT, TINY, noisy

CONFIG = replace(TINY, head="mask", cctf=False, pmca=False)
MODEL = json.dumps(asdict(CONFIG))
TRAINING = json.dumps(asdict(replace(SHORT, epochs=2)))


@pytest.fixture(scope="module")
def place(data, tmp_path_factory):
    """A folder with steps 1 and 2 of the two-head model."""
    folder = tmp_path_factory.mktemp("two-heads")
    refs = data.folder / "refs.parquet"
    done("train-rec", refs, "--model", MODEL, "--training", TRAINING, *sources(data), "--out", folder / "rec")
    train_res(data, folder, folder / "res")
    return folder


def train_res(data, place, out, *options, split=None, training=TRAINING, call=done):
    rows = data.folder / "split.parquet" if split is None else split
    fixed = ["--init", place / "rec/model.safetensors", "--points", 4, "--model", MODEL, "--out", out]
    return call("train-res", rows, *fixed, "--training", training, *sources(data), *options)


def test_step_2_starts_from_step_1_with_a_mask_head_of_random_weights(place, data):
    rec, res = (load_model(place / step / "model.safetensors") for step in ("rec", "res"))
    assert type(rec) is type(res) is MaskHeadModel and rec.mask_head is None and res.mask_head is not None
    torch.manual_seed(0)
    fresh = build_model(CONFIG, len(data.vocabulary), 4)
    before = fresh.state_dict()
    missing = load_weights(fresh, place / "rec/model.safetensors", data.vocabulary.digest())
    assert missing and missing == sorted(name for name in before if name.startswith("mask_head."))
    state, given = fresh.state_dict(), safetensors.torch.load_file(place / "rec/model.safetensors")
    for name, value in state.items():
        assert torch.equal(value, before[name] if name in missing else given[name]), name


def test_the_other_heads_weights_do_not_fit_and_the_field_is_named(place, data, tmp_path):
    plain = json.dumps(asdict(replace(CONFIG, head="points")))
    fixed = ["--init", place / "rec/model.safetensors", "--points", 4, "--model", plain, "--out", tmp_path]
    answer = run("train-res", data.folder / "split.parquet", *fixed, "--training", TRAINING, *sources(data))
    assert answer.exit_code == 1 and "head is 'mask', not 'points'" in answer.output
    other = build_model(replace(CONFIG, head="points"), len(data.vocabulary), 4)
    with pytest.raises(DataError, match="does not fit the model"):
        load_weights(other, place / "rec/model.safetensors", data.vocabulary.digest())


def test_a_handful_of_masks_is_learnt_by_heart_and_comes_back_at_the_images_own_size(data):
    refs = data.refs[data.refs["split"] == "train"].head(4).reset_index(drop=True)
    refs = refs.assign(expressions=[many[:1] for many in refs["expressions"]])
    torch.manual_seed(0)
    sizes = {"fusion": 32, "language": 16, "word": 16, "width": 64, "feedforward": 64}
    model = build_model(replace(CONFIG, dropout=0.0, **sizes), len(data.vocabulary), 4)
    samples = make_mask_samples(refs, data.inputs, data.vocabulary, masks=True, upsampling=4)
    config = TrainConfig(epochs=200, batch=4, learning_rate=1e-2, warmup_epochs=1, clip=1.0, ema=0.9)
    place = torch.device("cpu")
    train(model, samples, data.inputs, config, seed=0, device=place, resume=Resume(None, {}), label="test")
    found = list(predict(model, refs, data.inputs, data.vocabulary, batch=4, device=place, label="test"))
    assert sorted(one.position for one in found) == [0, 1, 2, 3]
    scores = evaluate_masks(refs, found, data.inputs.size, model.visual.stride)
    assert scores["iou"].mean() > 0.75


def test_evaluation_scores_the_masks_and_the_boxes_of_their_own_head(place, data, tmp_path):
    evaluate(data, place / "res", tmp_path / "a")
    evaluate(data, place / "res", tmp_path / "b", "--batch", 3)
    table = read_table(tmp_path / "a/predictions.parquet")
    assert list(table.columns) == [
        "ref_id", "expression", "points", "mask", "iou", "iou_upstream", "box_iou", "intersection", "union",
    ]  # fmt: skip
    assert not table["points"].map(len).any()
    val = select_split(data.refs, "val")
    assert len(table) == val["expressions"].map(len).sum()
    answers = predict(
        load_model(place / "res/model.safetensors"), val, data.inputs, data.vocabulary,
        batch=1000, device=torch.device("cpu"), label="val",
    )  # fmt: skip
    for row, one in zip(table.itertuples(), answers, strict=True):
        ref = val.iloc[one.position]
        box_iou = boxes.iou(boxes.from_points(one.points), np.array(ref["bbox"], dtype=float))
        assert row.ref_id == ref["ref_id"] and row.box_iou == pytest.approx(box_iou)
        mask, truth = (contour.decode(counts, ref["height"], ref["width"]) for counts in (row.mask, ref["mask"]))
        assert (row.intersection, row.union) == ((mask & truth).sum(), (mask | truth).sum())
        assert row.iou == (row.intersection / row.union if row.union else 0)
    first, other = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in "ab")
    assert first == pytest.approx(other, abs=0.2) and "mIoU_upstream" in first


def test_step_1_is_scored_by_its_boxes(place, data, tmp_path):
    evaluate(data, place / "rec", tmp_path)
    assert list(json.loads((tmp_path / "metrics.json").read_text())) == [
        "expressions", "refs", "box_accuracy", "mean_box_iou",
    ]  # fmt: skip
    points = read_table(tmp_path / "predictions.parquet", ["points"])["points"]
    assert {len(many) for many in points} == {2}


def test_unlabelled_masks_cannot_change_training(place, data, tmp_path):
    write_table(noisy(data.split, seed=1), tmp_path / "split.parquet")
    train_res(data, place, tmp_path / "res", split=tmp_path / "split.parquet")
    assert equal(place / "res", tmp_path / "res")


def test_it_predicts_no_pseudo_points_and_does_not_learn_from_any(place, data, tmp_path):
    split = data.folder / "split.parquet"
    answer = run("predict", split, "--model", place / "res/model.safetensors", *sources(data), "--out", tmp_path / "x")
    assert answer.exit_code == 1 and "model.head: mask" in answer.output and "no points" in answer.output
    answer = train_res(data, place, tmp_path / "retrain", "--selected", split, call=run)
    assert answer.exit_code == 1 and "retrain: false" in answer.output


@pytest.mark.parametrize("step", ["rec", "res"])
def test_jitter_is_refused_in_both_steps(place, data, tmp_path, step):
    shaken = json.dumps(asdict(replace(SHORT, jitter=(0.3, 1.4))))
    if step == "res":
        answer = train_res(data, place, tmp_path, training=shaken, call=run)
    else:
        model = json.dumps(asdict(replace(CONFIG, frozen="none")))
        answer = run("train-rec", data.folder / "refs.parquet", "--model", model, "--training", shaken,
                     *sources(data), "--out", tmp_path)  # fmt: skip
    assert answer.exit_code == 1 and "training.jitter is for model.head: points alone" in answer.output


def test_a_released_checkpoint_cannot_hold_it(place, data, tmp_path):
    answer = run("export-weights", place / "rec/model.safetensors", tmp_path / "x.pth",
                 "--vocabulary", data.folder / "vocabulary.json")  # fmt: skip
    assert answer.exit_code == 1 and "has a mask head" in answer.output
