"""Use a trained model on pictures: partialres.load("model.safetensors").segment("photo.jpg", "the left cup")."""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image as Pil
from PIL import ImageOps

from partialres.checkpoints.model_file import load_model, read_header, read_words
from partialres.data.batch import Batch
from partialres.data.images import Image, resize, resized
from partialres.data.inputs import batch_of, frames, kept_cells
from partialres.data.views import Window, whole
from partialres.data.vocabulary import clean
from partialres.files import DataError, atomic, write_json
from partialres.geometry import boxes, contour
from partialres.model.grounding import Answer
from partialres.model.pointer import PointModel
from partialres.model.trace import Trace, trace
from partialres.training.distributed import pick_device

Picture = str | Path | Pil.Image | np.ndarray  # a file, a PIL image, or uint8 [H, W], [H, W, 3] or [H, W, 4], RGB
LEAST_SIDE = 8  # pixels: nothing can be seen in a smaller picture
TOGETHER = 64  # most expressions in a batch, all about the same picture
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")  # which files of a folder are read
MARK = (255, 61, 127)  # RGB of masks in overlays, a colour that is rare in photographs


@dataclass(frozen=True)
class Segmentation:
    """Holds a model's answer to one expression about a picture. Points are x, y in pixels of the picture."""

    expression: str
    picture: Image  # uint8 [H, W, 3], RGB, upright
    mask: np.ndarray  # bool [H, W]
    contour: np.ndarray  # float64 [N, 2], in the order of decoding; from a mask head, the outline of its mask
    box: np.ndarray  # float64 [4]: x, y, width, height around the contour
    probabilities: np.ndarray  # float64 [2N], of each x and y when it was chosen; empty from a mask head
    unknown_words: tuple[str, ...]  # words of the expression that the model does not know
    unread_words: tuple[str, ...]  # words after the last that the model reads

    def overlay(self) -> Image:
        """Tint and outline the mask in the picture and weaken the other colours: uint8 [H, W, 3], RGB."""
        return tinted(self.picture, self.mask)

    def describe(self) -> str:
        """Say in one line how much of the picture the mask covers, and which words were not understood."""
        notes = [f"'{self.expression}': {100 * self.mask.mean():.1f} % of the picture"]
        if self.unknown_words:
            notes.append(f"words that the model does not know: {', '.join(self.unknown_words)}")
        if self.unread_words:
            notes.append(f"the last {len(self.unread_words)} words were not read; say it in fewer")
        return "; ".join(notes)

    def to_json(self) -> dict[str, Any]:
        """Return everything but the picture as values that JSON can hold, the mask as COCO's compressed RLE."""
        return {
            "expression": self.expression,
            "segmentation": {"size": list(self.mask.shape), "counts": contour.encode(self.mask)},
            "contour": self.contour.tolist(),
            "box": self.box.tolist(),
            "probabilities": self.probabilities.tolist(),
            "unknown_words": list(self.unknown_words),
            "unread_words": list(self.unread_words),
        }


class Decoding(NamedTuple):
    """Holds how one expression's points were decoded."""

    segmentation: Segmentation
    points: np.ndarray  # float64 [N, 2], in the order of decoding; two corners in step 1
    trace: Trace
    frame: np.ndarray  # float64 [2]: width, height of the model's input in the picture's pixels; it begins at 0, 0


