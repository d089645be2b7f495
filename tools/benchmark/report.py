"""The benchmark's figures as JSON, as a table and as a picture of how cost grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from partialres.files import progress, say, write_json
from partialres.report import render, style
from tools.benchmark.cases import CASES, Sizes, growth, stages
from tools.benchmark.measure import machine


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
    write_json({"machine": about, "cases": cases, "stages": parts, "growth": grown}, out / "benchmark.json")
    render.write(table(about, cases, parts), out / "benchmark.csv")
    with style.applied():
        style.save(_growth_figure(pd.DataFrame(grown)), out / "growth.png")


def table(about: dict[str, Any], cases: list[dict[str, Any]], parts: list[dict[str, Any]]) -> render.Table:
    """Tables of the cases compared with plain code, and of the parts of evaluation with their share of the peak."""
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
        tuple(
            render.Row(
                row["unit"],
                row["case"],
                (
                    f"{1e3 * row['seconds']:.3g}", f"{1e3 * row['plain_seconds']:.3g}", f"{row['ratio']:.1f}",
                    f"{row['spread']:.0%}, {row['plain_spread']:.0%}", row["aim"], f"{row['difference']:.2g}",
                ),
            )
            for row in cases
        ),
    )  # fmt: skip
    spent = render.Grid(
        "Where evaluation spends its time",
        ("", "part"),
        tuple(("", name) for name in ("ms", "GFLOP", "share of peak")),
        tuple(
            render.Row(
                row["unit"],
                row["part"],
                (f"{1e3 * row['seconds']:.3g}", f"{row['flops'] / 1e9:.3g}", f"{row['share_of_peak']:.0%}"),
            )
            for row in parts
        ),
    )
    return render.Table("Benchmark", notes, (compared, spent), pd.DataFrame(cases))


def _growth_figure(grown: pd.DataFrame) -> Figure:
    """Seconds and megabytes by number of images (4 expressions each), and by expressions for each of 2 images."""
    figure = Figure(figsize=(6.8, 2.9))
    left, right = figure.subplots(1, 2)
    panels = (
        (left, "images", "expressions", 4, "images, 4 expressions each"),
        (right, "expressions", "images", 2, "expressions an image, 2 images"),
    )
    for axes, along, fixed, value, label in panels:
        rows = grown[grown[fixed] == value].sort_values(along)
        axes.plot(rows[along], rows["seconds"], marker="o", color=style.FINAL)
        beside = axes.twinx()
        beside.plot(rows[along], rows["bytes"] / 1e6, marker="s", color=style.STEP_2, linestyle="--")
        axes.set_xlabel(label)
        axes.set_xticks(rows[along].tolist())
        axes.set_xlim(0, rows[along].max() * 1.1)
        axes.set_ylim(0)
        beside.set_ylim(0)
        axes.set_ylabel("seconds (line)", color=style.FINAL)
        beside.set_ylabel("MB held (dashes)", color=style.STEP_2)
    figure.tight_layout()
    return figure
