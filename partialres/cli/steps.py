"""Commands for the paper's steps: backbone, step 1, step 2, pseudo points, step 3 and evaluation."""

import json
from pathlib import Path
from typing import Any

import click

from partialres.cli.options import (
    CONTOUR,
    IN_DIR,
    IN_FILE,
    OUT_DIR,
    OUT_FILE,
    SEED,
    Section,
    execution_of,
    model_inputs,
    running,
    sources_of,
    training,
    use_threads,
)
from partialres.config import ModelConfig, PretrainConfig, PseudoConfig, TrainConfig

BATCH = click.option("--batch", type=click.IntRange(min=1), default=128, help="Expressions per batch, approximately.")
MODEL = click.option("--model", "config", type=Section(ModelConfig), required=True, help="Model section of the config.")


@click.command("pretrain-backbone")
@click.argument("instances", type=IN_FILE)
@click.option("--refs", type=IN_FILE, required=True, help="refs.parquet; only its training images are used.")
@click.option("--images", type=IN_DIR, required=True, help="Folder written by `cache-images`.")
@MODEL
@click.option("--pretraining", type=Section(PretrainConfig), default="{}", help="Pretraining section of the config.")
@SEED
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads [default: all].")
@click.option("--resume", type=OUT_DIR, help="Folder for the state from which a stopped training resumes.")
@click.option("--out", type=OUT_DIR, required=True, help="Folder for visual.safetensors, metrics.csv, provenance.json.")
def pretrain_backbone(
    instances: Path, refs: Path, images: Path, config: ModelConfig, pretraining: PretrainConfig, seed: int, out: Path,
    threads: int | None, resume: Path | None,
) -> None:  # fmt: skip
    """Train backbone and neck to detect the boxes in INSTANCES (a COCO file), on training images only."""
    from partialres.steps import backbone

    use_threads(threads)
    backbone.pretrain_backbone(instances, refs, images, config, pretraining, seed, out, resume)


@click.command("cache-features")
@click.argument("weights", type=IN_FILE)
@click.option("--images", type=IN_DIR, required=True, help="Folder written by `cache-images`.")
@MODEL
@click.option("--out", type=OUT_DIR, required=True, help="Folder for features.npy.")
@running
def cache_features(
    weights: Path, images: Path, config: ModelConfig, out: Path, device: str, threads: int | None
) -> None:
    """Run the frozen backbone and neck, with WEIGHTS, once per image and store the features."""
    from partialres.steps import backbone

    use_threads(threads)
    backbone.cache_features(weights, images, config, device, out)


@click.command("train-rec")
@click.argument("refs", type=IN_FILE)
@MODEL
@click.option(
    "--init-backbone",
    type=IN_FILE,
    help="Initial weights of the backbone: a visual.safetensors, a model.safetensors, or DarkNet's (any other suffix) "
    "[default: random].",
)
@click.option("--vectors", type=IN_FILE, help="Word vectors in GloVe's text format [default: random].")
@model_inputs
@training
@running
def train_rec(
    refs: Path, config: ModelConfig, init_backbone: Path | None, vectors: Path | None, training: TrainConfig,
    **rest: Any,
) -> None:  # fmt: skip
    """Step 1: learn to predict the box of every training ref in REFS."""
    from partialres.steps import rec

    sources, execution = sources_of(rest), execution_of(rest)
    rec.train_rec(refs, sources, config, training, execution, init_backbone=init_backbone, vectors=vectors)


@click.command("train-res")
@click.argument("rows", type=IN_FILE)
@click.option("--init", type=IN_FILE, required=True, help="Step 1's model.safetensors.")
@click.option("--points", type=click.IntRange(min=3), required=True, help="Contour points N.")
@click.option("--contour", "sampling", type=CONTOUR, default="uniform", help="How contour points are spaced.")
@MODEL
@click.option(
    "--position-table",
    type=click.Choice(["drop", "extend"]),
    default="drop",
    help="Step 1's learned positions: drop them, as released, or extend them to 2N + 1 places.",
)
@click.option("--selected", type=IN_FILE, help="Step 3: selected.parquet, to train on with the labelled refs.")
@click.option("--val", type=IN_FILE, help="refs.parquet, for training.score_epochs: only its split val is read.")
@model_inputs
@training
@running
def train_res(
    rows: Path, init: Path, points: int, sampling: Any, config: ModelConfig, position_table: Any,
    selected: Path | None, val: Path | None, training: TrainConfig, **rest: Any,
) -> None:  # fmt: skip
    """Step 2: learn contours from the labelled refs in ROWS (split.parquet); step 3: with --selected."""
    from partialres.steps import res

    sources, execution = sources_of(rest), execution_of(rest)
    res.train_res(
        rows, sources, init, config, training, execution,
        points=points, position_table=position_table, selected=selected, val=val, sampling=sampling,
    )  # fmt: skip


