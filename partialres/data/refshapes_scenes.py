"""Scenes of the generated data set: a few coloured shapes before a textured background.

A scene is laid out, checked and painted from random streams of its own, made of (seed, index): neither the number of
images nor the flavour of the expressions changes it. Coordinates are pixels, x to the right and y down, and a pixel
covers [x, x + 1); masks are the visible ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Image = NDArray[np.uint8]
Outline = NDArray[np.float64]

CURVED = ("circle", "heart", "moon", "drop", "flower")
STRAIGHT = ("square", "triangle", "star", "cross", "arrow")
KINDS = CURVED + STRAIGHT

COLOURS = {  # RGB, far enough apart to survive shading and JPEG
    "red": (214, 38, 40),
    "orange": (250, 140, 20),
    "yellow": (250, 228, 60),
    "green": (48, 168, 66),
    "blue": (40, 88, 216),
    "purple": (140, 56, 176),
    "white": (246, 246, 246),
    "black": (26, 26, 28),
}

MIN_VISIBLE = 0.6  # share of a shape's full area that must be seen
MIN_PART = 0.12  # share of the visible area that each part of a mask must have
ASPECTS = (
    (1.0, 0.8),
    (1.0, 0.75),
    (0.8, 1.0),
    (0.75, 1.0),
    (1.0, 0.9),
    (1.0, 1.0),
)  # width, height over the side
COUNTS = (2, 3, 4, 5, 6)
COUNT_SHARES = (0.10, 0.26, 0.30, 0.21, 0.13)
EXTENTS = {
    2: (0.38, 0.62),
    3: (0.34, 0.56),
    4: (0.30, 0.50),
    5: (0.27, 0.43),
    6: (0.23, 0.37),
}  # over the side
RIM = 0.45  # how much darker the rim of a shape is
BAR_SHARE = 0.14  # share of the scenes with a bar over one shape
OVERLAP_SHARE = 0.25  # share of the scenes whose shapes may overlap noticeably


@dataclass(frozen=True, eq=False)
class Shape:
    """One object of a scene."""

    kind: str  # one of KINDS
    colour: str  # one of COLOURS
    outline: Outline  # [K, 2] x, y of the whole shape, hidden parts included
    extent: float  # longer side of the whole shape's box, pixels: what "small" and "big" compare
    mask: Mask  # [height, width], what is seen of it
    box: tuple[int, int, int, int]  # x, y, width, height of the mask
    parts: int  # connected parts of the mask, 1 or 2
    behind_bar: bool

    @property
    def centre(self) -> tuple[float, float]:
        """x, y of the middle of the visible box."""
        x, y, width, height = self.box
        return x + width / 2, y + height / 2


@dataclass(frozen=True, eq=False)
class Scene:
    """Two to six shapes, the later ones painted over the earlier ones, and perhaps a bar over one of them."""

    height: int
    width: int
    shapes: tuple[Shape, ...]
    bar: Outline | None  # [4, 2]

    @property
    def side(self) -> int:
        """The longer side, pixels."""
        return max(self.height, self.width)


@cache
def unit_outline(kind: str) -> Outline:
    """The outline of a kind, [K, 2], upright, around (0, 0), the longer side of its box 1. Not to be written to."""
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    if kind == "circle":
        points = np.stack([np.cos(turn), np.sin(turn)], 1)
    elif kind == "heart":
        points = np.stack(
            [
                16 * np.sin(turn) ** 3,
                -(13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)),
            ],
            1,
        )
    elif kind == "moon":  # a disc less a disc of 0.8 of its radius, 0.72 to the right
        meet = math.acos((1 + 0.72**2 - 0.8**2) / (2 * 0.72))
        tip = np.array([math.cos(meet), math.sin(meet)])
        inner = math.atan2(tip[1], tip[0] - 0.72)
        outer_turn = np.linspace(meet, 2 * np.pi - meet, 32)
        inner_turn = np.linspace(-inner, inner - 2 * np.pi, 24)[1:-1]
        points = np.concatenate(
            [
                np.stack([np.cos(outer_turn), np.sin(outer_turn)], 1),
                np.stack([0.72 + 0.8 * np.cos(inner_turn), 0.8 * np.sin(inner_turn)], 1),
            ]
        )
    elif kind == "drop":
        points = np.stack([0.72 * np.sin(turn) * np.sin(turn / 2) ** 1.4, -np.cos(turn)], 1)
    elif kind == "flower":
        radius = 0.6 + 0.4 * np.abs(np.cos(2.5 * turn))
        points = np.stack([radius * np.sin(turn), -radius * np.cos(turn)], 1)
    elif kind == "square":
        points = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)
    elif kind == "triangle":
        points = np.array([(0, -1), (1.08, 0.8), (-1.08, 0.8)], float)
    elif kind == "star":
        spikes = np.arange(10) * np.pi / 5
        radius = np.where(np.arange(10) % 2 == 0, 1.0, 0.52)
        points = np.stack([radius * np.sin(spikes), -radius * np.cos(spikes)], 1)
    elif kind == "cross":
        arm = 0.4
        quarter = np.array([(arm, -1), (arm, -arm), (1, -arm)])
        points = np.concatenate([quarter @ np.array([[c, s], [-s, c]]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))])
    elif kind == "arrow":  # up
        points = np.array([(0, -1), (0.8, -0.1), (0.36, -0.1), (0.36, 1), (-0.36, 1), (-0.36, -0.1), (-0.8, -0.1)])
    else:
        raise ValueError(f"no such kind of shape: {kind}")
    low, high = points.min(0), points.max(0)
    return np.asarray((points - (low + high) / 2) / (high - low).max())


def _turned(kind: str, extent: float, rng: np.random.Generator) -> Outline:
    """A moderately turned outline around (0, 0) whose longer side is `extent` pixels."""
    angle = math.radians(rng.uniform(-20, 20))
    if kind == "arrow":
        angle += rng.integers(4) * math.pi / 2
    elif kind == "moon":
        angle += rng.integers(2) * math.pi
    cos, sin = math.cos(angle), math.sin(angle)
    points = unit_outline(kind) @ np.array([[cos, sin], [-sin, cos]])
    low, high = points.min(0), points.max(0)
    return np.asarray((points - (low + high) / 2) * (extent / (high - low).max()))


def _coverage(outline: Outline, height: int, width: int) -> NDArray[np.uint8]:
    """How far each pixel is covered by the inside of an outline, 0 to 255 [height, width]."""
    canvas = np.zeros((height, width), np.uint8)
    # OpenCV's whole coordinates are pixel centres, ours are pixel corners.
    cv2.fillPoly(canvas, [np.round((outline - 0.5) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return canvas


def _place(
    outlines: list[Outline], height: int, width: int, closeness: float, rng: np.random.Generator
) -> list[Outline]:
    """Move outlines to random places; those that find none are left out.

    closeness: the least distance of two centres over the mean of the two extents.
    """
    placed: list[Outline] = []
    centres = np.zeros((0, 2))
    extents = np.zeros(0)
    for outline in outlines:
        half = (outline.max(0) - outline.min(0)) / 2 * 0.96  # a little may lie outside the image
        room = np.maximum(np.array([width, height]) - 2 * half, 0)
        tries = half + rng.random((60, 2)) * room
        extent = 2 * half.max()
        distance = np.linalg.norm(tries[:, None] - centres[None], axis=2)
        free = (distance > closeness * (extent + extents) / 2).all(1)
        if not free.any():
            continue
        centre = tries[int(free.argmax())]
        placed.append(outline + centre)
        centres = np.vstack([centres, centre])
        extents = np.append(extents, extent)
    return placed


def _parts(mask: Mask) -> int | None:
    """How many connected parts a mask has; None if one of them is a sliver or has a hole."""
    padded = np.pad(mask.view(np.uint8), 1)
    count, _, stats, _ = cv2.connectedComponentsWithStats(padded, connectivity=4)
    if stats[1:, cv2.CC_STAT_AREA].min() < MIN_PART * mask.sum():
        return None
    if cv2.connectedComponents(1 - padded, connectivity=8)[0] > 2:
        return None
    return count - 1


def _box(mask: Mask) -> tuple[int, int, int, int]:
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y


def _bar_over(outline: Outline, extent: float, side: int, rng: np.random.Generator) -> Outline:
    """A thin bar, [4, 2], across the middle of a shape."""
    middle = (outline.min(0) + outline.max(0)) / 2 + rng.uniform(-0.08, 0.08, 2) * extent
    angle = rng.uniform(0, math.pi)
    along = np.array([math.cos(angle), math.sin(angle)]) * extent * 0.72
    across = np.array([-math.sin(angle), math.cos(angle)]) * side * rng.uniform(0.02, 0.03)
    return np.stack(
        [middle + along + across, middle + along - across, middle - along - across, middle - along + across]
    )


def _draw_kinds(count: int, focus: tuple[str, ...], rng: np.random.Generator) -> list[tuple[str, str]]:
    """Kind and colour of each object: at least two of one kind (of `focus`), sometimes three."""
    twin = str(rng.choice(focus))
    twins = 3 if count >= 4 and rng.random() < 0.4 else 2
    kinds = [twin] * twins
    while len(kinds) < count:
        kinds.append(str(rng.choice(focus if rng.random() < 0.3 else KINDS)))
    names = list(COLOURS)
    colours = [names[i] for i in rng.choice(len(names), count)]
    if rng.random() < 0.25:
        colours[1] = colours[0]
    return list(zip(kinds, colours, strict=True))


def lay_out(seed: int, index: int, side: int, focus: tuple[str, ...] = KINDS) -> Scene:
    """The scene of an index.

    side: the longer side of the image, pixels. focus: the kinds of which two of one kind are drawn.
    """
    rng = np.random.default_rng([seed, index, 0])
    # Drawn once, so that crowded scenes are as frequent as wished although they fail more often.
    count = int(rng.choice(COUNTS, p=COUNT_SHARES))
    with_bar = rng.random() < BAR_SHARE
    closeness = 0.62 if rng.random() < OVERLAP_SHARE else 0.9
    while True:
        scene = _try_layout(side, focus, count, closeness, with_bar, rng)
        if scene is not None:
            return scene


def _try_layout(
    side: int, focus: tuple[str, ...], count: int, closeness: float, with_bar: bool, rng: np.random.Generator
) -> Scene | None:
    """One random layout, or None if it breaks a rule of the scenes."""
    aspect = ASPECTS[rng.integers(len(ASPECTS))]
    width, height = round(side * aspect[0]), round(side * aspect[1])
    named = _draw_kinds(count, focus, rng)
    low, high = EXTENTS[count]
    outlines = [_turned(kind, side * rng.uniform(low, high), rng) for kind, _ in named]
    outlines = _place(outlines, height, width, closeness, rng)
    if len(outlines) < count:
        return None
    order = rng.permutation(count)  # of painting
    outlines = [outlines[i] for i in order]
    named = [named[i] for i in order]
    extents = [float((outline.max(0) - outline.min(0)).max()) for outline in outlines]
    whole = [_coverage(outline, height, width) >= 128 for outline in outlines]

    bar, barred = None, -1
    hidden = np.zeros((height, width), bool)
    if with_bar:
        barred = int(rng.integers(count))
        bar = _bar_over(outlines[barred], extents[barred], side, rng)
        hidden = _coverage(bar, height, width) >= 128
        if any((hidden & mask).any() for i, mask in enumerate(whole) if i != barred):
            return None

    shapes: list[Shape] = []
    for i in reversed(range(count)):
        mask = whole[i] & ~hidden
        area = abs(cv2.contourArea(outlines[i].astype(np.float32)))
        if mask.sum() < MIN_VISIBLE * area:
            return None
        parts = _parts(mask)
        if parts is None or parts > 2 or (i == barred and parts != 2):
            return None
        hidden = hidden | whole[i]
        shapes.append(Shape(*named[i], outlines[i], extents[i], mask, _box(mask), parts, i == barred))
    return Scene(height, width, tuple(reversed(shapes)), bar)


def _background(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A smooth greyish texture: colour clouds, a gradient, perhaps stripes, and grain. [height, width, 3], 0-255."""
    base = rng.uniform(95, 185)
    clouds = rng.normal(0, 1, (int(rng.integers(3, 7)), int(rng.integers(3, 7)), 3)).astype(np.float32)
    grey = clouds.mean(2, keepdims=True)
    clouds = cv2.resize(grey * 18 + (clouds - grey) * 9, (width, height), interpolation=cv2.INTER_CUBIC)
    canvas = clouds + np.float32(base)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle = rng.uniform(0, 2 * math.pi)
    along = (x * math.cos(angle) + y * math.sin(angle)) / max(height, width)
    ramp = along * np.float32(rng.uniform(0, 40))
    if rng.random() < 0.4:
        ramp = ramp + np.float32(rng.uniform(4, 12)) * np.sin(along * np.float32(rng.uniform(20, 70)))
    grain = rng.normal(0, 1, (height, width)).astype(np.float32) * np.float32(rng.uniform(2, 7))
    canvas += (ramp - ramp.mean() + grain)[:, :, None]
    return np.asarray(np.clip(canvas, 60, 215), np.float32)


