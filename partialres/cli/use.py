"""The commands that use a trained model: on pictures, on a page, for others."""

from __future__ import annotations

from pathlib import Path

import click

from partialres.cli.options import OUT

MODEL = click.argument("model", type=click.Path(path_type=Path))
IMAGE = click.argument("image", type=click.Path(path_type=Path))
DEVICE = click.option("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...")


@click.command()
@MODEL
@click.argument("images", type=click.Path(path_type=Path))
@click.argument("expressions", nargs=-1)
@click.option("--out", type=OUT, required=True, help="Folder for a mask, a JSON file and an overlay an expression.")
@DEVICE
def segment(model: Path, images: Path, expressions: tuple[str, ...], out: Path, device: str) -> None:
    """Segment what each of the EXPRESSIONS names in IMAGES: a picture, or a folder of pictures.

    IMAGES may also be a CSV file with the columns image and expression, whose paths are relative to its folder; then
    no EXPRESSIONS are given. MODEL is a model.safetensors, or the folder of one.
    """
    from partialres import use

    pairs = use.read_pairs(images, expressions)
    segmenter = use.load(model, device)
    for name, segmentation in zip(use.names(pairs), segmenter.segment_many(pairs), strict=True):
        use.write(segmentation, out / name)
        click.echo(f"{segmentation.describe()} -> {out / name}.overlay.png", err=True)
