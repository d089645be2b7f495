"""An imported step 1, with its own vocabulary, and step 2 in the released settings, through the commands."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from partialres.checkpoints.model_file import load_model, read_config, save_model
from partialres.files import read_json, read_table, write_json
from partialres.geometry import contour
from partialres.model.pointer import PointModel
from tests.commands import done, equal, run
from tests.tiny import RELEASED, SHORT, SIDE, TINY, changed

POINTS = 6
MODEL = TINY.replace(upstream=RELEASED)
TRAINING = SHORT.replace(epochs=1).model_dump_json()


@pytest.fixture(scope="module")
def place(data, tmp_path_factory):
    """A folder: the data set prepared with an imported vocabulary, a model of step 1, and step 2 started from it."""
    folder = tmp_path_factory.mktemp("imported")
    words = replace(data.vocabulary, words=("<pad>", "<unk>", "CLS", *sorted(data.vocabulary.words[2:])[:-1]))
    write_json(words.to_json(), folder / "given.json")
    prepare = ["--split-by", "unc", "--image-folder", data.pictures, "--vocabulary", folder / "given.json"]
    done("prepare", data.raw, *prepare, "--out", folder)
    torch.manual_seed(0)
    model = PointModel(MODEL.step_1(), len(words), 2)
    save_model(model, folder / "rec.safetensors", words=words, size=SIDE, provenance={})
    train(data, folder, folder / "res")
    return folder


def sources(data, place):
    return ["--vocabulary", place / "vocabulary.json", "--images", data.folder / "images"]


def train(data, place, out, *options, model=MODEL, sampling="released", call=done):
    return call(
        "train-res", data.folder / "split.parquet", "--init", place / "rec.safetensors", "--points", POINTS,
        "--model", model.model_dump_json(), "--contour", sampling, "--training", TRAINING, "--out", out,
        *sources(data, place), *options,
    )  # fmt: skip


def test_prepare_keeps_the_given_words_and_counts_them(place, data):
    given, made = read_json(place / "given.json"), read_json(place / "vocabulary.json")
    assert made["words"] == given["words"] and made["max_words"] == given["max_words"]
    assert made["counts"][2] == 0 and sum(made["counts"]) == sum(data.vocabulary.counts)
    assert made["unknown_share"]["train"] > 0
    assert read_table(place / "refs.parquet").equals(read_table(data.folder / "refs.parquet"))


def test_limits_beside_a_given_vocabulary_are_refused(place, data, tmp_path):
    fixed = ["--split-by", "unc", "--image-folder", data.pictures]
    fixed += ["--vocabulary", place / "given.json", "--out", tmp_path]
    answer = run("prepare", data.raw, *fixed, "--max-words", 15)
    assert answer.exit_code == 2 and "--max-words comes from that file" in answer.output


def test_step_2_takes_what_it_brings_in_from_the_model_section(place):
    assert read_config(place / "rec.safetensors") == MODEL.step_1()
    assert read_config(place / "res/model.safetensors") == MODEL
    assert read_json(place / "res/provenance.json")["config"]["contour"] == "released"


def test_a_model_section_of_another_step_1_is_refused(place, data, tmp_path):
    answer = train(data, place, tmp_path, model=changed(MODEL, rounding="round", width=32), call=run)
    assert answer.exit_code == 1
    assert "width is 16, not 32; upstream.rounding is 'truncate', not 'round'" in answer.output


def test_contours_that_may_be_short_are_refused_for_a_model_that_never_ends_early(place, data, tmp_path):
    answer = train(data, place, tmp_path, model=changed(MODEL, end_token="last"), call=run)
    assert answer.exit_code == 1 and "model.upstream.end_token: anywhere" in answer.output


def test_the_sampling_decides_what_is_learned(place, data, tmp_path):
    train(data, place, tmp_path, sampling="uniform")
    assert not equal(place / "res", tmp_path)


def test_the_released_settings_go_through_prediction_selection_step_3_and_evaluation(place, data, tmp_path):
    split, inputs = data.folder / "split.parquet", sources(data, place)
    model = ["--model", place / "res/model.safetensors"]
    done("predict", split, *model, *inputs, "--out", tmp_path / "points.parquet")
    corners = tmp_path / "corners.parquet"
    points = read_table(tmp_path / "points.parquet").head(5)
    boxes = data.refs.set_index("ref_id").loc[points["ref_id"], "bbox"]
    outlines = [[[x, y], [x + w, y], [x + w, y + h], [x, y + h]] for x, y, w, h in boxes]
    points.assign(points=outlines, d=0.0).to_parquet(corners)
    choose = ["--num-points", POINTS, "--contour", "released", "--out", tmp_path / "selected.parquet"]
    done("select", corners, split, *choose)
    selected = read_table(tmp_path / "selected.parquet")
    size = data.split.set_index("ref_id")[["height", "width"]]
    for ref_id, shape, outline in zip(selected["ref_id"], selected["points"], outlines, strict=True):
        mask = contour.fill(np.array(outline, dtype=float), *size.loc[ref_id])
        np.testing.assert_array_equal(np.array(shape.tolist()), contour.trace_released(mask, POINTS))
    train(data, place, tmp_path / "retrain", "--selected", tmp_path / "selected.parquet")
    evaluated = ["--model", tmp_path / "retrain/model.safetensors", "--out", tmp_path]
    done("evaluate", place / "refs.parquet", *evaluated, *inputs)
    table = read_table(tmp_path / "val/predictions.parquet")
    assert table["iou"].between(0, 1).all() and table["iou_upstream"].between(0, 1).all()
    truth = ["--truth", place / "refs.parquet", "--out", tmp_path / "selection.json"]
    done("score-pseudo", corners, tmp_path / "selected.parquet", *truth)
    assert read_json(tmp_path / "selection.json")["true_iou_kept"] > 30


def test_a_box_spans_the_images_own_sides_where_the_model_was_made_so(place, data, tmp_path, monkeypatch):
    def middle(self, memory):
        shape = len(memory.features), 4
        return torch.full(shape, MODEL.bins // 2), torch.ones(shape)

    monkeypatch.setattr(PointModel, "decode", middle)
    evaluated = ["--model", place / "rec.safetensors", "--out", tmp_path]
    done("evaluate", place / "refs.parquet", *evaluated, *sources(data, place))
    table = read_table(tmp_path / "val/predictions.parquet")
    sizes = data.refs.set_index("ref_id").loc[table["ref_id"], ["width", "height"]].to_numpy()
    padded = -(-sizes // 16) * 16
    np.testing.assert_allclose(np.array([points[0] for points in table["points"]]), padded / 2)


def test_features_can_be_cached_from_a_whole_model(place, data, tmp_path):
    images = ["--images", data.folder / "images", "--model", MODEL.step_1().model_dump_json()]
    done("cache-features", place / "rec.safetensors", *images, "--out", tmp_path / "model")
    save_file(load_model(place / "rec.safetensors").visual.state_dict(), tmp_path / "visual.safetensors")
    done("cache-features", tmp_path / "visual.safetensors", *images, "--out", tmp_path / "alone")
    first, other = ((tmp_path / name / "features.npy").read_bytes() for name in ("model", "alone"))
    assert first == other
