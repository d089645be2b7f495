"""The raw layout of RefCOCO, RefCOCO+ and RefCOCOg -> the refs table; what is wrong is named and counted.

A folder holds `instances.json` (COCO: images, annotations) and either `refs({split_by}).p`, the pickled refs
as published, or `expressions.json`, our own plain form: [{"annotation_id": 7, "split": "train",
"expressions": ["left cat", "grey one"]}, ...].
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd

from partialres.data.masks import encode_segmentation
from partialres.data.pickles import read_plain
from partialres.data.vocabulary import clean
from partialres.files import DataError
from partialres.geometry import boxes

SPLITS = ("train", "val", "test", "testA", "testB")

# What can be wrong -> what is left out when it is only reported, and the cure.
PROBLEMS = {
    "duplicate ref_id": ("the later ref", "keep one ref of each ref_id"),
    "unknown split": ("the ref", f"name one of {', '.join(SPLITS)}"),
    "ref without annotation": ("the ref", "take refs and instances.json from the same release"),
    "annotation of another image": ("the ref", "take refs and instances.json from the same release"),
    "annotation without image entry": ("the ref", "add the image to instances.json"),
    "duplicate annotation id": ("the later annotation", "keep one annotation of each id"),
    "missing image": ("the image's refs", "unpack the images, or name the folder that holds these files"),
    "box without area in the image": ("the ref", "correct bbox: x, y, width, height in pixels"),
    "broken polygon": ("the polygon", "correct it: x, y, x, y, ... of at least 3 points in the image"),
    "broken run-length mask": ("the mask", "correct it: runs are >= 0 and add up to height x width"),
    "mask without pixels": ("the mask", "correct or remove the segmentation"),
    "empty expression": ("the expression", "write words that are not only punctuation"),
    "ref without expressions": ("the ref", "add an expression or remove the ref"),
}


@dataclass
class Problems:
    """What is wrong with the raw files, and how many of what was read and kept.

    found: kind (a key of PROBLEMS) -> a line for each case, with its ids, each once and in order.
    counts: JSON-able figures of what was read and kept.
    """

    found: dict[str, dict[str, None]] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)

    def add(self, kind: str, case: str) -> None:
        """Note one case of a kind of PROBLEMS; a case noted before (an image of several refs) counts once."""
        self.found.setdefault(kind, {})[case] = None

    def __bool__(self) -> bool:
        return bool(self.found)

    def __str__(self) -> str:
        return "\n".join(
            f"  {kind}: {len(cases)}, e.g. {'; '.join(list(cases)[:3])}\n    left out: {left_out}; cure: {cure}"
            for kind, cases in self.found.items()
            for left_out, cure in [PROBLEMS[kind]]
        )

    def report(self) -> dict[str, Any]:
        """The counts and, for each kind found, how often, what was left out and the first five cases."""
        problems = {
            kind: {"count": len(cases), "left_out": PROBLEMS[kind][0], "examples": list(cases)[:5]}
            for kind, cases in self.found.items()
        }
        return {**self.counts, "problems": problems}


class RawRef(NamedTuple):
    """One ref as its file has it. image_id and category_id are None where the annotation is to tell."""

    ref_id: int
    ann_id: int
    image_id: int | None
    category_id: int | None
    split: str
    expressions: list[str]


def read_refs(
    folder: Path,
    images: Path,
    split_by: str | None,
    *,
    on_problem: Literal["refuse", "report"],
    check_images: bool = True,
) -> tuple[pd.DataFrame, Problems]:
    """Read a data set's folder to one row a ref, in the file's order.

    folder: has instances.json and refs({split_by}).p, or expressions.json if split_by is None.
    images: the folder that file names are relative to; with check_images every ref's image must be there.
    on_problem: "refuse" raises DataError with all problems found; "report" leaves out what is broken.

    Columns: ref_id, ann_id, image_id (int64), file_name, height, width, category_id (int32), split,
    bbox (x, y, width, height in pixels, cut to the image), mask (COCO compressed RLE counts; null if there is
    none), parts (polygons in pixels as given; null without mask, empty for a run-length mask), expressions
    (raw text). A ref whose mask is broken stays, without it: its box is still of use.
    Raises DataError for files that cannot be read at all, and if no ref is left.
    """
    folder = Path(folder)
    source = folder / ("expressions.json" if split_by is None else f"refs({split_by}).p")
    if not source.is_file():
        there = sorted(path.name for pattern in ("refs(*).p", "expressions.json") for path in folder.glob(pattern))
        raise DataError(
            f"{source}: no such file; there is {', '.join(there) or 'no refs(*).p and no expressions.json'}"
        )
    refs = list(_own_refs(source) if split_by is None else _pickled_refs(source))
    problems = Problems()
    entries, annotations = _read_instances(folder / "instances.json", {ref.ann_id for ref in refs}, problems)
    is_there = _listing(Path(images)) if check_images else None
    rows = list(_rows(refs, entries, annotations, is_there, problems))
    if problems and on_problem == "refuse":
        raise DataError(
            f"{source}: the data set has problems:\n{problems}\nCure them, or choose to have them reported."
        )
    if not rows:
        raise DataError(f"{source}: no ref is left of {len(refs)}\n{problems}")
    table = pd.DataFrame(rows)
    table = table.astype({"height": "int32", "width": "int32", "category_id": "int32"})
    problems.counts.update(_counts(table, len(refs), annotations))
    return table, problems


def _rows(
    refs: list[RawRef],
    entries: dict[int, dict[str, Any]],
    annotations: dict[int, dict[str, Any]],
    is_there: Callable[[str], bool] | None,
    problems: Problems,
) -> Iterator[dict[str, Any]]:
    """The rows of the refs that can be used; what is wrong with the others goes to `problems`."""
    seen: set[int] = set()
    for place, ref in enumerate(refs):
        name = f"ref {ref.ref_id}"
        annotation = annotations.get(ref.ann_id)
        entry = annotation and entries.get(annotation["image_id"])
        if ref.ref_id in seen:
            problems.add("duplicate ref_id", f"{name} (entry {place})")
        elif ref.split not in SPLITS:
            problems.add("unknown split", f"{name}: {ref.split!r}")
        elif annotation is None:
            problems.add("ref without annotation", f"{name}: annotation {ref.ann_id}")
        elif ref.image_id not in (None, annotation["image_id"]):
            case = f"{name}: image {ref.image_id}, its annotation's {annotation['image_id']}"
            problems.add("annotation of another image", case)
        elif entry is None:
            problems.add("annotation without image entry", f"{name}: image {annotation['image_id']}")
        elif is_there is not None and not is_there(entry["file_name"]):
            problems.add("missing image", entry["file_name"])
        else:
            row = _row(ref, entry, annotation, problems)
            if row is not None:
                yield row
        seen.add(ref.ref_id)


def _row(ref: RawRef, entry: dict[str, Any], annotation: dict[str, Any], problems: Problems) -> dict[str, Any] | None:
    """A ref's row from its image's entry and its annotation; None if its box or expressions are no use."""
    name, height, width = f"ref {ref.ref_id}", entry["height"], entry["width"]
    bbox = boxes.within(annotation.get("bbox"), height, width)
    if bbox is None:
        case = f"{name}: {annotation.get('bbox')} in {width} x {height}"
        problems.add("box without area in the image", case)
        return None
    expressions = [expression for expression in ref.expressions if clean(expression)]
    if len(expressions) < len(ref.expressions):
        problems.add("empty expression", f"{name}: {[e for e in ref.expressions if not clean(e)]}")
    if not expressions:
        problems.add("ref without expressions", name)
        return None
    mask, parts, faults = encode_segmentation(annotation.get("segmentation"), height, width)
    for kind, detail in faults:
        problems.add(kind, f"{name}, annotation {ref.ann_id}: {detail}")
    return {
        "ref_id": ref.ref_id,
        "ann_id": ref.ann_id,
        "image_id": annotation["image_id"],
        "file_name": entry["file_name"],
        "height": height,
        "width": width,
        "category_id": annotation.get("category_id", 0) if ref.category_id is None else ref.category_id,
        "split": ref.split,
        "bbox": bbox,
        "mask": mask,
        "parts": parts,
        "expressions": expressions,
    }


def _counts(table: pd.DataFrame, refs_read: int, annotations: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """What was read and what is left, refs and expressions told apart, over all and for each split."""
    expressions = table["expressions"].map(len)
    splits = {
        str(split): {
            "images": int(rows["image_id"].nunique()),
            "refs": len(rows),
            "expressions": int(expressions[rows.index].sum()),
        }
        for split, rows in table.groupby("split", sort=False)
    }
    return {
        "refs_read": refs_read,
        "refs": len(table),
        "expressions": int(expressions.sum()),
        "refs_without_mask": int(table["mask"].isna().sum()),
        "boxes_cut": sum(
            box != annotations[key]["bbox"] for key, box in zip(table["ann_id"], table["bbox"], strict=True)
        ),
        "annotations": len(annotations),
        "annotations_without_ref": len(annotations.keys() - set(table["ann_id"])),
        "splits": splits,
    }


def _listing(images: Path) -> Callable[[str], bool]:
    """Tells whether a file is there, from one listing of its folder: a network disk is slow to stat."""
    if not images.is_dir():
        raise DataError(f"{images}: no such folder of images; unpack them there or prepare without checking images")

    @cache
    def names(parent: Path) -> frozenset[str]:
        return frozenset(path.name for path in parent.iterdir()) if parent.is_dir() else frozenset()

    def is_there(file_name: str) -> bool:
        path = images / file_name
        return path.name in names(path.parent)

    return is_there


def _pickled_refs(path: Path) -> Iterator[RawRef]:
    """The refs of a published `refs(...).p`, written by Python 2 or 3."""
    for row, ref in enumerate(_list(read_plain(path), path)):
        with _named(path, row):
            texts = [sentence.get("raw") or sentence.get("sent", "") for sentence in ref["sentences"]]
            ref_id, ann_id, image_id, category_id = (int(ref[key]) for key in RawRef._fields[:4])
            raw = RawRef(ref_id, ann_id, image_id, category_id, str(ref["split"]), [str(text) for text in texts])
        yield raw


def _own_refs(path: Path) -> Iterator[RawRef]:
    """The refs of our own `expressions.json`; an entry's place in the file is its ref_id."""
    for row, entry in enumerate(_list(_read_json(path), path)):
        with _named(path, row):
            texts = [str(text) for text in _list(entry["expressions"], path)]
            raw = RawRef(row, int(entry["annotation_id"]), None, None, str(entry["split"]), texts)
        yield raw


