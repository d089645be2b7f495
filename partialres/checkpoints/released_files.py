"""Convert files of the released implementations to ours and back: checkpoints, vocabularies and word vectors.

A released checkpoint is a dict with a `state_dict` and possibly an `ema_state_dict`, both from released names to
tensors. Its vocabulary, {word: index} with PAD at 0 and UNK at 1, and its word vectors lie beside the annotations.
"""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from partialres.checkpoints.model_file import load_model, save_model
from partialres.checkpoints.released import WORDS, released_model, to_released
from partialres.data.pickles import read_plain
from partialres.data.vocabulary import SPECIAL, Vocabulary
from partialres.files import DataError, atomic, read_json, say, write_json
from partialres.model.pointer import PointModel
from partialres.provenance import provenance

PLAIN, EMA = "state_dict", "ema_state_dict"  # keys of a checkpoint; below, names of files beside it
TOKENS, REVERSE, VECTORS = "token_to_ix.pkl", "ix_to_token.pkl", "word_emb.npz"
RELEASED_SPECIAL = ("PAD", "UNK")
IMAGE_SIZE = 640  # pixels: what every released model was trained on
MODEL, VOCABULARY = "model.safetensors", "vocabulary.json"
_PARALLEL = "module."  # prefix of all names if trained on several GPUs
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def read_checkpoint(path: Path, ema: bool | None = None) -> dict[str, Tensor]:
    """Read the weights in a released checkpoint, by their released names. Only tensors and plain data are loaded.

    ema: whether to take the moving average; None: if there is one. Batch statistics that it lacks come from state_dict.
    Raises DataError if the file holds anything else or lacks the weights asked for.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path}: not loaded, because it holds objects other than tensors and plain data, which could run code "
            f"({str(error).splitlines()[0]}); if you trust it, save only {{'{PLAIN}': ..., '{EMA}': ...}}"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a checkpoint ({error}); download it again") from error
    held = content if isinstance(content, dict) else {}
    states = {key: _state(held[key], f"{path}: {key}") for key in (PLAIN, EMA) if key in held}
    chosen = PLAIN if ema is False or (ema is None and EMA not in states) else EMA
    if chosen not in states:
        raise DataError(f"{path}: has no {chosen}; it holds {', '.join(map(str, held)) or type(content).__name__}")
    statistics = {key: value for key, value in states.get(PLAIN, {}).items() if key.endswith(_STATISTICS)}
    return statistics | states[chosen]


def _state(state: Any, where: str) -> dict[str, Tensor]:
    """Check one of a checkpoint's state dicts, and remove the prefix that training on several GPUs adds."""
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{where} is no dict of tensors")
    parallel = all(name.startswith(_PARALLEL) for name in state)
    return {name.removeprefix(_PARALLEL) if parallel else name: value for name, value in state.items()}


def read_vocabulary(path: Path, max_words: int) -> Vocabulary:
    """Read a released vocabulary, keeping each word's index. It has no word counts, so every count is 0.

    Its entry CLS is never used, because cleaned words are lower-case. max_words: length to which expressions are cut.
    Raises DataError if the file is no such pickle.
    """
    content = read_plain(path)
    if not isinstance(content, dict) or not all(type(index) is int for index in content.values()):
        raise DataError(f"{path}: not a vocabulary: a dict of words to their indices")
    words = sorted(content, key=content.__getitem__)
    if [content[word] for word in words] != list(range(len(words))) or not all(isinstance(word, str) for word in words):
        raise DataError(f"{path}: not a vocabulary: its indices are not 0 to {len(words) - 1}, each of one word")
    if tuple(words[:2]) != RELEASED_SPECIAL:
        raise DataError(f"{path}: not a released vocabulary: 0 and 1 are {words[:2]}, not {list(RELEASED_SPECIAL)}")
    return Vocabulary((*SPECIAL, *words[2:]), (0,) * len(words), max_words)


