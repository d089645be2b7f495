"""The command line: one command a stage, each parsing its options, calling the package and writing one place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from partialres import __version__
from partialres import cli_report as report
from partialres.allocator import keep_freed_memory
from partialres.cli_benchmark import benchmark
from partialres.cli_download import download, unpack
from partialres.cli_options import (
    CONTOUR,
    IN_DIR,
    IN_FILE,
    OUT,
    Section,
    model_inputs,
    run_of,
    running,
    sources_of,
    training,
    use_threads,
)
from partialres.cli_pseudo import predict, score_pseudo, select
from partialres.cli_weights import export_weights, import_weights
from partialres.config import ConfigError, ModelConfig, PretrainConfig, TrainConfig
from partialres.files import DataError, TrainingError


class Commands(click.Group):
    """Shows errors of data, settings and training as messages, and everything unforeseen with its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        keep_freed_memory()
        try:
            return super().invoke(ctx)
        except (DataError, ConfigError, TrainingError) as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Commands, context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Referring-expression segmentation from every box and a few masks (Partial-RES, CVPR 2023).

    \b
    The stages, in order (the workflow runs them all: snakemake --cores all):
      download, unpack    fetch and check the public files of the real data sets
      refshapes           generate a small data set in RefCOCO's raw layout
      prepare             raw layout -> refs.parquet and vocabulary.json
      cache-images        decode and resize every image once
      split               choose the refs that keep their masks
      pretrain-backbone   detection pre-training of the tiny backbone
      cache-features      run a frozen backbone once an image
      train-rec           step 1: boxes
      train-res           step 2: labelled masks; step 3: with --selected
      predict, select     pseudo points of the unlabelled refs
      evaluate            predictions and scores of a split
      import-weights      a released checkpoint -> a model; export-weights: back
      tables, figures     what came out
      benchmark           how fast all of this is on this machine
    """


@main.command()
@click.option(
    "--flavour",
    type=click.Choice(["refcoco", "refcoco+", "refcocog"]),
    default="refcoco",
    help="Whose expressions are imitated.",
)
@click.option("--image-count", type=click.IntRange(min=1), default=2400, help="Number of images; 90 % train.")
@click.option("--seed", type=click.IntRange(min=0), default=0)
@click.option("--side", type=click.IntRange(min=64), default=160, help="Longer side of an image, pixels.")
@click.option("--threads", type=click.IntRange(min=1), default=1, help="Processes that draw.")
@click.option("--out", type=OUT, required=True, help="Folder that gets images/ and the data set's folder.")
def refshapes(flavour: str, image_count: int, seed: int, side: int, threads: int, out: Path) -> None:
    """Generate refshapes: coloured shapes and true expressions in RefCOCO's raw layout."""
    from partialres.data.refshapes import RefshapesConfig, generate

    folder = generate(RefshapesConfig(flavour=flavour, images=image_count, seed=seed, side=side), out, threads)
    click.echo(f"wrote {folder}", err=True)


@main.command()
@click.argument("folder", type=IN_DIR)
@click.option("--image-folder", type=OUT, required=True, help="Folder that the images' file names are in.")
@click.option("--split-by", default="unc", help="unc, umd, google ...: refs(SPLIT_BY).p is read.")
@click.option("--max-words", type=click.IntRange(min=1), default=15, help="Longer expressions are cut.")
@click.option("--min-count", type=click.IntRange(min=1), default=1, help="Rarer words are unknown.")
@click.option(
    "--on-problem",
    type=click.Choice(["refuse", "report"]),
    default="refuse",
    help="Broken records: stop, or leave them out and count them.",
)
@click.option("--check-images/--no-check-images", default=True, help="Every image file must be there.")
@click.option("--vocabulary", type=IN_FILE, help="Take the words of this vocabulary.json, and its limits, as they are.")
@click.option("--own/--refer", default=False, help="Read expressions.json (own data) instead of refs(...).p.")
@click.option("--out", type=OUT, required=True, help="Folder for refs.parquet and vocabulary.json.")
def prepare(
    folder: Path, image_folder: Path, split_by: str, max_words: int, min_count: int, on_problem: Any,
    check_images: bool, vocabulary: Path | None, own: bool, out: Path,
) -> None:  # fmt: skip
    """Read raw FOLDER (instances.json and refs(SPLIT_BY).p) to one row a ref, and count its words."""
    from partialres.data.refer import read_refs
    from partialres.data.vocabulary import Vocabulary, apply_vocabulary, build_vocabulary
    from partialres.files import read_json, write_json, write_table

    for name in ("max_words", "min_count"):
        if vocabulary and click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} is the vocabulary's own; leave it out")

    refs, problems = read_refs(
        folder, image_folder, None if own else split_by, on_problem=on_problem, check_images=check_images
    )
    if problems:
        click.echo(f"left out of {folder}:\n{problems}", err=True)
    if vocabulary:
        words = apply_vocabulary(refs, Vocabulary.from_json(read_json(vocabulary)), report=problems.report())
    else:
        words = build_vocabulary(refs, max_words=max_words, min_count=min_count, report=problems.report())
    write_table(refs, out / "refs.parquet")
    write_json(words.to_json(), out / "vocabulary.json")
    click.echo(f"{len(refs)} refs, {len(words)} words -> {out}", err=True)


