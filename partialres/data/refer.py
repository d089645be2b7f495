"""Read the raw files of RefCOCO, RefCOCO+ and RefCOCOg into the refs table; report and count all that is wrong in them.

A folder holds `instances.json` (COCO: images, annotations) and the refs: either `refs({split_by}).p`, the published
pickle, or `expressions.json`, our own plain form: [{"annotation_id": 7, "split": "train", "expressions": ["left cat",
"grey one"]}, ...].
"""

import reprlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pandas as pd

from partialres.data.masks import encode_segmentation
from partialres.data.pickles import read_plain
from partialres.data.vocabulary import clean
from partialres.files import MAX_PIXELS, MAX_SIDE, DataError, OnProblem, read_json, stays_inside
from partialres.geometry import boxes

SPLITS = ("train", "val", "test", "testA", "testB")

# Each kind of problem: what is left out if problems are only reported, and the cure.
PROBLEMS = {
    "duplicate ref_id": ("the later ref", "keep one ref of each ref_id"),
    "unknown split": ("the ref", f"name one of {', '.join(SPLITS)}"),
    "ref without annotation": ("the ref", "take refs and instances.json from the same release"),
    "annotation of another image": ("the ref", "take refs and instances.json from the same release"),
    "annotation without image entry": ("the ref", "add the image to instances.json"),
    "duplicate annotation id": ("the later annotation", "keep one annotation of each id"),
    "duplicate image id": ("the later image", "keep one image of each id"),
    "image in train and another split": ("the training ref", "keep all refs of an image in one split"),
    "missing image": ("the image's refs", "unpack the images, or name the folder that holds these files"),
    "box without area in the image": ("the ref", "correct bbox: x, y, width, height in pixels"),
    "broken polygon": ("the polygon", "correct it: x, y, x, y, ... of at least 3 points in the image"),
    "broken run-length mask": ("the mask", "correct it: runs are >= 0 and add up to height x width"),
    "mask without pixels": ("the mask", "correct or remove the segmentation"),
    "empty expression": ("the expression", "write words that are not only punctuation"),
    "ref without expressions": ("the ref", "add an expression or remove the ref"),
}

Entry = dict[str, Any]  # one object of a JSON file or pickle
Result = TypeVar("Result")


@dataclass
class Problems:
    """Collects the problems of the raw files by kind, and counts what was read and kept."""

    cases: dict[str, dict[str, None]] = field(default_factory=dict)  # key of PROBLEMS -> lines with ids, none twice
    counts: dict[str, Any] = field(default_factory=dict)  # how many refs, expressions, ... were read and kept

    def add(self, kind: str, case: str) -> None:
        """Add a case; equal cases, such as an image that several refs lack, count once."""
        self.cases.setdefault(kind, {})[case] = None

    def __bool__(self) -> bool:
        return bool(self.cases)

    def __str__(self) -> str:
        return "\n".join(
            f"  {kind}: {len(cases)}, e.g. {'; '.join(list(cases)[:3])}\n"
            f"    left out: {PROBLEMS[kind][0]}; cure: {PROBLEMS[kind][1]}"
            for kind, cases in self.cases.items()
        )

    def report(self) -> dict[str, Any]:
        """Return the counts and, for each kind of problem, the number of cases, what was left out, five examples."""
        problems = {
            kind: {"count": len(cases), "left_out": PROBLEMS[kind][0], "examples": list(cases)[:5]}
            for kind, cases in self.cases.items()
        }
        return {**self.counts, "problems": problems}


class RawRef(NamedTuple):
    """One ref as read from its file; image_id and category_id are None if only the annotation has them."""

    ref_id: int
    ann_id: int
    image_id: int | None
    category_id: int | None
    split: str
    expressions: list[str]


class _LeftOut(Exception):
    """Raised for a ref that cannot be used, with a key of PROBLEMS and the case."""


