"""Save and load models as safetensors files whose header holds everything needed to rebuild the model."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
from torch import Tensor

from partialres.config import ModelConfig
from partialres.data.vocabulary import Vocabulary
from partialres.files import MAX_SIDE, DataError, atomic
from partialres.model.build import Model, build_model

HEADER, FORMAT = "partialres", "partialres 4"
TABLE = "positions.weight"
OF_LATER_STEPS = re.compile(r"\.prior\.|^mask_head\.")  # weights that step 1's model lacks


def save_model(model: Model, path: Path, *, words: Vocabulary, size: int, provenance: Mapping[str, Any]) -> None:
    """Write weights, and in the header all that is needed to use the model on a picture.

    words: the vocabulary, of which words and limits are kept. size: long side of the images it was trained on, pixels.
    """
    header = {
        "format": FORMAT,
        "model": model.config.model_dump(mode="json"),
        "points": model.points,
        "image_size": size,
        "vocabulary": {"words": words.words, "max_words": words.max_words},
        "provenance": dict(provenance),
    }
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    with atomic(path) as temporary:
        # A single metadata entry, because safetensors writes several in an order that varies between runs.
        safetensors.torch.save_file(tensors, temporary, metadata={HEADER: json.dumps(header, sort_keys=True)})


def read_header(path: Path, vocabulary: str | None = None) -> dict[str, Any]:
    """Read a model file's header. vocabulary: digest of the words that the model must have been trained with.

    Raises DataError if the file is not one of ours, is of an older version, or has a different vocabulary.
    """
    try:
        with safetensors.safe_open(path, "pt") as stream:
            header: dict[str, Any] = json.loads((stream.metadata() or {}).get(HEADER, "{}"))
    except (safetensors.SafetensorError, OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as a model ({error}); make it again or check the path") from error
    version = header.get("format") if isinstance(header, dict) else None
    if version != FORMAT:
        raise DataError(
            f"{path}: is of version '{version}', and this package reads '{FORMAT}'; make it again "
            "(snakemake does, or train-rec, train-res, import-weights)"
            if version
            else f"{path}: not a partialres model (no '{FORMAT}' in its header)"
        )
    if not all(type(header.get(key)) is int and 0 < header[key] <= MAX_SIDE for key in ("points", "image_size")):
        raise DataError(f"{path}: its header lacks a number of points or an image size; make it again")
    own = _words(header, path).digest()
    if vocabulary is not None and own != vocabulary:
        raise DataError(
            f"{path}: trained with another vocabulary ({own[:16]}, not {vocabulary[:16]}); prepare the data set with "
            "the model's vocabulary.json (prepare --vocabulary)"
        )
    return header


def read_config(path: Path) -> ModelConfig:
    """Read the model config from a model file's header; raises ConfigError if it holds none."""
    return ModelConfig.parse(read_header(path).get("model"), str(path))


def read_words(path: Path) -> Vocabulary:
    """Read the vocabulary from a model file's header; its word counts are zero."""
    return _words(read_header(path), path)


def _words(header: Mapping[str, Any], path: Path) -> Vocabulary:
    try:
        words = tuple(header["vocabulary"]["words"])
        return Vocabulary(words, (0,) * len(words), header["vocabulary"]["max_words"])
    except (KeyError, TypeError, DataError) as error:
        raise DataError(f"{path}: its header holds no vocabulary ({error}); make it again") from error


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
    model = build_model(read_config(path), len(header["vocabulary"]["words"]), header["points"])
    try:
        model.load_state_dict(read_weights(path))
    except RuntimeError as error:
        text = " ".join(str(error).split())
        raise DataError(f"{path}: its weights are not those of its header ({text:.300}); make it again") from error
    return model.eval()


def load_weights(model: Model, path: Path, vocabulary: str, positions: Literal["drop", "extend"] = "drop") -> list[str]:
    """Load an earlier step's weights into a model.

    If only one of the two models has PMCA or a mask head, its weights keep their initial values or are ignored. The
    table of learned positions may differ in length; everything else must fit.
    positions: what to do with a table of another length. "drop" ignores it, as the released code does. "extend" keeps
    the two rows of the first point; the row of every later x (y) becomes the row of the box's second x (y) plus its own
    initial value, so that the model still knows which places hold x and which y.
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
    """Extend a box's position table [5, D] (x1, y1, x2, y2, end) to [T, D]. initial: the longer table, [T, D]."""
    table = initial.clone()
    table[2:-1:2] += short[2]
    table[3:-1:2] += short[3]
    table[:2] = short[:2]
    table[-1] = short[-1]
    return table
