"""The stages that run a model, each from files to files. The command line is a thin shell around them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import safetensors.torch
import torch

from partialres import evaluation, metrics, pseudo
from partialres.config import (
    ConfigError,
    ModelConfig,
    PredictConfig,
    PretrainConfig,
    TrainConfig,
    check_boxes,
    check_contour,
    check_head,
    check_jitter,
    check_view,
)
from partialres.data.inputs import FEATURES, FEATURES_INFO, Inputs
from partialres.data.mask_targets import make_mask_samples
from partialres.data.samples import Jitter, make_samples
from partialres.data.vocabulary import Vocabulary, word_vectors
from partialres.files import (
    DataError,
    atomic,
    progress,
    read_json,
    read_table,
    say,
    write_json,
    write_table,
    write_text,
)
from partialres.geometry import boxes, contour
from partialres.model import darknet_weights
from partialres.model.build import Model, build_model
from partialres.model.mask_head import UPSAMPLING, MaskHeadModel
from partialres.model.pointer import Visual
from partialres.training import checkpoint
from partialres.training.distributed import gathered, joined
from partialres.training.loop import pick_device, train
from partialres.training.pretrain import pretrain, read_scenes


@dataclass(frozen=True)
class Sources:
    """Where a model's words and images come from."""

    vocabulary: Path  # vocabulary.json of `prepare`
    images: Path  # folder of `cache-images`
    features: Path | None  # folder of `cache-features`, for a wholly frozen visual part

    def words(self) -> Vocabulary:
        """The vocabulary."""
        return Vocabulary.from_json(read_json(self.vocabulary))

    def inputs(self, model: Model) -> Inputs:
        """The images as the model sees them; raises DataError if cached features are of other visual weights."""
        if model.config.view == "box":  # features are of whole images
            return Inputs(self.images, model.visual.stride)
        inputs = Inputs(self.images, model.visual.stride, self.features)
        if self.features and not model.visual.frozen:
            raise DataError(f"{self.features}: only a wholly frozen visual part has features (model.frozen: all)")
        if self.features and inputs.visual_digest != visual_digest(model.visual):
            raise DataError(f"{self.features}: made by other visual weights than the model's; run cache-features again")
        return inputs


@dataclass(frozen=True)
class Run:
    """How a training runs and where its results go."""

    seed: int
    workers: int  # loader processes
    resume: Path | None  # folder for the state that a stopped training goes on from
    device: str
    out: Path  # folder for model.safetensors, metrics.csv and provenance.json


