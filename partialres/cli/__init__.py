"""The command line: each command parses its options, calls the package and writes to one place."""

from __future__ import annotations

from typing import Any

import click

from partialres import __version__
from partialres.cli import data, report, steps, use, weights
from partialres.config import ConfigError
from partialres.files import DataError, TrainingError


class Commands(click.Group):
    """Reports errors in data, settings and training without a traceback; any other error keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (DataError, ConfigError, TrainingError) as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Commands, context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Referring-expression segmentation from every box and a few masks (Partial-RES, CVPR 2023).

    \b
    The commands in the order of use (the workflow runs them all: snakemake --cores all):
      download, unpack    fetch and check the public files of the real data sets
      refshapes           generate a small data set in RefCOCO's raw layout
      prepare             raw layout -> refs.parquet and vocabulary.json
      cache-images        decode and resize every image once
      split               choose the refs that keep their masks
      pretrain-backbone   detection pre-training of the tiny backbone
      cache-features      run a frozen backbone once per image
      train-rec           step 1: boxes
      train-res           step 2: labelled masks; step 3: with --selected
      predict, select     pseudo points of the unlabelled refs
      score-pseudo        compare pseudo points with the withheld masks
      evaluate            predictions and scores of a split
      import-weights      released checkpoint -> model; export-weights: the reverse
      tables, figures     the report of the results
      segment             a trained model on your own pictures
      attention           where a model looks as it decodes, as a figure or a GIF
      demo                a page to try models on
      export-coco         predictions as COCO results
      export-card         a model and its card, as the Hugging Face hub has them
    """


for command in (
    data.download, data.unpack, data.refshapes, data.prepare, data.cache_images, data.split,
    steps.pretrain_backbone, steps.cache_features, steps.train_rec, steps.train_res,
    steps.predict, steps.select, steps.score_pseudo, steps.evaluate,
    weights.import_weights, weights.export_weights, report.tables, report.figures,
    use.segment, use.attention, use.demo, use.export_coco, use.export_card,
):  # fmt: skip
    main.add_command(command)
