"""The outputs of every step on the tiny data set, made by the commands."""

import pytest

from partialres.files import read_table, write_table
from tests.commands import done, sources
from tests.tiny import SHORT, TINY

POINTS = 4
MODEL, TRAINING = TINY.model_dump_json(), SHORT.model_dump_json()


def train_rec(data, out, *options, refs=None, model=MODEL, training=TRAINING, call=done):
    fixed = ["--model", model, "--training", training, "--out", out, *sources(data)]
    return call("train-rec", refs or data.folder / "refs.parquet", *fixed, *options)


def train_res(data, place, out, *options, split=None, points=POINTS, training=TRAINING, call=done):
    fixed = ["--init", place / "rec/model.safetensors", "--points", points, "--model", MODEL]
    fixed += ["--training", training, "--out", out]
    return call("train-res", split or data.folder / "split.parquet", *fixed, *sources(data), *options)


def predict(data, model, out, *options, split=None, call=done):
    fixed = ["--model", model / "model.safetensors", "--out", out, *sources(data)]
    return call("predict", split or data.folder / "split.parquet", *fixed, *options)


@pytest.fixture(scope="session")
def place(data, tmp_path_factory):
    """A folder with every step's outputs: rec, res, points.parquet, selected.parquet, retrain.

    After so little training step 2 predicts no masks, so step 3 gets the boxes' corners as pseudo points.
    """
    folder = tmp_path_factory.mktemp("steps")
    train_rec(data, folder / "rec")
    train_res(data, folder, folder / "res")
    predict(data, folder / "res", folder / "points.parquet")
    points = read_table(folder / "points.parquet").drop(columns="points")
    boxes = data.refs.set_index("ref_id").loc[points["ref_id"], "bbox"]
    corners = [[[x, y], [x + w, y], [x + w, y + h], [x, y + h]] for x, y, w, h in boxes]
    losses = [0.05 * (row % 4) for row in range(len(points))]
    write_table(points.assign(points=corners, d=losses), folder / "boxes.parquet")
    chosen = ["--num-points", POINTS, "--out", folder / "selected.parquet"]
    done("select", folder / "boxes.parquet", data.folder / "split.parquet", *chosen)
    train_res(data, folder, folder / "retrain", "--selected", folder / "selected.parquet")
    return folder
