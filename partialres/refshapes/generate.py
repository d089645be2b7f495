"""Write the generated data set "refshapes" in RefCOCO's raw layout.

    {out}/refshapes/refs(unc).p, instances.json      (refshapes+ and refshapesg for the other two flavours)
    {out}/images/train2014/COCO_train2014_{image id}.jpg

It replaces RefCOCO, RefCOCO+ and RefCOCOg where their images are not available or training on them takes too long. Like
them it has several objects of the same kind per image, occlusion, masks of two parts, polygons and RLEs.
"""

import json
import pickle
import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco

from partialres.files import atomic, progress, write_text
from partialres.geometry.rle import run_lengths
from partialres.refshapes import scenes
from partialres.refshapes.language import expressions
from partialres.refshapes.scenes import CURVED, KINDS, STRAIGHT, Mask, Rng, Scene, Shape

FLAVOURS = {  # data set whose expressions are imitated: (folder, file of refs)
    "refcoco": ("refshapes", "refs(unc).p"),  # expressions with attributes, places, relations
    "refcoco+": ("refshapes+", "refs(unc).p"),  # no words for places
    "refcocog": ("refshapesg", "refs(umd).p"),  # long sentences; splits train, val and test
}
HELD_OUT = ("val", "testA", "testB") * 3 + ("val",)  # every tenth image is in one of these splits, in turn
PREFERRED = {"testA": CURVED, "testB": STRAIGHT}  # kinds of refs, as RefCOCO's testA has only people and its testB none
REFS_AN_IMAGE = ((2, 3, 4), (0.55, 0.33, 0.12))  # number of refs per image, probabilities
RLE_SHARE = 0.04  # share of annotations that are RLEs; the others are polygons
JPEG_QUALITY = 92
IDS_A_SEED = 1_000_000  # keeps the image ids of different seeds apart; more images than any seed has

Entry = dict[str, Any]  # one object of a JSON file or pickle


@dataclass(frozen=True)
class RefshapesConfig:
    """Settings of the generator, whose ranges the command line checks."""

    flavour: str = "refcoco"  # one of FLAVOURS
    images: int = 2400  # number of images, 90 % for training; a higher number does not change the first ones
    seed: int = 0  # with the same seed, the three flavours have the same images
    side: int = 160  # longer side of an image, pixels


def generate(config: RefshapesConfig, out: Path, workers: int = 1) -> Path:
    """Write a data set below `out` and return its folder.

    workers: number of drawing processes. Equal configs give identical files, whatever the number of workers. Flavours
    with the same seed may share `out`.
    """
    name, refs_file = FLAVOURS[config.flavour]
    images: list[Entry] = []
    annotations: list[Entry] = []
    refs: list[Entry] = []
    sentence_ids = count()
    draw, indices = partial(_draw, config, out / "images" / "train2014"), range(config.images)
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        drawn = map(draw, indices) if workers == 1 else pool.map(draw, indices, chunksize=32)
        for index, (image, shapes, described) in enumerate(progress(drawn, name, total=config.images)):
            images.append(image)
            annotations += [{"id": number, **shape} for number, shape in enumerate(shapes, len(annotations) + 1)]
            for place, texts in described:
                annotation = annotations[place - len(shapes)]
                sentences = [_sentence(text, next(sentence_ids)) for text in texts]
                ref = {
                    "ref_id": len(refs),
                    "ann_id": annotation["id"],
                    "category_id": annotation["category_id"],
                    "image_id": annotation["image_id"],
                    "file_name": f"{image['file_name'].removesuffix('.jpg')}_{annotation['id']}.jpg",
                    "split": split_of(config, index),
                    "sentences": sentences,
                    "sent_ids": [sentence["sent_id"] for sentence in sentences],
                }
                refs.append(ref)
    instances = {
        "info": {"description": f"{name}, {config.images} images of seed {config.seed}"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": number, "name": kind, "supercategory": "curved" if kind in CURVED else "straight"}
            for number, kind in enumerate(KINDS, 1)
        ],
    }
    write_text(json.dumps(instances), out / name / "instances.json")
    with atomic(out / name / refs_file) as temporary:
        temporary.write_bytes(pickle.dumps(refs, protocol=2))
    return out / name


