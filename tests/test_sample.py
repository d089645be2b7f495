"""What docs/notebooks holds: a small model that works at once, its picture, and a tour that runs."""

import re

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

import partialres
from partialres.checkpoints.model_file import read_header
from partialres.refshapes import scenes
from partialres.refshapes.generate import refs_of, scene_of
from tests.commands import done
from tests.test_use import write_model
from tools import sample


@pytest.fixture(scope="module")
def model():
    return partialres.load(sample.MODEL, device="cpu")


def true_ious(model, index):
    """IoU of the model's answer to every expression about a scene, which no training has, with the object's mask."""
    scene = scene_of(sample.SCENES, index)
    picture = scenes.paint(scene, sample.SCENES.seed, index)
    asked = [(shape.mask, text) for shape, texts in refs_of(sample.SCENES, index, scene) for text in texts]
    answers = model.segment_many([(picture, text) for _, text in asked])
    pairs = [(answer.mask, mask) for answer, (mask, _) in zip(answers, asked, strict=True)]
    return [(answer & mask).sum() / (answer | mask).sum() for answer, mask in pairs]


def test_the_model_is_small_and_says_where_it_comes_from():
    assert sample.MODEL.stat().st_size < 3e6
    origin = read_header(sample.MODEL)["provenance"]
    assert re.fullmatch("[0-9a-f]{7,}", origin["commit"]) and origin["inputs"] and origin["versions"]["torch"]


def test_it_finds_the_objects_of_scenes_that_no_training_has(model):
    ious = [iou for index in range(sample.SCENES.images) for iou in true_ious(model, index)]
    assert len(ious) > 100 and np.mean(ious) > 0.5
    assert np.mean(true_ious(model, sample.SHOWN)) > 0.5


def test_the_picture_is_the_generators(model, tmp_path):
    drawn = scenes.paint(scene_of(sample.SCENES, sample.SHOWN), sample.SCENES.seed, sample.SHOWN)
    assert np.abs(np.asarray(Image.open(sample.PICTURE)).astype(int) - drawn).mean() < 8  # JPEG
    done("segment", sample.FOLDER, sample.PICTURE, "the yellow circle", "--out", tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_weights_are_stored_in_half_the_size_and_loaded_in_full(data, tmp_path):
    path = write_model(data, tmp_path)
    sample.store(path, tmp_path / "small.safetensors")
    assert read_header(path) == read_header(tmp_path / "small.safetensors")
    stored, given = (safetensors.torch.load_file(each) for each in (tmp_path / "small.safetensors", path))
    loaded = partialres.load(tmp_path / "small.safetensors").model.state_dict()
    assert stored.keys() == given.keys() == loaded.keys()
    for name, tensor in given.items():
        if tensor.is_floating_point():
            assert stored[name].dtype == torch.float16 and loaded[name].dtype == torch.float32
            assert torch.equal(loaded[name], tensor.half().float())


def test_the_tour_runs_and_scores_the_model():
    pytest.importorskip("ipykernel", reason="needs ipykernel, of the extra [test]")
    cells = [cell for cell in sample.toured().cells if cell.cell_type == "code"]
    assert all(cell.outputs for cell in cells)
    said = "".join(output.get("text", "") for cell in cells for output in cell.outputs)
    assert "does not know: elephant" in said
    assert float(re.search(r"mIoU ([\d.]+)", said)[1]) > 50
