"""Which runs of a config each comparison of the report sets side by side, by what their settings are.

The workflow asks these functions for a table's rows, makes the rows' files, and hands the rows to the command that
writes the table, as JSON. The baseline, ours, the oracle and ours_plus are known by their names, all others are told
apart by the settings in which they differ from ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from partialres import experiments as ex
from partialres.files import DataError

BASELINE, OURS, ORACLE, OURS_PLUS = *ex.PAPER, "ours_plus"
COMPONENTS, RESAMPLE, THRESHOLD = ("model.cctf", "model.pmca"), "pseudo.resample", "pseudo.threshold"
Config = Mapping[str, Any]


@dataclass(frozen=True)
class Compared:
    """A row of a comparison: one step of an experiment at a ratio (per cent) of a data set.

    values: the settings that the comparison is about, by their dotted keys; empty of a row that has none of its own.
    reference: whether the other rows of its data set and ratio are compared with this one.
    """

    dataset: str
    ratio: float
    experiment: str
    step: str  # res or retrain
    values: Mapping[str, Any]
    reference: bool = False


def to_json(rows: Iterable[Compared]) -> str:
    """The rows as JSON text, for a command line."""
    return json.dumps([asdict(row) for row in rows])


def from_json(text: str) -> list[Compared]:
    """The rows of `to_json`; raises DataError that names the row and what is wrong with it."""
    try:
        entries = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"the compared runs are not JSON ({error})") from error
    names = {field.name for field in fields(Compared)}
    rows = []
    for place, entry in enumerate(entries if isinstance(entries, list) else [entries]):
        if not isinstance(entry, dict) or set(entry) != names:
            raise DataError(f"compared run {place}: needs exactly {', '.join(sorted(names))}, not {entry!r}")
        rows.append(Compared(**{**entry, "ratio": float(entry["ratio"])}))
    return rows


def ablation(config: Config) -> list[Compared]:
    """Table 2: step 2 with and without CCTF and PMCA; none unless one of the two was tried alone."""
    rows = []
    for dataset, ratio in _places(config):
        found = ex.variants(config, dataset, ratio, COMPONENTS, "res")
        order = sorted(found, key=lambda name: tuple(found[name].values()))
        rows += [
            Compared(dataset, ratio, name, "res", found[name], not any(found[name].values()))
            for name in order
            if len(found) > 1
        ]
    alone = any(len(set(row.values.values())) > 1 for row in rows)
    return rows if alone else []


def resampling(config: Config) -> list[Compared]:
    """Table 3: step 2, step 3 on the kept contours as predicted, and step 3 on resampled ones (RPP)."""
    return list(_of_step_3(config, RESAMPLE, descending=False))


def thresholds(config: Config) -> list[Compared]:
    """Table 4: step 2, and step 3 by the threshold T below which D keeps a pseudo mask, from lax to strict."""
    return list(_of_step_3(config, THRESHOLD, descending=True))


def _of_step_3(config: Config, key: str, descending: bool) -> Iterator[Compared]:
    """Step 2 as reference and the variants of step 3 in one key, where there are several."""
    for dataset, ratio in _places(config):
        found = ex.variants(config, dataset, ratio, [key], "retrain")
        if len(found) > 1:
            yield Compared(dataset, ratio, ex.owner(config, dataset, OURS, ratio, "res"), "res", {}, True)
            for name in sorted(found, key=lambda name: found[name][key], reverse=descending):
                yield Compared(dataset, ratio, name, "retrain", found[name])


def extensions(config: Config) -> list[Compared]:
    """Beyond the paper: step 3 of experiments that differ from `ours` in more than the paper's own ablations do."""
    rows = []
    for dataset, ratio in _places(config):
        paper = ex.variants(config, dataset, ratio, [*COMPONENTS, RESAMPLE, THRESHOLD], "retrain")
        others = [name for name in config["experiments"] if name not in paper and _owns(config, dataset, ratio, name)]
        if OURS in config["experiments"] and _runs(config, dataset, ratio, OURS, "retrain") and others:
            reference = ex.owner(config, dataset, OURS, ratio, "retrain")
            rows.append(Compared(dataset, ratio, reference, "retrain", {}, True))
            rows += [Compared(dataset, ratio, name, "retrain", {}) for name in others]
    return rows


