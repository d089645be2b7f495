"""Declare what is measured: pieces of work, each done by the package and by plain code, whose results are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from partialres import metrics
from partialres.config import ModelConfig, PseudoConfig, TrainConfig
from partialres.data.batch import Batch
from partialres.evaluation import Prediction
from partialres.geometry import contour
from partialres.model.pointer import PointModel, sequence_loss
from partialres.steps import pseudo
from partialres.steps.predict import points_table
from partialres.training.ema import Ema
from partialres.training.loop import make_optimiser
from tools.benchmark import plain
from tools.benchmark.measure import device, flops, timed

WORDS, LENGTH = 1000, 6  # size of the vocabulary, words per expression
IMAGE = 480, 640  # height and width of a COCO image


@dataclass(frozen=True)
class Sizes:
    """Says how much work there is; the defaults are those of RefCOCO."""

    model: ModelConfig
    image_size: int = 640
    points: int = 18
    images: int = 5  # in an evaluated batch
    expressions: float = 7.2  # per image, in evaluation
    refs: float = 2.5  # per image, in training
    trained_images: int = 4  # in a training batch
    predictions: int = 42_404  # RefCOCO's training refs
    plain_predictions: int = 500  # how many of them the plain code does
    pairs: int = 10_000
    plain_pairs: int = 1_000


@dataclass(frozen=True)
class Case:
    """Holds a piece of work: a call of `ours` does `units` of it, a call of `plain` does `plain_units`."""

    name: str
    unit: str
    aim: str  # the speed to reach, in words
    ours: Callable[[], Any]
    plain: Callable[[], Any]
    units: int
    plain_units: int
    difference: Callable[[], float]  # the largest difference between the two results

    def measured(self, repeats: int) -> dict[str, Any]:
        """Measure median seconds per unit of both, their ratio, the spreads, and the difference between the results."""
        ours, slow = timed(self.ours, repeats), timed(self.plain, repeats)
        per_unit, per_plain = ours.median / self.units, slow.median / self.plain_units
        return {
            "case": self.name, "unit": self.unit, "seconds": per_unit, "plain_seconds": per_plain,
            "ratio": per_plain / per_unit, "total_seconds": ours.median, "units": self.units, "aim": self.aim,
            "spread": ours.spread, "plain_spread": slow.spread, "difference": self.difference(),
        }  # fmt: skip


def random_model(sizes: Sizes) -> PointModel:
    """Make a model with random weights on the device, in evaluation mode."""
    torch.manual_seed(0)
    return PointModel(sizes.model, WORDS, sizes.points).to(device()).eval()


def random_batch(model: PointModel, size: int, images: int, each: float) -> Batch:
    """Make random images of size x size pixels, `each` expressions (or refs) per image, with random contours."""
    generator = torch.Generator().manual_seed(0)
    number, cells = round(images * each), size // model.visual.stride
    tokens = torch.randint(0, model.config.bins, (number, 2 * model.points + 1), generator=generator)
    tokens[:, -1] = model.config.bins
    return Batch(
        images=torch.randint(0, 256, (images, size, size, 3), generator=generator, dtype=torch.uint8),
        valid=torch.ones(images, cells, cells, dtype=torch.bool),
        image_index=torch.arange(number) * images // number,
        words=torch.randint(2, WORDS, (number, LENGTH), generator=generator),
        tokens=tokens,
        padded=False,
    ).to(device())


def evaluation(sizes: Sizes) -> Case:
    """Measure the way from images and expressions to tokens, as in evaluation and for pseudo points."""
    model = random_model(sizes)
    batch = random_batch(model, sizes.image_size, sizes.images, sizes.expressions)
    few = random_batch(model, sizes.image_size, 1, 2)

    @torch.no_grad()
    def ours(given: Batch = batch) -> torch.Tensor:
        return model.decode(model.encode(given))[0]

    def difference() -> float:
        return float((ours(few) - plain.predict(model, few)).abs().max())

    return Case(
        "evaluation", "expression", "ratio 6", ours, lambda: plain.predict(model, few),
        len(batch.words), len(few.words), difference,
    )  # fmt: skip


def decoding(sizes: Sizes) -> Case:
    """Measure the decoder alone, on the encoder's output: the projections of its keys and values, and every token."""
    model = random_model(sizes)
    batch = random_batch(model, sizes.image_size, sizes.images, sizes.expressions)
    with torch.no_grad():
        memory = model.encode(batch)

    def ours() -> torch.Tensor:
        keys, values = model.keys_values(memory.features, memory.positions)
        return model.decode(replace(memory, keys=keys, values=values))[0]

    def difference() -> float:
        logits: list[torch.Tensor] = []
        hook = model.predictor.register_forward_hook(lambda module, inputs, output: logits.append(output[:, 0]))
        tokens, _ = model.decode(memory)
        hook.remove()
        again, expected = plain.decode(model, memory)
        return float((torch.stack(logits, 1) - expected).abs().max()) if torch.equal(tokens, again) else float("inf")

    number = len(batch.words)
    return Case(
        "decoding", "expression", "ratio 10, logits within 1e-5", ours,
        lambda: plain.decode(model, memory), number, number, difference,
    )  # fmt: skip