def _draw(
    config: RefshapesConfig, pictures: Path, index: int
) -> tuple[Entry, list[Entry], list[tuple[int, list[str]]]]:
    """Draw one image and write it to a file in `pictures`.

    Returns its entry, an annotation (without id) for each shape, and its refs as (index of the shape, expressions).
    """
    scene = scene_of(config, index)
    image_id = config.seed * IDS_A_SEED + index + 1
    name = f"COCO_train2014_{image_id:012d}.jpg"
    with atomic(pictures / name) as temporary:  # another flavour may be writing the same picture
        picture = scenes.paint(scene, config.seed, index)[:, :, ::-1]
        temporary.write_bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes())
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
        for shape in scene.shapes
    ]
    refs = [(scene.shapes.index(shape), texts) for shape, texts in refs_of(config, index, scene)]
    return {"id": image_id, "file_name": name, "height": scene.height, "width": scene.width}, annotations, refs


def _part(index: int) -> str:
    """Return train, val, testA or testB for an image; the first 30 indices include all four."""
    return HELD_OUT[index // 10 % len(HELD_OUT)] if index % 10 == 9 else "train"


def split_of(config: RefshapesConfig, index: int) -> str:
    """Return the split of an image; refcocog has a single test split."""
    part = _part(index)
    return "test" if config.flavour == "refcocog" and part.startswith("test") else part


def scene_of(config: RefshapesConfig, index: int) -> Scene:
    """Lay out the scene of an image, 0 <= index < images."""
    return scenes.lay_out(config.seed, index, config.side, PREFERRED.get(_part(index), KINDS))


def refs_of(config: RefshapesConfig, index: int, scene: Scene) -> list[tuple[Shape, list[str]]]:
    """Choose shapes of a scene as refs, and make expressions for each."""
    rng = np.random.default_rng([config.seed, index, 2, list(FLAVOURS).index(config.flavour)])
    eligible = [shape for shape in scene.shapes if shape.kind in PREFERRED.get(split_of(config, index), KINDS)]
    wanted = int(rng.choice(REFS_AN_IMAGE[0], p=REFS_AN_IMAGE[1]))
    least, most = (1, 2) if config.flavour == "refcocog" else (2, 3)
    refs: list[tuple[Shape, list[str]]] = []
    # Prefer the shape behind the bar, because its mask has two parts.
    for i in sorted(rng.permutation(len(eligible)), key=lambda i: not eligible[i].behind_bar):
        if len(refs) == wanted:
            break
        texts = expressions(eligible[i], scene, config.flavour, most - int(rng.random() < 0.4), rng)
        if len(texts) >= least:
            refs.append((eligible[i], texts))
    return refs


def _segmentation(mask: Mask, rng: Rng) -> list[list[float]] | Entry:
    """Encode a mask in one of COCO's three forms: mostly polygons, sometimes a plain or compressed RLE."""
    draw = rng.random()
    if draw >= RLE_SHARE:
        return polygons(mask)
    counts = coco.encode(np.asfortranarray(mask, np.uint8))["counts"]
    plain = draw < RLE_SHARE / 2
    return {"counts": run_lengths(counts).tolist() if plain else counts.decode("ascii"), "size": list(mask.shape)}


def polygons(mask: Mask) -> list[list[float]]:
    """Trace the outer outlines of a mask's parts as x, y, x, y, ... along pixel corners, which COCO's polygons join.

    COCO's polygon (0, 0) - (9, 9) is 9 pixels wide, but cv2.findContours walks along pixel centres. In a mask doubled
    in size these are the centres of quarter pixels; halving and rounding up turns them into corners.
    """
    doubled = np.repeat(np.repeat(mask.view(np.uint8), 2, 0), 2, 1)
    contours, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    rings = [cv2.approxPolyDP((contour.astype(np.int32) + 1) // 2, 0.7, True) for contour in contours]  # IoU > 0.97
    return [ring.reshape(-1).astype(float).tolist() for ring in rings if len(ring) >= 3]


def _sentence(text: str, sentence_id: int) -> Entry:
    tokens = re.findall(r"[a-z]+", text.lower())
    return {"sent_id": sentence_id, "sent": " ".join(tokens), "raw": text, "tokens": tokens}
