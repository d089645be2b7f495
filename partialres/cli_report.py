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
TABLE_OUT = click.option("--out", type=OUT, required=True, help="The CSV; .md and .html are written beside it.")
FIGURE_OUT = click.option("--out", type=OUT, required=True, help="The PNG; the PDF is written beside it.")


def _write_table(table: Any, out: Path) -> None:
    from partialres.report import render

    render.write(table, out, out.with_suffix(".md"), out.with_suffix(".html"))


@tables.command("main")
@FILES
@TABLE_OUT
def table_main(files: tuple[Path, ...], out: Path) -> None:
    """The paper's Table 1 from metrics.json FILES of steps 2 and 3."""
    from partialres.report import evaluations
    from partialres.report import tables as make

    _write_table(make.table1(evaluations.collect(files)), out)


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


@figures.command("training")
@FILES
@FIGURE_OUT
def training_curves(files: tuple[Path, ...], out: Path) -> None:
    """Loss against step, from metrics.csv FILES beside models."""
    from partialres.report import figures as draw

    draw.training_curves(files, out, out.with_suffix(".pdf"))


@figures.command("pseudo")
@FILES
@click.option("--threshold", type=click.FloatRange(0, 2.01), required=True, help="Where D is cut.")
@FIGURE_OUT
def pseudo_histogram(files: tuple[Path, ...], threshold: float, out: Path) -> None:
    """How D is distributed, from points.parquet FILES."""
    from partialres.report import figures as draw

    draw.pseudo_histogram(files, threshold, out, out.with_suffix(".pdf"))


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