@main.command("cache-images")
@click.argument("refs", type=IN_FILE)
@click.option("--image-folder", type=IN_DIR, required=True, help="Folder that the images' file names are in.")
@click.option("--size", type=click.IntRange(min=32), default=640, help="Long side in pixels.")
@click.option("--threads", type=click.IntRange(min=1), default=1)
@click.option("--out", type=OUT, required=True, help="Folder for images.npy and index.parquet.")
def cache_images(refs: Path, image_folder: Path, size: int, threads: int, out: Path) -> None:
    """Decode and resize every image of REFS once, to one memory-mapped array."""
    from partialres.data.images import cache_images as cache
    from partialres.files import read_table

    columns = ["image_id", "file_name", "height", "width"]
    cache(read_table(refs, columns), image_folder, out, size, workers=threads)


@main.command()
@click.argument("refs", type=IN_FILE)
@click.option("--ratio", type=click.FloatRange(0, 100, min_open=True), required=True, help="Per cent with masks.")
@click.option("--seed", type=click.IntRange(min=0), default=0)
@click.option("--out", type=OUT, required=True)
def split(refs: Path, ratio: float, seed: int, out: Path) -> None:
    """Choose the training refs of REFS that keep their masks; the others' masks are not in the file."""
    from partialres.data.splits import split as choose
    from partialres.files import read_table, write_table

    rows = choose(read_table(refs), ratio, seed)
    write_table(rows, out)
    click.echo(f"{int(rows['labelled'].sum())} of {len(rows)} training refs keep their masks", err=True)


@main.command("pretrain-backbone")
@click.argument("instances", type=IN_FILE)
@click.option("--refs", type=IN_FILE, required=True, help="refs.parquet: its training images are used, no others.")
@click.option("--images", type=IN_DIR, required=True, help="Folder of `cache-images`.")
@click.option("--model", type=Section(ModelConfig), required=True, help="Model section.")
@click.option("--pretraining", "config", type=Section(PretrainConfig), default="{}", help="Pre-training section.")
@click.option("--seed", type=click.IntRange(min=0), default=0)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads [default: all].")
@click.option("--out", type=OUT, required=True, help="Folder for visual.safetensors, metrics.csv, provenance.json.")
def pretrain_backbone(
    instances: Path, refs: Path, images: Path, model: ModelConfig, config: PretrainConfig, seed: int, out: Path,
    threads: int | None,
) -> None:  # fmt: skip
    """Train the visual part on the boxes of INSTANCES (a COCO file), in training images only."""
    from partialres import stages

    use_threads(threads)
    stages.pretrain_backbone(instances, refs, images, model, config, seed, out)


@main.command("cache-features")
@click.argument("visual", type=IN_FILE)
@click.option("--images", type=IN_DIR, required=True, help="Folder of `cache-images`.")
@click.option("--model", type=Section(ModelConfig), required=True, help="Model section.")
@click.option("--out", type=OUT, required=True, help="Folder for features.npy.")
@running
def cache_features(visual: Path, images: Path, model: ModelConfig, out: Path, device: str, threads: int | None) -> None:
    """Run the frozen VISUAL part once an image and keep its features."""
    from partialres import stages

    use_threads(threads)
    stages.cache_features(visual, images, model, device, out)


