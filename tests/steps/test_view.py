"""A step 2 that sees an enlarged window around the known box (model.view: box)."""

import numpy as np
import pytest

from partialres.data.views import MARGIN
from partialres.files import read_table
from partialres.geometry import boxes
from tests.commands import done, equal, evaluate, run
from tests.steps.conftest import POINTS, predict, train_res
from tests.tiny import SHORT, TINY

MODEL = ["--model", TINY.replace(view="box").model_dump_json()]


@pytest.fixture(scope="module")
def teacher(data, place, tmp_path_factory):
    """Step 2's model, and its points for the unlabelled refs."""
    folder = tmp_path_factory.mktemp("teacher")
    train_res(data, place, folder, *MODEL)
    predict(data, folder, folder / "points.parquet")
    return folder


def test_its_points_lie_in_what_it_sees_around_the_known_box(data, place, teacher):
    assert not equal(teacher, place / "res")
    table = read_table(teacher / "points.parquet")
    assert sorted(table["ref_id"]) == sorted(data.split.loc[~data.split["labelled"], "ref_id"])
    refs = data.split.set_index("ref_id").loc[table["ref_id"]]
    for points, box in zip(table["points"], refs["bbox"], strict=True):
        low, high = boxes.to_corners(np.asarray(box, dtype=float))
        side, flat = (high - low).max(), np.array(points.tolist())
        start = low - MARGIN * side - 1  # regions are cut at whole pixels
        assert flat.shape == (POINTS, 2)
        assert (flat >= start).all() and (flat <= np.maximum(start, 0) + (1 + 2 * MARGIN) * side + 2).all()


def test_it_predicts_nothing_where_every_ref_is_labelled(data, teacher, tmp_path):
    done("split", data.folder / "refs.parquet", "--ratio", 100, "--out", tmp_path / "split.parquet")
    predict(data, teacher, tmp_path / "points.parquet", split=tmp_path / "split.parquet")
    assert len(read_table(tmp_path / "points.parquet")) == 0


def test_a_model_that_sees_the_known_box_is_not_scored(data, teacher, tmp_path):
    answer = evaluate(data, teacher, tmp_path, call=run)
    assert answer.exit_code == 1 and "must not be scored" in answer.output


def test_it_draws_its_own_windows_so_jitter_is_refused(data, place, tmp_path):
    model = ["--model", TINY.replace(view="box", frozen="but_last_two").model_dump_json()]
    training = SHORT.replace(jitter=(0.3, 1.4)).model_dump_json()
    answer = train_res(data, place, tmp_path, *model, training=training, call=run)
    assert answer.exit_code == 1 and "model.view: box draws its own windows" in answer.output
