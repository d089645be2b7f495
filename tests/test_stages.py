"""The stages that run a model, through their commands: what they write, what decides it and what cannot."""

import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner

from partialres import stages
from partialres.cli import main
from partialres.files import TrainingError, read_table, write_table
from partialres.model.darknet import DarkNet, freeze
from partialres.model.darknet_weights import write_weights
from partialres.model.pointer import Visual
from partialres.training import loop
from partialres.training.checkpoint import load_model, read_header
from tests.tiny import SHORT, TINY, noisy

POINTS = 4
TRAINING = json.dumps(asdict(SHORT))
MODEL = json.dumps(asdict(TINY))


def run(*arguments):
    answer = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if answer.exception and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    return answer


def done(*arguments):
    answer = run(*arguments)
    assert answer.exit_code == 0, answer.output
    return answer


@pytest.fixture(scope="module")
def place(data, tmp_path_factory):
    """A folder with what every step made: rec, res, points.parquet, selected.parquet, retrain.

    So little training makes no masks: step 3 has the corners of the boxes instead of the points of step 2.
    """
    folder = tmp_path_factory.mktemp("stages")
    inputs = sources(data)
    refs, split = data.folder / "refs.parquet", data.folder / "split.parquet"
    done("train-rec", refs, "--model", MODEL, "--training", TRAINING, *inputs, "--out", folder / "rec")
    train_res(data, folder, folder / "res")
    done("predict", split, "--model", folder / "res/model.safetensors", *inputs, "--out", folder / "points.parquet")
    points = read_table(folder / "points.parquet").drop(columns="points")
    known = data.refs.set_index("ref_id").loc[points["ref_id"], "bbox"]
    corners = [[[x, y], [x + w, y], [x + w, y + h], [x, y + h]] for x, y, w, h in known]
    write_table(
        points.assign(points=corners, d=[0.05 * (row % 4) for row in range(len(points))]), folder / "boxes.parquet"
    )
    done("select", folder / "boxes.parquet", split, "--num-points", POINTS, "--out", folder / "selected.parquet")
    train_res(data, folder, folder / "retrain", "--selected", folder / "selected.parquet")
    return folder


def sources(data):
    return ["--vocabulary", data.folder / "vocabulary.json", "--images", data.folder / "images"]


def train_res(data, place, out, *options, split=None, points=POINTS, call=done):
    rows = data.folder / "split.parquet" if split is None else split
    fixed = ["--init", place / "rec/model.safetensors", "--points", points, "--training", TRAINING, "--out", out]
    return call("train-res", rows, *fixed, *sources(data), *options)


