"""The generated data set "refshapes", in RefCOCO's own raw layout.

    {out}/refshapes/refs(unc).p, instances.json      (refshapes+ and refshapesg for the other two flavours)
    {out}/images/train2014/COCO_train2014_{image id}.jpg

It stands in for RefCOCO, RefCOCO+ and RefCOCOg where their images may not be had or would take too long: short
expressions for one of several shapes, two of a kind in every image, occlusion, masks of two parts, polygons and RLE.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from partialres.data import refshapes_language, refshapes_scenes
from partialres.data.refshapes_scenes import CURVED, KINDS, STRAIGHT, Image, Mask, Scene, Shape
from partialres.files import atomic, progress, write_text

FLAVOURS = {  # the folder and the file of refs of each
    "refcoco": ("refshapes", "refs(unc).p"),
    "refcoco+": ("refshapes+", "refs(unc).p"),
    "refcocog": ("refshapesg", "refs(umd).p"),
}
HELD_OUT = ("val", "testA", "testB") * 3 + ("val",)  # the splits of every tenth image, in turn
FOCUS = {"testA": CURVED, "testB": STRAIGHT}  # as RefCOCO's testA has people only and its testB has none
REFS_AN_IMAGE = ((2, 3, 4), (0.55, 0.33, 0.12))
RLE_SHARE = 0.04  # of the annotations
JPEG_QUALITY = 92
IDS_A_SEED = 1_000_000  # image ids of different seeds do not meet


@dataclass(frozen=True)
class RefshapesConfig:
    """What to generate.

    flavour: the data set whose expressions are imitated: "refcoco" (attributes, places, relations), "refcoco+" (no word
      of place) or "refcocog" (long sentences, splits train, val and test).
    images: number of images, 90 % of them for training. More images leave the earlier ones as they are.
    seed: 0 or more. The three flavours of one seed describe the same images.
    side: the longer side of an image, pixels.
    """

    flavour: str = "refcoco"
    images: int = 2400
    seed: int = 0
    side: int = 160

    def __post_init__(self) -> None:
        if self.flavour not in FLAVOURS:
            raise ValueError(f"flavour must be one of {', '.join(FLAVOURS)}, not {self.flavour!r}")
        if not 1 <= self.images < IDS_A_SEED or self.seed < 0 or self.side < 64:
            raise ValueError("images must be at least 1, seed at least 0 and side at least 64")


def _part(index: int) -> str:
    """train, val, testA or testB: fixed by the index, all four among the first 30."""
    return HELD_OUT[index // 10 % len(HELD_OUT)] if index % 10 == 9 else "train"


def split_of(config: RefshapesConfig, index: int) -> str:
    """The split of an image."""
    part = _part(index)
    return "test" if config.flavour == "refcocog" and part.startswith("test") else part


def scene(config: RefshapesConfig, index: int) -> Scene:
    """The scene of an image, 0 <= index < images."""
    return refshapes_scenes.lay_out(config.seed, index, config.side, FOCUS.get(_part(index), KINDS))


def polygons(mask: Mask) -> list[list[float]]:
    """The outer outlines of a mask's parts, flat x, y, …, in pixel corners as COCO counts them.

    COCO's polygon (0, 0) - (9, 9) is 9 pixels wide while cv2.findContours walks along pixel centres. On the mask blown
    up by two a centre is 0 or 1 of its pixel, so that halving and rounding up gives the pixel's corners.
    """
    doubled = np.repeat(np.repeat(mask.view(np.uint8), 2, 0), 2, 1)
    contours, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    rings = []
    for contour in contours:
        ring = cv2.approxPolyDP((contour.astype(np.int32) + 1) // 2, 0.7, True)[:, 0]  # IoU > 0.97
        if len(ring) >= 3:
            rings.append([float(value) for value in ring.reshape(-1)])
    return rings


def _run_lengths(mask: Mask) -> dict[str, Any]:
    """COCO's uncompressed RLE: lengths of the runs down the columns, zeros first."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], ends, [mask.size]]))
    return {"counts": counts.tolist(), "size": list(mask.shape)}


def _segmentation(mask: Mask, rng: np.random.Generator) -> list[list[float]] | dict[str, Any]:
    draw = rng.random()
    if draw >= RLE_SHARE:
        return polygons(mask)
    if draw < RLE_SHARE / 2:
        return _run_lengths(mask)
    encoded = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"counts": encoded["counts"].decode("ascii"), "size": list(mask.shape)}


