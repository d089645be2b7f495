"""Write the first page of the workflow's report: what ran, on which data and code, for how long, and three scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from partialres.files import read_json
from partialres.report import captions
from partialres.report.evaluations import BASELINE, OURS, where
from partialres.report.render import number, with_interval


def lines(
    experiments: Mapping[str, Sequence[float]], oracle: str, data: Path, splits: Mapping[str, Sequence[str]],
    provenance: Path, benchmarks: Sequence[Path], table1: Path | None,
) -> list[str]:  # fmt: skip
    """Return the page's lines as reStructuredText list items.

    experiments: each one's ratios, per cent. oracle: the experiment whose step 2 at ratio 100 is the oracle; empty for
    none. data: data.csv, which counts refs and images. splits: each data set's
    evaluated splits. provenance: a model's provenance.json. benchmarks: the jobs' benchmark files. table1: table1.csv,
    or None.
    """
    ran = [
        f"{name} at {', '.join(f'{ratio:g}' for ratio in ratios)} %{' (oracle)' * (name == oracle and 100 in ratios)}"
        for name, ratios in experiments.items()
    ]
    texts = [f"**What ran**, by share of masks: {'; '.join(ran)}."]
    texts += [_of_data(data, name, each) for name, each in splits.items()]
    texts += [_of_code(provenance), _of_time(benchmarks)]
    texts += [_scores(table1)] if table1 else []
    return [f"- {text}" for text in texts]


def _of_data(path: Path, dataset: str, splits: Sequence[str]) -> str:
    rows = where(pd.read_csv(path), dataset=dataset, split="train")
    counts = rows.set_index("figure")["value"]
    return (
        f"**Data**: {captions.dataset_name(dataset)}: {counts['images']:,.0f} training images, {counts['refs']:,.0f} "
        f"training refs; scored on {', '.join(splits)}."
    )


def _of_code(path: Path) -> str:
    record = read_json(path)
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return f"**Code**: commit {record['commit']}, {versions}; trained on {record['device']}."


def _of_time(benchmarks: Sequence[Path]) -> str:
    minutes = sum(pd.read_csv(path, sep="\t")["s"].sum() for path in benchmarks) / 60
    text = f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
    return f"**Time**: {len(benchmarks)} jobs ran for {text} in all; jobs that ran side by side are added up."


def _scores(path: Path) -> str:
    """Name the three main scores: baseline, ours and oracle, on the first split at the lowest ratio."""
    table = where(pd.read_csv(path), metric="mIoU")
    first = where(table, dataset=table["dataset"].iloc[0], split=table["split"].iloc[0])
    low = where(first, ratio=first["ratio"].min())
    baseline, ours = (where(low, experiment=name).iloc[-1] for name in (BASELINE, OURS))
    gain = with_interval(ours["gain"], ours["gain_low"], ours["gain_high"])
    parts = [f"{baseline['label']} **{number(baseline['mean'], 1)}**"]
    parts += [f"{ours['label']} **{number(ours['mean'], 1)}** (gain {gain})"]
    oracle = first[first["label"] == "Oracle"]
    parts += [f"with every mask (oracle) **{number(oracle['mean'].iloc[0], 1)}**"] if len(oracle) else []
    place = f"{captions.dataset_name(ours['dataset'])} {ours['split']} with {ours['ratio']:g} % of the masks"
    return f"**mIoU on {place}**: {'; '.join(parts)}."
