"""The commands that write tables and draw figures, each from the files it is given to one place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from partialres.cli_options import IN_DIR, IN_FILE, OUT


@click.group()
def tables() -> None:
    """Write a table as CSV, Markdown and HTML beside each other."""


@click.group()
def figures() -> None:
    """Draw a figure as PNG and PDF beside each other."""


FILES = click.argument("files", nargs=-1, required=True, type=IN_FILE)
RUNS = click.option(
    "--runs", required=True, help="The table's rows as JSON, as the workflow makes them from the config."
)
TABLE_OUT = click.option("--out", type=OUT, required=True, help="The CSV; .md and .html are written beside it.")
FIGURE_OUT = click.option("--out", type=OUT, required=True, help="The PNG; the PDF is written beside it.")


def _write_table(table: Any, out: Path) -> None:
    from partialres.report import render

    render.write(table, out, out.with_suffix(".md"), out.with_suffix(".html"))


@tables.command("main")
@FILES
@TABLE_OUT
def table_main(files: tuple[Path, ...], out: Path) -> None:
    """The paper's Table 1 from metrics.json FILES of steps 2 and 3, and the predictions.parquet beside each."""
    from partialres.report import evaluations, intervals
    from partialres.report import tables as make

    _write_table(make.table1(evaluations.collect(files), intervals.read_scores(files)), out)


def _compared(files: tuple[Path, ...], runs: str) -> tuple[Any, Any, Any]:
    """What a comparison needs: evaluations, IoU of every expression, and the rows."""
    from partialres import comparisons
    from partialres.report import evaluations, intervals

    return evaluations.collect(files), intervals.read_scores(files), comparisons.from_json(runs)


@tables.command("ablation")
@FILES
@RUNS
@TABLE_OUT
def table_ablation(files: tuple[Path, ...], runs: str, out: Path) -> None:
    """The paper's Table 2, CCTF and PMCA, from metrics.json FILES, predictions.parquet beside each."""
    from partialres.report import ablations

    _write_table(ablations.ablation(*_compared(files, runs)), out)


@tables.command("rpp")
@FILES
@RUNS
@TABLE_OUT
def table_rpp(files: tuple[Path, ...], runs: str, out: Path) -> None:
    """The paper's Table 3, resampling, from metrics.json FILES, predictions.parquet beside each."""
    from partialres.report import ablations

    _write_table(ablations.rpp(*_compared(files, runs)), out)


SELECTION = click.option("--selection", "selections", multiple=True, required=True, type=IN_FILE,
                         help="selection.json of a run of step 3; once for each.")  # fmt: skip


@tables.command("thresholds")
@FILES
@SELECTION
@RUNS
@TABLE_OUT
def table_thresholds(files: tuple[Path, ...], selections: tuple[Path, ...], runs: str, out: Path) -> None:
    """The paper's Table 4, the threshold, from metrics.json FILES, predictions.parquet beside each."""
    from partialres.report import ablations, evaluations

    scored, scores, rows = _compared(files, runs)
    _write_table(ablations.thresholds(scored, scores, evaluations.collect_pseudo(selections), rows), out)


@tables.command("extensions")
@FILES
@SELECTION
@RUNS
@TABLE_OUT
def table_extensions(files: tuple[Path, ...], selections: tuple[Path, ...], runs: str, out: Path) -> None:
    """Beyond the paper: step 3 of other experiments, from metrics.json FILES, predictions.parquet beside each."""
    from partialres.report import ablations, evaluations

    scored, scores, rows = _compared(files, runs)
    _write_table(ablations.extensions(scored, scores, evaluations.collect_pseudo(selections), rows), out)


@tables.command("failures")
@click.argument("refs", type=IN_FILE)
@FILES
@TABLE_OUT
def table_failures(refs: Path, files: tuple[Path, ...], out: Path) -> None:
    """IoU by what object and expression are like, from refs.parquet and metrics.json FILES, predictions beside each."""
    from partialres.report import failures

    _write_table(failures.table(failures.analyse(refs, files)), out)


@tables.command("data")
@FILES
@click.option(
    "--split", "splits", multiple=True, type=IN_FILE, help="A split.parquet, whose labelled refs are counted."
)
@TABLE_OUT
def table_data(files: tuple[Path, ...], splits: tuple[Path, ...], out: Path) -> None:
    """What the data sets hold, from refs.parquet FILES."""
    from partialres.report import data

    _write_table(data.table(files, splits), out)


