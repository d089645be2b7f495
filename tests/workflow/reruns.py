"""What a change makes again, from dry runs: python -m tests.workflow.reruns writes the table of docs/workflow.md."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests.workflow.running import ROOT, Workflow, checkout_copy

PAGE = ROOT / "docs/workflow.md"
START, END = "<!-- reruns: made by python -m tests.workflow.reruns -->", "<!-- end of reruns -->"
# Rules that often run again together: a row names the group if all of its rules run.
GROUPS = {
    "step 1": ["train_rec", "evaluate_rec", "table_rec"],
    "step 2": ["train_res", "train_res_full", "predict_pseudo_points"],
    "step 3": ["select_pseudo_points", "score_pseudo_points", "retrain_res", "evaluate_res"],
    "scores": ["table1", "table_details", "figure_ratio_curve", "table_failures"],
    "pictures": ["figure_examples"],
}


@dataclass(frozen=True)
class Change:
    """A change to the config or to one of the package's modules."""

    what: str
    config: dict[str, Any] = field(default_factory=dict, hash=False)
    module: str | None = None


def setting(name: str, value: Any) -> dict[str, Any]:
    """Return a config that changes the setting with this dotted key."""
    for key in reversed(name.split(".")):
        value = {key: value}
    return {"settings": value}


STRICT = {"from": "ours", "ratios": "partial", "settings": {"pseudo": {"threshold": 0.05}}}
MASK_HEAD = {"ratios": "partial", "steps": [2], "settings": {"model": {"head": "mask", "cctf": False, "pmca": False}}}
CHANGES = [
    Change("`pseudo.threshold`", setting("pseudo.threshold", 0.5)),
    Change("`points`", setting("points", 8)),
    Change("`res.epochs`", setting("res.epochs", 3)),
    Change("`retrain.learning_rate`", setting("retrain.learning_rate", 0.003)),
    Change("`rec.epochs`", setting("rec.epochs", 3)),
    Change("`pretraining.epochs`", setting("pretraining.epochs", 2)),
    Change("`evaluate.batch`", setting("evaluate.batch", 7)),
    Change("a seed more (`seeds`)", setting("seeds", 2)),
    Change("a ratio more", {"ratios": [5, 10, 100]}),
    Change("a ratio less", {"ratios": [10]}),
    Change("an experiment with `from: ours` more", {"experiments": {"strict": STRICT}}),
    Change("an experiment with `head: mask` more", {"experiments": {"mask_head": MASK_HEAD}}),
    Change("an evaluation split more", {"datasets": {"refshapes": {"splits": ["val", "testA", "testB"]}}}),
    Change("a table more (`report.table2`)", {"report": {"table2": ["baseline", "ours"]}}),
    Change("`resources`, except `predict.parts`", {"resources": {"res": {"mem_mb": 5000, "runtime": 99, "gpu": 1}}}),
    Change("`threads`", {"threads": {"res": 2}}),
    Change("`report/style.py`", module="report/style"),
    Change("`metrics.py`", module="metrics"),
    Change("`steps/pseudo.py`", module="steps/pseudo"),
    Change("`model/pointer.py`", module="model/pointer"),
    Change("`training/ema.py`", module="training/ema"),
    Change("`data/splits.py`", module="data/splits"),
    Change("`config.py`, `cli/`: settings and options reach a rule by its command", module="config"),
]


@contextmanager
def changed(path: Path) -> Iterator[None]:
    """Add a statement to a module, which runs when it is imported."""
    code, status = path.read_bytes(), path.stat()
    path.write_bytes(code + b"\nassert True\n")
    try:
        yield
    finally:
        path.write_bytes(code)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@cache
def pending(done: Workflow, change: Change) -> dict[str, set[str]]:
    """Return what a change reruns after a complete run, but for manifests, which follow every output: rule -> paths.

    Several tests ask it of one change.
    """
    if change.module:
        with changed(done.checkout / f"partialres/{change.module}.py"):
            made = done.pending()
    else:
        made = done.pending(change.config)
    return {rule: paths for rule, paths in made.items() if rule != "manifest"}


def row(change: Change, rules: set[str]) -> str:
    """Write a row of the table."""
    names = []
    for group, members in GROUPS.items():
        if rules >= {*members}:
            names.append(f"**{group}**")
            rules = rules - {*members}
    return f"| {change.what} | {' '.join([*names, *(f'`{rule}`' for rule in sorted(rules))]) or 'nothing'} |"


def table(done: Workflow) -> str:
    """Write the whole table, from a dry run for each row."""
    groups = [f"- **{group}**: {' '.join(f'`{rule}`' for rule in rules)}" for group, rules in GROUPS.items()]
    rows = [row(change, set(pending(done, change))) for change in CHANGES]
    return "\n".join([*groups, "", "| change | what runs again |", "| --- | --- |", *rows])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        done = Workflow(checkout_copy(Path(folder) / "checkout"), Path(folder) / "run")
        done.folder.mkdir()
        done()
        before, rest = PAGE.read_text().split(START)
        PAGE.write_text(f"{before}{START}\n\n{table(done)}\n\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
