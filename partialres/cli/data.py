"""Commands that make the data, from downloads and raw files to the image cache and the splits."""

from pathlib import Path
from typing import Any

import click

from partialres.cli.options import IN_DIR, IN_FILE, OUT, OUT_DIR, OUT_FILE, SEED


@click.command("download")
@click.argument("name")
@click.option("--table", type=IN_FILE, required=True, help="Names, addresses, sizes and checksums, tab-separated.")
@click.option("--folder", type=OUT_DIR, required=True, help="Folder for NAME and, beside it, NAME.sha256.")
def download(name: str, table: Path, folder: Path) -> None:
    """Download the file listed as NAME in the table and check it. An interrupted download is continued.

    A file that is already there is only checked.
    """
    from partialres.data import download as files
    from partialres.files import DataError

    items = files.read_items(table)
    if name not in items:
        raise DataError(f"{table}: has no {name}; it has {', '.join(items)}")
    files.download(items[name], folder)


@click.command("unpack")
@click.argument("archive", type=IN_FILE)
@click.argument("out", type=OUT)
@click.option("--list", "listing", type=OUT, help="File to list all names in, written once all files are there.")
@click.option("--only", help="Unpack only this file of the archive, and save it as OUT.")
def unpack(archive: Path, out: Path, listing: Path | None, only: str | None) -> None:
    """Unpack the zip ARCHIVE into the folder OUT, or with --only one of its files."""
    from partialres.data import download as files

    if (listing is None) == (only is None):
        raise click.UsageError("give either --list or --only")
    if only is not None:
        files.unpack_one(archive, only, out)
    elif listing is not None:
        click.echo(f"{files.unpack(archive, out, listing)} files of {archive} are in {out}", err=True)


@click.command()
@click.option(
    "--flavour",
    type=click.Choice(["refcoco", "refcoco+", "refcocog"]),
    default="refcoco",
    help="Data set whose expressions are imitated.",
)
@click.option("--image-count", type=click.IntRange(1, 999_999), default=2400, help="Number of images; 90 % train.")
@SEED
@click.option("--side", type=click.IntRange(min=64), default=160, help="Longer side of an image in pixels.")
@click.option("--threads", type=click.IntRange(min=1), default=1, help="Processes that draw images.")
@click.option("--out", type=OUT_DIR, required=True, help="Folder for images/ and the data set's own folder.")
def refshapes(flavour: str, image_count: int, seed: int, side: int, threads: int, out: Path) -> None:
    """Generate refshapes: coloured shapes and true expressions in RefCOCO's raw layout."""
    from partialres.refshapes.generate import RefshapesConfig, generate

    folder = generate(RefshapesConfig(flavour=flavour, images=image_count, seed=seed, side=side), out, threads)
    click.echo(f"wrote {folder}", err=True)


ON_PROBLEM = click.option(
    "--on-problem", type=click.Choice(["refuse", "report"]), default="refuse",
    help="refuse: stop at broken records and damaged pictures. report: leave the records out and count them, and take "
    "the pictures as they decode.",
)  # fmt: skip


@click.command()
@click.argument("folder", type=IN_DIR)
@click.option("--image-folder", type=OUT, required=True, help="Folder to which the images' file names are relative.")
@click.option("--split-by", help="unc, umd or google: read refs(SPLIT_BY).p [default: read expressions.json].")
@click.option("--max-words", type=click.IntRange(min=1), help="Cut expressions after so many words [default: 15].")
@ON_PROBLEM
@click.option("--vocabulary", type=IN_FILE, help="Use the words and limits of this vocabulary.json unchanged.")
@click.option("--evaluated", "splits", multiple=True, help="A split that must have refs; repeat for more.")
@click.option("--out", type=OUT_DIR, required=True, help="Folder for refs.parquet and vocabulary.json.")
def prepare(
    folder: Path, image_folder: Path, split_by: str | None, max_words: int | None, on_problem: Any,
    vocabulary: Path | None, splits: tuple[str, ...], out: Path,
) -> None:  # fmt: skip
    """Turn the raw data in FOLDER (instances.json and the refs) into a table with a row per ref, and a vocabulary."""
    from partialres.data.refer import check_splits, read_refs
    from partialres.data.vocabulary import Vocabulary, apply_vocabulary, build_vocabulary
    from partialres.files import read_json, write_json, write_table

    if vocabulary and max_words:
        raise click.UsageError("with --vocabulary, --max-words comes from that file; leave it out")
    refs, problems = read_refs(folder, image_folder, split_by, on_problem=on_problem)
    if problems:
        click.echo(f"left out of {folder}:\n{problems}", err=True)
    check_splits(refs, splits, folder)
    if vocabulary:
        words = apply_vocabulary(refs, Vocabulary.from_json(read_json(vocabulary)), report=problems.report())
    else:
        words = build_vocabulary(refs, max_words=max_words or 15, report=problems.report())
    write_table(refs, out / "refs.parquet")
    write_json(words.to_json(), out / "vocabulary.json")
    click.echo(f"{len(refs)} refs, {len(words)} words -> {out}", err=True)


