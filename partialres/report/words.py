"""Words and figures that several tables share: what metrics mean, what models are called, what the paper reports."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from partialres.report.evaluations import BASELINE, ORACLE, OURS, dataset_name, in_order

UPSTREAM = "mIoU_upstream"
MEANING = {
    "mIoU": "mIoU: the mean over expressions of intersection over union at the image's own size, per cent.",
    "oIoU": "oIoU: intersection summed over all expressions, over union summed likewise, in per cent. "
    "Not to be compared with mIoU: it weighs large objects more.",
}
STEPS = {"res": "step 2", "retrain": "step 3"}
_PUBLISHED = Path(__file__).with_name("published.csv")


def published() -> pd.DataFrame:
    """The paper's figures for its method, its baseline and SeqTR, under the names of this project's runs.

    Columns: dataset, split, ratio, experiment, step, metric, value (per cent), source (where in the paper).
    RefCOCOg's val and test are the UMD split's (val-u, test-u); 100 % baseline is the fully supervised SeqTR.
    """
    table = pd.read_csv(_PUBLISHED, dtype={"ratio": "float64"})
    return table.assign(experiment=table["experiment"].fillna(""))


def label(experiment: str, step: str, final: bool) -> str:
    """What tables and figures call a model: "Ours, step 3 (final)". final: whether to say that no step follows."""
    if experiment == BASELINE and step == "res":
        return "Baseline"
    known = {BASELINE: "Baseline", OURS: "Ours", ORACLE: "Oracle"}
    return f"{known.get(experiment, experiment)}, {STEPS[step]}{' (final)' if final else ''}"


def seeds(data: pd.DataFrame) -> str:
    """How many seeds stand behind the figures. data: columns dataset and seeds."""
    counts = {}
    for dataset in in_order("dataset", data["dataset"]):
        numbers = data.loc[data["dataset"] == dataset, "seeds"]
        low, high = int(numbers.min()), int(numbers.max())
        counts[dataset_name(dataset)] = str(high) if low == high else f"{low} to {high}"
    if set(counts.values()) == {"1"}:
        return "One seed."
    listed = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f"Mean ± sample standard deviation over seeds; their number: {listed}."


def expressions(data: pd.DataFrame) -> str:
    """How many expressions each split has, data set by data set."""
    texts = []
    for dataset in in_order("dataset", data["dataset"]):
        counts = data[data["dataset"] == dataset].drop_duplicates("split").set_index("split")["expressions"]
        listed = ", ".join(f"{split} {counts[split]:,}" for split in in_order("split", counts.index))
        texts.append(f"{dataset_name(dataset)} {listed}")
    return f"Expressions scored: {'; '.join(texts)}."
