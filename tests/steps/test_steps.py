"""The commands that run a model: what they write, what determines it, and what cannot change it."""

import gc
import json
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from partialres.checkpoints.model_file import load_model, read_header
from partialres.evaluation import Prediction
from partialres.files import TrainingError, read_groups, read_json, read_table, write_json, write_table
from partialres.model.darknet import DarkNet
from partialres.model.visual import Visual
from partialres.steps import pseudo
from partialres.steps.backbone import load_visual
from partialres.steps.predict import points_table
from partialres.training import loop
from tests.commands import done, equal, evaluate, run, sources, weights
from tests.steps.conftest import MODEL, POINTS, TRAINING, predict, train_rec, train_res
from tests.tiny import SHORT, TINY, noisy, write_weights

ONCE = SHORT.replace(epochs=1).model_dump_json()
SHAKEN = SHORT.replace(epochs=1, jitter=(0.3, 1.4)).model_dump_json()


def test_every_step_leaves_a_model_its_history_and_its_provenance(place, data):
    for step, points in (("rec", 2), ("res", POINTS), ("retrain", POINTS)):
        names = {path.name for path in (place / step).iterdir()}
        assert names == {"model.safetensors", "metrics.csv", "provenance.json"}
        model = load_model(place / step / "model.safetensors", data.vocabulary.digest())
        assert model.points == points and (model.config.cctf, model.config.pmca) == (step != "rec",) * 2
        history = pd.read_csv(place / step / "metrics.csv")
        assert {"epoch", "step", "loss", "learning_rate", "seconds"} <= set(history.columns)
        assert len(history) == SHORT.epochs
        origin = read_json(place / step / "provenance.json")
        assert read_header(place / step / "model.safetensors")["provenance"] == origin
        assert origin["config"]["training"] == json.loads(TRAINING)
        assert {"vocabulary", "images"} < set(origin["inputs"])


def test_points_are_predicted_for_every_unlabelled_ref_once_in_pixels_of_its_image(place, data):
    split, table = data.split, read_table(place / "points.parquet")
    assert list(table.columns) == ["ref_id", "expression", "points", "probabilities", "d"]
    assert sorted(table["ref_id"]) == sorted(split.loc[~split["labelled"], "ref_id"])
    size = split.set_index("ref_id")[["width", "height"]]
    for ref_id, points, loss in zip(table["ref_id"], table["points"], table["d"], strict=True):
        flat = np.array(points.tolist())
        assert flat.shape == (POINTS, 2) and 0 <= loss <= 2
        assert (flat >= 0).all() and (flat <= max(size.loc[ref_id])).all()


def test_the_parts_of_a_prediction_are_gathered_to_the_bytes_of_one(place, data, tmp_path):
    batch, alone = ["--batch", 2], tmp_path / "points.parquet"
    predict(data, place / "res", alone, *batch)
    assert sorted(read_table(alone)["ref_id"]) == sorted(read_table(place / "points.parquet")["ref_id"])
    for number in (2, 5):
        parts = [tmp_path / f"{part}-of-{number}.parquet" for part in range(1, number + 1)]
        for part, path in enumerate(parts, 1):
            predict(data, place / "res", path, *batch, "--part", part, number)
        done("gather", *parts, "--out", tmp_path / "gathered.parquet")
        assert (tmp_path / "gathered.parquet").read_bytes() == alone.read_bytes()
        for wrong in (parts[::-1], parts[:-1], [parts[0], *parts], [place / "selected.parquet", *parts[1:]]):
            answer = run("gather", *wrong, "--out", tmp_path / "wrong.parquet")
            assert answer.exit_code == 1 and "give all parts of one prediction in their order" in answer.output
            assert not (tmp_path / "wrong.parquet").exists()
    answer = predict(data, place / "res", alone, "--part", 3, 2, call=run)
    assert answer.exit_code == 2 and "no part 3 of 2" in answer.output


