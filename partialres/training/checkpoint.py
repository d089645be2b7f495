"""Models on disk (safetensors with their config in the header) and the state a killed training resumes from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor

import partialres
from partialres.config import ModelConfig, fill
from partialres.files import DataError, atomic, say
from partialres.model.build import Model, build_model

HEADER, FORMAT = "partialres", "partialres 1"
DIGEST_SIZE = 32  # bytes of a SHA-256
OF_LATER_STEPS = re.compile(r"\.prior\.|^mask_head\.")  # weights that a model may have and an earlier step's have not


def digest(value: Any) -> str:
    """Short SHA-256 of any JSON-like value; dataclasses count by their fields."""
    text = json.dumps(value, sort_keys=True, default=lambda item: dataclasses.asdict(item))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """Short SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def save_model(model: Model, path: Path, *, words: int, vocabulary: str, provenance: Mapping[str, Any]) -> None:
    """Write weights, and in the header what is needed to rebuild the model.

    words: size of the vocabulary. vocabulary: its digest, so that weights never meet other word indices.
    """
    header = {
        "format": FORMAT,
        "model": json.dumps(dataclasses.asdict(model.config)),
        "points": str(model.points),
        "words": str(words),
        "vocabulary": vocabulary,
        "provenance": json.dumps(provenance, sort_keys=True),
    }
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    with atomic(path) as temporary:
        # In one entry: safetensors writes several in an order that changes from run to run.
        safetensors.torch.save_file(tensors, temporary, metadata={HEADER: json.dumps(header, sort_keys=True)})


def read_header(path: Path) -> dict[str, str]:
    """A model file's header; raises DataError if it is not one of ours."""
    try:
        with safetensors.safe_open(path, "pt") as stream:
            header: dict[str, str] = json.loads((stream.metadata() or {}).get(HEADER, "{}"))
    except (safetensors.SafetensorError, OSError) as error:
        raise DataError(f"{path}: cannot be read as a model ({error}); make it again or check the path") from error
    if header.get("format") != FORMAT:
        raise DataError(f"{path}: not a partialres model (no '{FORMAT}' in its header)")
    return header


def read_config(path: Path) -> ModelConfig:
    """The model config in a file's header."""
    return fill(ModelConfig, json.loads(read_header(path)["model"]), str(path))


def _check_vocabulary(path: Path, header: Mapping[str, str], vocabulary: str) -> None:
    if header["vocabulary"] != vocabulary:
        raise DataError(
            f"{path}: trained with another vocabulary ({header['vocabulary'][:16]}, not {vocabulary[:16]}); prepare "
            "the data set with the model's vocabulary.json (prepare --vocabulary)"
        )


def load_model(path: Path, vocabulary: str | None = None) -> Model:
    """The model in a file, in evaluation mode. vocabulary: the digest it must have been trained with."""
    header = read_header(path)
    if vocabulary is not None:
        _check_vocabulary(path, header, vocabulary)
    model = build_model(read_config(path), int(header["words"]), int(header["points"]))
    model.load_state_dict(safetensors.torch.load_file(path))
    return model.eval()


def load_weights(model: Model, path: Path, vocabulary: str, positions: Literal["drop", "extend"] = "drop") -> list[str]:
    """Start a model from an earlier step's weights.

    PMCA or a mask head, if the earlier model has none, keeps its initial values; if only that has it, it is left out.
    Everything else must fit.
    positions: what to do with a position table of another length. "drop" it, as the released code does; or "extend" it:
    the first point keeps its two rows, and every later x (y) takes the row of the box's second x (y) plus its own
    initial value, so that the model still knows which axis a place is about. Of a model whose contours follow their box
    the box keeps all of its four rows.

    Returns the names left at their initial values.
    """
    header = read_header(path)
    _check_vocabulary(path, header, vocabulary)
    own, given = model.state_dict(), safetensors.torch.load_file(path)
    kept = {name: tensor for name, tensor in given.items() if name in own and own[name].shape == tensor.shape}
    missing = sorted(own.keys() - kept.keys())
    in_one = own.keys() ^ given.keys()
    wrong = sorted(name for name in in_one if not OF_LATER_STEPS.search(name))
    wrong += [name for name in missing if name not in in_one and name != "positions.weight"]
    if wrong:
        raise DataError(
            f"{path}: does not fit the model: {', '.join(wrong[:5])}"
            f"{' ...' if len(wrong) > 5 else ''}; both must be made with the same model sizes"
        )
    if positions == "extend" and "positions.weight" in missing:
        kept["positions.weight"] = _extended(given["positions.weight"], own["positions.weight"], model.config.prompt)
        missing.remove("positions.weight")
    model.load_state_dict(kept, strict=False)
    return missing


