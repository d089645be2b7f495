"""The table of the data: how much there is of it, what it is like, and how many masks a ratio leaves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from partialres.files import DataError, read_table
from partialres.report.evaluations import dataset_name, in_order
from partialres.report.render import Column, Grid, Row, Table

_SPLIT = re.compile(r"(?P<dataset>[^/]+)/seed(?P<seed>\d+)/ratio(?P<ratio>[0-9.]+)/split\.parquet$")
_COLUMNS = ("images", "refs", "expressions", "words an expression", "refs of several polygons")


def table(refs: Sequence[Path], splits: Sequence[Path]) -> Table:
    """Counts of each data set's splits, and of the labelled refs at each ratio.

    refs: {dataset}/refs.parquet. splits: {dataset}/seed{seed}/ratio{ratio}/split.parquet of one seed a data set.
    Table.data is tidy: dataset, split (or 'labelled'), ratio (NaN but of labelled), figure, value.
    Raises DataError if a file lacks a column, or a split's path does not tell its data set and ratio.
    """
    rows = [row for path in refs for row in _of_refs(Path(path))] + [_of_split(Path(path)) for path in splits]
    data = pd.DataFrame(rows, columns=["dataset", "split", "ratio", "figure", "value"])
    grids = []
    for dataset in in_order("dataset", data["dataset"]):
        own = data[data["dataset"] == dataset]
        counted = own[own["split"] != "labelled"]
        lines = []
        for split in in_order("split", counted["split"]):
            cells = counted[counted["split"] == split].set_index("figure")["value"]
            texts = tuple(f"{cells[name]:.1f}" if "words" in name else f"{cells[name]:,.0f}" for name in _COLUMNS)
            lines.append(Row("", split, texts))
        grids.append(
            Grid(dataset_name(dataset), ("", "split"), tuple(Column("", name) for name in _COLUMNS), tuple(lines))
        )
        labelled = own[own["split"] == "labelled"].sort_values("ratio")
        if len(labelled):
            columns = tuple(Column("", f"{ratio:g} %") for ratio in labelled["ratio"])
            texts = tuple(f"{value:,.0f}" for value in labelled["value"])
            heading = f"{dataset_name(dataset)}: training refs with a mask"
            grids.append(Grid(heading, ("", "ratio"), columns, (Row("", "refs", texts),)))
    notes = (
        "A ref is one object with its expressions. Every training ref has a box; the ratio is the share with a mask.",
        "Refs of several polygons are annotated in more than one piece, as where something stands in front of them.",
    )
    return Table("The data", notes, tuple(grids), data)


def _of_refs(path: Path) -> list[tuple[str, str, float, str, float]]:
    found = read_table(path, ["image_id", "split", "expressions", "parts"])
    rows = []
    for split, part in found.groupby("split"):
        expressions = [text for many in part["expressions"] for text in many]
        values = (
            part["image_id"].nunique(),
            len(part),
            len(expressions),
            sum(len(text.split()) for text in expressions) / max(1, len(expressions)),
            sum(parts is not None and len(parts) > 1 for parts in part["parts"]),
        )
        rows += [
            (path.parent.name, str(split), float("nan"), name, float(value))
            for name, value in zip(_COLUMNS, values, strict=True)
        ]
    return rows


def _of_split(path: Path) -> tuple[str, str, float, str, float]:
    match = _SPLIT.search(path.as_posix())
    if match is None:
        raise DataError(f"{path}: must end in {{dataset}}/seed{{seed}}/ratio{{ratio}}/split.parquet")
    labelled = int(read_table(path, ["labelled"])["labelled"].sum())
    return match["dataset"], "labelled", float(match["ratio"]), "refs", float(labelled)
