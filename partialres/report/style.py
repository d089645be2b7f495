"""Set the style of all figures, and save them so that equal data give identical files."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from partialres.files import atomic
from partialres.report import evaluations

DPI = 160
TEXT, SOFT, RULE = "#1c1f23", "#5d666f", "#d5dade"
BASELINE, STEP_2, FINAL, ORACLE = "#7a828a", "#e69f00", "#0072b2", TEXT  # distinct for colour-blind readers
BOX = "#ffd400"
RIGHT, WRONG_OUTLINE, WRONG_OBJECT = "#009e73", "#e69f00", "#d55e00"  # they differ in lightness too
TRUTH, PREDICTED = "#00c26f", "#ff3d7f"  # rare in photographs

MARKERS = "soD^v<>"
_EXTRA = ("#cc79a7", "#009e73", "#d55e00", "#56b4e9")
_RC: dict[Any, Any] = {
    "figure.dpi": DPI, "savefig.dpi": DPI,
    "font.family": "DejaVu Sans",  # comes with matplotlib, hence the same on every machine
    "text.color": TEXT, "axes.labelcolor": TEXT, "axes.titlecolor": TEXT, "axes.edgecolor": SOFT,
    "xtick.color": SOFT, "ytick.color": SOFT, "grid.color": RULE, "grid.linewidth": 0.6,
    "axes.titlesize": 10, "axes.labelsize": 9, "xtick.labelsize": 8, "ytick.labelsize": 8,
    "legend.fontsize": 8.5, "legend.frameon": False, "axes.spines.top": False, "axes.spines.right": False,
    "pdf.fonttype": 42,  # text stays text
}  # fmt: skip


@contextmanager
def applied() -> Iterator[None]:
    """Apply the style to figures drawn within the context, or within a function that this decorates."""
    with sns.axes_style("ticks"), sns.plotting_context("paper"), matplotlib.rc_context(_RC):
        yield


@applied()
def save(figure: Figure, png: Path) -> None:
    """Write a figure as PNG and, beside it, PDF, atomically; no dates or versions, so that equal figures stay equal."""
    with atomic(png) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
    undated = {"CreationDate": None, "ModDate": None, "Producer": None, "Creator": None}
    with atomic(png.with_suffix(".pdf")) as temporary:
        figure.savefig(temporary, format="pdf", metadata=undated)


def ratio_colours(ratios: Iterable[float]) -> Mapping[float, str]:
    """Return a colour for each mask ratio, darker for more masks."""
    distinct = sorted(set(ratios))
    shades = matplotlib.colormaps["viridis"](np.linspace(0.85, 0.05, max(len(distinct), 2)))
    return {ratio: to_hex(shade) for ratio, shade in zip(distinct, shades, strict=False)}


def experiment_colours(names: Sequence[str]) -> Mapping[str, str]:
    """Return a colour for each experiment; the baseline's and ours are the same in every figure."""
    own = {evaluations.BASELINE: BASELINE, evaluations.OURS: FINAL}
    others = [name for name in dict.fromkeys(names) if name not in own]
    return own | {name: _EXTRA[place % len(_EXTRA)] for place, name in enumerate(others)}


def panels(rows: int, columns: int, width: float, height: float) -> tuple[Figure, Callable[[int, int], Axes]]:
    """Return a figure for rows x columns panels of width x height inches, and a function(row, column) that adds one.

    If there are more rows than columns the two are swapped, because screens are wide.
    """
    turned = rows > columns
    down, across = sorted((rows, columns))
    size = (max(width * across + 0.3, 5.0), height * down + 0.4)  # inches; legends need five
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.add_gridspec(down, across)
    return figure, lambda row, column: figure.add_subplot(grid[column, row] if turned else grid[row, column])


def key(label: str, colour: str, marker: str = "", linestyle: Any = "-") -> Line2D:
    """Return a legend entry."""
    return Line2D([], [], linewidth=1.5, linestyle=linestyle, color=colour, marker=marker, markersize=4.5, label=label)


def legend(figure: Figure, handles: Sequence[Line2D]) -> None:
    """Put a legend above the panels, in as many columns as fit."""
    widths = np.array([0.6 + 0.075 * len(str(handle.get_label())) for handle in handles])  # inches, about
    columns = len(handles)
    while columns > 1 and sum(part.max() for part in np.array_split(widths, columns)) > figure.get_figwidth():
        columns -= 1
    figure.legend(handles=handles, loc="outside upper left", ncols=columns)
