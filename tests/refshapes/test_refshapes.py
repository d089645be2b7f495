"""The generated data set: each expression fits one shape only, and the files are like RefCOCO's."""

from __future__ import annotations

import json
import math
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from partialres.cli import main
from partialres.data.refer import read_refs
from partialres.refshapes import generate as refshapes
from partialres.refshapes.generate import FLAVOURS, RefshapesConfig
from partialres.refshapes.scenes import COLOURS, CURVED, EXTENTS, KINDS, STRAIGHT, Mask, Scene, Shape

IMAGES = 60
WORDS_OF_PLACE = {
    *("left", "right", "top", "bottom", "upper", "lower", "middle", "center", "side", "second", "behind"),
    *("above", "below", "over", "under", "on", "at", "in", "from", "of"),
}


@dataclass(frozen=True)
class Generated:
    """A data set's files, with records by their ids."""

    config: RefshapesConfig
    out: Path
    refs: list[dict[str, Any]]
    images: dict[int, dict[str, Any]]
    annotations: dict[int, dict[str, Any]]
    categories: dict[int, str]

    def index(self, image_id: int) -> int:
        return image_id - 1 - self.config.seed * refshapes.IDS_A_SEED

    def shape(self, annotation: dict[str, Any]) -> Shape:
        """An annotation's shape: the only one with its box and kind."""
        scene = refshapes.scene_of(self.config, self.index(annotation["image_id"]))
        kind = self.categories[annotation["category_id"]]
        (shape,) = [s for s in scene.shapes if list(s.box) == annotation["bbox"] and s.kind == kind]
        return shape


def generated(config: RefshapesConfig, out: Path) -> Generated:
    folder = refshapes.generate(config, out)
    refs = pickle.loads((folder / FLAVOURS[config.flavour][1]).read_bytes())
    instances = json.loads((folder / "instances.json").read_text())
    return Generated(
        config,
        out,
        refs,
        {image["id"]: image for image in instances["images"]},
        {annotation["id"]: annotation for annotation in instances["annotations"]},
        {category["id"]: category["name"] for category in instances["categories"]},
    )


@pytest.fixture(scope="module", params=list(FLAVOURS))
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generated:
    return generated(RefshapesConfig(request.param, images=IMAGES, seed=3), tmp_path_factory.mktemp("refshapes"))


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    config = RefshapesConfig(images=400)
    return [refshapes.scene_of(config, index) for index in range(config.images)]


# A second, independent evaluator. It reads the text and uses no margins: only which shape is farther, bigger and so on.

KIND_OF = {kind: kind for kind in KINDS}
KIND_OF |= {"ball": "circle", "crescent": "moon", "teardrop": "drop", "box": "square", "plus": "cross"}
RELATION = re.compile(
    r"\s+(?:and |that is )?(above|over|below|under|(?:to the )?left of|(?:to the )?right of|bigger than|smaller than"
    r"|with the same color as|behind)\s+"
)
SUFFIX = re.compile(r"\s(?:on|at|in)(?: the)? ((?:top|bottom) (?:left|right)|left|right|top|bottom|middle)(?: side)?$")


def meant(text: str, scene: Scene) -> list[Shape]:
    """The shapes that a text, taken literally, describes."""
    head, *rest = RELATION.split(text.lower().rstrip("."))
    shapes = described(head, scene)
    for relation, landmark in zip(rest[::2], rest[1::2], strict=True):
        if relation == "behind":
            assert landmark in ("bar", "the bar")
            shapes = [shape for shape in shapes if shape.behind_bar]
            continue
        (other,) = described(landmark, scene)
        shapes = [shape for shape in shapes if shape is not other and related(relation, shape, other)]
    return shapes


