"""Compare our model with recorded outputs of the released ones: python -m tools.golden FOLDER

Reads every .npz in the folder with its .parameters.tsv, rebuilds the weights with the recordings' formula, and compares
the released code's outputs with ours. Prints one line per file: the largest error of each quantity.
"""

from __future__ import annotations

import argparse
import functools
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from partialres.checkpoints.released import released_model
from partialres.data.batch import Batch, count_words
from partialres.geometry.tokens import points_to_sequence
from partialres.model.pointer import PointModel, sequence_loss

TOLERANCE = 1e-4


@functools.cache
def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """Compute the parameter or buffer with this released name and shape from the formula.

    The word table follows the formula, too: the recordings were made with it, not with real word vectors.
    """
    if not shape:
        return torch.tensor(0)  # num_batches_tracked
    n = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    flat = len(shape) == 1
    if name.endswith("running_var"):
        n = 1 + np.float32(0.1) * np.abs(n)
    elif name.endswith("running_mean"):
        n = np.float32(0.1) * n
    elif flat:
        n = np.float32(name.endswith("weight")) + np.float32(0.1) * n
    elif "embedding" in name or "task_prompt" in name:
        n = np.float32(0.5) * n
    else:
        n = n * np.float32(np.sqrt(1 / np.prod(shape[1:])))
    for part, factor, vectors_too in (
        ("predictor", 4, False), ("query_embedding", 6, True), (".point.", 3, False), ("seq_positional", 4, True)
    ):  # fmt: skip
        if part in name and (vectors_too or not flat):
            n = n * np.float32(factor)
    return torch.from_numpy(np.ascontiguousarray(n))


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read names and shapes from a .parameters.tsv."""
    rows = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    return {name: tuple(int(size) for size in shape.split("x") if size) for name, shape in rows}


def read_inputs(recording: dict[str, np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
    """Make pixels [2, 3, H, W] with black padding; return them, which are valid, bool [2, H, W], and words [2, L]."""
    height, width = recording["hw"].tolist()
    random = np.random.RandomState(int(recording["seed"]))
    pixels = random.rand(2, 3, height, width).astype(np.float32)
    inside = np.zeros((2, height, width), dtype=bool)
    for mask, (h, w) in zip(inside, recording["valid"].tolist(), strict=True):
        mask[:h, :w] = True
    pixels *= inside[:, None]
    return torch.from_numpy(pixels), torch.from_numpy(inside), torch.from_numpy(recording["words"])


def target(recording: dict[str, np.ndarray], model: PointModel) -> Tensor:
    """Return the target tokens, int64 [2, T]."""
    extent = recording["hw"][::-1]
    points = recording["vertices"].transpose(0, 2, 1) if "vertices" in recording else recording["bbox"].reshape(2, 2, 2)
    bins, rounding = model.config.bins, model.config.upstream.rounding
    # Dividing each axis by its own extent makes the frame's side 1 on both.
    sequences = [points_to_sequence(each / extent, 1.0, bins, rounding) for each in points]
    return torch.from_numpy(np.stack(sequences))


@torch.no_grad()
def outputs(recording: dict[str, np.ndarray], model: PointModel) -> dict[str, np.ndarray]:
    """Compute all that was recorded by our model from the recording's inputs."""
    pixels, inside, words = read_inputs(recording)
    stride = model.visual.stride
    computed: dict[str, Tensor] = {"language": model.language(words, count_words(words))[:, None]}
    maps = model.visual.backbone(pixels)
    computed |= {f"visual{index}_mean": each.mean((2, 3)) for index, each in enumerate(maps)}
    features = torch.tanh(model.visual.neck(maps))
    computed["fused"] = (features * torch.tanh(computed["language"][:, 0])[:, :, None, None])[:, ::64]
    tokens = target(recording, model)
    batch = Batch(features, inside[:, ::stride, ::stride], torch.arange(2), words, tokens)
    memory = model.encode(batch)
    computed["memory"] = memory.features[:, :, ::16]
    computed["logits"] = model.logits(memory, tokens)
    contour = "vertices" in recording
    end_weight, first_weight = (0.1, 1.0) if contour else (1.0, 1.5)
    computed["loss"] = sequence_loss(computed["logits"].double(), tokens, 0.1, end_weight, first_weight)
    chosen, _ = model.decode(memory)
    if contour:  # the released code decodes one more token, which belongs to no point
        last = model.logits(memory, torch.cat([chosen, tokens[:, -1:]], 1))[:, -1].argmax(-1)
        chosen = torch.cat([chosen, last[:, None]], 1)
    computed["tokens"] = chosen
    return {name: value.numpy() for name, value in computed.items()}


def errors(recording: dict[str, np.ndarray], computed: dict[str, np.ndarray]) -> dict[str, float]:
    """Return each quantity's largest difference in standard deviations, the loss's as it is; of tokens, a count."""
    result = {}
    for name, value in computed.items():
        truth = recording[name]
        if value.shape != truth.shape:
            result[name] = float("inf")
        elif name == "tokens":
            result[name] = float((value != truth).sum())
        elif name == "loss":
            result[name] = abs(float(value) - float(truth))
        else:
            result[name] = float(np.abs(value.astype(np.float64) - truth).max() / truth.std())
    return result


def check(path: Path) -> dict[str, float]:
    """Compare one recording and return the errors."""
    with np.load(path) as archive:
        recording = dict(archive)
    shapes = read_shapes(path.with_name(path.stem + ".parameters.tsv"))
    state = {name: weight(name, shape) for name, shape in shapes.items()}
    model = released_model(state, padded_words=recording["words"].shape[1])
    return errors(recording, outputs(recording, model))


def main(folder: Path) -> int:
    """Print one line per recording; return how many exceed the tolerance, or 1 if there are no recordings."""
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        print(f"{folder}: no recordings (.npz)", file=sys.stderr)
        return 1
    failed = 0
    for path in paths:
        computed = check(path)
        bad = not all(error <= TOLERANCE for error in computed.values())
        failed += bad
        print(f"{path.stem}: {'BEYOND' if bad else 'within'} {TOLERANCE:g}  {show(computed)}", flush=True)
    return failed


def show(computed: dict[str, float]) -> str:
    """Return the errors as one line of text."""
    return "  ".join(f"{name} {error:{'g' if name == 'tokens' else '.1e'}}" for name, error in computed.items())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.golden", description=__doc__)
    parser.add_argument("folder", type=Path, help="recordings: NAME.npz with NAME.parameters.tsv")
    sys.exit(min(main(parser.parse_args().folder), 1))
