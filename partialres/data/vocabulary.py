"""Expressions -> word indices, and word vectors for them. The words come from the training split only."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from partialres.files import DataError

PAD, UNKNOWN = 0, 1
SPECIAL = ("<pad>", "<unk>")
NUMPY_MAGIC = b"\x93NUMPY"  # what numpy's array files begin with

_CLEANING = str.maketrans({**dict.fromkeys(".,'!?\"()*#:;"), "-": " ", "/": " "})


def clean(expression: str) -> list[str]:
    """The words of an expression: lower-case, . , ' ! ? " ( ) * # : ; removed, - and / to spaces, split."""
    return expression.lower().translate(_CLEANING).split()


@dataclass(frozen=True)
class Vocabulary:
    """The known words; a word's place is its index. 0 is padding, 1 every word that is not known.

    counts: how often each word is in the training expressions ("<unk>": all rarer words together). max_words:
    where longer expressions are cut. min_count: words rarer than this are unknown. unknown_share: split ->
    share of its words that are unknown, in [0, 1]. truncated_share: split -> share of its expressions that
    are cut. report: how the refs were prepared.
    """

    words: tuple[str, ...]
    counts: tuple[int, ...]
    max_words: int
    min_count: int = 1
    unknown_share: Mapping[str, float] = field(default_factory=dict)
    truncated_share: Mapping[str, float] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.words[:2] != SPECIAL or len(set(self.words)) != len(self.words) or len(self.counts) != len(self.words):
            raise DataError(f"a vocabulary starts with {SPECIAL}, holds no word twice and has a count for each word")
        if self.max_words < 1:
            raise DataError(f"max_words must be at least 1, not {self.max_words}")

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def index(self) -> dict[str, int]:
        """Word -> index, without the two special ones: a literal "<pad>" in an expression is not padding."""
        return {word: number for number, word in enumerate(self.words) if number > UNKNOWN}

    def encode(self, expression: str, max_words: int | None = None) -> NDArray[np.int64]:
        """Word indices of an expression, int64 [max_words] (the vocabulary's unless given), padded with 0."""
        length = self.max_words if max_words is None else max_words
        indices = np.full(length, PAD, dtype=np.int64)
        words = clean(expression)[:length]
        indices[: len(words)] = [self.index.get(word, UNKNOWN) for word in words]
        return indices

    def digest(self) -> str:
        """SHA-256 of what the indices mean: a model may only be used with the vocabulary of its digest."""
        return hashlib.sha256("\n".join((*self.words, str(self.max_words))).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """As a JSON-able dict; `Vocabulary.from_json` is its inverse."""
        return asdict(self) | {"words": list(self.words), "counts": list(self.counts)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Vocabulary:
        """From what `to_json` gave. Raises DataError if keys are missing or unknown."""
        try:
            return cls(**{**values, "words": tuple(values["words"]), "counts": tuple(values["counts"])})
        except (KeyError, TypeError) as error:
            raise DataError(f"not a vocabulary of this program ({error}); prepare the data set again") from error


def build_vocabulary(
    refs: pd.DataFrame, *, max_words: int = 15, min_count: int = 1, report: Mapping[str, Any] | None = None
) -> Vocabulary:
    """The words of the training split's expressions, most frequent first, and how far they reach.

    refs: has split and expressions. report: goes into the vocabulary as it is. Raises DataError without a
    training split.
    """
    cleaned = _cleaned(refs)
    if not cleaned.get("train"):
        raise DataError(
            f"no expressions of split 'train', where words are taken from, only of {sorted(cleaned)}; "
            "choose another split_by"
        )
    counts = Counter(word for words in cleaned["train"] for word in words)
    for special in SPECIAL:
        counts.pop(special, None)
    kept = sorted((word for word in counts if counts[word] >= min_count), key=lambda word: (-counts[word], word))
    return _counted(kept, counts, cleaned, max_words, min_count, report)


def apply_vocabulary(
    refs: pd.DataFrame, vocabulary: Vocabulary, *, report: Mapping[str, Any] | None = None
) -> Vocabulary:
    """The same words at the same indices and with the same limits, counted in these refs' expressions.

    For models that bring their own vocabulary. refs, report: as for `build_vocabulary`; a training split is not needed.
    """
    cleaned = _cleaned(refs)
    counts = Counter(word for words in cleaned.get("train", []) for word in words)
    return _counted(vocabulary.words[2:], counts, cleaned, vocabulary.max_words, vocabulary.min_count, report)


def _cleaned(refs: pd.DataFrame) -> dict[str, list[list[str]]]:
    """Split -> the words of each of its expressions."""
    return {
        str(split): [clean(expression) for expressions in rows for expression in expressions]
        for split, rows in refs.groupby("split", sort=False)["expressions"]
    }


def _counted(
    words: Sequence[str], counts: Mapping[str, int], cleaned: Mapping[str, list[list[str]]], max_words: int,
    min_count: int, report: Mapping[str, Any] | None,
) -> Vocabulary:  # fmt: skip
    """A vocabulary of these words, with their counts in the training split and how far it reaches in each split."""
    known = set(words)
    unknown_share, truncated_share = {}, {}
    for split, expressions in cleaned.items():
        lengths = [len(one) for one in expressions]
        unknown = sum(word not in known for one in expressions for word in one)
        unknown_share[split] = unknown / max(sum(lengths), 1)
        truncated_share[split] = sum(length > max_words for length in lengths) / max(len(lengths), 1)
    rare = sum(count for word, count in counts.items() if word not in known)
    return Vocabulary(
        words=(*SPECIAL, *words),
        counts=(0, rare, *(counts.get(word, 0) for word in words)),
        max_words=max_words,
        min_count=min_count,
        unknown_share=unknown_share,
        truncated_share=truncated_share,
        report=dict(report or {}),
    )


def word_vectors(vocabulary: Vocabulary, path: Path, dim: int, seed: int) -> tuple[NDArray[np.float32], int]:
    """Vectors of the words from a file, and how many words have none there.

    path: a text file in GloVe's format, a line a word and dim numbers, parted by single spaces; or the file
    `vocab/vectors` of a spaCy pipeline's folder, which needs spaCy itself.
    Returns float32 [words, dim]: row 0 (padding) is zero; words without a vector and "<unk>" get random ones of the
    found ones' standard deviation, by the seed.
    Raises DataError if the file has another dim, a line cannot be read, or no word is found.
    """
    path = Path(path)
    with path.open("rb") as file:
        is_array = file.read(len(NUMPY_MAGIC)) == NUMPY_MAGIC
    vectors, found = (_spacy_vectors if is_array else _glove_vectors)(vocabulary, path, dim)
    if not found.any():
        raise DataError(
            f"{path}: has none of the {len(vocabulary) - 2} words; is it of the same language, in lower case?"
        )
    lacking = ~found
    lacking[PAD] = False
    spread = vectors[found].std()
    random = np.random.default_rng(seed).standard_normal(vectors.shape, dtype=np.float32) * spread
    vectors[lacking] = random[lacking]
    return vectors, int(lacking.sum()) - 1  # "<unk>" is not one of the words


def _glove_vectors(vocabulary: Vocabulary, path: Path, dim: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Vectors [words, dim] from GloVe's text format, and which words have one: bool [words]."""
    vectors = np.zeros((len(vocabulary), dim), dtype=np.float32)
    found = np.zeros(len(vocabulary), dtype=bool)
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for number, line in enumerate(file, 1):
            row = vocabulary.index.get(line[: line.find(" ")])
            if number > 1 and (row is None or found[row]):
                continue
            # From the right, for some of GloVe's words hold spaces: their first piece is not that word.
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
            found[row] = True
    return vectors, found


def _spacy_vectors(vocabulary: Vocabulary, path: Path, dim: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The same from a spaCy pipeline's table of vectors, its keys beside it."""
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
    rows = np.array([table.key2row.get(get_string_id(word), -1) for word in vocabulary.words])
    found = rows >= 0
    vectors = np.zeros((len(vocabulary), dim), dtype=np.float32)
    vectors[found] = table.data[rows[found]]
    return vectors, found