def _extended(short: Tensor, initial: Tensor, prompt: str) -> Tensor:
    """A position table [T, D] from a box's [5, D] (x1, y1, x2, y2, end) and its own initial values [T, D]."""
    table = initial.clone()
    table[2:-1:2] += short[2]
    table[3:-1:2] += short[3]
    kept = 4 if prompt == "box" else 2
    table[:kept] = short[:kept]
    table[-1] = short[-1]
    return table


class Resume:
    """State of an unfinished training, outside the declared outputs: a workflow removes those before it reruns."""

    def __init__(self, root: Path | None, key: Mapping[str, Any]) -> None:
        """root: folder for states, or None to keep none. key: everything that decides the training's result."""
        self.path = root / f"{digest(dict(key))}.pt" if root else None

    def save(self, state: dict[str, Any]) -> None:
        """Write the state atomically, its digest behind it: torch would read damaged numbers without a word."""
        if self.path:
            with atomic(self.path) as temporary:
                torch.save(state, temporary)
                with open(temporary, "r+b") as stream:
                    stream.write(_sha256(stream, temporary.stat().st_size))

    def load(self) -> dict[str, Any] | None:
        """The saved state, or None if there is none or it is damaged (then training starts anew, and says so)."""
        if not self.path or not self.path.exists():
            return None
        with open(self.path, "rb") as stream:
            whole = _sha256(stream, self.path.stat().st_size - DIGEST_SIZE) == stream.read()
        try:
            if whole:
                state: dict[str, Any] = torch.load(self.path, weights_only=True, map_location="cpu")
                return state
        except (RuntimeError, pickle.UnpicklingError):  # code where only numbers may be
            pass
        say(f"{self.path}: the resume state is damaged; starting anew")
        return None

    def clear(self) -> None:
        """Remove the state of a training that has ended well."""
        if self.path:
            self.path.unlink(missing_ok=True)


def _sha256(stream: BinaryIO, length: int) -> bytes:
    """Digest of the next `length` bytes of a file."""
    found = hashlib.sha256()
    while length > 0 and (chunk := stream.read(min(length, 2**20))):
        found.update(chunk)
        length -= len(chunk)
    return found.digest()


def provenance(configs: Mapping[str, Any], inputs: Mapping[str, Path], seed: int, device: str) -> dict[str, Any]:
    """What made a result: code, config, input digests, versions, seed, device. No times: same run, same file."""
    import numpy

    return {
        "partialres": partialres.__version__,
        "commit": _commit(),
        "config": json.loads(json.dumps(dict(configs), default=dataclasses.asdict)),
        "config_digest": digest(dict(configs)),
        "inputs": {name: file_digest(path) for name, path in inputs.items()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": numpy.__version__},
        "seed": seed,
        "device": device,
    }


def _commit() -> str:
    """The package's git commit, with '+' if its files differ from it; 'unknown' outside a checkout."""
    folder = Path(partialres.__file__).parent
    try:
        run = subprocess.run(
            ["git", "-C", folder, "describe", "--always", "--dirty=+", "--abbrev=12"],
            capture_output=True, text=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return run.stdout.strip() or "unknown"
