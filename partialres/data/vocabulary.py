"""Turn expressions into word indices, and look up word vectors. Words are taken from the training split only."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from partialres.files import DataError

PAD, UNKNOWN = 0, 1
SPECIAL = ("<pad>", "<unk>")
Report = Mapping[str, Any]  # how the refs were prepared
NUMPY_MAGIC = b"\x93NUMPY"  # the first bytes of numpy's array files

_CLEANING = str.maketrans({**dict.fromkeys(".,'!?\"()*#:;"), "-": " ", "/": " "})


def clean(expression: str) -> list[str]:
    """Split an expression into words: in lower case, without . , ' ! ? " ( ) * # : ; and with - and / as spaces."""
    return expression.lower().translate(_CLEANING).split()


@dataclass(frozen=True)
class Vocabulary:
    """The words a model knows; the place of a word is its index. 0 is padding, 1 stands for every unknown word.

    counts: how often each word is in the training expressions ("<unk>": all unknown words together). max_words: longer
    expressions are cut. min_count: rarer words are unknown. unknown_share, truncated_share: split -> share of its words
    that are unknown and of its expressions that are cut, 0 to 1. report: how the refs were prepared.
    """

    words: tuple[str, ...]
    counts: tuple[int, ...]
    max_words: int
    min_count: int = 1
    unknown_share: Mapping[str, float] = field(default_factory=dict)
    truncated_share: Mapping[str, float] = field(default_factory=dict)
    report: Report = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.words[:2] != SPECIAL or len(set(self.words)) != len(self.words) or len(self.counts) != len(self.words):
            raise DataError(f"a vocabulary starts with {SPECIAL}, holds no word twice and has a count for each word")
        if self.max_words < 1:
            raise DataError(f"max_words must be at least 1, not {self.max_words}")

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def index(self) -> dict[str, int]:
        """Word -> index, without the two special words: "<pad>" in an expression is not padding."""
        return {word: number for number, word in enumerate(self.words) if number > UNKNOWN}

    def encode(self, expression: str, max_words: int | None = None) -> NDArray[np.int64]:
        """Return the word indices of an expression, int64 [max_words] (default: the vocabulary's), padded with 0."""
        length = self.max_words if max_words is None else max_words
        indices = np.full(length, PAD, dtype=np.int64)
        words = clean(expression)[:length]
        indices[: len(words)] = [self.index.get(word, UNKNOWN) for word in words]
        return indices

    def digest(self) -> str:
        """Return the SHA-256 of what the indices mean; a model and the vocabulary used with it must agree in it."""
        return hashlib.sha256("\n".join((*self.words, str(self.max_words))).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able dict; `from_json` is the inverse."""
        return asdict(self) | {"words": list(self.words), "counts": list(self.counts)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Vocabulary:
        """Build a vocabulary from what `to_json` gave. Raises DataError if keys are missing or unknown."""
        try:
            return cls(**{**values, "words": tuple(values["words"]), "counts": tuple(values["counts"])})
        except (KeyError, TypeError) as error:
            raise DataError(f"not a vocabulary of this program ({error}); prepare the data set again") from error


def build_vocabulary(
    refs: pd.DataFrame, *, max_words: int = 15, min_count: int = 1, report: Report | None = None
) -> Vocabulary:
    """Collect the words of the training expressions, most frequent first, and count how far they reach in each split.

    refs: has split and expressions. report: is kept as it is. Raises DataError if there is no training split.
    """
    cleaned = _cleaned(refs)
    if not cleaned.get("train"):
        splits = ", ".join(sorted(cleaned))
        raise DataError(
            f"no expressions of split 'train' to take words from, only of {splits}; choose another split_by"
        )
    counts = Counter(chain.from_iterable(cleaned["train"]))
    kept = (word for word, count in counts.items() if count >= min_count and word not in SPECIAL)
    words = (*SPECIAL, *sorted(kept, key=lambda word: (-counts[word], word)))
    return _counted(Vocabulary(words, (0,) * len(words), max_words, min_count, report=dict(report or {})), cleaned)


def apply_vocabulary(refs: pd.DataFrame, vocabulary: Vocabulary, *, report: Report | None = None) -> Vocabulary:
    """Keep the words, indices and limits of a vocabulary, which belong to a model, but count these refs' expressions.

    refs, report: as for `build_vocabulary`; a training split is not needed.
    """
    return _counted(replace(vocabulary, report=dict(report or {})), _cleaned(refs))


def _cleaned(refs: pd.DataFrame) -> dict[str, list[list[str]]]:
    """Return split -> the words of each of its expressions."""
    return {
        str(split): [clean(expression) for expressions in rows for expression in expressions]
        for split, rows in refs.groupby("split", sort=False)["expressions"]
    }


def _counted(vocabulary: Vocabulary, cleaned: Mapping[str, list[list[str]]]) -> Vocabulary:
    """Count the words of a vocabulary in the training split, and its shares in every split."""
    counts = Counter(chain.from_iterable(cleaned.get("train", [])))
    unknown = sum(counts[word] for word in counts.keys() - vocabulary.index.keys())
    unknown_share, truncated_share = {}, {}
    for split, expressions in cleaned.items():
        words = list(chain.from_iterable(expressions))
        unknown_share[split] = sum(word not in vocabulary.index for word in words) / max(len(words), 1)
        cut = sum(len(expression) > vocabulary.max_words for expression in expressions)
        truncated_share[split] = cut / max(len(expressions), 1)
    return replace(
        vocabulary,
        counts=(0, unknown, *(counts[word] for word in vocabulary.words[2:])),
        unknown_share=unknown_share,
        truncated_share=truncated_share,
    )


def word_vectors(vocabulary: Vocabulary, path: Path, dim: int, seed: int) -> tuple[NDArray[np.float32], int]:
    """Read the words' vectors from a file, and count the words that it lacks.

    path: a text file in GloVe's format, each line a word and dim numbers, separated by single spaces; or the file
    `vocab/vectors` in the folder of a spaCy pipeline, which needs spaCy itself.
    Returns float32 [words, dim]. Row 0 (padding) is zero; "<unk>" and words without a vector get random ones, by the
    seed, with the standard deviation of those that are in the file.
    Raises DataError if the file has another dim, a line cannot be read, or no word is in it.
    """
    path = Path(path)
    with path.open("rb") as file:
        is_array = file.read(len(NUMPY_MAGIC)) == NUMPY_MAGIC
    by_row = (_spacy_vectors if is_array else _glove_vectors)(vocabulary, path, dim)
    if not by_row:
        raise DataError(
            f"{path}: has none of the {len(vocabulary) - 2} words; is its language the same, in lower case?"
        )
    rows = sorted(by_row)
    read = np.array([by_row[row] for row in rows], dtype=np.float32)
    vectors = np.random.default_rng(seed).standard_normal((len(vocabulary), dim), dtype=np.float32) * read.std()
    vectors[rows], vectors[PAD] = read, 0
    return vectors, len(vocabulary) - 2 - len(rows)


def _glove_vectors(vocabulary: Vocabulary, path: Path, dim: int) -> dict[int, NDArray[np.floating]]:
    """Read vectors [dim] in GloVe's text format, by the words' indices."""
    vectors: dict[int, NDArray[np.floating]] = {}
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for number, line in enumerate(file, 1):
            row = vocabulary.index.get(line[: line.find(" ")])
            if number > 1 and (row is None or row in vectors):
                continue
            # Split from the right: some of GloVe's words hold spaces, and their first piece is another word.
            word, *values = line.rstrip().rsplit(" ", dim)
            if len(values) != dim or (number == 1 and " " in word):
                raise DataError(
                    f"{path}: line {number} has {len(line.split(' ')) - 1} numbers, {dim} are needed; "
                    "take vectors of that dim in GloVe's text format (no header line)"
                )
            if row is None or word != vocabulary.words[row]:
                continue
            try:
                vectors[row] = np.array(values, dtype=np.float64)
            except ValueError as error:
                raise DataError(f"{path}: line {number}: not a number ({error})") from error
            if not np.isfinite(vectors[row]).all():
                raise DataError(f"{path}: line {number}: not every number is finite")
    return vectors


def _spacy_vectors(vocabulary: Vocabulary, path: Path, dim: int) -> dict[int, NDArray[np.floating]]:
    """Read vectors [dim] in a spaCy pipeline's table with its keys beside it, by the words' indices."""
    try:
        from spacy.strings import get_string_id
        from spacy.vectors import Vectors
    except ImportError as error:
        raise DataError(f"{path}: a table of spaCy's vectors, which spaCy reads: pip install spacy") from error
    try:
        table = Vectors().from_disk(path.parent)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: spaCy cannot read it with its keys beside it ({error})") from error
    if table.shape[1] != dim:
        raise DataError(f"{path}: vectors of {table.shape[1]} numbers, {dim} are needed (model.word)")
    places = {row: table.key2row.get(get_string_id(word), -1) for word, row in vocabulary.index.items()}
    return {row: table.data[place] for row, place in places.items() if place >= 0}