def related(relation: str, shape: Shape, other: Shape) -> bool:
    dx, dy = shape.centre[0] - other.centre[0], shape.centre[1] - other.centre[1]
    if relation == "bigger than":
        return shape.extent > other.extent
    if relation == "smaller than":
        return shape.extent < other.extent
    if relation == "with the same color as":
        return shape.colour == other.colour
    if relation in ("above", "over"):
        return -dy > abs(dx)
    if relation in ("below", "under"):
        return dy > abs(dx)
    return (-dx if "left" in relation else dx) > abs(dy)


def described(phrase: str, scene: Scene) -> list[Shape]:
    place = None
    ordinal = re.fullmatch(r"(?:the )?second (.+) from (?:the )?(left|right)", phrase)
    suffix = SUFFIX.search(phrase)
    if ordinal:
        phrase, place = ordinal[1], f"second {ordinal[2]}"
    elif suffix:
        phrase, place = phrase[: suffix.start()], suffix[1]
    words = phrase.split()
    *words, noun = words[1:] if words[0] == "the" else words
    if noun in WORDS_OF_PLACE:  # "the left"
        words, noun = [*words, noun], "one"
    alike = list(scene.shapes)
    if noun not in ("one", "shape", "thing"):
        alike = [shape for shape in alike if shape.kind == KIND_OF[noun]]
    colours = [word for word in words if word in COLOURS]
    family = alike
    alike = [shape for shape in alike if all(shape.colour == colour for colour in colours)]
    left = [word for word in words if word not in COLOURS]
    shapes = alike
    if left and left[0] in ("small", "little", "smallest", "big", "large", "biggest", "largest", "medium"):
        size = left.pop(0)
        shapes = of_size(size, alike, family if len(alike) == 1 and not size.endswith("est") else alike)
    if left:
        assert place is None, phrase
        place = " ".join(left).replace("upper", "top").replace("lower", "bottom").replace("center", "middle")
    return shapes if place is None else [s for s in at_place(place, alike, scene) if any(s is o for o in shapes)]


def of_size(size: str, shapes: list[Shape], family: list[Shape]) -> list[Shape]:
    assert len(family) > 1, "a size means nothing without something to compare with"
    ranked = sorted(family, key=lambda shape: shape.extent)
    if size == "medium":
        assert len(ranked) == 3
        chosen = ranked[1]
    else:
        chosen = ranked[0] if size in ("small", "little", "smallest") else ranked[-1]
    return [shape for shape in shapes if shape is chosen]


def at_place(place: str, shapes: list[Shape], scene: Scene) -> list[Shape]:
    def x(shape: Shape) -> float:
        return shape.centre[0] / scene.width

    def y(shape: Shape) -> float:
        return shape.centre[1] / scene.height

    if place == "middle":
        return [shape for shape in shapes if math.hypot(x(shape) - 0.5, y(shape) - 0.5) < 0.2]
    if " " in place and not place.startswith("second"):
        row, column = place.split()
        return [s for s in shapes if (y(s) < 0.5) == (row == "top") and (x(s) < 0.5) == (column == "left")]
    ranked = sorted(shapes, key=y if place in ("top", "bottom") else x)
    if place.split()[-1] in ("right", "bottom"):
        ranked.reverse()
    if place.startswith("second"):
        assert len(ranked) >= 3
        return [ranked[1]]
    if len(ranked) == 1:
        where = {"left": x(ranked[0]) < 0.5, "right": x(ranked[0]) > 0.5}
        where |= {"top": y(ranked[0]) < 0.5, "bottom": y(ranked[0]) > 0.5}
        return ranked if where[place] else []
    return ranked[:1]


def test_every_expression_is_true_of_its_shape_and_of_no_other(data: Generated) -> None:
    count = 0
    for ref in data.refs:
        scene = refshapes.scene_of(data.config, data.index(ref["image_id"]))
        shape = data.shape(data.annotations[ref["ann_id"]])
        for sentence in ref["sentences"]:
            shapes = meant(sentence["raw"], scene)
            assert len(shapes) == 1 and shapes[0].box == shape.box, (sentence["raw"], ref["image_id"])
            count += 1
    assert count > 1.3 * len(data.refs) > IMAGES


