"""Run lengths read from COCO's compressed text."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from partialres.geometry.rle import run_lengths


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.integers(0, 1)))
def test_run_lengths_are_what_the_masks_columns_count(mask):
    runs = run_lengths(coco.encode(np.asfortranarray(mask))["counts"])
    assert (np.repeat(np.arange(len(runs)) % 2, runs) == mask.T.ravel()).all()
    assert (runs[1:] > 0).all()


@given(st.lists(st.integers(0, 2**20), min_size=1, max_size=9))
def test_runs_of_any_length_are_read(runs):
    rle = coco.frPyObjects({"size": [1, sum(runs)], "counts": runs}, 1, sum(runs))
    assert run_lengths(rle["counts"]).tolist() == runs


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        (b"", "compressed text"),
        (b"0~0", "compressed text"),
        (b"0\x20", "compressed text"),
        (b"4P", "compressed text"),  # its continuation bit says that more follows
        (b"PPPPPPPP0", "beyond any image"),
    ],
)
def test_other_text_is_refused(counts, reason):
    with pytest.raises(ValueError, match=reason):
        run_lengths(counts)


def test_a_run_below_zero_is_read_and_left_to_the_caller():
    assert run_lengths(b"0O=").tolist() == [0, -1, 13]
