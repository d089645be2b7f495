"""How every figure looks, and how it is saved so that the same data give the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # before seaborn loads pyplot: reports are made on machines without a screen

import numpy as np
import seaborn as sns
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from partialres.files import atomic

DPI = 160
TEXT, SOFT, RULE = "#1c1f23", "#5d666f", "#d5dade"
BASELINE, STEP_2, FINAL, ORACLE = (
    "#7a828a",
    "#e69f00",
    "#0072b2",
    TEXT,
)  # colour-blind readers tell them apart
BOX = "#ffd400"
RIGHT, WRONG_OUTLINE, WRONG_OBJECT = "#009e73", "#e69f00", "#d55e00"  # told apart by lightness too
TRUTH, PREDICTED = "#00c26f", "#ff3d7f"  # tints that few photographs hold

_EXTRA = ("#cc79a7", "#009e73", "#d55e00", "#56b4e9")
_RC: dict[Any, Any] = {
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that no machine's own fonts matter
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.titlecolor": TEXT,
    "axes.edgecolor": SOFT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "pdf.fonttype": 42,  # text stays text
}


@contextmanager
def applied() -> Iterator[None]:
    """The style while a figure is drawn and saved; afterwards matplotlib is as it was before."""
    with sns.axes_style("ticks"), sns.plotting_context("paper"), matplotlib.rc_context(_RC):
        yield


def save(figure: Figure, png: Path, pdf: Path) -> None:
    """Write a figure as PNG and PDF, atomically, without dates or versions: equal figures, equal bytes."""
    with atomic(png) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
    undated = {"CreationDate": None, "ModDate": None, "Producer": None, "Creator": None}
    with atomic(pdf) as temporary:
        figure.savefig(temporary, format="pdf", metadata=undated)


def ratio_colours(ratios: Iterable[float]) -> Mapping[float, str]:
    """A colour for each mask ratio, light to dark with more masks."""
    distinct = sorted(set(ratios))
    shades = matplotlib.colormaps["viridis"](
        [0.85 - 0.8 * place / max(len(distinct) - 1, 1) for place in range(len(distinct))]
    )
    return {ratio: to_hex(shade) for ratio, shade in zip(distinct, shades, strict=True)}


def extra_colours(names: Sequence[str]) -> Mapping[str, str]:
    """A colour for each further experiment, told apart from the baseline's and ours."""
    return {name: _EXTRA[place % len(_EXTRA)] for place, name in enumerate(names)}


def panels(rows: int, columns: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """A figure of rows x columns panels, each width x height inches."""
    wide = max(width * columns + 0.3, 5.0)  # inches: legends need that much
    figure = Figure(figsize=(wide, height * rows + 0.4), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def key(label: str, colour: str, marker: str = "", linestyle: Any = "-") -> Line2D:
    """A legend's entry."""
    looks: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": linestyle}
    return Line2D([], [], linewidth=1.5, markersize=4.5, label=label, **looks)


def legend(figure: Figure, handles: Sequence[Line2D]) -> None:
    """A legend above the panels, in as many columns as fit."""
    widths = np.array([0.6 + 0.075 * len(str(handle.get_label())) for handle in handles])  # inches, about
    fitting = (
        columns
        for columns in range(len(handles), 1, -1)
        if sum(part.max() for part in np.array_split(widths, columns)) < figure.get_figwidth()
    )
    figure.legend(handles=handles, loc="outside upper left", ncols=next(fitting, 1))
