"""Commands that write tables and draw figures, each from the result files named on the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from partialres.cli.options import IN_DIR, IN_FILE, OUT, options


@click.group()
def tables() -> None:
    """Write a table as CSV, Markdown and HTML, side by side."""


@click.group()
def figures() -> None:
    """Draw a figure as PNG and PDF, side by side."""


Files = tuple[Path, ...]
FILES = click.argument("files", nargs=-1, required=True, type=IN_FILE)
REFS = click.argument("refs", type=IN_FILE)
ORACLE = click.option("--oracle", default="", help="Experiment whose step 2 at ratio 100 is the oracle, if any.")
TABLE_OUT = click.option("--out", type=OUT, required=True, help="The CSV; .md and .html are written beside it.")
FIGURE_OUT = click.option("--out", type=OUT, required=True, help="The PNG; the PDF is written beside it.")


def command(group: click.Group, name: str, *parameters: Callable[[Any], Any]) -> Callable[[Any], click.Command]:
    """Declare a command of the group with these arguments and options, in this order."""
    return lambda function: group.command(name)(options(*parameters)(function))


@click.command()
@FILES
@click.option("--out", type=OUT, required=True, help="The file to write, in the form that sha256sum --check reads.")
def manifest(files: Files, out: Path) -> None:
    """Write the SHA-256 of each of the FILES, so that two runs can be compared."""
    from partialres.files import sha256, write_text

    write_text("".join(f"{sha256(path)}  {path}\n" for path in files), out)


@command(tables, "main", FILES, ORACLE, TABLE_OUT)
def table_main(files: Files, oracle: str, out: Path) -> None:
    """Write the paper's Table 1. FILES: metrics.json of steps 2 and 3, each with its predictions.parquet beside it."""
    from partialres.report import comparison, evaluations, intervals, render

    render.write(comparison.table1(evaluations.collect(files), intervals.read_scores(files), oracle), out)


@command(tables, "claims", FILES, TABLE_OUT)
def table_claims(files: Files, out: Path) -> None:
    """Set the paper's claims beside what was measured, from metrics.json FILES, predictions.parquet beside each."""
    from partialres.report import claims, intervals, render

    render.write(claims.claims(intervals.read_scores(files)), out)


ROWS = click.option("--row", "rows", multiple=True, required=True, type=(str, click.Choice(["res", "retrain"])),
                    metavar="EXPERIMENT STEP",
                    help="A model to show; repeat for more, in order. Gains are over the first.")  # fmt: skip
SELECTIONS = click.option("--selection", "selections", multiple=True, type=IN_FILE,
                          help="selection.json of a step 3, to show its pseudo masks; repeat for more.")  # fmt: skip
TITLE = click.option("--title", required=True, help="Title of the table.")


@command(tables, "comparison", FILES, ROWS, SELECTIONS, ORACLE, TITLE, TABLE_OUT)
def table_comparison(
    files: Files, rows: tuple[tuple[str, str], ...], selections: Files, oracle: str, title: str, out: Path
) -> None:
    """Compare models, with gains. FILES: metrics.json files, each with its predictions.parquet beside it.

    This makes the paper's Tables 2 to 4 and the table of extensions. A ratio shows only the models that ran at it.
    """
    from partialres.report import comparison, evaluations, intervals, render

    scored, scores = evaluations.collect(files), intervals.read_scores(files)
    kept = evaluations.collect_selections(selections) if selections else None
    render.write(comparison.comparison(title, scored, scores, rows, oracle, kept), out)


FIGURE = click.option("--figure", type=OUT, required=True, help="The PNG of the figure; the PDF is written beside it.")


@command(tables, "failures", REFS, FILES, ORACLE, TABLE_OUT, FIGURE)
def table_failures(refs: Path, files: Files, oracle: str, out: Path, figure: Path) -> None:
    """Break IoU down by properties of object and expression, as a table and a figure.

    FILES: metrics.json files, each with its predictions.parquet beside it. REFS: the refs.parquet they were scored on.
    """
    from partialres.report import failures, render, style

    data = failures.analyse(refs, files, oracle)
    render.write(failures.table(data), out)
    style.save(failures.draw(data), figure)