def test_equal_configs_give_equal_bytes(tmp_path: Path) -> None:
    config = RefshapesConfig("refcoco", images=8, seed=5)
    for name in ("first", "second"):
        refshapes.generate(config, tmp_path / name)
    files = [path.relative_to(tmp_path / "first") for path in sorted((tmp_path / "first").rglob("*.*"))]
    assert len(files) == 8 + 2
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes(), file


def test_more_images_leave_the_earlier_ones_as_they_are(tmp_path: Path) -> None:
    few = generated(RefshapesConfig(images=5), tmp_path / "few")
    more = generated(RefshapesConfig(images=9), tmp_path / "more")
    assert more.refs[: len(few.refs)] == few.refs
    for id, annotation in few.annotations.items():
        assert more.annotations[id] == annotation
    for image in few.images.values():
        path = Path("images/train2014") / image["file_name"]
        assert (few.out / path).read_bytes() == (more.out / path).read_bytes()


def test_seeds_differ_and_share_no_image_id(tmp_path: Path) -> None:
    first = generated(RefshapesConfig(images=4, seed=0), tmp_path)
    second = generated(RefshapesConfig(images=4, seed=1), tmp_path)
    assert not first.images.keys() & second.images.keys()
    assert [a["bbox"] for a in first.annotations.values()] != [a["bbox"] for a in second.annotations.values()]


def test_flavours_of_a_seed_show_the_same_images(tmp_path: Path) -> None:
    first, second = (generated(RefshapesConfig(f, images=4), tmp_path / f) for f in ("refcoco", "refcocog"))
    assert first.images == second.images and first.annotations == second.annotations


def test_every_scene_has_two_to_six_shapes_and_two_of_a_kind(scenes: list[Scene]) -> None:
    counts = [len(scene.shapes) for scene in scenes]
    assert set(counts) == {2, 3, 4, 5, 6}
    for scene in scenes:
        assert len({shape.kind for shape in scene.shapes}) < len(scene.shapes)