def visual_digest(visual: Visual) -> str:
    """Digest of the visual part's weights: cached features go only with the weights that made them."""
    digest = hashlib.sha256()
    for name, tensor in sorted(visual.state_dict().items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def pretrain_backbone(
    instances: Path,
    refs: Path,
    images: Path,
    model: ModelConfig,
    config: PretrainConfig,
    seed: int,
    out: Path,
) -> None:
    """Detection pre-training on the images of split train; writes visual.safetensors, metrics.csv, provenance.json."""
    torch.manual_seed(seed)
    visual = Visual(model)
    inputs = Inputs(images, visual.stride)
    table = read_table(refs, ["image_id", "split"])
    held_out = set(table["image_id"][table["split"] != "train"])
    training = sorted(set(table["image_id"][table["split"] == "train"]) - held_out)
    scenes = read_scenes(instances, training, inputs)
    history = pretrain(visual, scenes, inputs, config, seed)
    origin = checkpoint.provenance(
        {"model": model, "pretraining": config}, {"instances": instances, "refs": refs}, seed, "cpu"
    )
    with atomic(out / "visual.safetensors") as temporary:
        safetensors.torch.save_file(visual.state_dict(), temporary)
    write_text(history.to_csv(index=False, float_format="%.6g"), out / "metrics.csv")
    write_json(origin, out / "provenance.json")


def _load_visual(visual: Visual, path: Path, frozen: str) -> None:
    """The visual part's weights: DarkNet's, ours alone or those of a whole model. frozen: `ModelConfig.frozen`."""
    if darknet_weights.is_darknet(path):
        _load_darknet(visual, path, frozen)
        return
    try:
        state = safetensors.torch.load_file(path)
        own = {name.removeprefix("visual."): tensor for name, tensor in state.items() if name.startswith("visual.")}
        visual.load_state_dict(own or state)
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise DataError(f"{path}: does not fit the model's visual part: {error}") from error


def _load_darknet(visual: Visual, path: Path, frozen: str) -> None:
    """The backbone's weights out of a DarkNet file, and a word on what it has not."""
    loaded = darknet_weights.read_weights(path, visual.backbone)
    units = visual.backbone.convolutions()
    unread = f"; {loaded.unread} values unread: {loaded.about}" if loaded.unread else ""
    say(f"{path}: {loaded.convolutions} of the backbone's {len(units)} convolutions are from it{unread}")
    first = loaded.convolutions + 1
    say(f"random: the neck{f' and convolutions {first} to {len(units)}, the detection block' if loaded.left else ''}")
    stuck = sum(not unit.conv.weight.requires_grad for unit in units[loaded.convolutions :])
    if stuck:
        say(
            f"warning: {stuck} of the random convolutions are frozen (model.frozen: {frozen}) and will stay random; "
            "take a YOLOv3's weights, or model.frozen: none"
        )


@torch.no_grad()
def cache_features(weights: Path, images: Path, model: ModelConfig, device: str, out: Path) -> None:
    """The visual part's output for every cached image, float16 [images, fusion, H, W], rows in the cache's order."""
    if model.frozen != "all":
        raise DataError("only a wholly frozen visual part has features to cache (model.frozen: all)")
    visual = Visual(model)
    _load_visual(visual, weights, model.frozen)
    digest = visual_digest(visual)
    place = pick_device(device)
    visual.to(place).eval()
    inputs = Inputs(images, visual.stride)
    cells = inputs.size // inputs.stride
    with atomic(out / FEATURES) as temporary:
        shape = (len(inputs.cache), model.fusion, cells, cells)
        table = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
        for start in progress(range(0, len(inputs.cache), 64), "cache-features"):
            rows = np.arange(start, min(start + 64, len(inputs.cache)))
            table[rows] = visual(torch.from_numpy(inputs.pixels(rows)).to(place)).half().cpu().numpy()
        table.flush()
        del table
    write_json({"visual": digest, "shape": list(shape)}, out / FEATURES_INFO)


def train_rec(
    refs: Path,
    sources: Sources,
    model_config: ModelConfig,
    config: TrainConfig,
    run: Run,
    *,
    visual: Path | None,
    vectors: Path | None,
) -> None:
    """Step 1: the box of every training ref, as a sequence of two points or by a box head. No mask is read.

    The model is SeqTR's, without CCTF, PMCA and all that comes with them, as the paper starts from SeqTR's weights.
    visual: weights to start the visual part from, DarkNet's or ours. vectors: word vectors in GloVe's text format.
    Random without.
    """
    words = sources.words()
    check_boxes(config.boxes, "none")  # step 1 has no contours that could be unknown
    torch.manual_seed(run.seed)
    model = build_model(model_config.step_1(), len(words), points=2)
    if visual:
        _load_visual(model.visual, visual, model_config.frozen)
    if vectors:
        table, lacking = word_vectors(words, vectors, model_config.word, run.seed)
        model.language.embedding.weight.data.copy_(torch.from_numpy(table))
        say(f"train-rec: {lacking} of {len(words)} words have no vector in {vectors} and got a random one")
    rows = read_table(refs, ["ref_id", "image_id", "split", "bbox", "expressions"])
    rows = rows[rows["split"] == "train"].reset_index(drop=True)
    corners = [boxes.to_corners(np.asarray(box, dtype=float)) for box in rows["bbox"]]
    files = {"refs": refs} | {name: path for name, path in (("visual", visual), ("vectors", vectors)) if path}
    jitter = Jitter(config.jitter, corners) if config.jitter else None
    _fit(model, rows, corners, jitter, sources, {"training": config}, files, run, "train-rec")


def train_res(
    split: Path,
    sources: Sources,
    init: Path,
    modules: Callable[[ModelConfig], ModelConfig],
    config: TrainConfig,
    run: Run,
    *,
    points: int,
    positions: Literal["drop", "extend"],
    selected: Path | None,
    sampling: contour.Sampling = "uniform",
) -> None:
    """Steps 2 and 3: contours of the labelled refs, in step 3 with the selected pseudo points beside them.

    A mask head learns the masks themselves, and has no step 3.
    init: step 1's model. modules: from its config to this step's. points: N. positions: see `load_weights`.
    sampling: how masks are traced to points.
    Raises DataError if selected points are not N a ref, ConfigError if the model cannot say what it is taught.
    """
    words = sources.words()
    model_config = modules(checkpoint.read_config(init))
    check_contour(sampling, model_config.end)
    torch.manual_seed(run.seed)
    check_head(model_config.head, selected is not None, {"training": config.jitter})
    model = build_model(model_config, len(words), points)
    fresh = checkpoint.load_weights(model, init, words.digest(), positions)
    say(f"train-res: from {init}; new: {', '.join(sorted({name.split('.')[0] for name in fresh})) or 'nothing'}")
    everything = read_table(split, ["ref_id", "image_id", "height", "width", "bbox", "mask", "labelled", "expressions"])
    rows = everything[everything["labelled"]].reset_index(drop=True)
    targets: list[np.ndarray | None] = []
    outlines: list[np.ndarray] = []
    weights: np.ndarray | None = None  # all alike
    traced = rows if model_config.head == "points" else rows[:0]  # a mask head learns the masks as they are
    for counts, height, width in zip(traced["mask"], traced["height"], traced["width"], strict=True):
        mask = contour.decode(counts, height, width)
        targets.append(contour.sample(mask, points, sampling))
        if config.jitter:
            outlines.append(contour.largest_outline(mask).astype(np.float32))
    files = {"split": split, "init": init}
    if selected:
        files["selected"] = selected
        chosen = read_table(selected, ["ref_id", "points", "weight"])
        rows = pd.concat([rows, everything.set_index("ref_id").loc[chosen["ref_id"]].reset_index()], ignore_index=True)
        pseudo_points = [pseudo.as_array(many) for many in chosen["points"]]
        targets, outlines = [*targets, *pseudo_points], outlines + pseudo_points
        weights = np.concatenate([np.ones(len(rows) - len(chosen)), chosen["weight"]])
        wrong = [len(many) for many in pseudo_points if len(many) != points]
        if wrong:
            raise DataError(f"{selected}: holds contours of {wrong[0]} points, not {points}; select again")
        say(f"train-res: {len(rows) - len(chosen)} labelled refs and {len(chosen)} pseudo-labelled ones")
    if config.boxes:
        check_boxes(config.boxes, model_config.prompt)
        unknown = everything[~everything["ref_id"].isin(rows["ref_id"])]
        rows, targets = pd.concat([rows, unknown], ignore_index=True), [*targets, *[None] * len(unknown)]
        outlines = [*outlines, *[np.empty((0, 2), dtype=np.float32)] * len(unknown)]
        weights = np.ones(len(rows)) if weights is None else np.concatenate([weights, np.ones(len(unknown))])
        say(f"train-res: and the boxes of the {len(unknown)} others")
    label = "train-res (step 3)" if selected else "train-res (step 2)"
    configs = {"training": config, "positions": positions, "contour": sampling}
    jitter = Jitter(config.jitter, outlines, sampling) if config.jitter else None
    _fit(model, rows, targets, jitter, sources, configs, files, run, label, weights)


def _fit(
    model: Model,
    rows: pd.DataFrame,
    targets: Sequence[np.ndarray | None],
    jitter: Jitter | None,
    sources: Sources,
    configs: dict[str, Any],
    files: dict[str, Path],
    run: Run,
    label: str,
    weights: np.ndarray | None = None,
) -> None:
    """Train, then write metrics.csv and provenance.json, and model.safetensors last: it says that all is there.

    targets: points in pixels of the images, None where not known; a mask head's are in the rows. weights: of the
    targets in the loss. configs: "training" and whatever else
    decides the result. files: inputs that do, beside the sources.
    """
    check_jitter("training", configs["training"].jitter, model.config.frozen)
    check_view(model.config.view, configs["training"].jitter, model.config.span)
    check_head(model.config.head, False, {"training": configs["training"].jitter})
    words, inputs, device = sources.words(), sources.inputs(model), pick_device(run.device)
    files = {**files, "vocabulary": sources.vocabulary, "images": sources.images / "index.parquet"}
    configs = {"model": model.config, "points": model.points, **configs}
    origin = checkpoint.provenance(configs, files, run.seed, str(device))
    settings = model.config
    if isinstance(model, MaskHeadModel):
        masks = model.mask_head is not None
        samples = make_mask_samples(rows, inputs, words, masks=masks, upsampling=UPSAMPLING)
    else:
        samples = make_samples(
            rows, targets, inputs, words, settings.bins, settings.rounding, settings.span, jitter,
            prompt=settings.prompt, view=settings.view, weights=weights,
        )  # fmt: skip
    decisive = ("commit", "config", "inputs", "versions", "seed", "device")
    state = checkpoint.Resume(run.resume, {key: origin[key] for key in decisive})
    with joined(device) as processes:
        history = train(
            model, samples, inputs, configs["training"],
            seed=run.seed, device=device, resume=state, label=label, workers=run.workers, processes=processes,
        )  # fmt: skip
        if processes.first:
            write_text(history.to_csv(index=False, float_format="%.6g"), run.out / "metrics.csv")
            write_json(origin, run.out / "provenance.json")
            checkpoint.save_model(
                model.cpu(), run.out / "model.safetensors", words=len(words), vocabulary=words.digest(),
                provenance=origin,
            )  # fmt: skip
            state.clear()


def _predictions(
    model: Model, refs: pd.DataFrame, sources: Sources, words: Vocabulary, batch: int, device: str, label: str,
    known: evaluation.Known | None = None,
) -> list[evaluation.Prediction] | None:  # fmt: skip
    """What the model says of every expression, each process decoding a part; None in all processes but the first."""
    inputs, place = sources.inputs(model), pick_device(device)
    with joined(place) as processes:
        found = evaluation.predict(
            model, refs, inputs, words,
            batch=batch, device=place, label=label, block=(processes.rank, processes.count), known=known,
        )  # fmt: skip
        everything = gathered(list(found), processes)
        return everything if processes.first else None


def predict(split: Path, sources: Sources, weights: Path, config: PredictConfig, device: str, out: Path) -> None:
    """points.parquet of the unlabelled refs in a split table; raises ConfigError if the model has a mask head.

    A model whose contours follow their box is told the box; one that sees the box alone is shown it.
    """
    words = sources.words()
    model = checkpoint.load_model(weights, words.digest())
    if isinstance(model, MaskHeadModel):
        raise ConfigError(f"{weights}: a mask head (model.head: mask) predicts no points; take a model of head: points")
    columns = ["ref_id", "image_id", "height", "width", "bbox", "labelled", "expressions"]
    refs = pseudo.candidates(read_table(split, columns), config.expressions)
    corners = np.array([boxes.to_corners(np.asarray(box, dtype=float)) for box in refs["bbox"]]).reshape(-1, 2, 2)
    known = evaluation.Known(corners, config.guided)
    found = _predictions(model, refs, sources, words, config.batch, device, "predict", known)
    if found is not None:
        write_table(pseudo.points_table(refs, found), out)


def evaluate(refs: Path, sources: Sources, weights: Path, split: str, batch: int, device: str, out: Path) -> None:
    """predictions.parquet and metrics.json of one split; a model of two points is scored by its boxes."""
    words = sources.words()
    model = checkpoint.load_model(weights, words.digest())
    if model.config.view == "box":
        raise ConfigError(f"{weights}: sees the known box (model.view: box), which a score must not be given")
    chosen = evaluation.select_split(read_table(refs), split)
    found = _predictions(model, chosen, sources, words, batch, device, f"evaluate {split}")
    if found is None:
        return
    if model.points == 2:
        table = evaluation.evaluate_boxes(chosen, found)
        scores = metrics.summarise_boxes(table)
    else:
        table = evaluation.evaluate_masks(chosen, found, sources.inputs(model).size, model.visual.stride)
        scores = metrics.summarise(table)
    write_table(table, out / "predictions.parquet")
    write_json(scores, out / "metrics.json")
    say(f"{split}: " + ", ".join(f"{name} {value:.4g}" for name, value in scores.items()))
