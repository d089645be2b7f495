"""Cleaning, word indices and word vectors."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partialres.data.vocabulary import Vocabulary, apply_vocabulary, build_vocabulary, clean, word_vectors
from partialres.files import DataError

shared = pytest.mark.skipif("PARTIALRES_SHARED" not in os.environ, reason="PARTIALRES_SHARED names no folder")


def refs(**expressions):
    rows = [(split, texts) for split, lists in expressions.items() for texts in lists]
    return pd.DataFrame(rows, columns=["split", "expressions"])


VOCABULARY = Vocabulary(words=("<pad>", "<unk>", "cat", "left"), counts=(0, 0, 2, 1), max_words=4)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("The CAT, left!", ["the", "cat", "left"]),
        ("man's (red) t-shirt/coat #3", ["mans", "red", "t", "shirt", "coat", "3"]),
        (" a  b\t\nc ", ["a", "b", "c"]),
        (".,'!?\"()*#:;", []),
        ("50% & more_ [x]", ["50%", "&", "more_", "[x]"]),
        ("", []),
    ],
)
def test_cleaning_lowers_removes_and_splits(expression, words):
    assert clean(expression) == words


@given(st.text(max_size=40))
def test_cleaning_twice_changes_nothing(expression):
    once = clean(expression)
    assert clean(" ".join(once)) == once


def test_words_come_from_train_only_most_frequent_first_then_by_alphabet():
    vocabulary = build_vocabulary(refs(train=[["b a", "a c"], ["A!"]], val=[["z a"]]))
    assert vocabulary.words == ("<pad>", "<unk>", "a", "b", "c")
    assert vocabulary.counts == (0, 0, 3, 1, 1)


def test_unknown_and_truncated_shares_are_counted_for_every_split():
    table = refs(train=[["a b"]], val=[["a z"], ["a b a z", "b"]], testA=[["z"]])
    vocabulary = build_vocabulary(table, max_words=2)
    assert vocabulary.unknown_share == {"train": 0, "val": 2 / 7, "testA": 1}
    assert vocabulary.truncated_share == {"train": 0, "val": 1 / 3, "testA": 0}


def test_encoding_pads_cuts_and_marks_unknown_words():
    assert VOCABULARY.encode("Left, cat?").tolist() == [3, 2, 0, 0]
    assert VOCABULARY.encode("left red cat cat cat").tolist() == [3, 1, 2, 2]
    assert VOCABULARY.encode("cat").dtype == np.int64


def test_the_special_words_in_an_expression_are_plain_unknown_words():
    assert VOCABULARY.encode("<pad> <unk>").tolist() == [1, 1, 0, 0]
    assert build_vocabulary(refs(train=[["<pad> cat <unk>"]])).words == ("<pad>", "<unk>", "cat")


def test_a_vocabulary_survives_json():
    vocabulary = build_vocabulary(refs(train=[["a b"]], val=[["c"]]), max_words=20, report={"refs": 2})
    again = Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json())))
    assert again == vocabulary and again.digest() == vocabulary.digest()
    with pytest.raises(DataError, match="not a vocabulary"):
        Vocabulary.from_json({"words": ["<pad>", "<unk>"], "counts": [0, 0]})


def test_the_digest_follows_what_indices_mean_and_nothing_else():
    def digest(words=("a", "b"), max_words=15, **rest):
        return Vocabulary(("<pad>", "<unk>", *words), (0,) * (2 + len(words)), max_words, **rest).digest()

    assert digest() == digest(unknown_share={"val": 0.5})
    assert len({digest(), digest(("b", "a")), digest(("a",)), digest(max_words=20)}) == 4


def test_no_word_twice_and_the_special_ones_first():
    for words in (("cat", "dog"), ("<pad>", "<unk>", "cat", "cat")):
        with pytest.raises(DataError):
            Vocabulary(words, (0,) * len(words), 15)


# Word vectors


def glove(path: Path, *lines: str) -> Path:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def test_vectors_are_the_files_padding_is_zero_and_the_rest_random_of_their_spread(tmp_path):
    words = tuple(f"w{n}" for n in range(2000))
    vocabulary = Vocabulary(("<pad>", "<unk>", "cat", "left", *words), (0,) * 2004, 15)
    path = glove(tmp_path / "glove.txt", "the 9 9", "left 3 -3", "cat 1 -1", "left 7 7")
    vectors, missing = word_vectors(vocabulary, path, 2, seed=0)
    assert vectors.shape == (2004, 2) and vectors.dtype == np.float32
    assert vectors[:1].tolist() == [[0, 0]]
    assert vectors[2:4].tolist() == [[1, -1], [3, -3]], "the first of two lines for one word counts"
    assert missing == 2000
    assert vectors[1].any() and vectors[4:].std() == pytest.approx(np.std([1, -1, 3, -3]), rel=0.05)
    assert (word_vectors(vocabulary, path, 2, seed=0)[0] == vectors).all()
    assert (word_vectors(vocabulary, path, 2, seed=1)[0][4:] != vectors[4:]).all()


def test_a_word_with_a_space_is_not_its_first_piece(tmp_path):
    path = glove(tmp_path / "glove.txt", "left 0 1", "cat name@mail 5 5", "cat 1 0")
    vectors, missing = word_vectors(VOCABULARY, path, 2, seed=0)
    assert vectors[2].tolist() == [1, 0] and missing == 0


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["cat 1 2 3"], "line 1: 3 numbers after the word, not 2 finite ones"),
        (["cat 1"], "line 1: 1 numbers after the word"),
        (["400000 2", "cat 1 2"], "line 1: 1 numbers after the word"),
        (["the 1 2", "cat 1"], "line 2: 1 numbers after the word"),
        (["the 1 2", "cat 1 x"], "line 2: could not convert string to float"),
        (["cat nan 2"], "line 1: 2 numbers after the word, not 2 finite ones"),
        (["the 1 2"], "none of the words"),
        ([], "none of the words"),
    ],
)
def test_a_file_of_another_form_is_refused_with_its_line(tmp_path, lines, says):
    with pytest.raises(DataError, match=says) as error:
        word_vectors(VOCABULARY, glove(tmp_path / "glove.txt", *lines), 2, seed=0)
    assert "glove.txt" in str(error.value)


# Real text


@shared
def test_cleaning_gives_the_released_codes_words():
    golden = json.loads((Path(os.environ["PARTIALRES_SHARED"]) / "golden/refcoco_sample_upstream.json").read_text())
    cleaned = {(case["dataset"], case["ref_id"]): case["clean"] for case in golden}
    sample = Path(os.environ["PARTIALRES_SHARED"]) / "refcoco-sample"
    for name, split_by in (("refcoco", "unc"), ("refcoco+", "unc"), ("refcocog", "umd")):
        for ref in json.loads((sample / name / f"refs({split_by}).json").read_text()):
            words = [clean(sentence["raw"]) for sentence in ref["sentences"]]
            assert words == [text.split() for text in cleaned.pop((name, ref["ref_id"]))]
    assert not cleaned


@shared
def test_every_published_expression_cleans_to_words_of_letters_without_punctuation():
    files = sorted((Path(os.environ["PARTIALRES_SHARED"]) / "refcoco-text").glob("*.json"))
    assert len(files) == 8
    for file in files:
        expressions = [row["sents"] for row in json.loads(file.read_text())]
        cleaned = [clean(expression) for expression in expressions]
        assert sum(not words for words in cleaned) / len(cleaned) < 1e-3
        assert not any(set(".,'!?\"()*#:;-/ ") & set(word) for words in cleaned for word in words)


def test_a_given_vocabulary_keeps_its_words_and_limits_and_counts_these_refs():
    table = refs(train=[["cat cat left", "dog"]], val=[["a very long left cat now"]])
    given = Vocabulary(("<pad>", "<unk>", "left", "CLS", "cat"), (0,) * 5, max_words=4)
    applied = apply_vocabulary(table, given, report={"kept": 2})
    assert (applied.words, applied.max_words) == (given.words, 4)
    assert applied.digest() == given.digest()
    assert applied.counts == (0, 1, 1, 0, 2) and applied.report == {"kept": 2}
    assert applied.unknown_share == {"train": 1 / 4, "val": 4 / 6}
    assert applied.truncated_share == {"train": 0, "val": 1}
    assert apply_vocabulary(table[table["split"] == "val"], given).counts == (0,) * 5