def read_refs(
    folder: Path, images: Path, split_by: str | None, *, on_problem: OnProblem
) -> tuple[pd.DataFrame, Problems]:
    """Read a data set's folder into a table with one row per ref, in the file's order.

    split_by: names the pickle of refs; None reads expressions.json. images: folder of the image files; each ref's must
    be there. on_problem: "refuse" raises DataError that lists all problems; "report" leaves out what is broken.
    Columns: ref_id, ann_id, image_id (int64), file_name, height, width, category_id (int32), split, bbox (x, y, width,
    height in pixels, cut to the image), mask (COCO compressed RLE counts; null if there is none), parts (polygons in
    pixels as given; null without a mask, empty for a run-length mask), expressions (raw text). A ref whose mask is
    broken is kept without it, because its box is still useful.
    Raises DataError if a file cannot be read at all, or if no ref is left.
    """
    source, refs = _raw_refs(folder, split_by)
    problems = Problems()
    annotations = read_annotations(folder / "instances.json", {ref.ann_id for ref in refs}, problems)
    if not images.is_dir():
        raise DataError(f"{images}: no such folder of images; unpack them there")
    rows: list[Entry] = []
    read: set[int] = set()
    for place, ref in enumerate(refs):
        try:
            if ref.ref_id in read:
                raise _LeftOut("duplicate ref_id", f"ref {ref.ref_id} (entry {place})")
            rows.append(_row(ref, annotations.get(ref.ann_id), images, problems))
        except _LeftOut as reason:
            problems.add(*reason.args)
        read.add(ref.ref_id)
    held_out = {row["image_id"] for row in rows if row["split"] != "train"}
    for place in reversed(range(len(rows))):
        if rows[place]["split"] == "train" and rows[place]["image_id"] in held_out:
            row = rows.pop(place)
            case = f"ref {row['ref_id']}: annotation {row['ann_id']} of image {row['image_id']}"
            problems.add("image in train and another split", case)
    if problems and on_problem == "refuse":
        raise DataError(
            f"{source}: the data set has problems:\n{problems}\nCorrect or leave them out with on_problem: report."
        )
    if not rows:
        raise DataError(f"{source}: no ref is left of {len(refs)}\n{problems}")
    table = pd.DataFrame(rows).astype({"height": "int32", "width": "int32", "category_id": "int32"})
    problems.counts.update(_counts(table, len(refs), annotations))
    return table, problems


def check_splits(refs: pd.DataFrame, evaluated: Iterable[str], folder: Path) -> None:
    """Check that train and every evaluated split have refs, and that every evaluated ref has a mask.

    refs: from `read_refs`. folder: named in errors. Raises DataError that names the splits or a ref, and the cure.
    """
    counts, evaluated = refs["split"].value_counts(sort=False), set(evaluated)
    if empty := sorted({"train", *evaluated} - set(counts.index)):
        held = ", ".join(f"{name} ({count} refs)" for name, count in counts.items())
        cure = "correct `split`, or the config's splits"
        raise DataError(f"{folder}: no refs in {', '.join(empty)}, only in {held}; {cure}")
    bare = refs[refs["split"].isin(evaluated) & refs["mask"].isna()]
    if len(bare):
        where = f"{len(bare)} refs of {', '.join(sorted(set(bare['split'])))}, the first {bare['ref_id'].iloc[0]},"
        raise DataError(f"{folder}: {where} have no mask to be scored with; add their segmentation, or make them train")


def image_sizes(folder: Path, split_by: str | None) -> dict[str, tuple[int, int]]:
    """Return (height, width) in pixels, by file name, of the images that the refs name; raises as `read_refs` does."""
    _, refs = _raw_refs(folder, split_by)
    annotations = read_annotations(folder / "instances.json", set(), Problems())
    images = [annotations[ref.ann_id]["image"] for ref in refs if ref.ann_id in annotations]
    return {image["file_name"]: (image["height"], image["width"]) for image in images if image is not None}