@click.command()
@click.argument("rows", type=IN_FILE)
@click.option("--model", type=IN_FILE, required=True, help="model.safetensors of step 2.")
@BATCH
@click.option(
    "--part",
    type=(click.IntRange(min=1), click.IntRange(min=1)),
    default=(1, 1),
    help="Predict only part I of N, in N jobs; `gather` makes one file of them.",
    metavar="I N",
)
@click.option("--out", type=OUT_FILE, required=True, help="The points.parquet to write.")
@model_inputs
@running
def predict(
    rows: Path, model: Path, batch: int, part: tuple[int, int], out: Path, device: str, threads: int | None,
    **sources: Any,
) -> None:  # fmt: skip
    """Predict contour points of the unlabelled refs in ROWS (split.parquet), and D, which tells how well they fit."""
    from partialres.steps import predict as step

    number, parts = part
    if number > parts:
        raise click.BadParameter(f"there is no part {number} of {parts}", param_hint="--part")
    use_threads(threads)
    step.predict(rows, sources_of(sources), model, batch, device, (number - 1, parts), out)


@click.command()
@click.argument("parts", type=IN_FILE, nargs=-1, required=True)
@click.option("--out", type=OUT_FILE, required=True, help="The points.parquet to write.")
def gather(parts: tuple[Path, ...], out: Path) -> None:
    """Join all PARTS of a prediction, given in order: the file is the one that `predict` makes alone."""
    from partialres.steps import predict as step

    step.gather(parts, out)


@click.command()
@click.argument("points", type=IN_FILE)
@click.argument("rows", type=IN_FILE)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 2.01, min_open=True),
    default=0.10,
    help="Keep pseudo masks whose projection dice loss D (eq. 8) is below this.",
)
@click.option("--num-points", type=click.IntRange(min=3), required=True, help="Contour points N.")
@click.option("--resample/--no-resample", default=True, help="Space the N points evenly (RPP).")
@click.option("--contour", "sampling", type=CONTOUR, default="uniform", help="How --resample spaces the points.")
@click.option("--out", type=OUT_FILE, required=True, help="The selected.parquet to write.")
def select(
    points: Path, rows: Path, threshold: float, num_points: int, resample: bool, sampling: Any, out: Path
) -> None:
    """Keep the pseudo POINTS with a low D and space them evenly. ROWS: split.parquet, for the images' sizes."""
    from partialres.files import new_table, progress, read_groups, read_table
    from partialres.steps import pseudo

    sizes = read_table(rows, ["ref_id", "height", "width"]).set_index("ref_id")
    config, kept, candidates = PseudoConfig(threshold=threshold, resample=resample), 0, 0
    with new_table(out, pseudo.SELECTED) as append:
        for table in progress(read_groups(points, ["ref_id", "points", "d"]), "select, batches"):
            selected = pseudo.select(table, sizes, config, num_points, sampling)
            append(selected)
            kept, candidates = kept + len(selected), candidates + len(table)
    click.echo(f"kept {kept} of {candidates} pseudo masks (D < {threshold})", err=True)
    if not kept:
        click.echo("warning: nothing was kept, so step 3 trains on the labelled refs alone", err=True)


@click.command("score-pseudo")
@click.argument("points", type=IN_FILE)
@click.argument("selected", type=IN_FILE)
@click.option("--truth", type=IN_FILE, required=True, help="refs.parquet; only this report reads its masks.")
@click.option("--out", type=OUT_FILE, required=True, help="The selection.json to write.")
def score_pseudo(points: Path, selected: Path, truth: Path, out: Path) -> None:
    """Report how many of the pseudo POINTS are in SELECTED, and their true IoU; no training reads this report."""
    from partialres.data.masks import check_masks
    from partialres.files import read_groups, read_table, write_json
    from partialres.steps import pseudo

    masks = check_masks(read_table(truth, ["ref_id", "height", "width", "mask"]), truth)
    candidates, kept = (read_groups(path, ["ref_id", "points", "d"]) for path in (points, selected))
    summary = pseudo.summarise(candidates, kept, masks)
    write_json(summary, out)
    click.echo(json.dumps(summary), err=True)


@click.command()
@click.argument("refs", type=IN_FILE)
@click.option("--model", type=IN_FILE, required=True, help="model.safetensors of any step.")
@click.option("--split", "splits", multiple=True, default=["val"], help="A split to score; repeat for more.")
@BATCH
@click.option(
    "--out", type=OUT_DIR, required=True, help="Folder for <split>/predictions.parquet and <split>/metrics.json."
)
@model_inputs
@running
def evaluate(
    refs: Path, model: Path, splits: tuple[str, ...], batch: int, out: Path, device: str, threads: int | None,
    **sources: Any,
) -> None:  # fmt: skip
    """Score every expression of splits of REFS: boxes for a model of step 1, masks for one of step 2 or 3."""
    from partialres.steps import evaluate as step

    use_threads(threads)
    step.evaluate(refs, sources_of(sources), model, splits, batch, device, out)