class Segmenter:
    """Holds a trained model with its words and its image size, ready for pictures."""

    def __init__(self, path: Path, device: str = "auto") -> None:
        """Read a model file; raises DataError if it is not a model, or needs the known box as input (view: box)."""
        self.header = read_header(path)
        self.words, self.size, self.device = read_words(path), int(self.header["image_size"]), pick_device(device)
        self.model = load_model(path).to(self.device)
        if self.model.config.view == "box":
            raise DataError(f"{path}: needs the known box as input (model.view: box); take the model of step 3")

    def segment(self, image: Picture, expression: str) -> Segmentation:
        """Segment what an expression names in a picture; a model of step 1 finds boxes, whose area is then the mask.

        EXIF rotation is honoured, an alpha channel is dropped, grey becomes RGB.
        Raises DataError if the picture cannot be read or has a side under 8 pixels, or the expression has no words.
        """
        return self.segment_many([(image, expression)])[0]

    def segment_many(self, pairs: Iterable[tuple[Picture, str]]) -> list[Segmentation]:
        """Segment pairs of picture and expression, in order; a picture in consecutive pairs is read once."""
        segmentations: list[Segmentation] = []
        for _, group in groupby(pairs, key=lambda pair: pair[0] if isinstance(pair[0], str | Path) else id(pair[0])):
            images, expressions = zip(*group, strict=True)
            picture = read_picture(images[0])
            for start in range(0, len(expressions), TOGETHER):
                texts = expressions[start : start + TOGETHER]
                batch, window = self.batch(picture, texts)
                with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, self.device.type == "cuda"):
                    answers = self.model.answers(batch, [window] * len(texts))
                segmentations += [self.segmentation(picture, *each) for each in zip(texts, answers, strict=True)]
        return segmentations

    def decoding(self, image: Picture, expression: str) -> Decoding:
        """Segment as `segment` does, and trace what each point looked at; raises DataError for a mask head too."""
        if not isinstance(self.model, PointModel):
            raise DataError("a mask head (model.head: mask) decodes no points to look at; take a model of head: points")
        picture = read_picture(image)
        batch, window = self.batch(picture, [expression])
        with torch.no_grad():
            (answer,) = self.model.answers(batch, [window])
        shown = self.segmentation(picture, expression, answer)
        traced, stride = trace(self.model, batch), self.model.visual.stride
        corner = stride * np.array(traced.attention.shape[:0:-1])
        return Decoding(shown, answer.points, traced, window.to_file(corner))

    @torch.no_grad()
    def batch(self, picture: Image, expressions: Sequence[str]) -> tuple[Batch, Window]:
        """Batch expressions about a picture, as evaluation does; return also the window that shows the picture."""
        for text in expressions:
            if not clean(text):
                raise DataError(f"the expression '{text}' has no words; say what to look for, as in 'the left cup'")
        height, width = picture.shape[:2]
        size = resized(height, width, self.size)
        window = whole((height, width), size, self.size)
        words, visual = np.stack([self.words.encode(text) for text in expressions]), self.model.visual
        kept = kept_cells([window], visual.stride, self.model.config.upstream.whole_frames)
        shown = frames([resize(picture, *size)], [window], visual.stride * kept[0], visual.stride * kept[1])
        index = np.zeros(len(words), dtype=np.int64)
        batch = batch_of(shown, kept, [window], index, words, visual.stride).to(self.device)
        if self.model.config.cached:  # its features were cached, and so rounded, in training
            batch.images = visual(batch.images).half()
        return batch, window

    def segmentation(self, picture: Image, expression: str, answer: Answer) -> Segmentation:
        """Turn an answer, whose points are in pixels of the picture, into mask, contour and box."""
        (height, width), (box, words) = picture.shape[:2], (boxes.from_points(answer.points), clean(expression))
        points = answer.points
        if answer.mask is not None:
            mask = contour.decode(answer.mask["counts"], height, width)
            points = contour.largest_outline(mask) if mask.any() else np.empty((0, 2))
        else:
            if len(points) == 2:
                points = corners(box)
            mask = contour.fill(points, height, width)
        read = words[: self.words.max_words]
        unknown = tuple(word for word in read if word not in self.words.index)
        return Segmentation(
            expression, picture, mask, points, box, answer.probabilities, unknown, tuple(words[len(read) :])
        )


def load(path: str | Path, device: str = "auto") -> Segmenter:
    """Load a trained model: a model.safetensors, or a folder that holds it as `partialres export-card` writes it.

    device: auto, cpu, cuda, cuda:1 ... Raises DataError if there is no model, or it is of another version.
    """
    path = Path(path)
    path = path / "model.safetensors" if path.is_dir() else path
    if not path.is_file():
        raise DataError(f"{path}: no such model; give the model.safetensors that train-res or the workflow has written")
    return Segmenter(path, device)


def corners(box: np.ndarray) -> np.ndarray:
    """Return the four corners of a box (x, y, width, height), clockwise from its top left: float64 [4, 2]."""
    return box[:2] + box[2:] * np.array([[0, 0], [1, 0], [1, 1], [0, 1]])


