"""Write tables and draw figures, each from the files that the command is given to one place."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from partialres.cli.options import IN_DIR, IN_FILE, OUT, options


class _Report:
    """The modules of the report, each loaded when it is first used: plotting libraries take long to load."""

    def __getattr__(self, name: str) -> Any:
        return import_module(f"partialres.report.{name}")


report = _Report()
Files = tuple[Path, ...]
FILES = click.argument("files", nargs=-1, required=True, type=IN_FILE)
REFS = click.argument("refs", type=IN_FILE)
ORACLE = click.option("--oracle", default="", help="Experiment whose step 2 with every mask is the oracle, if any is.")


@click.group()
def tables() -> None:
    """Write a table as CSV, Markdown and HTML beside each other."""


@click.group()
def figures() -> None:
    """Draw a figure as PNG and PDF beside each other."""


def command(group: click.Group, name: str, *parameters: Callable[[Any], Any]) -> Callable[[Any], click.Command]:
    """Declare a command with these arguments and options, in order, that writes what the function makes to --out."""
    beside = "The CSV; .md and .html are" if group is tables else "The PNG; the PDF is"
    out_option = click.option("--out", type=OUT, required=True, help=f"{beside} written beside it.")

    def declare(make: Callable[..., Any]) -> click.Command:
        @wraps(make)
        def run(out: Path, **given: Any) -> None:
            save = report.render.write if group is tables else report.style.save
            save(make(**given), out)

        return group.command(name)(options(*parameters, out_option)(run))

    return declare


class ModelName(click.ParamType):
    """Read EXPERIMENT/STEP, with step res or retrain, as the tuple of both."""

    name = "experiment/step"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        experiment, _, step = value.rpartition("/")
        if not experiment or step not in ("res", "retrain"):
            self.fail(f"{value}: not EXPERIMENT/res or EXPERIMENT/retrain", param, ctx)
        return experiment, step


@command(tables, "main", FILES, ORACLE)
def table_main(files: Files, oracle: str) -> Any:
    """Write the paper's Table 1 from metrics.json FILES of steps 2 and 3, predictions.parquet beside each."""
    return report.comparison.table1(report.evaluations.collect(files), report.intervals.read_scores(files), oracle)


ROWS = click.option("--row", "rows", multiple=True, required=True, type=ModelName(),
                    help="A model, once for each, in order. Gains are over the first.")  # fmt: skip
SELECTIONS = click.option("--selection", "selections", multiple=True, type=IN_FILE,
                          help="selection.json of a step 3, to show what it was given; once for each.")  # fmt: skip
TITLE = click.option("--title", required=True, help="What the table shows.")


@command(tables, "comparison", FILES, ROWS, SELECTIONS, ORACLE, TITLE)
def table_comparison(files: Files, rows: tuple[tuple[str, str], ...], selections: Files, oracle: str, title: str) -> Any:
    """Set models beside each other, with gains, from metrics.json FILES, predictions.parquet beside each.

    For the paper's Tables 2 to 4 and what goes beyond the paper. At each ratio only the rows that were run are shown.
    """
    scored, scores = report.evaluations.collect(files), report.intervals.read_scores(files)
    kept = report.evaluations.collect_selections(selections) if selections else None
    return report.comparison.comparison(title, scored, scores, rows, oracle, kept)


@command(tables, "failures", REFS, FILES)
def table_failures(refs: Path, files: Files) -> Any:
    """Show IoU by what object and expression are like, from REFS and metrics.json FILES, predictions beside each."""
    return report.failures.table(report.failures.analyse(refs, files))


SPLITS = click.option("--split", "splits", multiple=True, type=IN_FILE, help="split.parquet, to count labelled refs.")


@command(tables, "data", FILES, SPLITS)
def table_data(files: Files, splits: Files) -> Any:
    """Count what the data sets hold, from refs.parquet FILES."""
    return report.listings.data(files, splits)


@command(tables, "details", FILES)
def table_details(files: Files) -> Any:
    """List every score of metrics.json FILES of steps 2 and 3."""
    return report.listings.details(report.evaluations.collect(files))


@command(tables, "rec", FILES)
def table_rec(files: Files) -> Any:
    """Show box accuracy, from metrics.json FILES of step 1."""
    return report.listings.rec(report.evaluations.collect(files))


@command(tables, "pseudo", FILES)
def table_pseudo(files: Files) -> Any:
    """Show how many pseudo masks were kept and how good they are, from selection.json FILES."""
    return report.listings.pseudo(report.evaluations.collect_selections(files))


@command(figures, "ratio-curve", FILES, ORACLE)
def ratio_curve(files: Files, oracle: str) -> Any:
    """Draw mIoU against the mask ratio, from metrics.json FILES of steps 2 and 3."""
    return report.curves.ratio_curve(report.evaluations.collect(files), oracle)


@command(figures, "forest", FILES)
def forest(files: Files) -> Any:
    """Draw gains with intervals, from metrics.json FILES of one data set and split, predictions beside each."""
    return report.gains.forest(report.intervals.read_scores(files))


HEADS = click.option("--head", "names", multiple=True, required=True,
                     help="An experiment to draw beside the baseline and ours; once for each.")  # fmt: skip


@command(figures, "heads", FILES, HEADS, ORACLE)
def heads(files: Files, names: tuple[str, ...], oracle: str) -> Any:
    """Draw the paper's Figure 1, a mask head with few masks, from metrics.json FILES of one split a data set."""
    return report.curves.heads(report.evaluations.collect(files), names, oracle)


@command(figures, "failures", REFS, FILES)
def failure_panels(refs: Path, files: Files) -> Any:
    """Draw IoU by what object and expression are like, from REFS and metrics.json FILES, predictions beside each."""
    return report.failures.draw(report.failures.analyse(refs, files))


@command(figures, "training", FILES)
def training_curves(files: Files) -> Any:
    """Draw loss against step, from metrics.csv FILES beside models."""
    return report.curves.training_curves(files)


THRESHOLDS = click.option("--threshold", "thresholds", type=click.FloatRange(0, 2.01), multiple=True, required=True,
                          help="Where D is cut; once for each of the files, in order.")  # fmt: skip


@command(figures, "pseudo", FILES, THRESHOLDS)
def pseudo_histogram(files: Files, thresholds: tuple[float, ...]) -> Any:
    """Draw how D is distributed, from points.parquet FILES."""
    return report.curves.pseudo_histogram(files, thresholds)


LABELS = click.option("--label", "labels", multiple=True, required=True, help="A title for each of FILES, in order.")
IMAGES = click.option("--image-folder", type=IN_DIR, required=True, help="Folder that the images' file names are in.")


@command(figures, "qualitative", REFS, FILES, LABELS, IMAGES)
def qualitative(refs: Path, files: Files, labels: tuple[str, ...], image_folder: Path) -> Any:
    """Draw images, true masks and predictions side by side, from predictions.parquet FILES of one split."""
    if len(labels) != len(files):
        raise click.UsageError(f"{len(labels)} labels for {len(files)} files; give one --label a file")
    return report.gallery.qualitative(refs, image_folder, list(zip(labels, files, strict=True)))