@main.command("train-rec")
@click.argument("refs", type=IN_FILE)
@click.option("--model", type=Section(ModelConfig), required=True, help="Model section.")
@click.option(
    "--visual",
    type=IN_FILE,
    help="Backbone weights: visual.safetensors, or DarkNet's (any other suffix) [default: random].",
)
@click.option("--vectors", type=IN_FILE, help="Word vectors: GloVe's text, or spaCy's vocab/vectors [default: random].")
@model_inputs
@training
@running
def train_rec(
    refs: Path, model: ModelConfig, visual: Path | None, vectors: Path | None, config: TrainConfig, **rest: Any
) -> None:
    """Step 1: learn the box of every training ref in REFS."""
    from partialres import stages

    sources, run = sources_of(rest), run_of(rest)
    stages.train_rec(refs, sources, model, config, run, visual=visual, vectors=vectors)


@main.command("train-res")
@click.argument("rows", type=IN_FILE)
@click.option("--init", type=IN_FILE, required=True, help="Step 1's model.safetensors.")
@click.option("--points", type=click.IntRange(min=3), required=True, help="Contour points N.")
@click.option("--contour", "sampling", type=CONTOUR, default="uniform", help="How masks are traced to points.")
@click.option(
    "--model",
    type=Section(ModelConfig),
    help="Model section; what decides step 1's weights must be step 1's [default: step 1's].",
)
@click.option(
    "--cctf/--no-cctf",
    default=None,
    help="Coordinate tokens carry the features they point at [default: as in --model, or yes].",
)
@click.option(
    "--pmca/--no-pmca",
    default=None,
    help="Cross-attention has a Gaussian prior around the point [default: as in --model, or yes].",
)
@click.option(
    "--positions",
    type=click.Choice(["drop", "extend"]),
    default="drop",
    help="Step 1's position table: dropped, as released, or extended to 2N + 1 places.",
)
@click.option("--selected", type=IN_FILE, help="Step 3: selected.parquet, trained on beside the labelled refs.")
@model_inputs
@training
@running
def train_res(
    rows: Path, init: Path, points: int, sampling: Any, model: ModelConfig | None, cctf: bool | None,
    pmca: bool | None, positions: Any, selected: Path | None, config: TrainConfig, **rest: Any,
) -> None:  # fmt: skip
    """Step 2: learn contours from the labelled refs in ROWS (split.parquet); step 3: with --selected."""
    from partialres import stages

    def modules(step_1: ModelConfig) -> ModelConfig:
        wanted = model.after(step_1) if model else replace(step_1, cctf=True, pmca=True)
        return replace(wanted, cctf=wanted.cctf if cctf is None else cctf, pmca=wanted.pmca if pmca is None else pmca)

    sources, run = sources_of(rest), run_of(rest)
    stages.train_res(
        rows, sources, init, modules, config, run,
        points=points, positions=positions, selected=selected, sampling=sampling,
    )  # fmt: skip


@main.command()
@click.argument("refs", type=IN_FILE)
@click.option("--model", type=IN_FILE, required=True, help="model.safetensors of any step.")
@click.option("--split", "split_name", default="val", help="val, testA, testB, test ...")
@click.option("--batch", type=click.IntRange(min=1), default=128, help="About so many expressions at once.")
@click.option("--out", type=OUT, required=True, help="Folder for predictions.parquet and metrics.json.")
@model_inputs
@running
def evaluate(
    refs: Path, model: Path, split_name: str, batch: int, out: Path, device: str, threads: int | None, **sources: Any
) -> None:
    """Score every expression of a split of REFS: boxes for step 1's model, masks for the others."""
    from partialres import stages

    use_threads(threads)
    stages.evaluate(refs, sources_of(sources), model, split_name, batch, device, out)


main.add_command(predict)
main.add_command(select)
main.add_command(score_pseudo)
main.add_command(report.tables)
main.add_command(report.figures)
main.add_command(download)
main.add_command(unpack)
main.add_command(import_weights)
main.add_command(export_weights)
main.add_command(benchmark)