def _read_instances(
    path: Path, wanted: set[int], problems: Problems
) -> tuple[dict[int, dict[str, Any]], dict[int, dict[str, Any]]]:
    """Images and annotations of a COCO file by id; only wanted annotations keep their segmentation."""

    def slim(item: dict[str, Any]) -> dict[str, Any]:
        if "segmentation" in item and item.get("id") not in wanted:
            del item["segmentation"]
        return item

    content = _read_json(path, slim)
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise DataError(f'{path}: not a COCO file; it needs {{"images": [...], "annotations": [...]}}')
    entries: dict[int, dict[str, Any]] = {}
    for row, image in enumerate(_list(content["images"], path)):
        with _named(path, row, "image"):
            size = {"height": int(image["height"]), "width": int(image["width"])}
            entries[int(image["id"])] = {"file_name": str(image["file_name"]), **size}
        if min(size.values()) <= 0:
            raise DataError(f"{path}: image {row} ({image['file_name']}) has no area; correct its height and width")
    annotations: dict[int, dict[str, Any]] = {}
    for row, annotation in enumerate(_list(content["annotations"], path)):
        with _named(path, row, "annotation"):
            key = int(annotation["id"])
            annotation["image_id"] = int(annotation["image_id"])
        if key in annotations:
            problems.add("duplicate annotation id", f"annotation {key} (entry {row})")
        else:
            annotations[key] = annotation
    return entries, annotations


def _read_json(path: Path, hook: Callable[[dict[str, Any]], dict[str, Any]] | None = None) -> Any:
    try:
        with path.open(encoding="utf-8") as file:
            return json.load(file, object_hook=hook)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; it belongs beside the refs") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: not valid JSON ({error})") from error


@contextmanager
def _named(path: Path, row: int, what: str = "entry") -> Iterator[None]:
    """Turns what goes wrong with one entry of a file into a DataError that names it."""
    try:
        yield
    except DataError:
        raise
    except KeyError as error:
        raise DataError(f"{path}: {what} {row} has no {error}; add it") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: {what} {row} is not as it should be ({error})") from error


def _list(value: Any, path: Path) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(f"{path}: expected a list, found {type(value).__name__}")
    return value