def _raw_refs(folder: Path, split_by: str | None) -> tuple[Path, list[RawRef]]:
    """Read the file of refs; return its path too."""
    source = folder / ("expressions.json" if split_by is None else f"refs({split_by}).p")
    if not source.is_file():
        others = sorted(path.name for pattern in ("refs(*).p", "expressions.json") for path in folder.glob(pattern))
        raise DataError(f"{source}: no such file; there is {', '.join(others) or 'no refs(*).p or expressions.json'}")
    content, read_ref = (read_json(source), _own_ref) if split_by is None else (read_plain(source), _published_ref)
    return source, _each(content, source, read_ref)


def _row(ref: RawRef, annotation: Entry | None, images: Path, problems: Problems) -> Entry:
    """Build the row of a ref; add lesser problems to `problems`, raise _LeftOut for others. images: image folder."""
    name = f"ref {ref.ref_id}"
    if ref.split not in SPLITS:
        raise _LeftOut("unknown split", f"{name}: {ref.split!r}")
    if annotation is None:
        raise _LeftOut("ref without annotation", f"{name}: annotation {ref.ann_id}")
    image_id, image = annotation["image_id"], annotation["image"]
    if ref.image_id not in (None, image_id):
        raise _LeftOut("annotation of another image", f"{name}: image {ref.image_id}, its annotation's {image_id}")
    if image is None:
        raise _LeftOut("annotation without image entry", f"{name}: image {image_id}")
    if not (images / image["file_name"]).is_file():
        raise _LeftOut("missing image", image["file_name"])
    height, width = image["height"], image["width"]
    bbox = boxes.within(annotation.get("bbox"), height, width)
    if bbox is None:
        raise _LeftOut("box without area in the image", f"{name}: {annotation.get('bbox')} in {width} x {height}")
    expressions = [expression for expression in ref.expressions if clean(expression)]
    if len(expressions) < len(ref.expressions):
        problems.add("empty expression", f"{name}: {[text for text in ref.expressions if not clean(text)]}")
    if not expressions:
        raise _LeftOut("ref without expressions", name)
    mask, parts, faults = encode_segmentation(annotation.get("segmentation"), height, width)
    for kind, detail in faults:
        problems.add(kind, f"{name}, annotation {ref.ann_id}: {detail}")
    return {
        "ref_id": ref.ref_id,
        "ann_id": ref.ann_id,
        "image_id": image_id,
        **image,
        "category_id": (annotation.get("category_id") or 0) if ref.category_id is None else ref.category_id,
        "split": ref.split,
        "bbox": bbox,
        "mask": mask,
        "parts": parts,
        "expressions": expressions,
    }


def _counts(table: pd.DataFrame, refs_read: int, annotations: dict[int, Entry]) -> dict[str, Any]:
    """Count what was read and what is kept, in total and for each split."""

    def size(rows: pd.DataFrame) -> dict[str, int]:
        return {"refs": len(rows), "expressions": int(rows["expressions"].map(len).sum())}

    boxes_read = (annotations[ann_id]["bbox"] for ann_id in table["ann_id"])
    by_split = table.groupby("split", sort=False)
    return {
        "refs_read": refs_read,
        **size(table),
        "refs_without_mask": int(table["mask"].isna().sum()),
        "boxes_cut": sum(kept != given for kept, given in zip(table["bbox"], boxes_read, strict=True)),
        "annotations": len(annotations),
        "annotations_without_ref": len(annotations.keys() - set(table["ann_id"])),
        "splits": {str(split): {"images": rows["image_id"].nunique(), **size(rows)} for split, rows in by_split},
    }


def _whole(entry: Entry, key: str, low: int = 0, high: int = 2**63 - 1) -> int:
    """Return a number of an entry; raises ValueError unless it is whole and in the range: no cast may change it."""
    if type(entry[key]) is not int or not low <= entry[key] <= high:
        raise ValueError(f"{key} is {reprlib.repr(entry[key])}, not a whole number from {low} to {high}")
    return entry[key]


