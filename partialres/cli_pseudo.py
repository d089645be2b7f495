"""The commands from step 2's model to what step 3 trains on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from partialres.cli_options import CONTOUR, IN_FILE, OUT, model_inputs, running, sources_of, use_threads
from partialres.config import PredictConfig, PseudoConfig


@click.command()
@click.argument("rows", type=IN_FILE)
@click.option("--model", type=IN_FILE, required=True, help="model.safetensors of step 2.")
@click.option("--batch", type=click.IntRange(min=1), default=128, help="About so many expressions at once.")
@click.option("--guided/--no-guided", default=False, help="Restrict coordinates to the known box.")
@click.option(
    "--expressions",
    type=click.Choice(["first", "all"]),
    default="first",
    help="Decode a ref's first expression, or all and keep the contour with the lowest D.",
)
@click.option("--out", type=OUT, required=True)
@model_inputs
@running
def predict(
    rows: Path, model: Path, batch: int, guided: bool, expressions: Any, out: Path, device: str, threads: int | None,
    **sources: Any,
) -> None:  # fmt: skip
    """Pseudo points of the unlabelled refs in ROWS (split.parquet), with their D (eq. 8)."""
    from partialres import stages

    use_threads(threads)
    stages.predict(rows, sources_of(sources), model, PredictConfig(batch, guided, expressions), device, out)


@click.command()
@click.argument("points", type=IN_FILE)
@click.argument("rows", type=IN_FILE)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 2.01, min_open=True),
    default=0.10,
    help="Keep a pseudo mask whose projection dice loss D is below this (eq. 8).",
)
@click.option("--num-points", type=click.IntRange(min=3), required=True, help="Contour points N.")
@click.option("--resample/--no-resample", default=True, help="Space the N points evenly (RPP).")
@click.option("--contour", "sampling", type=CONTOUR, default="uniform", help="How kept masks are traced to points.")
@click.option(
    "--weight",
    type=click.Choice(["none", "probability"]),
    default="none",
    help="What a kept mask weighs in training: all the same, or by how sure its tokens were.",
)
@click.option("--out", type=OUT, required=True)
def select(
    points: Path, rows: Path, threshold: float, num_points: int, resample: bool, sampling: Any, weight: Any, out: Path
) -> None:
    """Keep the pseudo POINTS that agree with the boxes in ROWS, and space them evenly."""
    from partialres import pseudo
    from partialres.files import read_table, write_table

    table = read_table(points)
    sizes = read_table(rows, ["ref_id", "height", "width"])
    kept = pseudo.select(table, sizes, PseudoConfig(threshold, resample, weight), num_points, sampling)
    write_table(kept, out)
    click.echo(f"kept {len(kept)} of {len(table)} pseudo masks (D < {threshold})", err=True)


@click.command("score-pseudo")
@click.argument("points", type=IN_FILE)
@click.argument("selected", type=IN_FILE)
@click.option("--truth", type=IN_FILE, required=True, help="refs.parquet, whose masks only this report sees.")
@click.option("--out", type=OUT, required=True)
def score_pseudo(points: Path, selected: Path, truth: Path, out: Path) -> None:
    """Report how many pseudo POINTS were SELECTED and their true IoU; training never reads this."""
    from partialres import pseudo
    from partialres.files import read_table, write_json

    masks = read_table(truth, ["ref_id", "height", "width", "mask"])
    summary = pseudo.summarise(read_table(points), read_table(selected), masks)
    write_json(summary, out)
    click.echo(json.dumps(summary), err=True)