def training(sizes: Sizes) -> Case:
    """Measure a training step: forward, backward, clipping, optimiser, moving average."""
    config = TrainConfig()
    model = random_model(sizes).train()
    batch = random_batch(model, sizes.image_size, sizes.trained_images, sizes.refs)
    few = random_batch(model, sizes.image_size, 1, sizes.refs)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser, ema = make_optimiser(model, config), Ema(model, config.ema)

    def ours() -> None:
        loss = sequence_loss(model(batch), batch.tokens, config.smoothing, config.end_weight, config.first_weight)  # type: ignore[arg-type]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, config.clip)
        optimiser.step()
        ema.update()

    def slow() -> None:
        plain.training_step(model, few, config, optimiser, sizes.image_size)

    @torch.no_grad()
    def difference() -> float:
        model.eval()  # without dropout and batch statistics both compute the same function
        largest = float((model(few) - model(plain.unshared(few))).abs().max())
        model.train()
        return largest

    return Case("training", "ref", "ratio 3", ours, slow, len(batch.words), len(few.words), difference)


def random_outlines(number: int, points: int) -> np.ndarray:
    """Make star-shaped polygons [number, points, 2] about as large as RefCOCO's objects, in pixels of an image."""
    rng = np.random.default_rng(0)
    height, width = IMAGE
    centres = rng.uniform((0.25 * width, 0.25 * height), (0.75 * width, 0.75 * height), (number, 1, 2))
    turns = np.sort(rng.uniform(0, 2 * np.pi, (number, points)))[..., None]
    radii = rng.uniform(0.4, 1, (number, points, 1)) * rng.uniform(30, 200, (number, 1, 1))
    outlines = centres + radii * np.concatenate([np.cos(turns), np.sin(turns)], -1)
    return np.asarray(outlines.clip(0, (width - 1, height - 1)))


def selection(sizes: Sizes) -> Case:
    """Measure D of every pseudo mask and RPP of all of them: the worst case, in which everything is kept."""
    outlines = random_outlines(sizes.predictions, sizes.points)
    height, width = IMAGE
    low, high = outlines.min(1), outlines.max(1)
    boxes = np.concatenate([low, high - low], 1)
    refs = pd.DataFrame(
        {"ref_id": np.arange(len(outlines)), "bbox": list(boxes), "height": height, "width": width}
    )  # fmt: skip
    certain = np.ones(2 * sizes.points)

    def ours(number: int = sizes.predictions) -> pd.DataFrame:
        predicted = [Prediction(place, "", outline, certain) for place, outline in enumerate(outlines[:number])]
        table = points_table(refs, predicted)
        return pseudo.select(table, refs.set_index("ref_id"), PseudoConfig(threshold=2.01), sizes.points)

    def slow() -> list[tuple[float, np.ndarray]]:
        return [
            (plain.dice_loss(outline, box, height, width), plain.resampled(outline, height, width, sizes.points))
            for outline, box in zip(outlines[: sizes.plain_predictions], boxes, strict=False)
        ]

    def difference() -> float:
        kept = ours(sizes.plain_predictions)
        return max(
            max(abs(loss - d), float(np.abs(np.array(points) - outline).max()))
            for (loss, outline), d, points in zip(slow(), kept["d"], kept["points"], strict=True)
        )

    aim = "42,404 in 60 s on one core"
    return Case("selection", "pseudo mask", aim, ours, slow, sizes.predictions, sizes.plain_predictions, difference)