def _text(value: Any, key: str) -> str:
    """Return a text; raises ValueError unless it is one that UTF-8 can hold."""
    if not isinstance(value, str):
        raise ValueError(f"{key} is {reprlib.repr(value)}, not text")
    value.encode()
    return value


def _published_ref(_: int, ref: Entry) -> RawRef:
    """Read a ref of `refs(...).p`."""
    texts = [_text(sentence.get("raw") or sentence.get("sent"), "raw") for sentence in ref["sentences"]]
    ref_id, ann_id, image_id = (_whole(ref, key) for key in RawRef._fields[:3])
    category_id = _whole(ref, "category_id", 0, 2**31 - 1)
    return RawRef(ref_id, ann_id, image_id, category_id, _text(ref["split"], "split"), texts)


def _own_ref(row: int, entry: Entry) -> RawRef:
    """Read an entry of our own `expressions.json`; the ref_id is its place in the file."""
    if not isinstance(entry["expressions"], list):
        raise TypeError("expressions is not a list")
    texts = [_text(text, "an expression") for text in entry["expressions"]]
    return RawRef(row, _whole(entry, "annotation_id"), None, None, _text(entry["split"], "split"), texts)


def read_annotations(path: Path, wanted: set[int], problems: Problems) -> dict[int, Entry]:
    """Read the annotations of a COCO file by id, each with its image (file_name, height, width), None if missing.

    wanted: ids of those whose segmentation is kept. Raises DataError that names the image or annotation and its key.
    """

    def slim(item: Entry) -> Entry:
        if type(item.get("id")) is not int or item["id"] not in wanted:
            item.pop("segmentation", None)  # most annotations belong to no ref, and masks take the memory
        return item

    def image(row: int, item: Entry) -> None:
        height, width = (_whole(item, key, 1, MAX_SIDE) for key in ("height", "width"))
        if height * width > MAX_PIXELS:
            raise ValueError(f"{width} x {height} is more than {MAX_PIXELS} pixels")
        if not stays_inside(_text(item["file_name"], "file_name")):
            raise ValueError(f"file_name {item['file_name']!r} is outside the folder of images")
        size = {"file_name": item["file_name"], "height": height, "width": width}
        if images.setdefault(_whole(item, "id"), size) is not size:
            problems.add("duplicate image id", f"image {item['id']} (entry {row})")

    def annotation(row: int, item: Entry) -> None:
        item["image"] = images.get(_whole(item, "image_id"))
        if item.get("category_id") is not None:
            _whole(item, "category_id", 0, 2**31 - 1)
        labels = item["attributes"] = item.get("attributes") or {}
        if not isinstance(labels, dict) or not {*map(type, labels.values())} <= {str, int}:
            raise ValueError(
                f'id {item["id"]}: attributes are {labels!r:.80}; write {{"name": "value", ...}} or leave them out'
            )
        if annotations.setdefault(_whole(item, "id"), item) is not item:
            problems.add("duplicate annotation id", f"annotation {item['id']} (entry {row})")

    content = read_json(path, slim)
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise DataError(f'{path}: not a COCO file; it needs {{"images": [...], "annotations": [...]}}')
    images: dict[int, Entry] = {}
    annotations: dict[int, Entry] = {}
    _each(content["images"], path, image, "image")
    _each(content["annotations"], path, annotation, "annotation")
    return annotations


def _each(entries: Any, path: Path, read: Callable[[int, Entry], Result], what: str = "entry") -> list[Result]:
    """Call `read` with the number and content of each entry in a file's list; its errors become a DataError."""
    if not isinstance(entries, list):
        raise DataError(f"{path}: expected a list, found {type(entries).__name__}; correct it, or take another file")
    results = []
    for row, entry in enumerate(entries):
        try:
            results.append(read(row, entry))
        except KeyError as error:
            raise DataError(f"{path}: {what} {row} has no {error}; add it") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: {what} {row} is malformed ({error}); correct it") from error
    return results