def read_vectors(path: Path) -> Tensor:
    """Read word vectors, float32 [words, dim], from a released word_emb.npz; raises DataError for any other file."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            table = archive["word_emb"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not word vectors ({error}); it needs an array word_emb") from error
    if table.ndim != 2 or table.dtype.kind != "f":
        raise DataError(f"{path}: word_emb is not numbers [words, dim] but {table.dtype} {list(table.shape)}")
    return torch.from_numpy(table.astype(np.float32))


def import_weights(
    path: Path, vocabulary: Path, vectors: Path | None, out: Path, *, ema: bool | None, max_words: int
) -> None:
    """Convert a released checkpoint to model.safetensors, vocabulary.json and provenance.json in the folder `out`.

    vectors: word_emb.npz, used if the checkpoint has no word vectors; if it has, the shapes must be equal.
    ema: see `read_checkpoint`. max_words: length to which the released data code pads expressions.
    Raises DataError as the readers and `released_model` do.
    """
    state = read_checkpoint(path, ema)
    words = read_vocabulary(vocabulary, max_words)
    if vectors:
        table = read_vectors(vectors)
        own = state.setdefault(WORDS, table)
        if own.shape != table.shape:
            raise DataError(f"{vectors}: {list(table.shape)} word vectors, {path} has {list(own.shape)}")
        if not torch.equal(own, table):
            say(f"import-weights: the word table is the checkpoint's, which is not that of {vectors}")
    if WORDS in state and len(state[WORDS]) != len(words):
        raise DataError(f"{vocabulary}: {len(words)} words, {path} has vectors of {len(state[WORDS])}")
    try:
        model = released_model(state, max_words)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    files = {"checkpoint": path, "vocabulary": vocabulary} | ({"vectors": vectors} if vectors else {})
    origin = provenance({"model": model.config, "points": model.points, "ema": ema}, files, seed=0, device="cpu")
    write_json(words.to_json(), out / VOCABULARY)
    write_json(origin, out / "provenance.json")
    save_model(model, out / MODEL, words=words, size=IMAGE_SIZE, provenance=origin)
    say(f"import-weights: {len(state)} tensors, {len(words)} words, {_kind(model)} -> {out}")


def export_weights(path: Path, vocabulary: Path, out: Path) -> None:
    """Convert a model to a released checkpoint, with vocabulary and word vectors beside it under their released names.

    Both state dicts hold the same weights, because the released evaluation may read either.
    Raises DataError if the model is not of a released architecture or was trained with another vocabulary.
    """
    words = Vocabulary.from_json(read_json(vocabulary))
    model = load_model(path, words.digest())
    if not isinstance(model, PointModel):
        raise DataError(f"{path}: has a mask head, which no released model has; export one of model.head: points")
    state = {name: value.contiguous() for name, value in to_released(model).items()}
    tokens = {word: index for index, word in enumerate((*RELEASED_SPECIAL, *words.words[2:]))}
    if len(tokens) != len(words):
        raise DataError(f"{vocabulary}: one of its words is {' or '.join(RELEASED_SPECIAL)}, which are not words")
    for name, content in ((TOKENS, tokens), (REVERSE, {index: word for word, index in tokens.items()})):
        with atomic(out.parent / name) as temporary, temporary.open("wb") as stream:
            pickle.dump(content, stream, protocol=4)
    with atomic(out.parent / VECTORS) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, word_emb=state[WORDS].numpy())
    with atomic(out) as temporary:
        torch.save({PLAIN: state, EMA: state}, temporary)
    padded = model.config.upstream.padded_words
    say(f"export-weights: {len(state)} tensors, {_kind(model)} -> {out}; in the released config max_token is {padded}")


def _kind(model: PointModel) -> str:
    """Describe the released model in a few words."""
    answers = "boxes" if model.points == 2 else f"contours of {model.points} points"
    return f"{'Partial-RES' if model.config.pmca else 'SeqTR'}, {answers}"