def test_one_batch_at_a_time_is_in_memory_while_points_are_predicted_selected_and_scored(
    place, data, tmp_path, monkeypatch
):
    points, chosen, alive = tmp_path / "points.parquet", tmp_path / "selected.parquet", []

    def count(function, kind):
        def counted(*arguments):
            gc.collect()
            alive.append(sum(isinstance(each, kind) for each in gc.get_objects()))
            return function(*arguments)

        return counted

    monkeypatch.setattr("partialres.steps.predict.points_table", count(points_table, Prediction))
    gc.freeze()  # only what is made from now on is looked through
    predict(data, place / "res", points, "--batch", 2)
    gc.unfreeze()
    assert len(alive) > 5 and max(alive) <= 8 < len(read_table(points))  # an image has a few refs
    groups = [len(table) for table in read_groups(points, ["d"])]
    assert len(groups) == len(alive) and sum(groups) == len(read_table(points))
    seen = []
    for name in ("select", "summarise"):
        function = getattr(pseudo, name)
        monkeypatch.setattr(pseudo, name, lambda *tables, own=function: seen.append(tables) or own(*tables))
    everything = ["--threshold", 2.01, "--num-points", POINTS, "--no-resample"]
    done("select", points, data.folder / "split.parquet", *everything, "--out", chosen)
    assert [len(tables[0]) for tables in seen] == groups
    done("score-pseudo", points, chosen, "--truth", data.folder / "refs.parquet", "--out", tmp_path / "selection.json")
    assert [isinstance(table, Iterator) for table in seen[-1][:2]] == [True, True]


def test_points_of_another_data_set_are_not_selected(place, data, tmp_path):
    table = read_table(data.folder / "split.parquet")
    options = ["--threshold", 2.01, "--num-points", POINTS, "--out", tmp_path / "selected.parquet"]
    for rows in (table[table["labelled"]], pd.concat([table, table])):
        write_table(rows.reset_index(drop=True), tmp_path / "split.parquet")
        answer = run("select", place / "points.parquet", tmp_path / "split.parquet", *options)
        assert answer.exit_code == 1 and "give the table of their own run" in answer.output


def test_selected_points_are_those_below_the_threshold(place):
    chosen, given = read_table(place / "selected.parquet"), read_table(place / "boxes.parquet")
    assert list(chosen.columns) == ["ref_id", "points", "d"]
    assert chosen["ref_id"].tolist() == given.loc[given["d"] < 0.1, "ref_id"].tolist()
    assert 0 < len(chosen) < len(given)


# ------------------------------------------------------------------------------------------ what cannot change a result


@pytest.mark.parametrize("step", ["res", "retrain"])
def test_unlabelled_masks_cannot_change_training(place, data, tmp_path, step):
    garbled = noisy(data.split, seed=1)
    assert not garbled["mask"].equals(data.split["mask"])
    write_table(garbled, tmp_path / "split.parquet")
    selected = ["--selected", place / "selected.parquet"] if step == "retrain" else []
    train_res(data, place, tmp_path / step, *selected, split=tmp_path / "split.parquet")
    assert equal(place / step, tmp_path / step)


def test_masks_that_are_not_kept_cannot_change_what_the_split_holds(data, tmp_path):
    refs, split = data.refs, data.split
    kept = set(split.loc[split["labelled"], "ref_id"])
    garbled = noisy(refs.assign(labelled=refs["ref_id"].isin(kept))).drop(columns="labelled")
    write_table(garbled, tmp_path / "refs.parquet")
    done("split", tmp_path / "refs.parquet", "--ratio", 50, "--out", tmp_path / "split.parquet")
    assert (tmp_path / "split.parquet").read_bytes() == (data.folder / "split.parquet").read_bytes()


def test_neither_step_1_nor_the_pseudo_points_need_a_mask(place, data, tmp_path):
    write_table(data.refs.drop(columns=["mask", "parts"]), tmp_path / "refs.parquet")
    train_rec(data, tmp_path / "rec", refs=tmp_path / "refs.parquet")
    assert equal(place / "rec", tmp_path / "rec")
    write_table(data.split.drop(columns=["mask", "parts"]), tmp_path / "split.parquet")
    predict(data, place / "res", tmp_path / "points.parquet", split=tmp_path / "split.parquet")
    assert (tmp_path / "points.parquet").read_bytes() == (place / "points.parquet").read_bytes()


