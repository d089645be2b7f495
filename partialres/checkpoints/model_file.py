"""Models on disk: safetensors, with everything needed to rebuild the model in the header."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
from torch import Tensor

from partialres.config import ModelConfig
from partialres.files import DataError, atomic
from partialres.model.build import Model, build_model

HEADER, FORMAT = "partialres", "partialres 2"
FIELDS = ("format", "model", "points", "words", "vocabulary")
COUNTS = ("points", "words")
TABLE = "positions.weight"
OF_LATER_STEPS = re.compile(r"\.prior\.|^mask_head\.")  # weights that an earlier step's model does not have


def save_model(model: Model, path: Path, *, words: int, vocabulary: str, provenance: Mapping[str, Any]) -> None:
    """Write weights, and in the header what is needed to rebuild the model.

    words: size of the vocabulary. vocabulary: its digest, so that weights never meet other word indices.
    """
    header = {
        "format": FORMAT,
        "model": model.config.model_dump_json(),
        "points": str(model.points),
        "words": str(words),
        "vocabulary": vocabulary,
        "provenance": json.dumps(provenance, sort_keys=True),
    }
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    with atomic(path) as temporary:
        # In one entry: safetensors writes several in an order that changes from run to run.
        safetensors.torch.save_file(tensors, temporary, metadata={HEADER: json.dumps(header, sort_keys=True)})


def read_header(path: Path, vocabulary: str | None = None) -> dict[str, str]:
    """Read a model file's header. vocabulary: the digest that the model must have been trained with.

    Raises DataError if the file is not one of ours or of another vocabulary.
    """
    try:
        with safetensors.safe_open(path, "pt") as stream:
            header: dict[str, str] = json.loads((stream.metadata() or {}).get(HEADER, "{}"))
    except (safetensors.SafetensorError, OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as a model ({error}); make it again or check the path") from error
    texts = isinstance(header, dict) and all(isinstance(header.get(key), str) for key in FIELDS)
    if not texts or header["format"] != FORMAT or not all(re.fullmatch(r"\d{1,9}", header[key]) for key in COUNTS):
        raise DataError(f"{path}: not a partialres model (no '{FORMAT}' in its header)")
    if vocabulary is not None and header["vocabulary"] != vocabulary:
        raise DataError(
            f"{path}: trained with another vocabulary ({header['vocabulary'][:16]}, not {vocabulary[:16]}); prepare "
            "the data set with the model's vocabulary.json (prepare --vocabulary)"
        )
    return header


def read_config(path: Path) -> ModelConfig:
    """Read the model config in a file's header; raises DataError or ConfigError if it holds none."""
    try:
        return ModelConfig.parse(json.loads(read_header(path)["model"]), str(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path}: its header holds no model config ({error}); make it again") from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file; raises DataError if it cannot be read or a value is not finite."""
    try:
        state: dict[str, Tensor] = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: cannot be read as weights ({error}); make it again or check the path") from error
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise DataError(f"{path}: {name} has a NaN or infinite value, which would be scored as 0; train again")
    return state


def load_model(path: Path, vocabulary: str | None = None) -> Model:
    """Load a model in evaluation mode. vocabulary: see `read_header`."""
    header = read_header(path, vocabulary)
    model = build_model(read_config(path), int(header["words"]), int(header["points"]))
    try:
        model.load_state_dict(read_weights(path))
    except RuntimeError as error:
        text = " ".join(str(error).split())
        raise DataError(f"{path}: its weights are not those of its header ({text:.300}); make it again") from error
    return model.eval()


def load_weights(model: Model, path: Path, vocabulary: str, positions: Literal["drop", "extend"] = "drop") -> list[str]:
    """Start a model from an earlier step's weights.

    PMCA or a mask head that only one of the two models has keeps its initial values or is left out. The position table
    may be of another length; everything else must fit.
    positions: what to do with such a table. "drop" it, as the released code does; or "extend" it: the first point keeps
    its two rows, and every later x (y) takes the row of the box's second x (y) plus its own initial value, so that the
    model still knows which axis a place is about.
    Returns the names left at their initial values. Raises DataError that lists the weights that do not fit.
    """
    read_header(path, vocabulary)
    own, given = model.state_dict(), read_weights(path)
    kept = {name: tensor for name, tensor in given.items() if name in own and own[name].shape == tensor.shape}
    may_differ = {name for name in own.keys() ^ given.keys() if OF_LATER_STEPS.search(name)}
    may_differ |= own.keys() & given.keys() & {TABLE}
    wrong = sorted((own.keys() | given.keys()) - kept.keys() - may_differ)
    if wrong:
        raise DataError(
            f"{path}: does not fit the model: {', '.join(wrong[:5])}"
            f"{' ...' if len(wrong) > 5 else ''}; both must be made with the same model sizes"
        )
    if positions == "extend" and TABLE in own and TABLE not in kept:
        kept[TABLE] = _extended(given[TABLE], own[TABLE])
    model.load_state_dict(kept, strict=False)
    return sorted(own.keys() - kept.keys())


def _extended(short: Tensor, initial: Tensor) -> Tensor:
    """Extend a box's position table [5, D] (x1, y1, x2, y2, end) to [T, D], given the initial values [T, D]."""
    table = initial.clone()
    table[2:-1:2] += short[2]
    table[3:-1:2] += short[3]
    table[:2] = short[:2]
    table[-1] = short[-1]
    return table
