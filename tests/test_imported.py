"""A step 1 from elsewhere, with its own vocabulary and the released settings of step 2, through the commands."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from partialres.training.checkpoint import load_model, read_config, save_model

from partialres.cli import main
from partialres.files import read_json, read_table, write_json
from partialres.geometry import contour
from partialres.model.pointer import PointModel
from tests.tiny import SHORT, TINY

POINTS = 6
SHARED = replace(TINY, rounding="truncate", span="image", padded_words=15)  # what an imported model is made with
RELEASED = replace(
    SHARED, language_token=True, cctf_axes="transposed", cctf_cells="spread", cctf_means="frame",
    pmca_scale="multiply", start="learned", end="anywhere",
)  # fmt: skip
TRAINING = json.dumps(asdict(replace(SHORT, epochs=1)))


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def done(*arguments):
    answer = run(*arguments)
    assert answer.exit_code == 0, answer.output
    return answer


@pytest.fixture(scope="module")
def place(data, tmp_path_factory):
    """A folder with the data set prepared for another vocabulary, its model of step 1, and step 2 from there."""
    folder = tmp_path_factory.mktemp("imported")
    words = replace(data.vocabulary, words=("<pad>", "<unk>", "CLS", *sorted(data.vocabulary.words[2:])[:-1]))
    write_json(words.to_json(), folder / "given.json")
    prepare = ["--image-folder", data.pictures, "--vocabulary", folder / "given.json"]
    done("prepare", data.raw, *prepare, "--out", folder)
    torch.manual_seed(0)
    model = PointModel(SHARED.step_1(), len(words), 2)
    save_model(model, folder / "rec.safetensors", words=len(words), vocabulary=words.digest(), provenance={})
    train(data, folder, folder / "res")
    return folder


def sources(data, place):
    return ["--vocabulary", place / "vocabulary.json", "--images", data.folder / "images"]


def train(data, place, out, model=RELEASED, sampling="released", call=done):
    return call(
        "train-res", data.folder / "split.parquet", "--init", place / "rec.safetensors", "--points", POINTS,
        "--model", json.dumps(asdict(model)), "--contour", sampling, "--training", TRAINING, "--out", out,
        *sources(data, place),
    )  # fmt: skip


def test_prepare_keeps_the_given_words_and_counts_them(place, data):
    given, made = read_json(place / "given.json"), read_json(place / "vocabulary.json")
    assert made["words"] == given["words"] and made["max_words"] == given["max_words"]
    assert made["counts"][2] == 0 and sum(made["counts"]) == sum(data.vocabulary.counts)
    assert made["unknown_share"]["train"] > 0
    assert read_table(place / "refs.parquet").equals(read_table(data.folder / "refs.parquet"))


def test_limits_beside_a_given_vocabulary_are_refused(place, data, tmp_path):
    fixed = ["--image-folder", data.pictures, "--vocabulary", place / "given.json", "--out", tmp_path]
    answer = run("prepare", data.raw, *fixed, "--max-words", 15)
    assert answer.exit_code == 2 and "--max-words is the vocabulary's own" in answer.output


def test_step_2_takes_what_it_brings_in_from_the_model_section(place):
    assert read_config(place / "rec.safetensors") == SHARED.step_1()
    assert read_config(place / "res/model.safetensors") == RELEASED
    assert json.loads((place / "res/provenance.json").read_text())["config"]["contour"] == "released"


def test_a_model_section_of_another_step_1_is_refused(place, data, tmp_path):
    answer = train(data, place, tmp_path, replace(RELEASED, rounding="round", width=32), call=run)
    assert answer.exit_code == 1 and "width is 16, not 32; rounding is 'truncate', not 'round'" in answer.output


def test_contours_that_may_be_short_are_refused_for_a_model_that_never_ends_early(place, data, tmp_path):
    answer = train(data, place, tmp_path, replace(RELEASED, end="last"), call=run)
    assert answer.exit_code == 1 and "model.end: anywhere" in answer.output


def test_the_sampling_decides_what_is_learned(place, data, tmp_path):
    train(data, place, tmp_path, sampling="uniform")
    first, other = (safetensors.torch.load_file(at / "model.safetensors") for at in (place / "res", tmp_path))
    assert any(not torch.equal(first[name], other[name]) for name in first)


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
    done(
        "train-res", split, "--init", place / "rec.safetensors", "--points", POINTS, "--contour", "released",
        "--model", json.dumps(asdict(RELEASED)), "--selected", tmp_path / "selected.parquet",
        "--training", TRAINING, *inputs, "--out", tmp_path / "retrain",
    )  # fmt: skip
    evaluated = ["--model", tmp_path / "retrain/model.safetensors", "--out", tmp_path / "val"]
    done("evaluate", place / "refs.parquet", *evaluated, *inputs)
    table = read_table(tmp_path / "val/predictions.parquet")
    assert table["iou"].between(0, 1).all() and table["iou_upstream"].between(0, 1).all()
    truth = ["--truth", place / "refs.parquet", "--out", tmp_path / "selection.json"]
    done("score-pseudo", corners, tmp_path / "selected.parquet", *truth)
    assert read_json(tmp_path / "selection.json")["true_iou_kept"] > 30


def test_a_box_spans_the_images_own_sides_where_the_model_was_made_so(place, data, tmp_path, monkeypatch):
    middle = torch.full((1, 4), SHARED.bins // 2)
    monkeypatch.setattr(
        PointModel,
        "decode",
        lambda self, memory, *known: (middle.expand(len(memory.features), 4), torch.ones(len(memory.features), 4)),
    )
    done(
        "evaluate", place / "refs.parquet", "--model", place / "rec.safetensors", *sources(data, place),
        "--out", tmp_path,
    )  # fmt: skip
    table = read_table(tmp_path / "predictions.parquet")
    sizes = data.refs.set_index("ref_id").loc[table["ref_id"], ["width", "height"]].to_numpy()
    padded = -(-sizes // 16) * 16
    np.testing.assert_allclose(np.array([points[0] for points in table["points"]]), padded / 2)


def test_features_can_be_cached_from_a_whole_model(place, data, tmp_path):
    images = ["--images", data.folder / "images", "--model", json.dumps(asdict(SHARED))]
    done("cache-features", place / "rec.safetensors", *images, "--out", tmp_path / "model")
    visual = load_model(place / "rec.safetensors").visual
    safetensors.torch.save_file(visual.state_dict(), tmp_path / "visual.safetensors")
    done("cache-features", tmp_path / "visual.safetensors", *images, "--out", tmp_path / "alone")
    first, other = ((tmp_path / name / "features.npy").read_bytes() for name in ("model", "alone"))
    assert first == other