def test_held_out_refs_cannot_change_step_1(place, data, tmp_path):
    refs = data.refs.copy()
    training = refs["split"] == "train"
    refs["bbox"] = [box if kept else [0, 0, 1, 1] for box, kept in zip(refs["bbox"], training, strict=True)]
    write_table(refs, tmp_path / "refs.parquet")
    train_rec(data, tmp_path / "rec", refs=tmp_path / "refs.parquet")
    assert equal(place / "rec", tmp_path / "rec")


def test_the_same_command_writes_the_same_model_to_the_byte(place, data, tmp_path):
    train_res(data, place, tmp_path / "again")
    assert (tmp_path / "again/model.safetensors").read_bytes() == (place / "res/model.safetensors").read_bytes()
    assert (tmp_path / "again/provenance.json").read_text() == (place / "res/provenance.json").read_text()


def test_selected_points_modules_and_seeds_do_change_training(place, data, tmp_path):
    assert not equal(place / "res", place / "retrain")
    train_res(data, place, tmp_path / "baseline", "--model", TINY.replace(cctf=False, pmca=False).model_dump_json())
    assert not any(".prior." in name for name in weights(tmp_path / "baseline"))
    train_res(data, place, tmp_path / "seed1", "--seed", 1)
    assert not equal(place / "res", tmp_path / "seed1")


def test_a_model_is_shown_only_images_of_the_size_it_was_trained_on(place, data, tmp_path):
    small = ["--image-folder", data.pictures, "--size", 32, "--out", tmp_path / "images"]
    done("cache-images", data.folder / "refs.parquet", *small)
    for answer in (
        predict(data, place / "res", tmp_path / "points.parquet", "--images", tmp_path / "images", call=run),
        evaluate(data, place / "res", tmp_path / "val", "--images", tmp_path / "images", call=run),
    ):
        assert answer.exit_code == 1 and "was trained on images of 64 pixels, those in" in answer.output
        assert "cache-images --size 64" in answer.output


# -------------------------------------------------------------------------------------------------- edges of selection


def test_nothing_selected_leaves_the_labelled_refs(place, data, tmp_path):
    write_table(read_table(place / "selected.parquet").head(0), tmp_path / "empty.parquet")
    train_res(data, place, tmp_path / "retrain", "--selected", tmp_path / "empty.parquet")
    assert equal(tmp_path / "retrain", place / "res")


def test_where_every_mask_is_kept_there_is_nothing_to_predict_or_select(place, data, tmp_path):
    split, points, chosen = (tmp_path / f"{name}.parquet" for name in ("split", "points", "selected"))
    done("split", data.folder / "refs.parquet", "--ratio", 100, "--out", split)
    predict(data, place / "res", points, split=split)
    done("select", points, split, "--num-points", POINTS, "--out", chosen)
    assert len(read_table(chosen)) == 0
    train_res(data, place, tmp_path / "out", "--selected", chosen, split=split)
    done("score-pseudo", points, chosen, "--truth", data.folder / "refs.parquet", "--out", tmp_path / "selection.json")
    assert read_json(tmp_path / "selection.json")["candidates"] == 0


def test_selected_points_of_another_number_are_refused(place, data, tmp_path):
    answer = train_res(data, place, tmp_path / "x", "--selected", place / "selected.parquet", points=6, call=run)
    assert answer.exit_code == 1 and "selected.parquet: holds contours of 4 points, not 6" in answer.output


# ------------------------------------------------------------------------------------------------ stopping and resuming


class Killed(Exception):
    """Raised to interrupt a training."""


def kill_after_two(monkeypatch, call):
    """Call a command whose training dies after its second epoch."""
    train = loop.train

    def dying(*args, after_epoch, **how):
        def at(history):
            after_epoch(history)
            if len(history) == 2:
                raise Killed

        return train(*args, after_epoch=at, **how)

    with monkeypatch.context() as patched:
        patched.setattr("partialres.steps.fit.train", dying)
        with pytest.raises(Killed):
            call()


@pytest.fixture
def stopped(place, data, tmp_path, monkeypatch):
    """Step 2 after its training died in the second epoch: the option that resumes it."""
    resume = ["--resume", tmp_path / "resume"]
    kill_after_two(monkeypatch, lambda: train_res(data, place, tmp_path / "out", *resume))
    assert not (tmp_path / "out/model.safetensors").exists()
    assert len(pd.read_csv(tmp_path / "out/metrics.csv")) == 2  # a row an epoch, at once
    return resume


