"""Prepare the visual part (backbone and neck) for step 1: pre-train it, load its weights, cache its features."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch

from partialres.checkpoints import darknet, timm_weights
from partialres.checkpoints.model_file import read_weights
from partialres.config import ModelConfig, PretrainConfig
from partialres.data.inputs import FEATURES, FEATURES_INFO, Inputs
from partialres.files import DataError, atomic, new_array, progress, read_table, say, write_json, write_text
from partialres.model.build import initialise
from partialres.model.timm_backbone import TimmBackbone
from partialres.model.visual import Visual
from partialres.provenance import provenance
from partialres.training.distributed import on_device, pick_device
from partialres.training.pretraining import pretrain, read_scenes
from partialres.training.resume import Resume


def pretrain_backbone(
    instances: Path, refs: Path, images: Path, model: ModelConfig, config: PretrainConfig, seed: int, out: Path,
    resume: Path | None = None,
) -> None:  # fmt: skip
    """Pre-train on the images of split train, adding a row to metrics.csv per epoch.

    Writes visual.safetensors and provenance.json too.
    """
    visual = Visual(model)
    initialise(visual, seed)
    inputs = Inputs(images, visual.stride)
    table = read_table(refs, ["image_id", "split"])
    held_out = set(table["image_id"][table["split"] != "train"])
    training = sorted(set(table["image_id"][table["split"] == "train"]) - held_out)
    scenes = read_scenes(instances, training, inputs)
    files = {"instances": instances, "refs": refs, "images": images / "index.parquet"}
    origin = provenance({"model": model, "pretraining": config}, files, seed, "cpu")
    state = Resume(resume, origin)

    def after_epoch(history: list[dict[str, Any]]) -> None:
        write_text(pd.DataFrame(history).to_csv(index=False, float_format="%.6g"), out / "metrics.csv")

    pretrain(visual, scenes, inputs, config, seed, state, after_epoch)
    with atomic(out / "visual.safetensors") as temporary:
        safetensors.torch.save_file(visual.state_dict(), temporary)
    write_json(origin, out / "provenance.json")
    state.clear()


@torch.no_grad()
def cache_features(weights: Path, images: Path, model: ModelConfig, device: str, out: Path) -> None:
    """Store the frozen visual part's output for every cached image: float16 [images, fusion, F, F], in cache order.

    Each image is seen without the frame's padding, whose features are 0.
    """
    if model.frozen != "all":
        raise DataError("only a wholly frozen visual part has features to cache (model.frozen: all)")
    visual = Visual(model)
    load_visual(visual, weights)
    digest = visual.digest()
    place = pick_device(device)
    on_device(visual, place)
    visual.eval()
    inputs = Inputs(images, visual.stride)
    cells = inputs.size // inputs.stride
    shape = (len(inputs.cache), model.fusion, cells, cells)
    windows = [inputs.window(row) for row in range(len(inputs.cache))]
    seen = np.array([window.cells(inputs.stride) for window in windows])
    alike = [np.flatnonzero((seen == each).all(1)) for each in np.unique(seen, axis=0)]
    parts = [part for rows in alike for part in np.split(rows, range(64, len(rows), 64))]
    with new_array(out / FEATURES, np.float16, shape) as table:
        for rows in progress(parts, "cache-features"):
            down, across = seen[rows[0]].tolist()
            frames = inputs.frames(rows, [windows[row] for row in rows], (down, across))
            table[rows, :, :down, :across] = visual(torch.from_numpy(frames).to(place)).half().cpu().numpy()
    write_json({"visual": digest, "shape": list(shape)}, out / FEATURES_INFO)


def load_visual(visual: Visual, path: Path) -> None:
    """Load weights of the visual part from visual.safetensors or a model, or of the backbone alone from DarkNet's or
    timm's file; raises DataError."""
    if darknet.is_darknet(path):
        _load_darknet(visual, path)
        return
    with safetensors.safe_open(path, "pt") as stream:
        ours = any(name.startswith(("visual.", "neck.")) for name in stream.keys())  # noqa: SIM118
    if isinstance(visual.backbone, TimmBackbone) and not ours:
        if visual.frozen:
            raise DataError(f"{path}: has no weights for the neck, which model.frozen: all leaves random; set another")
        timm_weights.load(visual.backbone, path)
        say(f"{path}: all of the backbone's weights loaded\nrandom: the neck")
        return
    try:
        state = read_weights(path)
        own = {name.removeprefix("visual."): tensor for name, tensor in state.items() if name.startswith("visual.")}
        visual.load_state_dict(own or state)
    except RuntimeError as error:
        raise DataError(f"{path}: does not fit the model's visual part: {error}") from error


def _load_darknet(visual: Visual, path: Path) -> None:
    """Load DarkNet weights into the backbone and report which layers stay random."""
    if isinstance(visual.backbone, TimmBackbone):
        raise DataError(f"{path}: DarkNet's weights do not fit timm/{visual.backbone.name}; name a .safetensors file")
    number, units = darknet.read_weights(path, visual.backbone), visual.backbone.convolutions()
    say(f"{path}: {number} of the backbone's {len(units)} convolutions loaded")
    block = f" and convolutions {number + 1} to {len(units)}, the detection block" if number < len(units) else ""
    say(f"random: the neck{block}")
    stuck = sum(not unit.conv.weight.requires_grad for unit in units[number:])
    if stuck:
        say(
            f"warning: {stuck} of the random convolutions are frozen and will stay random; load YOLOv3 weights, or set "
            "model.frozen: none"
        )