@tables.command("details")
@FILES
@TABLE_OUT
def table_details(files: tuple[Path, ...], out: Path) -> None:
    """Every score of metrics.json FILES of steps 2 and 3."""
    from partialres.report import evaluations
    from partialres.report import tables as make

    _write_table(make.table_details(evaluations.collect(files)), out)


@tables.command("rec")
@FILES
@TABLE_OUT
def table_rec(files: tuple[Path, ...], out: Path) -> None:
    """Box accuracy from metrics.json FILES of step 1."""
    from partialres.report import evaluations
    from partialres.report import tables as make

    _write_table(make.table_rec(evaluations.collect(files)), out)


@tables.command("pseudo")
@FILES
@TABLE_OUT
def table_pseudo(files: tuple[Path, ...], out: Path) -> None:
    """How many pseudo masks were kept and how good they are, from selection.json FILES."""
    from partialres.report import evaluations
    from partialres.report import tables as make

    _write_table(make.table_pseudo(evaluations.collect_pseudo(files)), out)


@figures.command("ratio-curve")
@FILES
@FIGURE_OUT
def ratio_curve(files: tuple[Path, ...], out: Path) -> None:
    """mIoU against the mask ratio, from metrics.json FILES of steps 2 and 3."""
    from partialres.report import evaluations
    from partialres.report import figures as draw

    draw.ratio_curve(evaluations.collect(files), out, out.with_suffix(".pdf"))


@figures.command("forest")
@FILES
@FIGURE_OUT
def forest(files: tuple[Path, ...], out: Path) -> None:
    """Gains with intervals, from metrics.json FILES of one data set and split, predictions.parquet beside each."""
    from partialres.report import gains, intervals

    gains.forest(intervals.read_scores(files), out, out.with_suffix(".pdf"))


@figures.command("peer")
@FILES
@click.option("--peer", "peers", multiple=True, required=True, help="An experiment with a mask head; once for each.")
@FIGURE_OUT
def peer(files: tuple[Path, ...], peers: tuple[str, ...], out: Path) -> None:
    """The paper's Figure 1, a mask head with few masks, from metrics.json FILES of one split a data set."""
    from partialres.report import evaluations, gains

    gains.peer(evaluations.collect(files), peers, out, out.with_suffix(".pdf"))


@figures.command("failures")
@click.argument("refs", type=IN_FILE)
@FILES
@FIGURE_OUT
def failure_panels(refs: Path, files: tuple[Path, ...], out: Path) -> None:
    """IoU by what object and expression are like, from refs.parquet and metrics.json FILES, predictions beside each."""
    from partialres.report import failures

    failures.draw(failures.analyse(refs, files), out, out.with_suffix(".pdf"))


@figures.command("training")
@FILES
@FIGURE_OUT
def training_curves(files: tuple[Path, ...], out: Path) -> None:
    """Loss against step, from metrics.csv FILES beside models."""
    from partialres.report import figures as draw

    draw.training_curves(files, out, out.with_suffix(".pdf"))


@figures.command("pseudo")
@FILES
@click.option(
    "--threshold",
    "thresholds",
    type=click.FloatRange(0, 2.01),
    multiple=True,
    required=True,
    help="Where D is cut: once for all of the files, or once for each, in order.",
)
@FIGURE_OUT
def pseudo_histogram(files: tuple[Path, ...], thresholds: tuple[float, ...], out: Path) -> None:
    """How D is distributed, from points.parquet FILES."""
    from partialres.report import figures as draw

    of_files = thresholds * len(files) if len(thresholds) == 1 else thresholds
    draw.pseudo_histogram(files, of_files, out, out.with_suffix(".pdf"))


@figures.command("qualitative")
@click.argument("refs", type=IN_FILE)
@FILES
@click.option("--label", "labels", multiple=True, required=True, help="A title for each of the files, in order.")
@click.option("--image-folder", type=IN_DIR, required=True, help="Folder that the images' file names are in.")
@click.option("--count", type=click.IntRange(min=1), default=6, help="Expressions shown.")
@FIGURE_OUT
def qualitative(
    refs: Path, files: tuple[Path, ...], labels: tuple[str, ...], image_folder: Path, count: int, out: Path
) -> None:
    """Images, true masks and predictions side by side, from predictions.parquet FILES of one split."""
    from partialres.report import gallery

    if len(labels) != len(files):
        raise click.UsageError(f"{len(labels)} labels for {len(files)} files; give one --label a file")
    gallery.qualitative(refs, image_folder, list(zip(labels, files, strict=True)), out, out.with_suffix(".pdf"), count)
