"""Draw how one expression's points were decoded: what each looked at, and the outline as it grows."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image as Pil

from partialres.data.images import Image
from partialres.files import atomic
from partialres.report import style
from partialres.use import Decoding

ACROSS = 6  # panels in a row
SIDE, LARGE = 1.7, 4.0  # inches: a panel's longer side in a figure of all points, and of one
MILLISECONDS, LAST = 700, 2500  # how long a GIF shows each point, and the last
BAND = "#5ec8ff"
LEVELS = (0.5, 0.7, 0.9)  # at which the Gaussian's rings lie, as shares of its highest value


@style.applied()
def figure(decoding: Decoding) -> Figure:
    """Draw a panel for each point, in the order of decoding: what it looked at, and the points so far."""
    number = len(decoding.points)
    across = min(ACROSS, number)
    down = -(-number // across)
    height, width = np.array(decoding.segmentation.mask.shape) / max(decoding.segmentation.mask.shape) * SIDE
    drawn = Figure(figsize=(across * width + 0.2, down * (height + 0.25) + 0.75), layout="constrained")
    panels = drawn.subplots(down, across, squeeze=False).reshape(-1)
    for place, axes in enumerate(panels):
        axes.set_axis_off()
        if place < number:
            _looks(axes, decoding, place)
            axes.set_title(f"point {place + 1}", fontsize=8)
    drawn.suptitle(f"“{decoding.segmentation.expression}”", fontsize=10, style="italic", parse_math=False)
    drawn.supxlabel(_legend(decoding), fontsize=7.5, color=style.SOFT)
    return drawn


@style.applied()
def frame(decoding: Decoding, place: int) -> Figure:
    """Draw the outline up to a point (0 is the first), and beside it what this point looked at."""
    height, width = np.array(decoding.segmentation.mask.shape) / max(decoding.segmentation.mask.shape) * LARGE
    drawn = Figure(figsize=(2 * width + 0.3, height + 0.7), dpi=100, layout="constrained")
    left, right = drawn.subplots(1, 2)
    last = place == len(decoding.points) - 1
    _show(left, decoding, decoding.segmentation.overlay() if last else decoding.segmentation.picture)
    _points(left, decoding, place)
    _looks(right, decoding, place)
    for axes in (left, right):
        axes.set_axis_off()
    said = decoding.segmentation.expression
    drawn.suptitle(f"“{said}”: point {place + 1} of {len(decoding.points)}", parse_math=False)
    drawn.supxlabel(_legend(decoding), fontsize=8, color=style.SOFT)
    return drawn


def pixels(drawn: Figure) -> Image:
    """Draw a figure to pixels, RGB uint8 [height, width, 3]."""
    canvas = FigureCanvasAgg(drawn)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def write_gif(decoding: Decoding, path: Path) -> None:
    """Write a GIF, a `frame` for each point."""
    number = len(decoding.points)
    images = [Pil.fromarray(pixels(frame(decoding, place))).quantize(128) for place in range(number)]
    times = [MILLISECONDS] * (number - 1) + [LAST]
    with atomic(path) as temporary:
        images[0].save(temporary, format="GIF", save_all=True, append_images=images[1:], duration=times, loop=0)


def _legend(decoding: Decoding) -> str:
    parts = ["yellow: where cross-attention looks"]
    if decoding.trace.prior is not None:
        parts.append("rings: PMCA's Gaussian")
    if decoding.trace.cells is not None:
        parts.append("bands: CCTF's column and row")
    return " · ".join(parts)


def _show(axes: Axes, decoding: Decoding, picture: np.ndarray) -> None:
    """Show a picture in its own pixels, (0, 0) being the corner."""
    height, width = decoding.segmentation.mask.shape
    axes.imshow(picture, extent=(0, width, height, 0), cmap="gray", vmin=0, vmax=255)
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_autoscale_on(False)


def _looks(axes: Axes, decoding: Decoding, place: int) -> None:
    """Draw what a point looked at on the darkened grey picture, and the points so far."""
    _show(axes, decoding, 0.55 * decoding.segmentation.picture.mean(axis=2))
    trace, (right, bottom) = decoding.trace, decoding.frame
    down, across = trace.attention.shape[1:]
    looked = trace.attention[place] - trace.attention[place].min()
    yellow = np.full((down, across, 3), [1.0, 0.85, 0.2])
    axes.imshow(yellow, extent=(0, right, bottom, 0), alpha=0.85 * looked / max(looked.max(), 1e-9))
    if trace.cells is not None:
        (column, row), wide, high = trace.cells[place], right / across, bottom / down
        axes.axvspan(column * wide, (column + 1) * wide, color=BAND, alpha=0.25, linewidth=0)
        axes.axhspan(row * high, (row + 1) * high, color=BAND, alpha=0.25, linewidth=0)
    if trace.prior is not None:
        centres = (np.arange(across) + 0.5) * right / across, (np.arange(down) + 0.5) * bottom / down
        levels = trace.prior[place].max() * np.array(LEVELS)
        axes.contour(*centres, trace.prior[place], levels, colors="white", linewidths=0.8)
    _points(axes, decoding, place)


def _points(axes: Axes, decoding: Decoding, place: int) -> None:
    """Draw and join the points up to and including `place`, that one larger."""
    x, y = decoding.points[: place + 1].T
    axes.plot(x, y, color=style.PREDICTED, linewidth=1.2, marker="o", markersize=2.5)
    axes.plot(x[-1:], y[-1:], color=style.PREDICTED, marker="o", markersize=6, markeredgecolor="white")
