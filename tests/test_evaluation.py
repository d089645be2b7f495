"""From a model's points to rows of predictions."""

from itertools import chain, zip_longest

import numpy as np
import pandas as pd
import pytest

from partialres.evaluation import Prediction, predictions, score_boxes, score_masks, select_split
from partialres.files import DataError, read_json, read_table, write_table
from partialres.geometry import contour
from tests.commands import done, sources
from tests.test_use import write_model

SQUARE = np.array([[10, 10], [20, 10], [20, 20], [10, 20]], dtype=float)
OTHER = SQUARE + np.array([20, 0])


def ref(*parts, box=(10, 10, 10, 10), ref_id=1):
    """Make a ref in a 40 x 50 image whose mask is filled polygons."""
    mask = np.zeros((40, 50), dtype=bool)
    for part in parts:
        mask |= contour.fill(part, 40, 50)
    flat = [part.ravel().tolist() for part in parts]
    return {"ref_id": ref_id, "height": 40, "width": 50, "bbox": list(box), "mask": contour.encode(mask), "parts": flat}


def predicted(points, position=0):
    return Prediction(position, f"expression {position}", np.asarray(points, dtype=float), np.ones(2 * len(points)))


def scored(refs, *predictions, size=50):
    return score_masks(pd.DataFrame(refs), predictions, size, multiple=32)


def test_two_equal_parts_with_the_first_predicted_score_one_half_and_as_released_one():
    row = scored([ref(SQUARE, OTHER, box=(10, 10, 30, 10))], predicted(SQUARE)).iloc[0]
    assert row["iou"] == 0.5 and row["iou_upstream"] == 1.0
    assert (row["intersection"], row["union"]) == (100, 200)


def test_of_one_part_the_released_score_is_the_plain_one():
    row = scored([ref(SQUARE)], predicted(SQUARE + np.array([5, 0]))).iloc[0]
    assert row["iou"] == row["iou_upstream"] == pytest.approx(1 / 3)
    assert row["box_iou"] == pytest.approx(1 / 3)


def test_points_that_span_nothing_score_nothing():
    row = scored([ref(SQUARE, OTHER)], predicted(np.zeros((4, 2)))).iloc[0]
    assert (row["iou"], row["iou_upstream"], row["intersection"], row["union"]) == (0, 0, 0, 200)


def test_a_mask_given_as_runs_has_one_part():
    row = ref(SQUARE, OTHER) | {"parts": []}
    assert scored([row], predicted(SQUARE)).iloc[0]["iou_upstream"] == 0.5


def test_the_released_score_is_taken_in_the_resized_and_padded_frame():
    row = scored([ref(SQUARE)], predicted(SQUARE + np.array([5, 0])), size=100).iloc[0]
    assert row["iou"] == row["iou_upstream"] == pytest.approx(1 / 3)  # twice as large
    odd = scored([ref(SQUARE)], predicted(SQUARE + np.array([1, 0])), size=25).iloc[0]
    assert odd["iou"] == pytest.approx(9 / 11) and odd["iou_upstream"] != pytest.approx(9 / 11)  # half a pixel
    edge = np.array([[40, 10], [60, 10], [60, 20], [40, 20]], dtype=float)  # half of it lies in the image
    row = scored([ref(edge, box=(40, 10, 10, 10))], predicted(edge)).iloc[0]
    assert row["iou"] == 1 and row["iou_upstream"] == pytest.approx(0.5)  # padding counts as predicted


def test_missing_points_span_nothing():
    gone = np.vstack([SQUARE, np.full((2, 2), np.nan)])
    assert scored([ref(SQUARE)], predicted(gone)).iloc[0]["iou"] == 1
    row = scored([ref(SQUARE)], predicted(np.full((4, 2), np.nan))).iloc[0]
    assert (row["iou"], row["iou_upstream"]) == (0, 0)


def test_every_prediction_is_scored_against_its_own_ref_in_the_order_given():
    refs = [ref(SQUARE, ref_id=5), ref(OTHER, box=(30, 10, 10, 10), ref_id=3)]
    table = scored(refs, predicted(OTHER, 1), predicted(SQUARE, 0), predicted(SQUARE, 1))
    assert table["ref_id"].tolist() == [3, 5, 3] and table["iou"].tolist() == [1, 1, 0]
    assert table["box_iou"].tolist() == [1, 1, 0]
    assert contour.decode(table["mask"][0], 40, 50).sum() == 100
    assert table["expression"].tolist() == ["expression 1", "expression 0", "expression 1"]


def test_boxes_are_scored_whichever_corner_comes_first():
    refs = pd.DataFrame([ref(SQUARE)])
    table = score_boxes(
        refs, [predicted([[10, 10], [20, 20]]), predicted([[20, 20], [10, 10]]), predicted([[0, 0], [10, 10]])]
    )
    assert table["box_iou"].tolist() == [1, 1, 0]
    assert list(table.columns) == ["ref_id", "expression", "points", "box_iou"]


def with_mask(mask, corners):
    """A mask head's prediction: a mask, and the corners of its box."""
    runs = {"size": list(mask.shape), "counts": contour.encode(mask).encode()}
    return Prediction(0, "expression", np.asarray(corners, dtype=float), np.empty(0), runs)


def test_a_mask_heads_mask_and_box_are_scored_apart_and_it_has_no_points():
    row = scored([ref(SQUARE)], with_mask(contour.fill(SQUARE + np.array([5, 0]), 40, 50), [[10, 10], [20, 20]])).iloc[
        0
    ]
    assert row["iou"] == row["iou_upstream"] == pytest.approx(1 / 3)
    assert row["box_iou"] == 1 and row["points"] == []
    row = scored([ref(SQUARE)], with_mask(np.zeros((40, 50), dtype=bool), [[10, 10], [20, 20]])).iloc[0]
    assert (row["iou"], row["iou_upstream"], row["intersection"], row["union"], row["box_iou"]) == (0, 0, 0, 100, 1)