def tinted(picture: Image, mask: np.ndarray) -> Image:
    """Tint and outline a mask, bool [H, W], in a picture and weaken the other colours: uint8 [H, W, 3], RGB."""
    rest = 0.4 * picture + 0.6 * picture.mean(axis=2, keepdims=True)
    drawn = np.where(mask[..., None], (picture + np.array(MARK)) / 2, rest).round().astype(np.uint8)
    parts, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, parts, -1, MARK, max(1, round(max(mask.shape) / 400)))
    return drawn


def read_picture(source: Picture) -> Image:
    """Return a picture as uint8 [H, W, 3], RGB and upright; raises DataError that says what is wrong with it."""
    if isinstance(source, str | Path):
        if not Path(source).is_file():
            raise DataError(f"{source}: no such picture; check the path")
        image, name = cv2.imread(str(source), cv2.IMREAD_COLOR), str(source)  # turns it as EXIF says
        if image is None:
            raise DataError(f"{source}: cannot be read as a picture; give a JPEG, PNG or WebP file")
        image = image[..., ::-1]
    else:
        name = "the picture"
        if isinstance(source, Pil.Image):
            source = np.asarray(ImageOps.exif_transpose(source).convert("RGB"))
        source = np.asarray(source)
        image = np.repeat(source[..., None], 3, axis=2) if source.ndim == 2 else source[..., :3]
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise DataError(f"{name} is {source.dtype} {list(source.shape)}; give uint8 [height, width, 3], RGB")
    if min(image.shape[:2]) < LEAST_SIDE:
        raise DataError(f"{name} is {image.shape[1]} x {image.shape[0]} pixels; give at least {LEAST_SIDE} a side")
    return np.ascontiguousarray(image)


def read_pairs(images: Path, expressions: Sequence[str] = ()) -> list[tuple[Path, str]]:
    """Pair each picture with each expression. images: a picture, a folder, or a CSV file of pairs (image, expression).

    Raises DataError if there is no picture, or no expression, or expressions are given beside a CSV file.
    """
    if images.suffix.lower() == ".csv":
        if expressions:
            raise DataError(f"{images}: has its own expressions; give none beside it")
        try:
            with images.open(newline="", encoding="utf-8-sig") as stream:
                pairs = [(images.parent / row["image"], row["expression"] or "") for row in csv.DictReader(stream)]
        except (OSError, UnicodeDecodeError, KeyError, TypeError, csv.Error) as error:
            reason = f"no column {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(f"{images}: not a CSV file with the columns image and expression ({reason})") from error
    else:
        if not expressions:
            raise DataError("give at least one expression: what to look for, as in 'the left cup'")
        inside = sorted(path for path in images.glob("*") if path.suffix.lower() in PICTURES)
        files = inside if images.is_dir() else [images]
        pairs = [(file, text) for file in files for text in expressions]
    if not pairs:
        raise DataError(f"{images}: holds no picture ({' '.join(PICTURES)})")
    return pairs


def names(pairs: Sequence[tuple[Path, str]]) -> list[str]:
    """Name each pair's result after its picture, with a number: cup-1, cup-2, plate-1 ...

    Names that differ in case alone count as one, since some file systems take them for the same.
    """
    seen: Counter[str] = Counter()
    result = []
    for path, _ in pairs:
        seen[path.stem.lower()] += 1
        result.append(f"{path.stem}-{seen[path.stem.lower()]}")
    return result


def write(segmentation: Segmentation, image: Path, stem: Path) -> None:
    """Write the mask (0 and 255) to STEM.mask.png, the overlay to STEM.overlay.png, and the numbers to STEM.json.

    image: the picture's file, named in STEM.json.
    """
    shown = {"mask": segmentation.mask.astype(np.uint8) * 255, "overlay": segmentation.overlay()}
    for kind, drawn in shown.items():
        with atomic(stem.with_name(f"{stem.name}.{kind}.png")) as temporary:
            Pil.fromarray(drawn).save(temporary)
    write_json({"image": str(image)} | segmentation.to_json(), stem.with_name(f"{stem.name}.json"))
