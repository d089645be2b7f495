"""Measure how fast the steps are on this machine: python -m tools.benchmark --out FOLDER"""

from __future__ import annotations

from pathlib import Path

import click

from partialres.cli.options import OUT, Section
from partialres.config import ModelConfig


@click.command()
@click.option("--model", type=Section(ModelConfig), default="{}", help="Model section [default: the paper's sizes].")
@click.option("--image-size", type=click.IntRange(min=32), default=640, help="Side of the images, pixels.")
@click.option("--points", type=click.IntRange(min=3), default=18, help="Contour points N.")
@click.option("--predictions", type=click.IntRange(min=1), default=42_404, help="Pseudo masks to select from.")
@click.option("--pairs", type=click.IntRange(min=1), default=10_000, help="Pairs of masks to score.")
@click.option("--repeats", type=click.IntRange(min=1), default=3, help="Runs, after one to warm up.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads [default: all].")
@click.option("--out", type=OUT, required=True, help="Folder for benchmark.{json,csv,md,html}, growth.{png,pdf}.")
def benchmark(
    model: ModelConfig, image_size: int, points: int, predictions: int, pairs: int, repeats: int, threads: int | None,
    out: Path,
) -> None:  # fmt: skip
    """Measure evaluation, decoding, training, selection and scoring against plain implementations of the same work.

    Takes about five minutes at the paper's sizes on two CPU cores. Slow times are reported, not treated as errors.
    """
    import torch

    from tools.benchmark.cases import Sizes
    from tools.benchmark.report import run

    if threads:
        torch.set_num_threads(threads)
    few = {"plain_predictions": min(500, predictions), "plain_pairs": min(1_000, pairs)}
    sizes = Sizes(model, image_size=image_size, points=points, predictions=predictions, pairs=pairs, **few)
    run(sizes, repeats, out)


if __name__ == "__main__":
    benchmark()
