"""Turn expressions into word indices, and look up word vectors. Only the training split adds words."""

from __future__ import annotations

import hashlib
import unicodedata
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

_BLANK = "\u115f\u1160\u2800\u3164\uffa0"  # letters and signs by their category, but nothing is seen of them
_CLEANING = str.maketrans({**dict.fromkeys(".,'!?\"()*#:;" + _BLANK), "-": " ", "/": " "})


def clean(expression: str) -> list[str]:
    """Split an expression into lower-case words, removing . , ' ! ? " ( ) * # : ; and reading - and / as spaces.

    What has nothing that can be seen, as zero-width spaces have not, is no word.
    """
    words = expression.lower().translate(_CLEANING).split()
    return words if expression.isascii() and expression.isprintable() else [*filter(_is_visible, words)]


def _is_visible(word: str) -> bool:
    return any(each.isprintable() and unicodedata.category(each)[0] != "M" for each in word)


@dataclass(frozen=True)
class Vocabulary:
    """The words that a model knows, each at its index. Index 0 is padding, 1 stands for every unknown word."""

    words: tuple[str, ...]
    counts: tuple[int, ...]  # occurrences in training expressions; "<unk>": of all unknown words together
    max_words: int  # longer expressions are cut to so many words
    unknown_share: Mapping[str, float] = field(default_factory=dict)  # split -> share of unknown words, 0 to 1
    truncated_share: Mapping[str, float] = field(default_factory=dict)  # split -> share of cut expressions, 0 to 1
    report: Mapping[str, Any] = field(default_factory=dict)  # `Problems.report` of the refs

    def __post_init__(self) -> None:
        texts = all(isinstance(word, str) for word in self.words) and len({*self.words}) == len(self.counts)
        limit = type(self.max_words) is int and 1 <= self.max_words <= 1000
        if not texts or not limit or self.words[:2] != SPECIAL or len(self.words) != len(self.counts):
            raise DataError(f"a vocabulary starts with {SPECIAL}, holds no word twice and has a count for each word")

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def index(self) -> dict[str, int]:
        """Maps words to indices, except the two special words: "<pad>" in an expression is not padding."""
        return {word: number for number, word in enumerate(self.words) if number > UNKNOWN}

    def encode(self, expression: str) -> NDArray[np.int64]:
        """Return an expression's word indices, int64 [max_words], cut or padded with 0."""
        words = clean(expression)[: self.max_words]
        indices = np.full(self.max_words, PAD, dtype=np.int64)
        indices[: len(words)] = [self.index.get(word, UNKNOWN) for word in words]
        return indices

    def digest(self) -> str:
        """Return the SHA-256 of the words and max_words; it must equal that of a model's training vocabulary."""
        return hashlib.sha256("\n".join((*self.words, str(self.max_words))).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return a dict that can be written as JSON; `from_json` is the inverse."""
        return asdict(self) | {"words": list(self.words), "counts": list(self.counts)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Vocabulary:
        """Build a vocabulary from a dict made by `to_json`; raises DataError if keys are missing or unknown."""
        try:
            return cls(**{**values, "words": tuple(values["words"]), "counts": tuple(values["counts"])})
        except (KeyError, TypeError) as error:
            raise DataError(f"not a vocabulary of this program ({error}); prepare the data set again") from error


def build_vocabulary(refs: pd.DataFrame, *, max_words: int = 15, report: Mapping[str, Any] = {}) -> Vocabulary:
    """Collect the words of the training expressions, most frequent first, and count unknown words in each split.

    refs: has split, with refs of train (`check_splits`), and expressions. report: stored unchanged.
    """
    train = refs.loc[refs["split"] == "train", "expressions"]
    counts = Counter(word for text in chain.from_iterable(train) for word in clean(text))
    words = (*SPECIAL, *sorted(counts.keys() - set(SPECIAL), key=lambda word: (-counts[word], word)))
    return apply_vocabulary(refs, Vocabulary(words, (0,) * len(words), max_words), report=report)


def apply_vocabulary(refs: pd.DataFrame, vocabulary: Vocabulary, *, report: Mapping[str, Any] = {}) -> Vocabulary:
    """Return a vocabulary with the same words, indices and limit but with the counts of these refs' expressions."""
    counts = (0,) * len(vocabulary)
    unknown_share, truncated_share = {}, {}
    for split, texts in refs.groupby("split", sort=False)["expressions"]:
        expressions = [clean(text) for text in chain.from_iterable(texts)]
        words = Counter(chain.from_iterable(expressions))
        unknown = sum(words[word] for word in words.keys() - vocabulary.index.keys())
        unknown_share[str(split)] = unknown / max(words.total(), 1)
        cut = sum(len(expression) > vocabulary.max_words for expression in expressions)
        truncated_share[str(split)] = cut / max(len(expressions), 1)
        if split == "train":
            counts = (0, unknown, *(words[word] for word in vocabulary.index))
    return replace(
        vocabulary, counts=counts, unknown_share=unknown_share, truncated_share=truncated_share, report=dict(report)
    )


def word_vectors(vocabulary: Vocabulary, path: Path, dim: int, seed: int) -> tuple[NDArray[np.float32], int]:
    """Read the vectors of a vocabulary's words from a file, and count the words that are not in it.

    path: a text file in GloVe's format, each line a word and dim numbers, separated by single spaces.
    Returns float32 [words, dim] and the count. Row 0 (padding) is zero; "<unk>" and words not in the file get random
    vectors from the seed, with the standard deviation of the vectors read.
    Raises DataError if the vectors do not have length dim, a line cannot be read, or no word is in the file.
    """
    by_row: dict[int, NDArray[np.float64]] = {}
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for number, line in enumerate(file, 1):
            row = vocabulary.index.get(line[: line.find(" ")])
            if number > 1 and (row is None or row in by_row):
                continue
            values = line.rstrip().split(" ")[1:]
            if number > 1 and len(values) > dim:  # one of GloVe's phrases, which only starts with our word
                continue
            try:
                vector = np.array(values, dtype=np.float64)
                if len(vector) != dim or not np.isfinite(vector).all():
                    raise ValueError(f"{len(vector)} numbers after the word, not {dim} finite ones")
            except ValueError as error:
                cure = "take vectors of that dim in GloVe's text format (no header line)"
                raise DataError(f"{path}: line {number}: {error}; {cure}") from error
            if row is not None:
                by_row[row] = vector
    if not by_row:
        raise DataError(f"{path}: has none of the words; its words must be lower-case, in the expressions' language")
    rows = sorted(by_row)
    read = np.array([by_row[row] for row in rows], dtype=np.float32)
    vectors = np.random.default_rng(seed).standard_normal((len(vocabulary), dim), dtype=np.float32) * read.std()
    vectors[rows], vectors[PAD] = read, 0
    return vectors, len(vocabulary) - 2 - len(rows)