def test_shapes_are_large_mostly_visible_and_do_not_share_pixels(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert sum(shape.mask.astype(int) for shape in scene.shapes).max() == 1  # type: ignore[union-attr]
        for shape in scene.shapes:
            low, high = EXTENTS[len(scene.shapes)]
            assert 0.2 < low - 1e-9 <= shape.extent / scene.side <= high + 1e-9
            assert shape.mask.sum() >= 0.6 * cv2.contourArea(shape.outline.astype(np.float32))


def test_boxes_are_tight(scenes: list[Scene]) -> None:
    for scene in scenes[:100]:
        for shape in scene.shapes:
            x, y, width, height = shape.box
            inside = shape.mask[y : y + height, x : x + width]
            assert inside.sum() == shape.mask.sum()
            assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()


def decoded(segmentation: Any, height: int, width: int) -> Mask:
    """A segmentation as pycocotools rasterises it."""
    if isinstance(segmentation, list):
        rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        rle = coco_mask.frPyObjects(segmentation, height, width)
    else:
        rle = segmentation
    return np.asarray(coco_mask.decode(rle), bool)


def test_segmentations_are_the_visible_masks(data: Generated) -> None:
    for annotation in data.annotations.values():
        image = data.images[annotation["image_id"]]
        mask = decoded(annotation["segmentation"], image["height"], image["width"])
        truth = data.shape(annotation).mask
        iou = (mask & truth).sum() / (mask | truth).sum()
        assert iou >= (0.95 if isinstance(annotation["segmentation"], list) else 1)
        assert annotation["area"] == truth.sum()


def test_a_polygon_covers_exactly_the_pixels_of_a_rectangle() -> None:
    mask = np.zeros((20, 30), bool)
    mask[3:12, 5:25] = True
    (ring,) = refshapes.polygons(mask)
    assert {tuple(point) for point in np.reshape(ring, (-1, 2))} == {(5, 3), (25, 3), (25, 12), (5, 12)}
    np.testing.assert_array_equal(decoded([ring], 20, 30), mask)


def test_a_single_row_of_pixels_keeps_its_polygon() -> None:
    mask = np.zeros((8, 8), bool)
    mask[4, 2:7] = True
    np.testing.assert_array_equal(decoded(refshapes.polygons(mask), 8, 8), mask)


def test_some_annotations_are_run_length_coded_in_both_ways(tmp_path: Path) -> None:
    written = generated(RefshapesConfig(images=150), tmp_path)
    coded = [a["segmentation"] for a in written.annotations.values() if isinstance(a["segmentation"], dict)]
    assert {type(segmentation["counts"]) for segmentation in coded} == {list, str}
    assert 0.01 < len(coded) / len(written.annotations) < 0.08


def test_a_few_refs_have_masks_of_two_parts(scenes: list[Scene]) -> None:
    config = RefshapesConfig(images=len(scenes))
    referred = [s for i, scene in enumerate(scenes) for s, _ in refshapes.refs_of(config, i, scene)]
    for shape in referred:
        parts = parts_of(shape.mask)
        assert parts == 2 if shape.behind_bar else parts in (1, 2)
        assert len(refshapes.polygons(shape.mask)) <= parts
        outside = np.pad(~shape.mask, 1, constant_values=True)
        assert cv2.connectedComponents(outside.astype(np.uint8))[0] == 2, "a polygon cannot describe a hole"
    assert 0.03 < np.mean([parts_of(shape.mask) == 2 for shape in referred]) < 0.08


def parts_of(mask: Mask) -> int:
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[0] - 1


def test_there_are_two_to_four_refs_an_image_with_two_or_three_expressions(scenes: list[Scene]) -> None:
    config = RefshapesConfig(images=len(scenes))
    refs = [refshapes.refs_of(config, index, scene) for index, scene in enumerate(scenes)]
    assert 2.2 < np.mean([len(of_image) for of_image in refs]) < 2.8
    for of_image in refs:
        assert len(of_image) <= 4
        for _, texts in of_image:
            assert 2 <= len(texts) <= 3 and len(set(texts)) == len(texts)


def test_refs_have_the_fields_of_refcoco(data: Generated) -> None:
    sentence_ids = [i for ref in data.refs for i in ref["sent_ids"]]
    assert sentence_ids == list(range(len(sentence_ids)))
    assert [ref["ref_id"] for ref in data.refs] == list(range(len(data.refs)))
    assert len({ref["ann_id"] for ref in data.refs}) == len(data.refs)
    for ref in data.refs:
        annotation = data.annotations[ref["ann_id"]]
        assert set(ref) == {
            "ref_id", "ann_id", "category_id", "image_id", "file_name", "split", "sentences", "sent_ids"
        }  # fmt: skip
        assert (ref["image_id"], ref["category_id"]) == (annotation["image_id"], annotation["category_id"])
        stem = Path(data.images[ref["image_id"]]["file_name"]).stem
        assert ref["file_name"] == f"{stem}_{ref['ann_id']}.jpg"
        assert [sentence["sent_id"] for sentence in ref["sentences"]] == ref["sent_ids"]
        for sentence in ref["sentences"]:
            assert sentence["sent"].split() == sentence["tokens"]
            assert sentence["raw"].lower().rstrip(".") == sentence["sent"]


def picture(path: Path) -> NDArray[np.uint8]:
    """An image file's pixels, RGB [height, width, 3]."""
    pixels = cv2.imread(str(path))
    assert pixels is not None, path
    return np.asarray(pixels[:, :, ::-1], np.uint8)


def test_the_reader_finds_nothing_wrong(data: Generated) -> None:
    name, file = FLAVOURS[data.config.flavour]
    table, problems = read_refs(data.out / name, data.out / "images" / "train2014", file[5:8], on_problem="refuse")
    assert not problems
    assert len(table) == len(data.refs)
    assert table["mask"].notna().all()


def test_pictures_are_jpegs_of_the_stated_size(data: Generated) -> None:
    for image in data.images.values():
        path = data.out / "images" / "train2014" / image["file_name"]
        assert path.name == f"COCO_train2014_{image['id']:012d}.jpg"
        assert path.read_bytes().startswith(b"\xff\xd8")
        assert picture(path).shape == (image["height"], image["width"], 3)


def test_a_picture_shows_each_shape_in_its_colour_where_its_mask_is(data: Generated) -> None:
    for image in list(data.images.values())[:10]:
        pixels = picture(data.out / "images" / "train2014" / image["file_name"]).astype(float)
        for shape in refshapes.scene_of(data.config, data.index(image["id"])).shapes:
            inner = cv2.erode(np.pad(shape.mask.astype(np.uint8), 1), np.ones((5, 5)))[1:-1, 1:-1] > 0
            seen = np.median(pixels[inner], axis=0)
            nearest = min(COLOURS, key=lambda name: float(np.abs(seen - COLOURS[name]).sum()))
            assert nearest == shape.colour


def test_splits_share_no_image_and_have_their_shares(data: Generated) -> None:
    splits: dict[int, set[str]] = {}
    for ref in data.refs:
        splits.setdefault(ref["image_id"], set()).add(ref["split"])
    assert all(len(of_image) == 1 for of_image in splits.values())
    tests = {"test"} if data.config.flavour == "refcocog" else {"testA", "testB"}
    assert set.union(*splits.values()) == {"train", "val"} | tests
    of_index = [refshapes.split_of(RefshapesConfig(images=100), index) for index in range(100)]
    assert [of_index.count(split) for split in ("train", "val", "testA", "testB")] == [90, 4, 3, 3]
    assert set(of_index[:30]) == {"train", "val", "testA", "testB"}


def test_refs_of_test_a_and_test_b_are_of_different_kinds(tmp_path: Path) -> None:
    written = generated(RefshapesConfig(images=100), tmp_path)
    kinds: dict[str, set[str]] = {}
    for ref in written.refs:
        kinds.setdefault(ref["split"], set()).add(written.categories[ref["category_id"]])
    assert kinds["testA"] <= set(CURVED) and kinds["testB"] <= set(STRAIGHT)
    assert kinds["train"] == set(KINDS)


def test_refcoco_plus_says_nothing_of_place() -> None:
    config = RefshapesConfig("refcoco+", images=200)
    words = {word for text in texts_of(config) for word in re.findall("[a-z]+", text.lower())}
    assert not words & WORDS_OF_PLACE


def test_refcocog_is_longer_and_more_relational_than_refcoco() -> None:
    short, long = (texts_of(RefshapesConfig(flavour, images=100)) for flavour in ("refcoco", "refcocog"))
    assert np.mean([len(text.split()) for text in long]) > 2 * np.mean([len(text.split()) for text in short])
    assert np.mean([bool(RELATION.search(text.lower())) for text in long]) > 0.7


def test_the_vocabulary_is_small() -> None:
    words = {word for text in texts_of(RefshapesConfig(images=300)) for word in re.findall("[a-z]+", text.lower())}
    assert 45 <= len(words) <= 80


def texts_of(config: RefshapesConfig) -> list[str]:
    return [
        text
        for index in range(config.images)
        for _, texts in refshapes.refs_of(config, index, refshapes.scene_of(config, index))
        for text in texts
    ]


@pytest.mark.parametrize(
    "wrong", [("--flavour", "coco"), ("--image-count", 0), ("--image-count", 10**6), ("--seed", -1), ("--side", 10)]
)
def test_a_data_set_that_cannot_be_generated_is_refused(wrong: tuple[str, object], tmp_path: Path) -> None:
    answer = CliRunner().invoke(main, ["refshapes", *map(str, wrong), "--out", str(tmp_path)])
    assert answer.exit_code == 2 and f"Invalid value for '{wrong[0]}'" in answer.output