def test_the_released_score_of_a_mask_is_taken_in_the_resized_frame_and_of_parts_as_a_crowd():
    both = ref(SQUARE, OTHER, box=(10, 10, 30, 10))
    half = with_mask(contour.fill(SQUARE, 40, 50), [[10, 10], [20, 20]])
    for size in (50, 100, 25):
        row = scored([both], half, size=size).iloc[0]
        assert row["iou"] == 0.5 and row["iou_upstream"] == 1.0
    odd = scored(
        [ref(SQUARE)], with_mask(contour.fill(SQUARE + np.array([1, 0]), 40, 50), SQUARE[[0, 2]]), size=25
    ).iloc[0]
    assert odd["iou"] == pytest.approx(9 / 11) and odd["iou_upstream"] != pytest.approx(9 / 11)  # every second column


def test_a_ref_without_a_mask_cannot_be_scored_and_is_named():
    with pytest.raises(DataError, match="ref_id 8"):
        scored([ref(SQUARE), ref(SQUARE, ref_id=8) | {"mask": None, "parts": None}], predicted(SQUARE))


def test_batches_and_answers_do_not_depend_on_how_many_share_them(data, tiny_model):
    refs, model = data.train, tiny_model(points=4)

    def batches(part):
        made = predictions(model, refs, data.inputs, data.vocabulary, batch=3, label="train", part=part)
        return [[(each.position, each.expression, each.probabilities.tolist()) for each in batch] for batch in made]

    alone = batches((0, 1))
    assert len(alone) > 4
    for number in (2, 3, 100):
        shared = [batches((part, number)) for part in range(number)]
        assert alone == [batch for turn in zip_longest(*shared) for batch in turn if batch]


def test_a_split_that_does_not_exist_is_answered_with_those_that_do(data):
    assert set(select_split(data.refs, "val")["split"]) == {"val"}
    with pytest.raises(DataError, match=r"'test'.*testA, testB, train, val"):
        select_split(data.refs, "test")


def test_every_expression_is_answered_in_pixels_of_its_image_however_large_the_batch(data, tiny_model):
    val = select_split(data.refs, "val")
    model = tiny_model(points=4)

    def answers(batch):
        how = {"batch": batch, "label": "val"}
        answered = predictions(model, val, data.inputs, data.vocabulary, **how)
        return sorted(
            (answer for each in answered for answer in each), key=lambda each: (each.position, each.expression)
        )

    singly, at_once = answers(1), answers(1000)
    asked = sorted((position, text) for position, texts in enumerate(val["expressions"]) for text in texts)
    assert [(each.position, each.expression) for each in singly] == asked
    assert [(each.position, each.expression) for each in at_once] == asked
    for first, second in zip(singly, at_once, strict=True):
        assert first.points.tolist() == second.points.tolist()
        assert first.probabilities == pytest.approx(second.probabilities, rel=1e-4)
        longest = max(val["height"][first.position], val["width"][first.position])
        assert first.points.shape == (4, 2) and (first.points >= 0).all() and (first.points <= longest).all()
        assert ((first.probabilities > 0) & (first.probabilities <= 1)).all()


@pytest.mark.parametrize("kind", [{"points": 12}, {"head": "mask", "cctf": False, "pmca": False}], ids=str)
def test_the_order_of_refs_changes_no_answer_and_no_score(data, tmp_path, kind):
    model, tables = write_model(data, tmp_path, **kind), []
    for seed in (None, 0, 1):
        refs = tmp_path / f"{seed}.parquet"
        write_table(data.refs if seed is None else data.refs.sample(frac=1, random_state=seed), refs)
        fixed = ["--model", model, "--split", "val", "--out", tmp_path / f"{seed}"]
        done("evaluate", refs, *fixed, *sources(data))
        tables.append(read_table(tmp_path / f"{seed}/val/predictions.parquet").sort_values(["ref_id", "expression"]))
        assert read_json(tmp_path / f"{seed}/val/metrics.json") == pytest.approx(
            read_json(tmp_path / "None/val/metrics.json")
        )
    for column in ("ref_id", "expression", "mask", "iou", "iou_upstream", "box_iou"):
        assert tables[0][column].tolist() == tables[1][column].tolist() == tables[2][column].tolist()
    assert tables[0]["iou"].nunique() > 2 and tables[0].index.tolist() != tables[1].index.tolist()


def test_predictions_come_shape_by_shape_and_do_not_depend_on_what_shares_a_batch(data, tiny_model):
    model, refs = tiny_model(4, frozen="none"), data.train.sample(40, random_state=0)
    alone, together = (
        list(chain.from_iterable(predictions(model, refs, data.inputs, data.vocabulary, batch=size, label="test")))
        for size in (1, 1000)
    )
    rows = data.inputs.rows(refs["image_id"].tolist())
    shapes = [data.inputs.window(row).cells(16) for row in rows.tolist()]
    assert len(set(shapes)) > 2
    order = sorted(range(len(refs)), key=lambda place: (shapes[place], rows[place], place))
    expected = [(place, text) for place in order for text in refs["expressions"].iloc[place]]
    for answered in (alone, together):
        assert [(each.position, each.expression) for each in answered] == expected
    np.testing.assert_allclose([each.points for each in alone], [each.points for each in together])