def test_a_stopped_command_resumes_where_it_was_and_leaves_no_state_behind(place, data, tmp_path, stopped):
    answer = train_res(data, place, tmp_path / "out", *stopped)
    assert "resuming after epoch 2" in answer.output
    assert (tmp_path / "out/model.safetensors").read_bytes() == (place / "res/model.safetensors").read_bytes()
    assert not list((tmp_path / "resume").iterdir())


@pytest.mark.parametrize(
    "change", [["--model", TINY.replace(pmca=False).model_dump_json()], ["--seed", 1], ["--position-table", "extend"],
               "points", "split"],
    ids=["model", "seed", "position-table", "points", "split"],
)  # fmt: skip
def test_a_training_with_anything_else_about_it_starts_anew(place, data, tmp_path, stopped, change):
    options, other = (change, {}) if isinstance(change, list) else ([], {"points": 6})
    if change == "split":
        other = {"split": tmp_path / "split.parquet"}
        done("split", data.folder / "refs.parquet", "--ratio", 20, "--out", other["split"])
    answer = train_res(data, place, tmp_path / "out", *stopped, *options, **other)
    assert "resuming" not in answer.output


def test_tensorboard_has_every_epoch_exactly_once_after_a_resume(place, data, tmp_path, monkeypatch):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard"
    )
    training = SHORT.replace(tensorboard=True, score_epochs=2).model_dump_json()
    options = ["--val", data.folder / "refs.parquet", "--resume", tmp_path / "resume"]
    kill_after_two(monkeypatch, lambda: train_res(data, place, tmp_path / "out", *options, training=training))
    train_res(data, place, tmp_path / "out", *options, training=training)
    events = accumulator.EventAccumulator(str(tmp_path / "out/tensorboard")).Reload()
    table = pd.read_csv(tmp_path / "out/metrics.csv")
    for name, rows in (("loss", table), ("learning_rate", table), ("val_mIoU", table.iloc[1::2])):
        written = events.Scalars(name)
        assert [event.step for event in written] == rows["step"].tolist()
        assert [event.value for event in written] == pytest.approx(rows[name].tolist(), rel=1e-4)
    assert equal(tmp_path / "out", place / "res")


def test_scores_need_refs_and_events_need_tensorboard(place, data, tmp_path, monkeypatch):
    scored, events = (SHORT.replace(**each).model_dump_json() for each in ({"score_epochs": 1}, {"tensorboard": True}))
    answer = train_res(data, place, tmp_path / "out", training=scored, call=run)
    assert answer.exit_code == 1 and "give --val refs.parquet" in answer.output
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    answer = train_res(data, place, tmp_path / "out", training=events, call=run)
    assert answer.exit_code == 1 and "pip install --editable '.[tensorboard]'" in answer.output


def test_a_training_that_cannot_continue_says_so(place, data, tmp_path, monkeypatch):
    def fails(*arguments, **options):
        raise TrainingError("train-res: loss nan; lower the learning rate")

    monkeypatch.setattr("partialres.steps.fit.train", fails)
    answer = train_res(data, place, tmp_path / "out", call=run)
    assert answer.exit_code == 1 and "Error: train-res: loss nan; lower the learning rate" in answer.output


# ----------------------------------------------------------------------------------------------------------- evaluation


def test_evaluation_scores_every_expression_of_a_split(place, data, tmp_path):
    evaluate(data, place / "res", tmp_path)
    val = data.refs[data.refs["split"] == "val"]
    table = read_table(tmp_path / "val/predictions.parquet")
    asked = sorted((i, text) for i, texts in zip(val["ref_id"], val["expressions"], strict=True) for text in texts)
    assert sorted(zip(table["ref_id"], table["expression"], strict=True)) == asked
    assert list(table.columns) == [
        "ref_id", "expression", "points", "mask", "iou", "iou_upstream", "box_iou", "intersection", "union",
    ]  # fmt: skip
    scores = read_json(tmp_path / "val/metrics.json")
    assert list(scores) == [
        "expressions", "refs", "mIoU", "oIoU", "Pr@0.5", "Pr@0.6", "Pr@0.7", "Pr@0.8", "Pr@0.9", "box_accuracy",
        "mIoU_upstream", "degenerate",
    ]  # fmt: skip
    assert (scores["expressions"], scores["refs"]) == (len(asked), len(val))
    assert scores["mIoU"] == pytest.approx(100 * table["iou"].mean())


