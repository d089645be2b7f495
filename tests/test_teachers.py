"""Teachers that know the box, and students that learn boxes and masks together, through their commands."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from partialres.data.batches import epoch_batches, make_samples
from partialres.files import read_table
from partialres.geometry import boxes, contour
from tests.test_stages import MODEL, POINTS, TRAINING, done, place, run, sources, train_res, weights  # noqa: F401
from tests.tiny import SHORT, TINY


def of_model(**changes):
    return ["--model", json.dumps(asdict(replace(TINY, **changes)))]


def as_arrays(column):
    return [np.array([list(point) for point in points]) for points in column]


@pytest.mark.parametrize("changes", [{}, {"prompt": "box"}, {"view": "box"}, {"prompt": "box", "view": "box"}])
def test_guided_points_lie_in_the_known_box(place, data, tmp_path, changes):  # noqa: F811
    train_res(data, place, tmp_path / "res", *of_model(**changes))
    rows, model = data.folder / "split.parquet", ["--model", tmp_path / "res/model.safetensors"]
    done("predict", rows, *model, *sources(data), "--guided", "--out", tmp_path / "points.parquet")
    found = read_table(tmp_path / "points.parquet")
    known = data.split.set_index("ref_id").loc[found["ref_id"]]
    assert len(found) == (~data.split["labelled"]).sum()
    for points, box, height, width in zip(
        as_arrays(found["points"]), known["bbox"], known["height"], known["width"], strict=True
    ):
        low, high = boxes.to_corners(np.asarray(box, dtype=float))
        slack = max(height, width) / TINY.bins
        assert points.shape == (POINTS, 2)
        assert (points >= low - slack).all() and (points <= high + slack).all()


def test_a_model_that_sees_the_known_box_is_not_scored(place, data, tmp_path):  # noqa: F811
    train_res(data, place, tmp_path / "res", *of_model(view="box"))
    model = ["--model", tmp_path / "res/model.safetensors"]
    answer = run("evaluate", data.folder / "refs.parquet", *model, *sources(data), "--out", tmp_path / "val")
    assert answer.exit_code == 1 and "must not be given" in answer.output


def test_all_expressions_give_no_worse_a_d_than_the_first(place, data, tmp_path):  # noqa: F811
    rows, model = data.folder / "split.parquet", ["--model", place / "res/model.safetensors"]
    done("predict", rows, *model, *sources(data), "--expressions", "all", "--out", tmp_path / "points.parquet")
    best, first = (
        read_table(folder / "points.parquet").set_index("ref_id")["d"].sort_index() for folder in (tmp_path, place)
    )
    assert best.index.equals(first.index) and (best <= first + 1e-9).all()


def test_boxes_of_unlabelled_refs_train_and_their_masks_do_not(place, data, tmp_path):  # noqa: F811
    joint = ["--training", json.dumps(asdict(replace(SHORT, boxes=True)))]
    train_res(data, place, tmp_path / "joint", *of_model(prompt="box"), *joint)
    train_res(data, place, tmp_path / "alone", *of_model(prompt="box"))
    one, other = weights(tmp_path / "joint"), weights(tmp_path / "alone")
    assert any(not torch.equal(one[name], other[name]) for name in one)
    done("evaluate", data.folder / "refs.parquet", "--model", tmp_path / "joint/model.safetensors", *sources(data),
         "--out", tmp_path / "val")  # fmt: skip
    answer = train_res(data, place, tmp_path / "x", *of_model(), *joint, call=run)
    assert answer.exit_code == 1 and "model.prompt: box" in answer.output


def test_what_is_not_known_of_a_ref_is_marked_and_weights_go_with_their_refs(data):
    rows = data.refs[data.refs["split"] == "train"].head(6)
    masks = [contour.decode(*row) for row in rows[["mask", "height", "width"]].itertuples(index=False, name=None)]
    points = [contour.trace(mask, POINTS) if number % 2 else None for number, mask in enumerate(masks)]
    samples = make_samples(
        rows, points, data.inputs, data.vocabulary, 32, "round", prompt="box", weights=np.arange(6)
    )  # fmt: skip
    (batch,) = epoch_batches(samples, data.inputs, 6, seed=0, epoch=0)
    assert batch.tokens.shape == (6, 4 + 2 * POINTS + 1)
    unknown = (batch.tokens[:, 4:] == -1).all(1)
    assert (batch.tokens[:, :4] >= 0).all() and ((batch.tokens[:, 4:] >= 0).all(1) != unknown).all()
    assert unknown.tolist() == [int(weight) % 2 == 0 for weight in batch.weights]
    assert (batch.tokens[~unknown, -1] == 32).all()


def test_a_cropped_ref_is_seen_anew_each_epoch_and_the_same_each_time(data):
    rows = data.refs[data.refs["split"] == "train"].head(4)
    masks = [contour.decode(*row) for row in rows[["mask", "height", "width"]].itertuples(index=False, name=None)]
    points = [contour.trace(mask, POINTS) for mask in masks]
    samples = make_samples(rows, points, data.inputs, data.vocabulary, 32, "round", view="box")

    def batch(epoch):
        (found,) = epoch_batches(samples, data.inputs, 4, seed=0, epoch=epoch)
        return found

    first, again, other = batch(0), batch(0), batch(1)
    assert torch.equal(first.images, again.images) and torch.equal(first.tokens, again.tokens)
    assert not torch.equal(first.images, other.images)
    assert len(first.images) == 4
