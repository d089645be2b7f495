"""Lay out and paint scenes: a few coloured shapes on a textured background.

A scene depends only on (seed, index), its size and the preferred kinds, not on the number of images or the flavour of
the expressions. Coordinates are pixels, x to the right and y down; a pixel covers [x, x + 1). Masks hold only visible
pixels.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from partialres.geometry.contour import window

Mask = NDArray[np.bool_]
Outline = NDArray[np.float64]  # [K, 2] x, y
Rng = np.random.Generator

CURVED = ("circle", "heart", "moon", "drop", "flower", "fish", "mushroom")
STRAIGHT = ("square", "triangle", "star", "cross", "arrow", "bolt", "crown")
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
BAR_COLOUR = (122, 100, 84)
POLYGONS: dict[str, Any] = {  # x, y of the corners
    "square": ((-1, 1, 1, -1), (-1, -1, 1, 1)),
    "triangle": ((0, 1.08, -1.08), (-1, 0.8, 0.8)),
    "cross": ((2, 2, 5, 5, 2, 2, -2, -2, -5, -5, -2, -2), (-5, -2, -2, 2, 2, 5, 5, 2, 2, -2, -2, -5)),
    "arrow": ((0, 0.8, 0.36, 0.36, -0.36, -0.36, -0.8), (-1, -0.1, -0.1, 1, 1, -0.1, -0.1)),  # points up
    "bolt": ((0.3, -0.6, -0.05, -0.3, 0.6, 0.1), (-1, 0.15, 0.15, 1, -0.25, -0.25)),
    "crown": ((-0.9, -1, -0.45, 0, 0.45, 1, 0.9), (0.7, -0.6, 0, -0.8, 0, -0.6, 0.7)),
}

# Lengths are shares of the image's longer side.
ASPECTS = ((1.0, 0.8), (1.0, 0.75), (0.8, 1.0), (0.75, 1.0), (1.0, 0.9), (1.0, 1.0))  # width, height
EXTENTS = {2: (0.38, 0.62), 3: (0.34, 0.56), 4: (0.30, 0.50), 5: (0.27, 0.43), 6: (0.23, 0.37)}  # by number of shapes
COUNT_SHARES = (0.10, 0.26, 0.30, 0.21, 0.13)  # shares of scenes with 2, 3, 4, 5 and 6 shapes
BAR_SHARE = 0.14  # share of scenes in which a bar crosses one shape
OVERLAP_SHARE = 0.25  # share of scenes in which shapes may overlap noticeably
MIN_VISIBLE = 0.6  # least visible share of a shape's full area
MIN_PART = 0.12  # least share of the visible area for each part of a mask
RIM = 0.45  # how much darker the rim of a shape is


@dataclass(frozen=True, eq=False)
class Shape:
    """One object of a scene."""

    kind: str  # one of KINDS
    colour: str  # one of COLOURS
    outline: Outline  # the whole shape, hidden parts included
    extent: float  # longer side of the whole shape's box, pixels; "small" and "big" compare it
    mask: Mask  # [height, width], the visible pixels, in one or two connected parts
    behind_bar: bool

    @cached_property
    def box(self) -> tuple[int, int, int, int]:
        """Bounding box of the mask: x, y, width, height."""
        part, corner = window(self.mask)
        return int(corner[0]), int(corner[1]), part.shape[1], part.shape[0]

    @property
    def centre(self) -> tuple[float, float]:
        """Middle of the box: x, y."""
        x, y, width, height = self.box
        return x + width / 2, y + height / 2


@dataclass(frozen=True, eq=False)
class Scene:
    """Two to six shapes, later ones painted over earlier ones, and possibly a bar over one of them."""

    height: int
    width: int
    shapes: tuple[Shape, ...]
    bar: Outline | None

    @property
    def side(self) -> int:
        """Longer side of the image, pixels."""
        return max(self.height, self.width)


def lay_out(seed: int, index: int, side: int, preferred: tuple[str, ...] = KINDS) -> Scene:
    """Lay out a scene, `side` pixels on its longer side, with two shapes of one of the preferred kinds."""
    rng = np.random.default_rng([seed, index, 0])
    # Drawn only once: redrawn with every layout, crowded scenes would become rarer, as their layouts fail more often.
    count = int(rng.choice(list(EXTENTS), p=COUNT_SHARES))
    with_bar = rng.random() < BAR_SHARE
    closeness = 0.62 if rng.random() < OVERLAP_SHARE else 0.9
    while (scene := _try_layout(side, preferred, count, closeness, with_bar, rng)) is None:
        pass
    return scene


def _try_layout(
    side: int, preferred: tuple[str, ...], count: int, closeness: float, with_bar: bool, rng: Rng
) -> Scene | None:
    """Draw one random layout; None if shapes do not fit, too little of one is visible, or its parts are unsuitable."""
    width, height = (round(side * share) for share in ASPECTS[rng.integers(len(ASPECTS))])
    named = _draw_kinds(count, preferred, rng)
    outlines = [_turned(kind, side * rng.uniform(*EXTENTS[count]), rng) for kind, _ in named]
    outlines = _placed(outlines, height, width, closeness, rng)
    if len(outlines) < count:
        return None
    order = rng.permutation(count)  # of painting
    outlines, named = [outlines[i] for i in order], [named[i] for i in order]
    extents = [float(np.ptp(outline, axis=0).max()) for outline in outlines]
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
        if mask.sum() < MIN_VISIBLE * abs(cv2.contourArea(outlines[i].astype(np.float32))):
            return None
        if _number_of_parts(mask) not in ((2,) if i == barred else (1, 2)):
            return None
        hidden = hidden | whole[i]
        shapes.append(Shape(*named[i], outlines[i], extents[i], mask, i == barred))
    return Scene(height, width, tuple(reversed(shapes)), bar)


def _draw_kinds(count: int, preferred: tuple[str, ...], rng: Rng) -> list[tuple[str, str]]:
    """Draw kind and colour of each shape; at least two shapes, sometimes three or more, have the same kind."""
    twin = str(rng.choice(preferred))
    kinds = [twin] * (3 if count >= 4 and rng.random() < 0.4 else 2)
    while len(kinds) < count:
        kinds.append(str(rng.choice(preferred if rng.random() < 0.3 else KINDS)))
    colours = rng.choice(list(COLOURS), count).tolist()
    if rng.random() < 0.25:
        colours[1] = colours[0]
    return list(zip(kinds, colours, strict=True))


def upright(kind: str) -> Outline:
    """Return the outline of an upright shape of a kind, centred on (0, 0), with a box whose longer side is 1."""
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    if kind == "circle":
        x, y = np.cos(turn), np.sin(turn)
    elif kind == "heart":
        x = 16 * np.sin(turn) ** 3
        y = -(13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn))
    elif kind == "moon":  # a disc less a disc with 0.8 of its radius, 0.72 to the right
        meet = math.acos((1 + 0.72**2 - 0.8**2) / (2 * 0.72))
        inner_meet = math.atan2(math.sin(meet), math.cos(meet) - 0.72)
        outer = np.linspace(meet, 2 * np.pi - meet, 32)
        inner = np.linspace(-inner_meet, inner_meet - 2 * np.pi, 24)[1:-1]
        x = np.concatenate([np.cos(outer), 0.72 + 0.8 * np.cos(inner)])
        y = np.concatenate([np.sin(outer), 0.8 * np.sin(inner)])
    elif kind == "drop":
        x, y = 0.72 * np.sin(turn) * np.sin(turn / 2) ** 1.4, -np.cos(turn)
    elif kind == "flower":
        radius = 0.6 + 0.4 * np.abs(np.cos(2.5 * turn))
        x, y = radius * np.sin(turn), -radius * np.cos(turn)
    elif kind == "fish":  # an ellipse, and behind it a tail with a notch
        body = np.linspace(0.35, 2 * np.pi - 0.35, 40)
        x = np.append(0.75 * np.cos(body) - 0.25, (1, 0.8, 1))
        y = np.append(0.45 * np.sin(body), (-0.45, 0, 0.45))
    elif kind == "mushroom":  # half a disc on a stem
        cap = np.linspace(np.pi, 2 * np.pi, 32)
        x, y = np.append(np.cos(cap), (0.35, 0.35, -0.35, -0.35)), np.append(np.sin(cap), (0, 0.8, 0.8, 0))
    elif kind == "star":
        spikes, radius = np.arange(10) * np.pi / 5, np.tile([1.0, 0.52], 5)
        x, y = radius * np.sin(spikes), -radius * np.cos(spikes)
    else:
        x, y = POLYGONS[kind]
    points = np.stack([x, y], axis=1)
    return _centred(points) / np.ptp(points, axis=0).max()


def _centred(points: Outline) -> Outline:
    return points - (points.min(0) + points.max(0)) / 2


def _turned(kind: str, extent: float, rng: Rng) -> Outline:
    """Turn the outline of a kind moderately, around (0, 0), and give it a longer side of `extent` pixels."""
    angle = math.radians(rng.uniform(-20, 20))
    if kind == "arrow":
        angle += rng.integers(4) * math.pi / 2
    elif kind in ("moon", "fish"):
        angle += rng.integers(2) * math.pi
    cos, sin = math.cos(angle), math.sin(angle)
    points = upright(kind) @ np.array([[cos, sin], [-sin, cos]])
    return _centred(points) * (extent / np.ptp(points, axis=0).max())


def _placed(outlines: list[Outline], height: int, width: int, closeness: float, rng: Rng) -> list[Outline]:
    """Move outlines to random places, their centres `closeness` mean extents apart; leave out those that do not fit."""
    placed: list[Outline] = []
    centres, extents = np.zeros((0, 2)), np.zeros(0)
    for outline in outlines:
        half = np.ptp(outline, axis=0) / 2 * 0.96  # a little may lie outside the image
        room = np.maximum(np.array([width, height]) - 2 * half, 0)
        tries = half + rng.random((60, 2)) * room
        extent = 2 * half.max()
        distances = np.linalg.norm(tries[:, None] - centres[None], axis=2)
        free = (distances > closeness * (extent + extents) / 2).all(1)
        if free.any():
            centre = tries[int(free.argmax())]
            placed.append(outline + centre)
            centres, extents = np.vstack([centres, centre]), np.append(extents, extent)
    return placed


def _bar_over(outline: Outline, extent: float, side: int, rng: Rng) -> Outline:
    """Draw a thin bar, [4, 2], across the middle of a shape."""
    middle = (outline.min(0) + outline.max(0)) / 2 + rng.uniform(-0.08, 0.08, 2) * extent
    angle = rng.uniform(0, math.pi)
    along = np.array([math.cos(angle), math.sin(angle)]) * extent * 0.72
    across = np.array([-math.sin(angle), math.cos(angle)]) * side * rng.uniform(0.02, 0.03)
    corners = [middle + along + across, middle + along - across, middle - along - across, middle - along + across]
    return np.stack(corners)


def _number_of_parts(mask: Mask) -> int | None:
    """Count the connected parts of a mask; None if one of them is a sliver or has a hole."""
    padded = np.pad(mask.view(np.uint8), 1)
    count, _, stats, _ = cv2.connectedComponentsWithStats(padded, connectivity=4)
    sliver = stats[1:, cv2.CC_STAT_AREA].min() < MIN_PART * mask.sum()
    return None if sliver or cv2.connectedComponents(1 - padded, connectivity=8)[0] > 2 else count - 1


def _fixed_point(outline: Outline) -> NDArray[np.int32]:
    """Convert points to OpenCV's convention: sixteenths of a pixel, with whole coordinates at pixel centres."""
    return np.round((outline - 0.5) * 16).astype(np.int32)