def test_step_1_is_scored_by_its_boxes_and_needs_no_masks(place, data, tmp_path):
    write_table(data.refs.drop(columns=["mask", "parts"]), tmp_path / "refs.parquet")
    model = ["--model", place / "rec/model.safetensors", "--out", tmp_path]
    done("evaluate", tmp_path / "refs.parquet", *model, *sources(data))
    assert list(read_json(tmp_path / "val/metrics.json")) == ["expressions", "refs", "box_accuracy", "mean_box_iou"]


def test_evaluating_twice_or_in_other_batches_gives_the_same_scores(place, data, tmp_path):
    evaluate(data, place / "res", tmp_path / "a")
    evaluate(data, place / "res", tmp_path / "b", "--batch", 3)
    evaluate(data, place / "res", tmp_path / "c")
    first, other, again = ((tmp_path / name / "val/metrics.json").read_bytes() for name in "abc")
    assert first == again == other


def test_splits_scored_together_get_the_bytes_of_each_scored_alone(place, data, tmp_path):
    splits = ("val", "testA")
    together = [option for split in splits for option in ("--split", split)]
    fixed = ["--model", place / "res/model.safetensors", *sources(data)]
    done("evaluate", data.folder / "refs.parquet", *fixed, *together, "--out", tmp_path / "together")
    for split in splits:
        evaluate(data, place / "res", tmp_path / "alone", split=split)
        for name in ("predictions.parquet", "metrics.json"):
            first, other = ((tmp_path / where / split / name).read_bytes() for where in ("together", "alone"))
            assert first == other


def test_a_split_that_does_not_exist_and_a_model_of_other_words_are_refused(place, data, tmp_path):
    answer = evaluate(data, place / "res", tmp_path, "--split", "test", call=run)  # after val, which exists
    assert answer.exit_code == 1 and "no refs in split 'test'" in answer.output and not (tmp_path / "val").exists()
    content = read_json(data.folder / "vocabulary.json")
    content["words"][2], content["words"][3] = content["words"][3], content["words"][2]
    write_json(content, tmp_path / "vocabulary.json")
    answer = evaluate(data, place / "res", tmp_path, "--vocabulary", tmp_path / "vocabulary.json", call=run)
    assert answer.exit_code == 1 and "trained with another vocabulary" in answer.output


# --------------------------------------------------------------------------------------- the visual part before step 1


@pytest.fixture(scope="module")
def featured(data, tmp_path_factory):
    """Pre-trained visual weights and their cached features."""
    folder = tmp_path_factory.mktemp("features")
    images = ["--images", data.folder / "images", "--model", MODEL]
    pretraining = json.dumps({"epochs": 1, "batch": 16})
    refs = ["--refs", data.folder / "refs.parquet", "--pretraining", pretraining]
    done("pretrain-backbone", data.raw / "instances.json", *refs, *images, "--out", folder)
    done("cache-features", folder / "visual.safetensors", *images, "--out", folder)
    return folder


def test_cached_features_give_what_pixels_give(featured, data, tmp_path):
    train_rec(data, tmp_path / "rec", "--init-backbone", featured / "visual.safetensors", "--features", featured)
    evaluate(data, tmp_path / "rec", tmp_path / "cached", "--features", featured)
    evaluate(data, tmp_path / "rec", tmp_path / "pixels")
    cached, pixels = (read_json(tmp_path / name / "val/metrics.json") for name in ("cached", "pixels"))
    assert cached == pytest.approx(pixels, abs=2)  # features are stored in half precision


def test_cached_features_are_of_each_image_alone_and_zero_in_its_padding(featured, data):
    table, visual = np.load(featured / "features.npy"), Visual(TINY).eval()
    load_visual(visual, featured / "visual.safetensors")
    for row in range(0, len(table), 5):
        down, across = data.inputs.window(row).cells(16)
        with torch.no_grad():
            batch = data.inputs.batch(np.array([row]), np.ones((1, 1), dtype=np.int64))
            np.testing.assert_allclose(table[row, :, :down, :across], visual(batch.images)[0], atol=1e-3)
        assert not table[row, :, down:].any() and not table[row, :, :, across:].any()


