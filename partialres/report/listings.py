"""Tables that list results and data: every metric, step 1's box scores, the pseudo masks, the data sets."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from partialres.files import DataError, read_table
from partialres.report import captions
from partialres.report.evaluations import SELECTION, ordered, summarise
from partialres.report.render import Table, arrange, number, with_spread


def details(evaluations: pd.DataFrame, oracle: str) -> Table:
    """List every metric of every experiment, ratio, step and split.

    evaluations: from `collect`; step 1's rows are skipped. oracle: the experiment whose step 2 at ratio 100 is the
    oracle; empty for none. Table.data: from `summarise`, with a column label.
    Raises DataError if there is nothing to show.
    """
    wanted = evaluations[evaluations["step"] != "rec"]
    if wanted.empty:
        raise DataError("the table of details has nothing to show: no metrics.json of step 2 or 3 was given")
    data = summarise(wanted)
    data["label"] = captions.labels(data, oracle)
    grids = []
    for (dataset, split), part in data.groupby(["dataset", "split"], sort=False):
        cells = (
            (f"{row.ratio:g} %", row.label, "", {row.metric: with_spread(row.mean, row.sd)})
            for row in part.itertuples()
        )
        grids.append(arrange(f"{captions.dataset_name(dataset)} {split}", ("masks", "model"), cells))
    notes = (
        captions.MIOU,
        captions.OIOU,
        captions.PRECISION,
        "box_accuracy: the share whose outline has a bounding box with IoU of at least 0.5 with the true box.",
        "mIoU_upstream: as the released code scores it; several polygons count intersection over predicted area.",
        "degenerate: how many expressions got fewer than three points or an outline without a pixel.",
        captions.seeds(data),
        captions.expressions(data),
    )
    return Table("Every metric, by experiment and step", notes, tuple(grids), data)


def rec(evaluations: pd.DataFrame) -> Table:
    """Show how well step 1, which is trained without masks, finds boxes.

    evaluations: from `collect`; only step 1's rows are used. Table.data: dataset, split, experiment (empty, or
    MASK_HEAD), metric, mean, sd, seeds, expressions, published. Raises DataError if there are no rows of step 1.
    """
    wanted = evaluations[evaluations["step"] == "rec"]
    if wanted.empty:
        raise DataError("the table of step 1 has nothing to show: give the metrics.json files below seed*/rec")
    key = ["dataset", "split", "experiment", "metric"]
    paper = captions.published().query("step == 'rec'").set_index(key)["value"].rename("published")
    data = summarise(wanted)[[*key, "mean", "sd", "seeds", "expressions"]].join(paper, on=key)
    beside = data["published"].notna().any()
    cells = []
    for row in data.itertuples():
        texts = {"expressions": f"{row.expressions:,}"}
        if row.metric == "box_accuracy":
            texts["box accuracy"] = with_spread(row.mean, row.sd)
            texts |= {"SeqTR": number(row.published)} if beside else {}
        elif row.metric == "mean_box_iou":
            texts["mean box IoU"] = with_spread(row.mean, row.sd)
        label = f"{row.split}, {row.experiment}" if row.experiment else row.split
        cells.append((captions.dataset_name(row.dataset), label, "", texts))
    accuracy = "box accuracy: per cent of expressions whose predicted box has IoU of at least 0.5 with the true one."
    seqtr = "SeqTR: published box accuracy of the detection models that the paper's step 1 starts from."
    notes = [accuracy, captions.seeds(data), *([seqtr] if beside else [])]
    grid = arrange("Step 1", ("data set", "split"), cells)
    return Table("Referring-expression comprehension (step 1)", tuple(notes), (grid,), data)


def pseudo(selections: pd.DataFrame) -> Table:
    """Show how many pseudo masks were kept for step 3, and their IoU with the masks withheld from training.

    selections: from `collect_selections`. Table.data: dataset, ratio, experiment, seeds, then the mean and sd (suffix
    _sd) of each column of SELECTION over seeds.
    """
    grouped = selections.groupby(["dataset", "ratio", "experiment"], sort=False)
    means, spreads = grouped[SELECTION].mean(), grouped[SELECTION].std().add_suffix("_sd")
    data = pd.concat([grouped["seed"].count().rename("seeds"), means, spreads], axis=1).reset_index()
    grids = []
    for dataset, part in data.groupby("dataset", sort=False):
        cells = []
        for row in part.itertuples():
            texts = {
                "pseudo masks": f"{row.candidates:,.0f}",
                "kept": f"{row.kept:,.0f}",
                "kept, %": with_spread(row.kept_share, row.kept_share_sd, 1),
                "true IoU of the kept": with_spread(row.true_iou_kept, row.true_iou_kept_sd),
                "true IoU of all": with_spread(row.true_iou_all, row.true_iou_all_sd),
                "mean D": with_spread(row.mean_d, row.mean_d_sd, 3),
            }
            cells.append((f"{row.ratio:g} %", row.experiment, "", texts))
        grids.append(arrange(captions.dataset_name(dataset), ("masks", "experiment"), cells))
    notes = (
        "Pseudo masks are predicted for training refs without a mask; those whose D (paper eq. 8; 0 equals the box's "
        "shadows, 2 is disjoint from them) lies below the threshold are kept for step 3.",
        captions.TRUE_IOU,
        captions.seeds(data),
    )
    return Table("Pseudo masks and their selection", notes, tuple(grids), data)


def data(refs: Sequence[Path], splits: Sequence[Path]) -> Table:
    """Count images, refs and expressions in each split of each data set, and labelled refs at each ratio.

    refs: {dataset}/refs.parquet. splits: {dataset}/seed{seed}/ratio{ratio}/split.parquet, one seed per data set.
    Table.data is tidy: dataset, split (or 'labelled'), ratio (only if 'labelled', else NaN), figure, value.
    Raises DataError if a file lacks a column, or if the path of a split.parquet is not of this form.
    """
    rows = [row for path in refs for row in _of_refs(Path(path))] + [_of_split(Path(path)) for path in splits]
    figures = ordered(pd.DataFrame(rows, columns=["dataset", "split", "ratio", "figure", "value"]))
    grids = []
    for (dataset, labelled), part in figures.groupby(["dataset", figures["split"] == "labelled"], sort=False):
        cells = []
        for row in part.itertuples():
            text = f"{row.value:,.{1 if row.figure.startswith('words') else 0}f}"
            label, name = ("refs", f"{row.ratio:g} %") if labelled else (row.split, row.figure)
            cells.append(("", label, "", {name: text}))
        heading = captions.dataset_name(dataset) + (": training refs with a mask" if labelled else "")
        grids.append(arrange(heading, ("", "ratio" if labelled else "split"), cells))
    notes = (
        "A ref is one object with its expressions. Every training ref has a box; the ratio is the share with a mask.",
        "Refs of several polygons are annotated in more than one piece, as where something stands in front of them.",
    )
    return Table("The data", notes, tuple(grids), figures)


def _of_refs(path: Path) -> list[tuple[str, str, float, str, float]]:
    refs = read_table(path, ["image_id", "split", "expressions", "parts"])
    rows = []
    for split, part in refs.groupby("split"):
        expressions = [text for texts in part["expressions"] for text in texts]
        counts = {
            "images": part["image_id"].nunique(),
            "refs": len(part),
            "expressions": len(expressions),
            "words an expression": sum(len(text.split()) for text in expressions) / max(1, len(expressions)),
            "refs of several polygons": sum(parts is not None and len(parts) > 1 for parts in part["parts"]),
        }
        rows += [(path.parent.name, str(split), math.nan, name, float(value)) for name, value in counts.items()]
    return rows


def _of_split(path: Path) -> tuple[str, str, float, str, float]:
    dataset, seed, ratio = ("", "", "", *path.parts)[-4:-1]
    if not (seed.startswith("seed") and re.fullmatch(r"ratio\d+(\.\d+)?", ratio)):
        raise DataError(f"{path}: must end in {{dataset}}/seed{{seed}}/ratio{{ratio}}/split.parquet")
    labelled = read_table(path, ["labelled"])["labelled"].sum()
    return dataset, "labelled", float(ratio.removeprefix("ratio")), "refs", float(labelled)
