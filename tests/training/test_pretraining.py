"""Detection pre-training: what it reads from a COCO file, and what it never sees."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from partialres.config import PretrainConfig
from partialres.data.inputs import Inputs
from partialres.files import DataError, TrainingError
from partialres.model.visual import Visual
from partialres.training.pretraining import (
    ABSENT,
    DetectionHead,
    detection_loss,
    pretrain,
    read_scenes,
)
from tests.commands import done
from tests.tiny import TINY, equal_states

CONFIG = PretrainConfig(epochs=2, batch=16)


def thing(image, box, category=1, **more):
    return {"image_id": image, "bbox": list(box), "category_id": category, "area": box[2] * box[3], **more}


def scenes(data, tmp_path, images, *annotations):
    path = tmp_path / "instances.json"
    content = [{"id": number, **each} for number, each in enumerate(annotations)]
    path.write_text(json.dumps({"images": [], "annotations": content}))
    return read_scenes(path, images, data.inputs)


@pytest.fixture
def image(data):
    """The id of an image that fills the frame, so that its pixels are the frame's pixels."""
    return next(i for i, row in data.inputs.cache.rows.items() if data.inputs.cache.image(row).shape[:2] == (64, 64))


def test_the_positions_on_an_object_have_its_labels_and_the_distances_to_its_sides(data, image, tmp_path):
    made = scenes(data, tmp_path, [image], thing(image, (16, 0, 32, 64), attributes={"colour": "red"}))
    assert made.rows.tolist() == [data.inputs.cache.rows[image]] and made.classes == [1, 1]
    expected = np.zeros((4, 4), dtype=bool)
    expected[1:3, 1:3] = True  # only the height's inner part counts; the middles at 8 and 56 are outside
    assert (made.present[0] == expected).all() and not made.labels[0][expected].any()
    sides = made.sides[0, 1, 1] * 64  # the position's middle is at 24, 24
    assert sides.tolist() == [24 - 16, 24 - 0, 48 - 24, 64 - 24]


def test_of_overlapping_objects_the_smaller_has_the_position_whatever_the_order(data, image, tmp_path):
    large, small = thing(image, (0, 0, 64, 64), category=4), thing(image, (16, 16, 32, 32), category=2)
    for order in ((large, small), (small, large)):
        made = scenes(data, tmp_path, [image], *order)
        assert made.classes == [2] and made.labels[0, 1, 1] == [0] and made.sides[0, 1, 1, 0] == 8 / 64
    made = scenes(data, tmp_path, [image], small)
    assert made.present.sum() == 4


def test_an_object_smaller_than_a_position_has_the_nearest(data, image, tmp_path):
    made = scenes(data, tmp_path, [image], thing(image, (33, 50, 2, 1)))
    assert np.argwhere(made.present[0]).tolist() == [[3, 2]]
    assert made.sides[0, 3, 2] * 64 == pytest.approx([7, 6, -5, -5])


def test_objects_of_other_images_and_crowds_do_not_count(data, image, tmp_path):
    other = next(each for each in data.inputs.cache.rows if each != image)
    crowd, elsewhere = thing(image, (0, 0, 64, 64), 8, iscrowd=1), thing(other, (0, 0, 9, 9), 7)
    made = scenes(data, tmp_path, [image], thing(image, (16, 16, 32, 32)), crowd, elsewhere)
    assert made.classes == [1] and made.present.sum() == 4
    with pytest.raises(DataError, match=r"instances\.json: no annotated object"):
        scenes(data, tmp_path, [image], thing(other, (0, 0, 9, 9)))


def test_an_object_without_an_attribute_teaches_nothing_about_it(data, image, tmp_path):
    red = thing(image, (0, 0, 32, 64), attributes={"colour": "red"})
    made = scenes(data, tmp_path, [image], red, thing(image, (32, 0, 32, 64)))
    assert made.classes == [1, 1] and made.labels[0, 1, 0].tolist() == [0, 0]
    assert made.labels[0, 1, 3].tolist() == [0, ABSENT]  # label sets by name: category, colour
    head = DetectionHead(5, [1, 3])
    features = torch.randn(1, 5, 4, 4, requires_grad=True)
    labels = torch.full((1, 4, 4, 2), ABSENT)
    labels[..., 0] = 0
    present = torch.ones(1, 4, 4, dtype=torch.bool)
    loss = detection_loss(head(features), present, labels, torch.zeros(1, 4, 4, 4))
    loss.backward()
    assert torch.isfinite(loss) and head.conv.weight.grad[-3:].abs().max() == 0


