"""How every figure looks, and how it is saved so that the same data give the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # before seaborn loads pyplot: reports are made on machines without a screen

import seaborn as sns
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

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
