"""Commands that use a trained model: on pictures, on a page, in other projects."""

from pathlib import Path

import click

from partialres.cli.options import IN_DIR, IN_FILE, OUT

MODEL = click.argument("model", type=click.Path(path_type=Path))
DEVICE = click.option("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...")


@click.command()
@MODEL
@click.argument("images", type=click.Path(path_type=Path))
@click.argument("expressions", nargs=-1)
@click.option("--out", type=OUT, required=True, help="Folder for a mask, an overlay and a JSON file per answer.")
@DEVICE
def segment(model: Path, images: Path, expressions: tuple[str, ...], out: Path, device: str) -> None:
    """Segment what each of the EXPRESSIONS names in IMAGES: a picture, or a folder of pictures.

    IMAGES may also be a CSV file with the columns image and expression, whose paths are relative to its folder; then
    no EXPRESSIONS are given. MODEL is a model.safetensors, or the folder of one.
    """
    from partialres import use

    pairs = use.read_pairs(images, expressions)
    segmenter = use.load(model, device)
    answers = zip(pairs, use.names(pairs), segmenter.segment_many(pairs), strict=True)
    for (image, _), name, segmentation in answers:
        use.write(segmentation, image, out / name)
        click.echo(f"{segmentation.describe()} -> {out / name}.overlay.png", err=True)


@click.command()
@MODEL
@click.argument("image", type=click.Path(path_type=Path))
@click.argument("expression")
@click.option("--out", type=OUT, required=True, help="A .png file, beside which a PDF is written, or a .gif file.")
@DEVICE
def attention(model: Path, image: Path, expression: str, out: Path, device: str) -> None:
    """Draw how MODEL decodes the points of EXPRESSION in IMAGE.

    For each point: where cross-attention looks, PMCA's Gaussian, and the column and row that CCTF takes.
    """
    from partialres import use, visualise
    from partialres.report import style

    if out.suffix not in (".png", ".gif"):
        raise click.UsageError(f"{out}: must end in .png or .gif")
    decoding = use.load(model, device).decoding(image, expression)
    if out.suffix == ".gif":
        visualise.write_gif(decoding, out)
    else:
        style.save(visualise.figure(decoding), out)


@click.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--results", type=IN_DIR, help="A results folder, whose predictions can be browsed.")
@click.option("--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 lets other machines in.")
@click.option("--port", type=click.IntRange(0, 65535), default=7860, help="Port to listen on.")
@DEVICE
def demo(models: tuple[Path, ...], results: Path | None, host: str, port: int, device: str) -> None:
    """Serve a page on which to try MODELS beside each other, such as those of steps 1, 2 and 3."""
    from partialres.config import ConfigError

    try:
        from partialres import demo as pages
    except ImportError as error:
        raise ConfigError(f"the page needs Gradio ({error}): pip install --editable '.[demo]'") from None
    blocks = pages.page(models, results, device)
    click.echo(f"the page is at http://{host}:{port} until you press Ctrl-C", err=True)
    blocks.launch(server_name=host, server_port=port, share=False, quiet=True, footer_links=[])


@click.command("export-coco")
@click.argument("predictions", type=IN_FILE)
@click.option("--refs", type=IN_FILE, help="refs.parquet [default: the one in the nearest folder above].")
@click.option("--out", type=OUT, required=True, help="The JSON file to write.")
def export_coco(predictions: Path, refs: Path | None, out: Path) -> None:
    """Turn PREDICTIONS (predictions.parquet) into COCO results, which pycocotools loads and scores."""
    from partialres import export
    from partialres.files import write_json

    results = export.coco_results(predictions, refs)
    write_json(results, out)
    click.echo(f"{len(results)} results -> {out}", err=True)


@click.command("export-card")
@click.argument("model", type=IN_FILE)
@click.argument("metrics", nargs=-1, required=True, type=IN_FILE)
@click.option("--licence", default="mit", help="The weights' licence, as the hub names it; mind that of the data.")
@click.option("--out", type=OUT, required=True, help="Folder for model.safetensors, config.json and README.md.")
def export_card(model: Path, metrics: tuple[Path, ...], licence: str, out: Path) -> None:
    """Write MODEL and a card with its METRICS (metrics.json of each split) as a folder for the Hugging Face hub."""
    from partialres import export

    export.write_card(model, metrics, licence, out)
    click.echo(f"read {out / 'README.md'} before you publish the folder", err=True)