SPLITS = click.option("--split", "splits", multiple=True, type=IN_FILE, help="split.parquet, to count labelled refs.")


@command(tables, "data", FILES, SPLITS, TABLE_OUT)
def table_data(files: Files, splits: Files, out: Path) -> None:
    """Count the images, refs and expressions of each data set, from refs.parquet FILES."""
    from partialres.report import listings, render

    render.write(listings.data(files, splits), out)


@command(tables, "details", FILES, ORACLE, TABLE_OUT)
def table_details(files: Files, oracle: str, out: Path) -> None:
    """List every score in metrics.json FILES of steps 2 and 3."""
    from partialres.report import evaluations, listings, render

    render.write(listings.details(evaluations.collect(files), oracle), out)


@command(tables, "rec", FILES, TABLE_OUT)
def table_rec(files: Files, out: Path) -> None:
    """Show box accuracy, from metrics.json FILES of step 1."""
    from partialres.report import evaluations, listings, render

    render.write(listings.rec(evaluations.collect(files)), out)


@command(tables, "pseudo", FILES, TABLE_OUT)
def table_pseudo(files: Files, out: Path) -> None:
    """Show how many pseudo masks were kept and their true IoU, from selection.json FILES."""
    from partialres.report import evaluations, listings, render

    render.write(listings.pseudo(evaluations.collect_selections(files)), out)


@command(figures, "ratio-curve", FILES, ORACLE, FIGURE_OUT)
def ratio_curve(files: Files, oracle: str, out: Path) -> None:
    """Draw mIoU against the mask ratio, from metrics.json FILES of steps 2 and 3."""
    from partialres.report import curves, evaluations, style

    style.save(curves.ratio_curve(evaluations.collect(files), oracle), out)


HEADS = click.option("--head", "names", multiple=True, required=True,
                     help="An experiment to draw beside the baseline and ours; repeat for more.")  # fmt: skip


@command(figures, "heads", FILES, HEADS, ORACLE, FIGURE_OUT)
def heads(files: Files, names: tuple[str, ...], oracle: str, out: Path) -> None:
    """Draw the paper's Figure 1, how a mask head copes with few masks. FILES: metrics.json, one split per data set."""
    from partialres.report import curves, evaluations, style

    style.save(curves.heads(evaluations.collect(files), names, oracle), out)


@command(figures, "training", FILES, FIGURE_OUT)
def training_curves(files: Files, out: Path) -> None:
    """Draw the training loss against the optimiser step, from the metrics.csv FILES that lie beside models."""
    from partialres.report import curves, style

    style.save(curves.training_curves(files), out)


THRESHOLDS = click.option("--threshold", "thresholds", type=click.FloatRange(0, 2.01), multiple=True, required=True,
                          help="Threshold of D; one for each file, in the same order.")  # fmt: skip


@command(figures, "pseudo", FILES, THRESHOLDS, FIGURE_OUT)
def pseudo_histogram(files: Files, thresholds: tuple[float, ...], out: Path) -> None:
    """Draw the distribution of D, from points.parquet FILES."""
    from partialres.report import curves, style

    style.save(curves.pseudo_histogram(files, thresholds), out)


LABELS = click.option("--label", "labels", multiple=True, required=True, help="A title for each of FILES, in order.")
IMAGES = click.option("--image-folder", type=IN_DIR, required=True, help="Folder to which file names are relative.")


@command(figures, "qualitative", REFS, FILES, LABELS, IMAGES, FIGURE_OUT)
def qualitative(refs: Path, files: Files, labels: tuple[str, ...], image_folder: Path, out: Path) -> None:
    """Draw images, true masks and predictions side by side, from predictions.parquet FILES of one split."""
    from partialres.report import gallery, style

    if len(labels) != len(files):
        raise click.UsageError(f"{len(labels)} labels for {len(files)} files; give one --label per file")
    style.save(gallery.qualitative(refs, image_folder, list(zip(labels, files, strict=True))), out)
