"""The two-head model through the commands: both steps, evaluation, and what it cannot do."""

import numpy as np
import pytest
import torch

from partialres.checkpoints.model_file import load_model, load_weights
from partialres.config import TrainConfig
from partialres.data.samples import mask_samples
from partialres.evaluation import predictions, score_masks, select_split
from partialres.files import DataError, read_json, read_table, write_table
from partialres.geometry import boxes, contour
from partialres.model.build import build_model
from partialres.model.mask_head import UPSAMPLING, MaskHeadModel
from partialres.training.loop import train
from partialres.training.resume import Resume
from tests.commands import equal, evaluate, run, weights
from tests.steps import conftest as steps
from tests.tiny import SHORT, TINY, noisy

CONFIG = TINY.replace(head="mask", cctf=False, pmca=False)
TRAINING = SHORT.replace(epochs=2).model_dump_json()


def train_res(data, place, out, *options, model=CONFIG, training=TRAINING, **how):
    return steps.train_res(data, place, out, "--model", model.model_dump_json(), *options, training=training, **how)


@pytest.fixture(scope="module")
def place(data, tmp_path_factory):
    """A folder with steps 1 and 2 of the two-head model."""
    folder = tmp_path_factory.mktemp("two-heads")
    steps.train_rec(data, folder / "rec", model=CONFIG.model_dump_json(), training=TRAINING)
    train_res(data, folder, folder / "res")
    return folder


def test_step_2_starts_from_step_1_with_a_mask_head_of_random_weights(place, data):
    rec, res = (load_model(place / step / "model.safetensors") for step in ("rec", "res"))
    assert type(rec) is type(res) is MaskHeadModel and rec.mask_head is None and res.mask_head is not None
    torch.manual_seed(0)
    fresh = build_model(CONFIG, len(data.vocabulary), 4)
    before = fresh.state_dict()
    missing = load_weights(fresh, place / "rec/model.safetensors", data.vocabulary.digest())
    assert missing and missing == sorted(name for name in before if name.startswith("mask_head."))
    given = weights(place / "rec")
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, before[name] if name in missing else given[name]), name


def test_the_other_heads_weights_do_not_fit_and_the_field_is_named(place, data, tmp_path):
    plain = CONFIG.replace(head="points")
    answer = train_res(data, place, tmp_path, model=plain, call=run)
    assert answer.exit_code == 1 and "head is 'mask', not 'points'" in answer.output
    other = build_model(plain, len(data.vocabulary), 4)
    with pytest.raises(DataError, match="does not fit the model"):
        load_weights(other, place / "rec/model.safetensors", data.vocabulary.digest())


def test_a_handful_of_masks_is_learnt_by_heart_and_comes_back_at_the_images_own_size(data):
    refs = data.train.head(4)
    refs = refs.assign(expressions=[expressions[:1] for expressions in refs["expressions"]])
    torch.manual_seed(0)
    sizes = {"fusion": 32, "language": 16, "word": 16, "width": 64, "feedforward": 64}
    model = build_model(CONFIG.replace(dropout=0.0, **sizes), len(data.vocabulary), 4)
    samples = mask_samples(refs, data.inputs, data.vocabulary, masks=True, upsampling=UPSAMPLING)
    config = TrainConfig(epochs=200, batch=4, learning_rate=1e-2, warmup_epochs=1, clip=1.0, ema=0.9)
    place = torch.device("cpu")
    train(model, samples, data.inputs, config, seed=0, device=place, resume=Resume(None, {}), label="test")
    (answers,) = predictions(model, refs, data.inputs, data.vocabulary, batch=4, label="test")
    assert sorted(answer.position for answer in answers) == [0, 1, 2, 3]
    assert score_masks(refs, answers, data.inputs.size, model.visual.stride)["iou"].mean() > 0.75


def test_evaluation_scores_the_masks_and_the_boxes_of_their_own_head(place, data, tmp_path):
    evaluate(data, place / "res", tmp_path / "a")
    evaluate(data, place / "res", tmp_path / "b", "--batch", 3)
    table = read_table(tmp_path / "a/val/predictions.parquet")
    assert list(table.columns) == [
        "ref_id", "expression", "points", "mask", "iou", "iou_upstream", "box_iou", "intersection", "union",
    ]  # fmt: skip
    assert not table["points"].map(len).any()
    val = select_split(data.refs, "val")
    assert len(table) == val["expressions"].map(len).sum()
    (answers,) = predictions(
        load_model(place / "res/model.safetensors"), val, data.inputs, data.vocabulary,
        batch=1000, label="val",
    )  # fmt: skip
    for row, answer in zip(table.itertuples(), answers, strict=True):
        ref = val.iloc[answer.position]
        box_iou = boxes.iou(boxes.from_points(answer.points), np.array(ref["bbox"], dtype=float))
        assert row.ref_id == ref["ref_id"] and row.box_iou == pytest.approx(box_iou)
        mask, truth = (contour.decode(counts, ref["height"], ref["width"]) for counts in (row.mask, ref["mask"]))
        assert (row.intersection, row.union) == ((mask & truth).sum(), (mask | truth).sum())
        assert row.iou == (row.intersection / row.union if row.union else 0)
    first, other = (read_json(tmp_path / name / "val/metrics.json") for name in "ab")
    assert first == pytest.approx(other, abs=0.2) and "mIoU_upstream" in first


def test_step_1_is_scored_by_its_boxes(place, data, tmp_path):
    evaluate(data, place / "rec", tmp_path)
    assert list(read_json(tmp_path / "val/metrics.json")) == ["expressions", "refs", "box_accuracy", "mean_box_iou"]
    assert set(read_table(tmp_path / "val/predictions.parquet", ["points"])["points"].map(len)) == {2}


def test_unlabelled_masks_cannot_change_training(place, data, tmp_path):
    write_table(noisy(data.split, seed=1), tmp_path / "split.parquet")
    train_res(data, place, tmp_path / "res", split=tmp_path / "split.parquet")
    assert equal(place / "res", tmp_path / "res")


def test_it_predicts_no_pseudo_points_and_does_not_learn_from_any(place, data, tmp_path):
    answer = steps.predict(data, place / "res", tmp_path / "x", call=run)
    assert answer.exit_code == 1 and "model.head: mask" in answer.output and "no points" in answer.output
    answer = train_res(data, place, tmp_path / "retrain", "--selected", data.folder / "split.parquet", call=run)
    assert answer.exit_code == 1 and "set steps: [2]" in answer.output


@pytest.mark.parametrize("step", ["rec", "res"])
def test_jitter_is_refused_in_both_steps(place, data, tmp_path, step):
    model, shaken = CONFIG.replace(frozen="none"), SHORT.replace(jitter=(0.3, 1.4)).model_dump_json()
    if step == "res":
        answer = train_res(data, place, tmp_path, model=model, training=shaken, call=run)
    else:
        answer = steps.train_rec(data, tmp_path, model=model.model_dump_json(), training=shaken, call=run)
    assert answer.exit_code == 1 and "training.jitter works only with model.head: points" in answer.output


def test_a_released_checkpoint_cannot_hold_it(place, data, tmp_path):
    answer = run("export-weights", place / "rec/model.safetensors", tmp_path / "x.pth",
                 "--vocabulary", data.folder / "vocabulary.json")  # fmt: skip
    assert answer.exit_code == 1 and "has a mask head" in answer.output