@pytest.fixture(scope="module")
def training(data):
    images = sorted(set(data.refs.loc[data.refs["split"] == "train", "image_id"]))
    return read_scenes(data.raw / "instances.json", images, data.inputs)


def run(training, data, config=CONFIG, seed=0):
    torch.manual_seed(seed)
    visual = Visual(TINY)
    return visual, pretrain(visual, training, data.inputs, config, seed)


def test_the_same_seed_gives_the_same_weights_and_the_loss_falls(training, data):
    config = CONFIG.replace(epochs=6)
    first, history = run(training, data, config)
    assert equal_states(first, run(training, data, config)[0]) and not first.training
    assert history["loss"].iloc[-1] < 0.8 * history["loss"].iloc[0]
    assert history["epoch"].tolist() == list(range(6)) and {"step", "learning_rate", "seconds"} <= set(history.columns)
    assert history[["label0", "label1"]].stack().between(0, 1).all()
    assert not equal_states(first, run(training, data, config, seed=1)[0])


def test_the_visual_part_is_told_where_padding_is_also_in_mirrored_batches(training, data, monkeypatch):
    given = []

    def forward(self, images, valid):
        seen = images.reshape(len(images), 4, 16, 4, 16, 3).amax((2, 4, 5)) > 0
        assert not (seen & ~valid).any() and not valid.all()
        given.append(valid[:, :, 0].float().mean() - valid[:, :, -1].float().mean())
        return plain(self, images, valid)

    plain = Visual.forward
    monkeypatch.setattr(Visual, "forward", forward)
    run(training, data)
    assert min(given) < 0 < max(given)  # padding is on the right, or on the left


def test_a_loss_that_is_not_finite_stops_it(training, data):
    with pytest.raises(TrainingError, match="epoch 0"):
        run(replace(training, sides=training.sides * np.float32(np.nan)), data)


def test_neither_masks_nor_held_out_images_nor_their_annotations_change_the_weights(data, tmp_path):
    content = json.loads((data.raw / "instances.json").read_text())
    held_out = set(data.refs.loc[data.refs["split"] != "train", "image_id"])
    for item in content["annotations"]:
        item["segmentation"] = [[0, 0, 5, 0, 5, 5]]
        if item["image_id"] in held_out:
            item |= {"bbox": [1, 1, 5, 5], "category_id": 99, "attributes": {"colour": "none"}}
    (tmp_path / "changed.json").write_text(json.dumps(content))
    cache = tmp_path / "images"
    cache.mkdir()
    pixels = np.load(data.folder / "images/images.npy")
    inputs = Inputs(data.folder / "images", 16)
    for image in held_out:
        row = inputs.cache.rows[image]
        start, size = inputs.cache.offset[row], inputs.cache.image(row).size
        pixels[start : start + size] = 0
    np.save(cache / "images.npy", pixels)
    (cache / "index.parquet").write_bytes((data.folder / "images/index.parquet").read_bytes())
    for out, instances, images in (
        ("a", data.raw / "instances.json", data.folder / "images"),
        ("b", tmp_path / "changed.json", cache),
    ):
        files = [instances, "--refs", data.folder / "refs.parquet", "--images", images, "--out", tmp_path / out]
        sections = ["--model", TINY.model_dump_json(), "--pretraining", CONFIG.model_dump_json()]
        done("pretrain-backbone", *files, *sections)
    first, second = ((tmp_path / out / "visual.safetensors").read_bytes() for out in "ab")
    assert first == second
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "visual.safetensors", "metrics.csv", "provenance.json"
    }  # fmt: skip