def weights(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")


def equal(first, second):
    one, other = weights(first), weights(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_every_step_leaves_a_model_its_history_and_its_provenance(place, data):
    for step, points in (("rec", 2), ("res", POINTS), ("retrain", POINTS)):
        names = {path.name for path in (place / step).iterdir()}
        assert names == {"model.safetensors", "metrics.csv", "provenance.json"}
        model = load_model(place / step / "model.safetensors", data.vocabulary.digest())
        assert model.points == points and (model.config.cctf, model.config.pmca) == (step != "rec",) * 2
        history = pd.read_csv(place / step / "metrics.csv")
        assert {"epoch", "step", "loss", "learning_rate", "seconds"} <= set(history.columns)
        assert len(history) == SHORT.epochs
        origin = json.loads((place / step / "provenance.json").read_text())
        assert json.loads(read_header(place / step / "model.safetensors")["provenance"]) == origin
        assert origin["config"]["training"] == json.loads(TRAINING)
        assert {"vocabulary", "images"} < set(origin["inputs"])


def test_points_are_predicted_for_every_unlabelled_ref_once_in_pixels_of_its_image(place, data):
    split = data.split
    table = read_table(place / "points.parquet")
    assert list(table.columns) == ["ref_id", "expression", "points", "probabilities", "d"]
    assert sorted(table["ref_id"]) == sorted(split.loc[~split["labelled"], "ref_id"])
    size = split.set_index("ref_id")[["width", "height"]]
    for ref_id, points, loss in zip(table["ref_id"], table["points"], table["d"], strict=True):
        flat = np.array([list(point) for point in points])
        assert flat.shape == (POINTS, 2) and 0 <= loss <= 2
        assert (flat >= 0).all() and (flat <= max(size.loc[ref_id])).all()


def test_selected_points_are_those_below_the_threshold(place):
    chosen, given = read_table(place / "selected.parquet"), read_table(place / "boxes.parquet")
    assert list(chosen.columns) == ["ref_id", "points", "d", "weight"]
    assert chosen["ref_id"].tolist() == given.loc[given["d"] < 0.1, "ref_id"].tolist()
    assert 0 < len(chosen) < len(given)


@pytest.mark.parametrize("step", ["res", "retrain"])
def test_unlabelled_masks_cannot_change_training(place, data, tmp_path, step):
    garbled = noisy(data.split, seed=1)
    assert not garbled["mask"].equals(data.split["mask"])
    write_table(garbled, tmp_path / "split.parquet")
    more = ["--selected", place / "selected.parquet"] if step == "retrain" else []
    train_res(data, place, tmp_path / step, *more, split=tmp_path / "split.parquet")
    assert equal(place / step, tmp_path / step)


def test_masks_that_are_not_kept_cannot_change_what_the_split_holds(data, tmp_path):
    refs, split = data.refs, data.split
    kept = set(split.loc[split["labelled"], "ref_id"])
    garbled = noisy(refs.assign(labelled=refs["ref_id"].isin(kept))).drop(columns="labelled")
    write_table(garbled, tmp_path / "refs.parquet")
    done("split", tmp_path / "refs.parquet", "--ratio", 50, "--out", tmp_path / "split.parquet")
    assert (tmp_path / "split.parquet").read_bytes() == (data.folder / "split.parquet").read_bytes()


def test_no_mask_can_change_step_1_nor_the_pseudo_points(place, data, tmp_path):
    bare = data.refs.assign(mask=None, parts=None)
    write_table(bare, tmp_path / "refs.parquet")
    training = ["--model", MODEL, "--training", TRAINING]
    done("train-rec", tmp_path / "refs.parquet", *training, *sources(data), "--out", tmp_path / "rec")
    assert equal(place / "rec", tmp_path / "rec")
    write_table(data.split.assign(mask=None, parts=None), tmp_path / "split.parquet")
    model = ["--model", place / "res/model.safetensors"]
    done("predict", tmp_path / "split.parquet", *model, *sources(data), "--out", tmp_path / "points.parquet")
    assert (tmp_path / "points.parquet").read_bytes() == (place / "points.parquet").read_bytes()


def test_held_out_refs_cannot_change_step_1(place, data, tmp_path):
    refs = data.refs.copy()
    refs["bbox"] = [
        box if split == "train" else [0, 0, 1, 1] for box, split in zip(refs["bbox"], refs["split"], strict=True)
    ]
    write_table(refs, tmp_path / "refs.parquet")
    training = ["--model", MODEL, "--training", TRAINING]
    done("train-rec", tmp_path / "refs.parquet", *training, *sources(data), "--out", tmp_path / "rec")
    assert equal(place / "rec", tmp_path / "rec")


def test_the_same_command_writes_the_same_model_to_the_byte(place, data, tmp_path):
    train_res(data, place, tmp_path / "again")
    assert (tmp_path / "again/model.safetensors").read_bytes() == (place / "res/model.safetensors").read_bytes()
    assert (tmp_path / "again/provenance.json").read_text() == (place / "res/provenance.json").read_text()


def test_masks_that_are_kept_and_selected_points_do_change_training(place, data, tmp_path):
    assert not equal(place / "res", place / "retrain")
    train_res(data, place, tmp_path / "baseline", "--no-cctf", "--no-pmca")
    assert not any(".prior." in name for name in weights(tmp_path / "baseline"))
    train_res(data, place, tmp_path / "seed1", "--seed", 1)
    assert not equal(place / "res", tmp_path / "seed1")


def test_nothing_selected_leaves_the_labelled_refs(place, data, tmp_path):
    write_table(read_table(place / "selected.parquet").head(0), tmp_path / "none.parquet")
    train_res(data, place, tmp_path / "retrain", "--selected", tmp_path / "none.parquet")
    assert equal(tmp_path / "retrain", place / "res")


def test_where_every_mask_is_kept_there_is_nothing_to_predict_or_select(place, data, tmp_path):
    done("split", data.folder / "refs.parquet", "--ratio", 100, "--out", tmp_path / "split.parquet")
    model = ["--model", place / "res/model.safetensors"]
    done("predict", tmp_path / "split.parquet", *model, *sources(data), "--out", tmp_path / "points.parquet")
    files = [tmp_path / "points.parquet", tmp_path / "split.parquet"]
    done("select", *files, "--num-points", POINTS, "--out", tmp_path / "selected.parquet")
    chosen = tmp_path / "selected.parquet"
    assert len(read_table(chosen)) == 0
    train_res(data, place, tmp_path / "out", "--selected", chosen, split=tmp_path / "split.parquet")
    truth = ["--truth", data.folder / "refs.parquet", "--out", tmp_path / "selection.json"]
    done("score-pseudo", tmp_path / "points.parquet", chosen, *truth)
    assert json.loads((tmp_path / "selection.json").read_text())["candidates"] == 0


def test_selected_points_of_another_number_are_refused(place, data, tmp_path):
    answer = train_res(data, place, tmp_path / "x", "--selected", place / "selected.parquet", points=6, call=run)
    assert answer.exit_code == 1 and "selected.parquet: holds contours of 4 points, not 6" in answer.output


class Killed(Exception):
    """Stands in for a training's death."""


def kill_after(monkeypatch, epoch):
    """Let the next training die after an epoch."""
    train = loop.train

    def at(finished):
        if finished == epoch:
            raise Killed

    monkeypatch.setattr("partialres.stages.train", lambda *args, **options: train(*args, **options, after_epoch=at))


def test_a_stopped_command_goes_on_where_it_was_and_leaves_no_state_behind(place, data, tmp_path, monkeypatch):
    resume = ["--resume", tmp_path / "resume"]
    with monkeypatch.context() as patched:
        kill_after(patched, 1)
        with pytest.raises(Killed):
            train_res(data, place, tmp_path / "out", *resume)
    assert not (tmp_path / "out/model.safetensors").exists()
    answer = train_res(data, place, tmp_path / "out", *resume)
    assert "resuming after epoch 2" in answer.output
    assert (tmp_path / "out/model.safetensors").read_bytes() == (place / "res/model.safetensors").read_bytes()
    assert not list((tmp_path / "resume").iterdir())


@pytest.mark.parametrize("change", [["--no-pmca"], ["--seed", 1], ["--positions", "extend"], "points", "split"])
def test_a_training_with_anything_else_about_it_starts_anew(place, data, tmp_path, monkeypatch, change):
    resume = ["--resume", tmp_path / "resume"]
    with monkeypatch.context() as patched:
        kill_after(patched, 1)
        with pytest.raises(Killed):
            train_res(data, place, tmp_path / "out", *resume)
    other = {}
    if change == "points":
        other["points"] = 6
    elif change == "split":
        done("split", data.folder / "refs.parquet", "--ratio", 20, "--out", tmp_path / "split.parquet")
        other["split"] = tmp_path / "split.parquet"
    options = change if isinstance(change, list) else []
    answer = train_res(data, place, tmp_path / "out", *resume, *options, **other)
    assert "resuming" not in answer.output


def test_a_training_that_cannot_go_on_says_so(place, data, tmp_path, monkeypatch):
    def fails(*arguments, **options):
        raise TrainingError("train-res: loss nan; lower the learning rate")

    monkeypatch.setattr("partialres.stages.train", fails)
    answer = train_res(data, place, tmp_path / "out", call=run)
    assert answer.exit_code == 1 and "Error: train-res: loss nan; lower the learning rate" in answer.output


def evaluate(data, model, out, *options, split="val", call=done):
    fixed = ["--model", model / "model.safetensors", "--split", split, "--out", out]
    return call("evaluate", data.folder / "refs.parquet", *fixed, *sources(data), *options)


def test_evaluation_scores_every_expression_of_a_split(place, data, tmp_path):
    evaluate(data, place / "res", tmp_path)
    val = data.refs[data.refs["split"] == "val"]
    table = read_table(tmp_path / "predictions.parquet")
    asked = sorted((i, text) for i, many in zip(val["ref_id"], val["expressions"], strict=True) for text in many)
    assert sorted(zip(table["ref_id"], table["expression"], strict=True)) == asked
    assert list(table.columns) == [
        "ref_id", "expression", "points", "mask", "iou", "iou_upstream", "box_iou", "intersection", "union",
    ]  # fmt: skip
    scores = json.loads((tmp_path / "metrics.json").read_text())
    assert list(scores) == [
        "expressions", "refs", "mIoU", "oIoU", "Pr@0.5", "Pr@0.6", "Pr@0.7", "Pr@0.8", "Pr@0.9", "box_accuracy",
        "mIoU_upstream",
    ]  # fmt: skip
    assert (scores["expressions"], scores["refs"]) == (len(asked), len(val))
    assert scores["mIoU"] == pytest.approx(100 * table["iou"].mean())


def test_step_1_is_scored_by_its_boxes_and_needs_no_masks(place, data, tmp_path):
    evaluate(data, place / "rec", tmp_path / "rec")
    scores = json.loads((tmp_path / "rec/metrics.json").read_text())
    assert list(scores) == ["expressions", "refs", "box_accuracy", "mean_box_iou"]


def test_evaluating_twice_or_in_other_batches_gives_the_same_scores(place, data, tmp_path):
    evaluate(data, place / "res", tmp_path / "a")
    evaluate(data, place / "res", tmp_path / "b", "--batch", 3)
    evaluate(data, place / "res", tmp_path / "c")
    first, other, again = ((tmp_path / name / "metrics.json").read_bytes() for name in "abc")
    assert first == again == other


def test_a_split_that_is_not_there_and_a_model_of_other_words_are_refused(place, data, tmp_path):
    answer = evaluate(data, place / "res", tmp_path, split="test", call=run)
    assert answer.exit_code == 1 and "no refs in split 'test'" in answer.output
    words = json.loads((data.folder / "vocabulary.json").read_text())
    words["words"][2], words["words"][3] = words["words"][3], words["words"][2]
    (tmp_path / "vocabulary.json").write_text(json.dumps(words))
    other = ["--vocabulary", tmp_path / "vocabulary.json"]
    answer = evaluate(data, place / "res", tmp_path, *other, call=run)
    assert answer.exit_code == 1 and "trained with another vocabulary" in answer.output


@pytest.fixture(scope="module")
def featured(data, tmp_path_factory):
    """Pre-trained visual weights and their cached features."""
    folder = tmp_path_factory.mktemp("features")
    images = ["--images", data.folder / "images", "--model", MODEL]
    once = json.dumps({"epochs": 1, "batch": 16})
    refs = ["--refs", data.folder / "refs.parquet", "--pretraining", once]
    done("pretrain-backbone", data.raw / "instances.json", *refs, *images, "--out", folder)
    done("cache-features", folder / "visual.safetensors", *images, "--out", folder)
    return folder


def test_cached_features_give_what_pixels_give(featured, data, tmp_path):
    refs = data.folder / "refs.parquet"
    fixed = ["--model", MODEL, "--training", TRAINING, "--visual", featured / "visual.safetensors", *sources(data)]
    done("train-rec", refs, *fixed, "--features", featured, "--out", tmp_path / "rec")
    evaluate(data, tmp_path / "rec", tmp_path / "cached", "--features", featured)
    evaluate(data, tmp_path / "rec", tmp_path / "pixels")
    first, second = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("cached", "pixels"))
    assert first == pytest.approx(second, abs=2)  # features are kept in half precision


def test_cached_features_of_other_weights_or_of_a_backbone_that_trains_are_refused(featured, place, data, tmp_path):
    answer = evaluate(data, place / "rec", tmp_path, "--features", featured, call=run)
    assert answer.exit_code == 1 and "made by other visual weights" in answer.output
    some = json.dumps({**asdict(TINY), "frozen": "but_last_two"})
    images = ["--images", data.folder / "images", "--model", some]
    answer = run("cache-features", featured / "visual.safetensors", *images, "--out", tmp_path)
    assert answer.exit_code == 1 and "frozen" in answer.output


def test_step_1_starts_from_darknet_weights_and_says_what_stays_random(data, tmp_path):
    model = replace(TINY, frozen="but_last_two")
    torch.manual_seed(3)
    backbone = Visual(model).backbone
    write_weights(backbone, tmp_path / "tiny.weights")
    answer = done(
        "train-rec", data.folder / "refs.parquet", "--model", json.dumps(asdict(model)),
        "--training", json.dumps(asdict(replace(SHORT, epochs=1))), *sources(data),
        "--visual", tmp_path / "tiny.weights", "--out", tmp_path / "rec",
    )  # fmt: skip
    number = len(backbone.convolutions())
    assert f"{number} of the backbone's {number} convolutions are from it\nrandom: the neck\n" in answer.output
    trained = load_model(tmp_path / "rec/model.safetensors").visual.backbone
    same = [
        torch.equal(one.conv.weight, other.conv.weight)
        for one, other in zip(trained.convolutions(), backbone.convolutions(), strict=True)
    ]
    assert same == [True] * (number - 2) + [False] * 2
    assert set(json.loads((tmp_path / "rec/provenance.json").read_text())["inputs"]) >= {"visual", "refs"}


def test_random_convolutions_that_are_frozen_are_warned_of_with_the_cure(tmp_path, capsys):
    backbone = DarkNet(4, [(8, 0), (8, 0), (8, 0)], pairs=2)
    write_weights(backbone, tmp_path / "imagenet.weights", convolutions=4)
    for frozen, warned in (("but_last_two", True), ("none", False)):
        freeze(backbone, frozen)
        stages._load_darknet(SimpleNamespace(backbone=backbone), tmp_path / "imagenet.weights", frozen)
        told = capsys.readouterr().err
        assert "4 of the backbone's 8 convolutions" in told
        assert "random: the neck and convolutions 5 to 8, the detection block" in told
        assert ("warning: 2 of the random convolutions are frozen (model.frozen: but_last_two)" in told) is warned


def test_jitter_changes_what_is_learned_and_training_again_gives_the_same(data, place, tmp_path):
    model = json.dumps(asdict(replace(TINY, frozen="but_last_two")))
    fixed = [*sources(data), "--seed", 0]
    shaken = json.dumps(asdict(replace(SHORT, epochs=1, jitter=(0.3, 1.4))))
    for name, training in (("plain", json.dumps(asdict(replace(SHORT, epochs=1)))), ("one", shaken), ("other", shaken)):
        done("train-rec", data.folder / "refs.parquet", "--model", model, "--training", training, *fixed,
             "--out", tmp_path / name)  # fmt: skip
    assert equal(tmp_path / "one", tmp_path / "other") and not equal(tmp_path / "one", tmp_path / "plain")
    done("train-res", data.folder / "split.parquet", "--init", tmp_path / "one/model.safetensors", "--points", POINTS,
         "--selected", place / "selected.parquet", "--training", shaken, *fixed, "--out", tmp_path / "res")  # fmt: skip


def test_jitter_with_a_frozen_visual_part_is_refused(data, tmp_path):
    answer = run(
        "train-rec", data.folder / "refs.parquet", "--model", MODEL, *sources(data), "--out", tmp_path,
        "--training", json.dumps(asdict(replace(SHORT, jitter=(0.3, 1.4)))),
    )  # fmt: skip
    assert answer.exit_code == 1 and "training.jitter" in answer.output and "model.frozen: all" in answer.output
