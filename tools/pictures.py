"""Draw the pictures of docs/method.md with the package's own functions: python -m tools.pictures [FOLDER]."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from partialres.geometry import contour, tokens
from partialres.geometry.projection import projection_dice_loss
from partialres.model.pmca import Grid, log_gaussian
from partialres.refshapes import scenes
from partialres.report import style
from partialres.steps.pseudo import resampled

FOLDER = Path(__file__).parents[1] / "docs/method"
SEED, INDEX, SIDE, POINTS, BINS, CELLS = 0, 107, 160, 12, 64, 6
SCENE = scenes.lay_out(SEED, INDEX, SIDE)
PICTURE = scenes.paint(SCENE, SEED, INDEX)
SHAPE = max(SCENE.shapes, key=lambda shape: shape.mask.sum())
CONTOUR = contour.trace(SHAPE.mask, POINTS)
BOX = np.array(SHAPE.box, dtype=float)


def panels(titles: list[str]) -> tuple[Figure, list[Axes]]:
    """Make a row of panels that show the scene."""
    figure = Figure(figsize=(2.9 * len(titles), 2.9), layout="constrained")
    axes = list(np.atleast_1d(figure.subplots(1, len(titles))))
    for each, title in zip(axes, titles, strict=True):
        each.imshow(PICTURE, extent=(0, SCENE.width, SCENE.height, 0))
        each.set(title=title, xticks=[], yticks=[], xlim=(0, SCENE.width), ylim=(SCENE.height, 0))
    return figure, axes


def outline(axes: Axes, points: np.ndarray, colour: str = style.PREDICTED) -> None:
    """Draw a closed contour and its points."""
    axes.fill(*points.T, fill=False, edgecolor="white", linewidth=2.6)
    axes.fill(*points.T, fill=False, edgecolor=colour, linewidth=1.4)
    axes.scatter(points[:, 0], points[:, 1], s=16, color=colour, edgecolor="white", linewidth=0.6, zorder=3)


def box(axes: Axes) -> None:
    """Draw the known box."""
    for colour, width in (("black", 3.0), (style.BOX, 1.6)):
        axes.add_patch(Rectangle((BOX[0], BOX[1]), *BOX[2:], fill=False, edgecolor=colour, linewidth=width))


def labels() -> Figure:
    """Draw box, mask and contour: what is labelled, and what the model learns to predict."""
    titles = ["every ref has a box", "a few have a mask", f"its contour: {POINTS} points"]
    figure, (first, second, third) = panels(titles)
    box(first)
    shade = np.zeros((*SHAPE.mask.shape, 4))
    shade[SHAPE.mask] = (*to_rgb(style.PREDICTED), 0.75)
    second.imshow(shade, extent=(0, SCENE.width, SCENE.height, 0))
    outline(third, CONTOUR)
    return figure


def sequence() -> Figure:
    """Draw three of the points with their coordinate tokens (eq. 2)."""
    figure, (axes,) = panels([f"tokens: {BINS} bins on each side"])
    axes.set_xticks(np.arange(0, SCENE.width, SIDE / BINS * 8))
    axes.set_yticks(np.arange(0, SCENE.height, SIDE / BINS * 8))
    axes.tick_params(labelbottom=False, labelleft=False)
    axes.grid(color="white", linewidth=0.7)
    outline(axes, CONTOUR)
    ids = tokens.points_to_sequence(CONTOUR, SIDE, BINS)
    for number in (0, 4, 8):
        text = f"{ids[2 * number]}, {ids[2 * number + 1]}"
        axes.annotate(text, CONTOUR[number], (5, 4), textcoords="offset points", fontsize=8, color="white",
                      bbox={"facecolor": "black", "alpha": 0.7, "pad": 1.5, "linewidth": 0})  # fmt: skip
    return figure


def attention() -> Figure:
    """Draw the features that CCTF adds for a point, and PMCA's prior around it for two scales."""
    figure, (first, *others) = panels(["CCTF: column x and row y", "PMCA: wide prior", "PMCA: narrow prior"])
    point, cell = CONTOUR[9], SIDE / CELLS
    for corner, size in (((point[0] // cell * cell, 0), (cell, SIDE)), ((0, point[1] // cell * cell), (SIDE, cell))):
        first.add_patch(Rectangle(corner, *size, color=style.FINAL, alpha=0.45, linewidth=0))
    outline(first, CONTOUR[9:10])
    grid = Grid.of(torch.ones(1, 64, 64, dtype=torch.bool), 64, 64)
    for axes, scale in zip(others, (0.15, 0.07), strict=True):
        centre = torch.tensor(point / SIDE, dtype=torch.float32).view(1, 1, 1, 2)
        weight = torch.full((1, 1, 1, 2), 1 / scale**2)
        prior = log_gaussian(centre, weight, grid).exp().view(64, 64).numpy()
        axes.imshow(prior, extent=(0, SIDE, SIDE, 0), cmap="magma", alpha=0.7)
        axes.set(xlim=(0, SCENE.width), ylim=(SCENE.height, 0))
        outline(axes, CONTOUR[9:10])
    return figure


def selection() -> Figure:
    """Draw D (eq. 8) of a contour that fits the box and of one that does not."""
    middle = BOX[:2] + BOX[2:] / 2
    candidates = [middle + 0.97 * (CONTOUR - middle), middle + 0.72 * (CONTOUR - middle) + 0.12 * BOX[2:]]
    values = [projection_dice_loss(contour.fill(each, SCENE.height, SCENE.width), BOX) for each in candidates]
    verdicts = ["kept" if value < 0.10 else "dropped" for value in values]
    figure, axes = panels([f"D = {value:.2f}: {verdict}" for value, verdict in zip(values, verdicts, strict=True)])
    for panel, points in zip(axes, candidates, strict=True):
        box(panel)
        outline(panel, points)
        low, high = points.min(0), points.max(0)
        for colour, shift, ends in ((style.BOX, 3, (BOX[:2], BOX[:2] + BOX[2:])), (style.PREDICTED, 7, (low, high))):
            panel.plot([ends[0][0], ends[1][0]], [SCENE.height - shift] * 2, color=colour, linewidth=3)
            panel.plot([shift] * 2, [ends[0][1], ends[1][1]], color=colour, linewidth=3)
    return figure


def spacing() -> Figure:
    """Draw what RPP does: predicted points, unevenly spaced, and the evenly spaced points of the same outline."""
    dense = contour.trace(SHAPE.mask, 60)
    uneven = dense[[0, 2, 4, 6, 15, 16, 28, 30, 32, 44, 47, 57]]
    figure, (first, second) = panels(["predicted points", "resampled (RPP)"])
    outline(first, uneven)
    outline(second, resampled(uneven, SCENE.height, SCENE.width, POINTS, "uniform"))
    return figure


@style.applied()
def main(folder: Path = FOLDER) -> None:
    """Write one PNG for each function above."""
    folder.mkdir(parents=True, exist_ok=True)
    for draw in (labels, sequence, attention, selection, spacing):
        draw().savefig(folder / f"{draw.__name__}.png", dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