def peers(config: Config) -> list[Compared]:
    """Figure 1: step 2 of experiments with a mask head, at every ratio that they run at."""
    return [
        Compared(dataset, ratio, name, "res", {})
        for dataset, ratio in _places(config)
        for name in config["experiments"]
        if _runs(config, dataset, ratio, name, "res")
        if ex.head(config, dataset, name) == "mask"
    ]


def oracles(config: Config) -> list[Compared]:
    """Step 2 with every mask, of every data set where the oracle runs."""
    return [
        Compared(dataset, 100.0, ex.owner(config, dataset, ORACLE, 100.0, "res"), "res", {})
        for dataset in config["datasets"]
        if _runs(config, dataset, 100, ORACLE, "res")
    ]


def gains(config: Config, dataset: str) -> list[float]:
    """The ratios of a data set at which the baseline and anything else run, so that there are gains to show."""
    return [
        ratio
        for place, ratio in _places(config)
        if place == dataset and _runs(config, dataset, ratio, BASELINE, "res")
        if any(name != BASELINE and ratio in ex.ratios_of(config, dataset, name) for name in config["experiments"])
    ]


def steps(config: Config, dataset: str) -> list[Compared]:
    """Figure 5: at the least ratio, the baseline, ours after step 2 and ours after step 3; none if one was not run."""
    wanted = [(BASELINE, "res"), (OURS, "res"), (OURS, "retrain")]
    rows = _present(config, dataset, wanted)
    return rows if len(rows) == len(wanted) else []


def failures(config: Config, dataset: str) -> list[Compared]:
    """At the least ratio the last steps of the baseline, ours and ours_plus, and the oracle with every mask.

    None without the baseline and ours.
    """
    wanted = [(BASELINE, "res"), (OURS, _last(config, OURS)), (OURS_PLUS, _last(config, OURS_PLUS))]
    rows = _present(config, dataset, wanted)
    if len(rows) < 2:
        return []
    return rows + [row for row in oracles(config) if row.dataset == dataset]


def _present(config: Config, dataset: str, wanted: Sequence[tuple[str, str]]) -> list[Compared]:
    """Those of (experiment, step) that were run, at the least ratio of `ours`, under the names of their owners."""
    least = float(min(ex.ratios_of(config, dataset, OURS), default=100)) if OURS in config["experiments"] else 100.0
    return [
        Compared(dataset, least, ex.owner(config, dataset, name, least, step), step, {})
        for name, step in wanted
        if _runs(config, dataset, least, name, step)
    ]


def _last(config: Config, experiment: str) -> str:
    there = experiment in config["experiments"]
    return "retrain" if there and ex.reaches(config, experiment, "retrain") else "res"


def _places(config: Config) -> Iterator[tuple[str, float]]:
    """Every data set with each of its ratios."""
    for dataset, entry in config["datasets"].items():
        for ratio in entry.get("ratios", config["ratios"]):
            yield dataset, float(ratio)


def _runs(config: Config, dataset: str, ratio: float, experiment: str, step: str) -> bool:
    """Whether an experiment comes to a step's model, and that is scored."""
    there = experiment in config["experiments"] and ratio in ex.ratios_of(config, dataset, experiment)
    return there and ex.reaches(config, experiment, step) and ex.scored(config, dataset, experiment, ratio, step)


def _owns(config: Config, dataset: str, ratio: float, experiment: str) -> bool:
    """Whether an experiment has a step 3 of its own."""
    return (
        _runs(config, dataset, ratio, experiment, "retrain")
        and ex.owner(config, dataset, experiment, ratio, "retrain") == experiment
    )