@click.command("download-images")
@click.argument("folder", type=IN_DIR)
@click.option("--split-by", help="unc, umd or google: read refs(SPLIT_BY).p [default: read expressions.json].")
@click.option("--table", type=IN_FILE, required=True, help="Table of addresses, as for `download`.")
@click.option("--row", required=True, help="Name in the table of the address below which the images lie.")
@click.option("--image-folder", type=OUT_DIR, required=True, help="Folder for the images.")
@click.option("--list", "listing", type=OUT_FILE, required=True, help="File to list their names in, written last.")
def download_images(
    folder: Path, split_by: str | None, table: Path, row: str, image_folder: Path, listing: Path
) -> None:
    """Download, one by one, the images that the refs in FOLDER name and that are not there yet."""
    from partialres.data.download import read_items
    from partialres.data.download_images import download_images as fetch
    from partialres.data.refer import image_sizes
    from partialres.files import DataError

    items = read_items(table)
    if row not in items or not items[row].address:
        raise DataError(f"{table}: has no address of {row}; add it, or set downloads.images: all")
    fetch(image_sizes(folder, split_by), items[row].address, image_folder, listing)


@click.command("download-backbone")
@click.argument("backbone")
@click.option("--revision", default="main", help="Commit, tag or branch on the hub.")
@click.option("--out", type=OUT_FILE, required=True, help="The .safetensors file to write.")
def download_backbone(backbone: str, revision: str, out: Path) -> None:
    """Download the published weights of BACKBONE (timm/NAME), unless they are put there by hand."""
    from partialres.checkpoints.timm_weights import fetch

    fetch(backbone, revision, out)


@click.command("cache-images")
@click.argument("refs", type=IN_FILE)
@click.option("--image-folder", type=IN_DIR, required=True, help="Folder to which the images' file names are relative.")
@click.option("--size", type=click.IntRange(min=32), default=640, help="Long side of the cached images in pixels.")
@click.option("--threads", type=click.IntRange(min=1), default=1, help="Threads that decode images.")
@ON_PROBLEM
@click.option("--out", type=OUT_DIR, required=True, help="Folder for images.npy and index.parquet.")
def cache_images(refs: Path, image_folder: Path, size: int, threads: int, on_problem: Any, out: Path) -> None:
    """Decode and resize every image of REFS once, and store all of them in one memory-mapped array."""
    from partialres.data.images import cache_images as cache
    from partialres.files import read_table

    columns = ["image_id", "file_name", "height", "width"]
    cache(read_table(refs, columns), image_folder, out, size, workers=threads, on_problem=on_problem)


@click.command()
@click.argument("refs", type=IN_FILE)
@click.option("--ratio", type=click.FloatRange(0, 100, min_open=True), required=True, help="Masks kept, per cent.")
@SEED
@click.option("--out", type=OUT_FILE, required=True, help="The split.parquet to write.")
def split(refs: Path, ratio: float, seed: int, out: Path) -> None:
    """Choose the training refs of REFS that keep their masks; the file OUT does not contain the other masks."""
    from partialres.data.splits import split as choose
    from partialres.files import read_table, write_table

    rows = choose(read_table(refs), ratio, seed)
    write_table(rows, out)
    click.echo(f"{int(rows['labelled'].sum())} of {len(rows)} training refs keep their masks", err=True)