def described(config: RefshapesConfig, index: int, drawn: Scene) -> list[tuple[Shape, list[str]]]:
    """The shapes of an image that are refs, each with its expressions."""
    rng = np.random.default_rng([config.seed, index, 2, list(FLAVOURS).index(config.flavour)])
    split = split_of(config, index)
    eligible = [shape for shape in drawn.shapes if shape.kind in FOCUS.get(split, KINDS)]
    wanted = int(rng.choice(REFS_AN_IMAGE[0], p=REFS_AN_IMAGE[1]))
    most, least = (2, 1) if config.flavour == "refcocog" else (3, 2)
    # The shape behind the bar comes first: masks of two parts are what it is there for.
    order = sorted(rng.permutation(len(eligible)), key=lambda i: not eligible[i].behind_bar)
    refs: list[tuple[Shape, list[str]]] = []
    for i in order:
        if len(refs) == wanted:
            break
        texts = refshapes_language.expressions(eligible[i], drawn, config.flavour, most - int(rng.random() < 0.4), rng)
        if len(texts) >= least:
            refs.append((eligible[i], texts))
    return refs


class _Picture(NamedTuple):
    """What one image brings, its ids still to be given."""

    image: dict[str, Any]
    annotations: list[dict[str, Any]]
    refs: list[tuple[int, list[str]]]  # place among the annotations, expressions


def _stem(config: RefshapesConfig, index: int) -> str:
    return f"COCO_train2014_{config.seed * IDS_A_SEED + index + 1:012d}"


def _make(config: RefshapesConfig, pictures: Path, index: int) -> _Picture:
    """Draw one image, write it below `pictures` and describe it."""
    drawn = scene(config, index)
    name = f"{_stem(config, index)}.jpg"
    # Atomically, since another flavour may be writing the same picture.
    with atomic(pictures / name) as temporary:
        temporary.write_bytes(_jpeg(refshapes_scenes.paint(drawn, config.seed, index)))
    image_id = config.seed * IDS_A_SEED + index + 1
    rng = np.random.default_rng([config.seed, index, 3])
    annotations = [
        {
            "image_id": image_id,
            "category_id": KINDS.index(shape.kind) + 1,
            "attributes": {"colour": shape.colour},
            "iscrowd": 0,
            "area": float(shape.mask.sum()),
            "bbox": [float(value) for value in shape.box],
            "segmentation": _segmentation(shape.mask, rng),
        }
        for shape in drawn.shapes
    ]
    refs = [(drawn.shapes.index(shape), texts) for shape, texts in described(config, index, drawn)]
    return _Picture(
        {"id": image_id, "file_name": name, "height": drawn.height, "width": drawn.width}, annotations, refs
    )


def generate(config: RefshapesConfig, out: Path, workers: int = 1) -> Path:
    """Write a data set below `out` and return its folder.

    workers: processes that draw. Their number changes nothing: equal configs give equal bytes.
    The images of several flavours of one seed may share `out`.
    """
    name, refs_file = FLAVOURS[config.flavour]
    folder = out / name
    make = partial(_make, config, out / "images" / "train2014")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    refs: list[dict[str, Any]] = []
    sentences = 0
    with ExitStack() as stack:
        indices = range(config.images)
        if workers > 1:
            pool = stack.enter_context(ProcessPoolExecutor(workers, mp_context=get_context("spawn")))
            made: Iterable[_Picture] = pool.map(make, indices, chunksize=32)
        else:
            made = map(make, indices)
        for index, picture in enumerate(progress(made, name, total=config.images)):
            images.append(picture.image)
            first_annotation = len(annotations) + 1
            annotations += [
                {"id": place, **annotation} for place, annotation in enumerate(picture.annotations, first_annotation)
            ]
            for place, texts in picture.refs:
                annotation = annotations[first_annotation - 1 + place]
                refs.append(
                    {
                        "ref_id": len(refs),
                        "ann_id": annotation["id"],
                        "category_id": annotation["category_id"],
                        "image_id": annotation["image_id"],
                        "file_name": f"{_stem(config, index)}_{annotation['id']}.jpg",
                        "split": split_of(config, index),
                        "sentences": [_sentence(text, sentences + i) for i, text in enumerate(texts)],
                        "sent_ids": list(range(sentences, sentences + len(texts))),
                    }
                )
                sentences += len(texts)
    supercategory = {kind: "curved" if kind in CURVED else "straight" for kind in KINDS}
    instances = {
        "info": {"description": f"{name}, {config.images} images of seed {config.seed}"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": k, "supercategory": supercategory[k]} for i, k in enumerate(KINDS, 1)],
    }
    write_text(json.dumps(instances), folder / "instances.json")
    with atomic(folder / refs_file) as temporary:
        temporary.write_bytes(pickle.dumps(refs, protocol=2))
    return folder


def _jpeg(picture: Image) -> bytes:
    _, data = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data.tobytes()


def _sentence(text: str, sentence_id: int) -> dict[str, Any]:
    tokens = re.findall(r"[a-z]+", text.lower())
    return {"sent_id": sentence_id, "sent": " ".join(tokens), "raw": text, "tokens": tokens}
