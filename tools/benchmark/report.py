"""Write the benchmark's figures as JSON, as a table and as a picture of how cost grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure

from partialres.files import progress, say, write_json
from partialres.report import render, style
from tools.benchmark.cases import CASES, Sizes, exponents, growth, stages
from tools.benchmark.measure import machine
from tools.benchmark.variants import EAGER, VARIANTS, variants


def run(sizes: Sizes, repeats: int, out: Path) -> None:
    """Measure everything and write benchmark.json, benchmark.{csv,md,html} and growth.{png,pdf} below `out`."""
    about = machine()
    cases = []
    for make in progress(CASES, "benchmark"):
        cases.append(make(sizes).measured(repeats))
        row = cases[-1]
        say(f"{row['case']}: {row['seconds']:.4g} s a {row['unit']}, {row['ratio']:.1f} times as fast as done plainly")
    parts = stages(sizes)
    for part in parts:
        part["share_of_peak"] = part["flops"] / part["seconds"] / (about["matmul_gflops"] * 1e9)
    grown = growth(sizes)
    on_gpu = torch.cuda.is_available()  # on a CPU compiling takes minutes and gains nothing (docs/performance.md)
    kinds = variants(sizes, VARIANTS if on_gpu else EAGER, repeats)
    measured = {
        "machine": about,
        "cases": cases,
        "stages": parts,
        "variants": kinds,
        "growth": grown,
        "exponents": exponents(grown),
    }
    write_json(measured, out / "benchmark.json")
    render.write(table(about, cases, parts, kinds), out / "benchmark.csv")
    with style.applied():
        style.save(_growth_figure(grown), out / "growth.png")


def table(
    about: dict[str, Any], cases: list[dict[str, Any]], parts: list[dict[str, Any]], kinds: list[dict[str, Any]]
) -> render.Table:
    """Make tables of the cases compared with plain code, of evaluation's parts, and of numbers' types and compiling."""
    notes = (
        ", ".join(f"{name} {value}" for name, value in about.items()),
        "Medians of several runs after one to warm up; spread: slowest less fastest, over the median. plain: the same "
        "work with the whole model run once an expression, the whole prefix once a token, full-size masks, all pairs.",
        "share of peak: FLOPs a second over those of a large float32 matrix product on this machine.",
    )
    compared = render.Grid(
        "Against plain implementations",
        ("", "case"),
        tuple(("", name) for name in ("ms", "plain ms", "ratio", "spread", "aim", "largest difference")),
        {
            (row["unit"], row["case"]): (
                f"{1e3 * row['seconds']:.3g}", f"{1e3 * row['plain_seconds']:.3g}", f"{row['ratio']:.1f}",
                f"{row['spread']:.0%}, {row['plain_spread']:.0%}", row["aim"], f"{row['difference']:.2g}",
            )
            for row in cases
        },
    )  # fmt: skip
    spent = render.Grid(
        "Where evaluation spends its time",
        ("", "part"),
        tuple(("", name) for name in ("ms", "GFLOP", "share of peak")),
        {
            (row["unit"], row["part"]): (
                f"{1e3 * row['seconds']:.3g}", f"{row['flops'] / 1e9:.3g}", f"{row['share_of_peak']:.0%}",
            )
            for row in parts
        },
    )  # fmt: skip
    chosen = render.Grid(
        "Types of numbers, eager and compiled",
        ("", "case"),
        tuple(("", name) for name in ("units a second", "ms", "share of peak", "GPU memory, MB", "largest difference")),
        {
            (row["unit"], f"{row['case']}, {row['numbers']}, {'compiled' if row['compiled'] else 'eager'}"): (
                f"{1 / row['seconds']:.3g}", f"{1e3 * row['seconds']:.3g}", f"{row['share_of_peak']:.0%}",
                f"{row['memory'] / 1e6:.0f}" if row["memory"] is not None else "", f"{row['difference']:.2g}",
            )
            for row in kinds
        },
    )  # fmt: skip
    return render.Table("Benchmark", notes, (compared, spent, chosen), pd.DataFrame(cases))


def _growth_figure(grown: list[dict[str, Any]]) -> Figure:
    """Draw seconds against how much work there is, both over those of the least work, and each line's exponent."""
    figure = Figure(figsize=(4.6, 3.4))
    axes, powers = figure.subplots(), exponents(grown)
    for (name, rows), marker in zip(pd.DataFrame(grown).groupby("along", sort=False), "osv^D", strict=True):
        label = f"{name}, from {rows['value'].iloc[0]}: exponent {powers[str(name)]:.2f}"
        axes.plot(
            rows["value"] / rows["value"].iloc[0], rows["seconds"] / rows["seconds"].iloc[0], marker=marker, label=label
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xlabel("work, times the least")
    axes.set_ylabel("seconds, times the least")
    axes.legend(fontsize="small")
    figure.tight_layout()
    return figure