def _coverage(outline: Outline, height: int, width: int) -> NDArray[np.uint8]:
    """Compute how much of each pixel an outline's inside covers: uint8 [height, width], 0 to 255."""
    canvas = np.zeros((height, width), np.uint8)
    cv2.fillPoly(canvas, [_fixed_point(outline)], 255, cv2.LINE_AA, 4)
    return canvas


def paint(scene: Scene, seed: int, index: int) -> NDArray[np.uint8]:
    """Paint a scene: RGB [height, width, 3]."""
    rng = np.random.default_rng([seed, index, 1])
    canvas = _background(scene.height, scene.width, rng)
    for shape in scene.shapes:
        _fill(canvas, shape.outline, np.array(COLOURS[shape.colour], np.float32) + rng.uniform(-12, 12, 3), rng)
    if scene.bar is not None:
        _fill(canvas, scene.bar, np.array(BAR_COLOUR) + rng.uniform(-10, 10, 3), rng)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _background(height: int, width: int, rng: Rng) -> NDArray[np.float32]:
    """Paint a smooth greyish texture of clouds, a gradient, sometimes stripes, and grain: [height, width, 3], 0-255."""
    base = rng.uniform(95, 185)
    clouds = rng.normal(0, 1, (int(rng.integers(3, 7)), int(rng.integers(3, 7)), 3)).astype(np.float32)
    grey = clouds.mean(2, keepdims=True)
    clouds = cv2.resize(grey * 18 + (clouds - grey) * 9, (width, height), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle = rng.uniform(0, 2 * math.pi)
    along = (x * math.cos(angle) + y * math.sin(angle)) / max(height, width)
    ramp = along * np.float32(rng.uniform(0, 40))
    if rng.random() < 0.4:
        ramp = ramp + np.float32(rng.uniform(4, 12)) * np.sin(along * np.float32(rng.uniform(20, 70)))
    grain = rng.normal(0, 1, (height, width)).astype(np.float32) * np.float32(rng.uniform(2, 7))
    canvas = clouds + np.float32(base) + (ramp - ramp.mean() + grain)[:, :, None]
    return np.asarray(np.clip(canvas, 60, 215), np.float32)


def _fill(canvas: NDArray[np.float32], outline: Outline, colour: NDArray[np.floating], rng: Rng) -> None:
    """Fill an outline on the canvas with a colour, shading and grain, and darken its rim."""
    left, top = np.maximum(np.floor(outline.min(0)).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(outline.max(0)).astype(int) + 1, canvas.shape[1::-1])
    height, width = bottom - top, right - left
    outline = outline - (left, top)
    cover = _coverage(outline, height, width).astype(np.float32)[:, :, None] / 255
    slope = rng.uniform(-16, 16, 2).astype(np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    shade = slope[0] * x + slope[1] * y + rng.normal(0, 4, (height, width)).astype(np.float32)
    patch = canvas[top:bottom, left:right]
    patch += cover * (colour.astype(np.float32) + shade[:, :, None] - patch)
    rim = np.zeros((height, width), np.uint8)  # a faint dark rim separates touching shapes of equal colour
    cv2.polylines(rim, [_fixed_point(outline)], True, 255, 1, cv2.LINE_AA, 4)
    patch *= 1 - rim[:, :, None].astype(np.float32) * np.float32(RIM / 255)
