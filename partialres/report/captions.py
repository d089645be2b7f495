"""Texts that tables and figures share: names of models and data sets, notes, and the scores that the paper reports."""

from pathlib import Path

import pandas as pd

from partialres.report.evaluations import BASELINE, OURS

MIOU = "mIoU: the mean over expressions of intersection over union at the image's own size, per cent."
OIOU = (
    "oIoU: summed intersections over summed unions, per cent; large objects weigh more, so do not set it beside mIoU."
)
PRECISION = "Pr@X: the share of expressions with IoU of at least X, per cent."
TRUE_IOU = "true IoU: mean IoU with the masks withheld from training, per cent; a check made later, never an input."
LOST_ROW = (
    "paper, 100 %: of its Table 2 two of three rows can be read, and their check marks are our reading. The third, "
    "recovered from the printed increments, has 56.03 mIoU and 67.79 / 62.32 / 49.88 / 30.63 / 8.04 at Pr@0.5 to 0.9; "
    "whether it or the row shown as cctf is the one without CCTF is uncertain."
)
ORACLE = "Oracle"  # the label of step 2 of the experiment that `report.oracle` names, at ratio 100
_STEPS = {"res": "step 2", "retrain": "step 3"}


def published() -> pd.DataFrame:
    """Read the scores published for the paper's method, its baseline and SeqTR, under the names of our runs.

    Columns: dataset, split, ratio, experiment, step, metric, value (per cent), source (where in the paper).
    RefCOCOg's val and test are the UMD split's (val-u, test-u); 100 % baseline is the fully supervised SeqTR. The other
    fully supervised systems have step "peer", and their name, venue and visual encoder as experiment.
    """
    path = Path(__file__).with_name("published.csv")
    return pd.read_csv(path, dtype={"ratio": "float64"}).fillna({"experiment": ""})


def dataset_name(dataset: str) -> str:
    """Return a data set's name in its usual spelling: refcoco+ -> RefCOCO+."""
    return dataset.replace("refshapes", "RefShapes").replace("refcoco", "RefCOCO")


def label(experiment: str, step: str) -> str:
    """Return a model's name in tables and figures: "Baseline", "Ours, step 2", "no_rpp, step 3"."""
    if (experiment, step) == (BASELINE, "res"):
        return "Baseline"
    name = {BASELINE: "Baseline", OURS: "Ours"}.get(experiment, experiment)
    return f"{name}, {_STEPS[step]}"


def labels(data: pd.DataFrame, oracle: str) -> list[str]:
    """Return the name of each row's model, as `label` does, or "Oracle".

    data: has columns experiment, step, ratio (per cent). oracle: the experiment whose step 2 at ratio 100 is the
    oracle; empty for none.
    """
    return [
        ORACLE if (row.experiment, row.step, row.ratio) == (oracle, "res", 100) else label(row.experiment, row.step)
        for row in data.itertuples()
    ]


def seeds(data: pd.DataFrame) -> str:
    """Return a note on the number of seeds. data: has a column seeds."""
    least, most = data["seeds"].min(), data["seeds"].max()
    if most == 1:
        return "One seed."
    return f"Mean ± sample standard deviation over {most if least == most else f'{least} to {most}'} seeds."


def expressions(data: pd.DataFrame) -> str:
    """Return a note on the number of expressions in each split. data: has columns dataset, split, expressions."""
    texts = []
    for dataset, rows in data.drop_duplicates(["dataset", "split"]).groupby("dataset", sort=False):
        counts = ", ".join(f"{row.split} {row.expressions:,}" for row in rows.itertuples())
        texts.append(f"{dataset_name(str(dataset))} {counts}")
    return f"Expressions scored: {'; '.join(texts)}."