def paint(scene: Scene, seed: int, index: int) -> Image:
    """The picture of a scene, RGB [height, width, 3]."""
    rng = np.random.default_rng([seed, index, 1])
    height, width = scene.height, scene.width
    canvas = _background(height, width, rng)
    for shape in scene.shapes:
        colour = np.array(COLOURS[shape.colour], np.float32)
        _fill(canvas, shape.outline, colour + rng.uniform(-12, 12, 3), rng)
    if scene.bar is not None:
        _fill(canvas, scene.bar, np.array((122, 100, 84)) + rng.uniform(-10, 10, 3), rng)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _fill(
    canvas: NDArray[np.float32], outline: Outline, colour: NDArray[np.floating], rng: np.random.Generator
) -> None:
    """Paint the inside of an outline in a colour, shaded and grained, into canvas."""
    height, width = canvas.shape[:2]
    left, top = np.maximum(np.floor(outline.min(0)).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(outline.max(0)).astype(int) + 1, (width, height))
    cover = _coverage(outline - (left, top), bottom - top, right - left).astype(np.float32)[:, :, None] / 255
    slope = rng.uniform(-16, 16, 2).astype(np.float32)
    y = np.linspace(-1, 1, bottom - top, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, right - left, dtype=np.float32)[None]
    shade = slope[0] * x + slope[1] * y + rng.normal(0, 4, (bottom - top, right - left)).astype(np.float32)
    patch = canvas[top:bottom, left:right]
    patch += cover * (colour.astype(np.float32) + shade[:, :, None] - patch)
    # A faint dark rim tells shapes of one colour apart where they touch.
    rim = np.zeros(cover.shape[:2], np.uint8)
    points = np.round((outline - (left, top) - 0.5) * 16).astype(np.int32)
    cv2.polylines(rim, [points], True, 255, 1, cv2.LINE_AA, 4)
    patch *= 1 - rim[:, :, None].astype(np.float32) * np.float32(RIM / 255)