def test_cached_features_of_other_weights_or_of_a_backbone_that_trains_are_refused(featured, place, data, tmp_path):
    answer = evaluate(data, place / "rec", tmp_path, "--features", featured, call=run)
    assert answer.exit_code == 1 and "not made with the model's visual weights" in answer.output
    trains = TINY.replace(frozen="but_last_two").model_dump_json()
    images = ["--images", data.folder / "images", "--model", trains]
    answer = run("cache-features", featured / "visual.safetensors", *images, "--out", tmp_path)
    assert answer.exit_code == 1 and "frozen" in answer.output
    answer = train_rec(data, tmp_path, "--features", featured, model=trains, call=run)
    assert answer.exit_code == 1 and "only a wholly frozen visual part has features" in answer.output


def test_weights_that_do_not_fit_the_visual_part_are_refused(featured, data, tmp_path):
    other = TINY.replace(fusion=32, language=16).model_dump_json()
    start = ["--init-backbone", featured / "visual.safetensors"]
    answer = train_rec(data, tmp_path, *start, model=other, call=run)
    assert answer.exit_code == 1 and "visual.safetensors: does not fit the model's visual part" in answer.output


def test_step_1_starts_from_darknet_weights_and_says_what_stays_random(data, tmp_path):
    model = TINY.replace(frozen="but_last_two")
    torch.manual_seed(3)
    backbone = Visual(model).backbone
    write_weights(backbone, tmp_path / "tiny.weights")
    start = ["--init-backbone", tmp_path / "tiny.weights"]
    answer = train_rec(data, tmp_path / "rec", *start, model=model.model_dump_json(), training=ONCE)
    number = len(backbone.convolutions())
    assert f"{number} of the backbone's {number} convolutions loaded\nrandom: the neck\n" in answer.output
    trained = load_model(tmp_path / "rec/model.safetensors").visual.backbone
    units = zip(trained.convolutions(), backbone.convolutions(), strict=True)
    assert [torch.equal(a.conv.weight, b.conv.weight) for a, b in units] == [True] * (number - 2) + [False] * 2
    assert set(read_json(tmp_path / "rec/provenance.json")["inputs"]) >= {"init_backbone", "refs"}


def test_random_convolutions_that_are_frozen_are_warned_of_with_the_cure(tmp_path, capsys):
    backbone = DarkNet(4, [(8, 0), (8, 0), (8, 0)], pairs=2)
    write_weights(backbone, tmp_path / "imagenet.weights", convolutions=4)
    for frozen, warned in (("but_last_two", True), ("none", False)):
        backbone.freeze(frozen)
        load_visual(SimpleNamespace(backbone=backbone), tmp_path / "imagenet.weights")
        told = capsys.readouterr().err
        assert "4 of the backbone's 8 convolutions" in told
        assert "random: the neck and convolutions 5 to 8, the detection block" in told
        assert ("warning: 2 of the random convolutions are frozen" in told) is warned


# --------------------------------------------------------------------------------------------------------------- jitter


def test_jitter_changes_what_is_learned_and_training_again_gives_the_same(data, place, tmp_path):
    model = TINY.replace(frozen="but_last_two").model_dump_json()
    for name, training in (("plain/rec", ONCE), ("shaken/rec", SHAKEN), ("again/rec", SHAKEN)):
        train_rec(data, tmp_path / name, model=model, training=training)
    assert equal(tmp_path / "shaken/rec", tmp_path / "again/rec")
    assert not equal(tmp_path / "shaken/rec", tmp_path / "plain/rec")
    selected = ["--selected", place / "selected.parquet"]
    train_res(data, tmp_path / "shaken", tmp_path / "res", *selected, "--model", model, training=SHAKEN)


def test_jitter_with_a_frozen_visual_part_is_refused(data, tmp_path):
    answer = train_rec(data, tmp_path, training=SHAKEN, call=run)
    assert answer.exit_code == 1 and "training.jitter" in answer.output and "model.frozen: all" in answer.output
