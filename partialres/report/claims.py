"""Set the paper's claims beside what was measured: the paper's figure, ours with its interval, and a verdict."""

from collections.abc import Mapping
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd

from partialres.report import captions, intervals
from partialres.report.evaluations import BASELINE, MODEL, OURS, ordered
from partialres.report.intervals import Scores
from partialres.report.render import Table, arrange, number, with_interval

Which = tuple[str, str, float]  # experiment, step, ratio in per cent


class Claim(NamedTuple):
    """A claim about a gain: of one model over another, in points of mIoU, or as a share of the oracle's mIoU.

    paper: the figure that the paper reports or its tables give. expected: whether the claim is that there is a gain
    ("gain"), that there is none ("none"), or that the share is reached ("share").
    """

    text: str
    model: Which
    reference: Which
    paper: float
    expected: str = "gain"


STEP_2, STEP_3 = (OURS, "res", 1.0), (OURS, "retrain", 1.0)
PLAIN = (BASELINE, "res", 1.0)
CLAIMS = (
    Claim("CCTF alone helps step 2 at 1 %", ("cctf", "res", 1.0), PLAIN, 1.63),
    Claim("PMCA helps on top of CCTF at 1 %", STEP_2, ("cctf", "res", 1.0), 0.38),
    Claim("CCTF and PMCA together help step 2 at 1 %", STEP_2, PLAIN, 2.01),
    Claim("CCTF and PMCA help with every mask", (OURS, "res", 100.0), (BASELINE, "res", 100.0), 1.22),
    Claim("Step 3 with selected, resampled points (RPP) helps at 1 %", STEP_3, STEP_2, 2.22),
    Claim("Step 3 without resampling gains nothing", ("no_rpp", "retrain", 1.0), STEP_2, -0.31, "none"),
    Claim("Resampling helps step 3", STEP_3, ("no_rpp", "retrain", 1.0), 2.53),
    Claim("Step 3 with all pseudo masks gains nothing", ("no_selection", "retrain", 1.0), STEP_2, -0.05, "none"),
    Claim("Selection by D < 0.10 helps step 3", STEP_3, ("no_selection", "retrain", 1.0), 2.27),
    Claim("D < 0.10 is better than D < 0.05", STEP_3, ("threshold_005", "retrain", 1.0), 2.45),
    Claim("The method beats the baseline at 1 %", STEP_3, PLAIN, 3.0),
    Claim("The method beats the baseline at 5 %", (OURS, "retrain", 5.0), (BASELINE, "res", 5.0), 2.4),
    Claim("The method beats the baseline at 10 %", (OURS, "retrain", 10.0), (BASELINE, "res", 10.0), 3.5),
    Claim("With few masks, a point head beats a mask head (Figure 1)", STEP_3, ("mask_head", "res", 1.0), np.nan),
    Claim("At 1 %, 85.9 % of the oracle (mean of splits)", STEP_3, (BASELINE, "res", 100.0), 85.9, "share"),
    Claim("At 10 %, 95.2 %", (OURS, "retrain", 10.0), (BASELINE, "res", 100.0), 95.2, "share"),
)


def claims(scores: Scores) -> Table:
    """Judge each claim whose two models were run, on every data set and split.

    scores: from `intervals.read_scores`. Both models are compared on the seeds that both have. Table.data: dataset,
    split, claim, paper, value, low, high, seeds, verdict: "agrees" where the interval lies wholly on the claim's side
    of zero, "contradicted" where it lies wholly on the other, "not seen" where it holds zero. A claim of no gain agrees
    unless the interval lies wholly above zero, a share unless it lies wholly below the paper's. There may be no rows.
    """
    rows = []
    places = dict.fromkeys((dataset, split) for dataset, split, *_ in scores)
    for (dataset, split), claim in product(places, CLAIMS):
        compared = claim.model, claim.reference
        mine, theirs = (scores.get((dataset, split, ratio, name, step), {}) for name, step, ratio in compared)
        if seeds := sorted(set(mine) & set(theirs)):
            value, low, high = _measure(claim, mine, theirs, seeds)
            verdict = _verdict(claim, low, high)
            rows.append((dataset, split, claim.text, claim.paper, value, low, high, len(seeds), verdict))
    columns = [*MODEL[:2], "claim", "paper", "value", "low", "high", "seeds", "verdict"]
    data = ordered(pd.DataFrame(rows, columns=columns))
    grids = []
    for (dataset, split), part in data.groupby(["dataset", "split"], sort=False):
        cells = []
        for row in part.itertuples():
            texts = {"paper": number(row.paper), "here": with_interval(row.value, row.low, row.high).removeprefix("+")}
            cells.append(("", row.claim, "", texts | {"seeds": str(row.seeds), "verdict": row.verdict}))
        grids.append(arrange(f"{captions.dataset_name(dataset)} {split}", ("", "claim"), cells))
    notes = (
        *([] if rows else ["None of the claims is about models and ratios that were run."]),
        "Points of mIoU, or per cent of the oracle's mIoU. The paper's figures of its Tables 2 to 4 are of RefCOCOg "
        "val-u, those against the baseline and the oracle are means over its eight splits.",
        "agrees, contradicted: the whole interval is on the claim's side of zero, or on the other. not seen: it holds "
        "zero. A claim of no gain agrees unless its interval is above zero, a share unless it is below the paper's.",
        intervals.MEANING,
    )
    return Table("The paper's claims and what was measured", notes, tuple(grids), data)


def _measure(
    claim: Claim, mine: Mapping[int, pd.Series], theirs: Mapping[int, pd.Series], seeds: list[int]
) -> tuple[float, float, float]:
    """Return a gain in points or a share in per cent, and its interval; a share's takes the oracle's mean as exact."""
    first, second = (np.array([100 * each[seed] for seed in seeds]) for each in (mine, theirs))
    refs = mine[seeds[0]].index.to_numpy()
    if claim.expected != "share":
        return float((first - second).mean()), *intervals.interval(first - second, refs)
    share, unit = first.mean() / second.mean(), 100 / second.mean()
    low, high = intervals.interval(first - share * second, refs)
    return 100 * share, 100 * share + unit * low, 100 * share + unit * high


def _verdict(claim: Claim, low: float, high: float) -> str:
    if claim.expected == "share":
        return "contradicted" if high < claim.paper else "agrees"
    if claim.expected == "none":
        return "contradicted" if low > 0 else "agrees"
    return "agrees" if low > 0 else "contradicted" if high < 0 else "not seen"