def scoring(sizes: Sizes) -> Case:
    """Measure the IoU of pairs of masks at the image size."""
    outlines = random_outlines(sizes.pairs, sizes.points) * (sizes.image_size / max(IMAGE))
    first = [contour.polygon_rle(points, sizes.image_size, sizes.image_size) for points in outlines]
    second = [contour.polygon_rle(points + 7, sizes.image_size, sizes.image_size) for points in outlines]
    few = sizes.plain_pairs

    def ours(number: int = sizes.pairs) -> np.ndarray:
        return np.array([metrics.iou(*pair) for pair in zip(first[:number], second[:number], strict=True)])

    def slow() -> np.ndarray:
        return plain.intersections_over_unions(first[:few], second[:few])

    def difference() -> float:
        return float(np.abs(ours(few) - slow()).max())

    return Case("metrics", "pair", "10,000 in 1 s", ours, slow, sizes.pairs, few, difference)


CASES: tuple[Callable[[Sizes], Case], ...] = (evaluation, decoding, training, selection, scoring)


@torch.no_grad()
def stages(sizes: Sizes) -> list[dict[str, Any]]:
    """Measure seconds and FLOPs of each part of evaluation, per image or expression."""
    model = random_model(sizes).requires_grad_(False)  # counting follows gradients where there are any
    batch = random_batch(model, sizes.image_size, sizes.images, sizes.expressions)
    images, number = len(batch.images), len(batch.words)
    pixels = torch.rand(images, 3, sizes.image_size, sizes.image_size, device=device())
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    maps = model.visual.backbone(pixels)
    seen = replace(batch, images=model.visual(batch.images))
    memory = model.encode(seen)
    parts: tuple[tuple[str, str, int, Callable[[], Any]], ...] = (
        ("backbone", "image", images, lambda: model.visual.backbone(pixels)),
        ("neck", "image", images, lambda: model.visual.neck(maps)),
        ("language", "expression", number, lambda: model.language(batch.words, batch.lengths)),
        ("gate, encoder, projections", "expression", number, lambda: model.encode(seen)),
        ("decoding", "expression", number, lambda: model.decode(memory)),
    )
    return [
        {"part": name, "unit": unit, "seconds": timed(work, 3).median / units, "flops": flops(work) / units}
        for name, unit, units, work in parts
    ]


def growth(sizes: Sizes) -> list[dict[str, Any]]:
    """Measure seconds against how much work there is; return rows of along (which of five), value and seconds.

    Evaluation of 2 images with 4 expressions each, then of more images, expressions, points N, or images with a longer
    side; and selection of more pseudo masks (refs).
    """
    side, points = sizes.image_size, sizes.points
    along: dict[str, dict[int, tuple[int, int, int, int]]] = {  # images, expressions of each, N, side
        "images": {number: (number, 4, points, side) for number in (1, 2, 4)},
        "expressions": {number: (2, number, points, side) for number in (1, 4, 16)},
        "points": {number: (2, 4, number, side) for number in (points, 2 * points, 4 * points)},
        "side": {number: (2, 4, points, number) for number in (side // 2, 3 * side // 4, side)},
    }
    rows = []
    for name, values in along.items():
        for value, (images, each, points, side) in values.items():
            model = random_model(replace(sizes, points=points))
            batch = random_batch(model, side, images, each)
            with torch.no_grad():
                seconds = timed(lambda given=batch, of=model: of.decode(of.encode(given)), 2).median  # type: ignore[misc]
            rows.append({"along": name, "value": value, "seconds": seconds})
    for share in (4, 2, 1):
        number = sizes.predictions // share
        seconds = timed(selection(replace(sizes, predictions=number)).ours, 1).median
        rows.append({"along": "refs", "value": number, "seconds": seconds})
    return rows


def exponents(grown: list[dict[str, Any]]) -> dict[str, float]:
    """Fit the exponent of each line of `growth`: 1 if time grows as the work does, 2 with its square."""
    table = pd.DataFrame(grown)
    logs = table.assign(x=np.log(table["value"].astype(float)), y=np.log(table["seconds"])).groupby("along", sort=False)
    return {str(name): float(np.polyfit(part["x"], part["y"], 1)[0]) for name, part in logs}
