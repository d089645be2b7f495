"""Which training refs keep their masks."""

import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partialres.data.splits import split
from partialres.files import DataError


def table(without_mask=()):
    """40 training refs with 3 others among them; ref_ids are not in order."""
    number = 43
    masks = [None if n in without_mask else f"<mask {n}>" for n in range(number)]
    return pd.DataFrame(
        {
            "ref_id": np.arange(number) * 7 % 101,
            "split": ["val" if n in (0, 20, 42) else "train" for n in range(number)],
            "mask": masks,
            "parts": [None if mask is None else [[float(n)] * 6] for n, mask in enumerate(masks)],
        }
    )


ratios = st.one_of(st.sampled_from([0.5, 1, 5, 10, 100]), st.floats(0.01, 98.7))  # from 98.75 on, all 40


def labelled(refs, ratio, seed):
    rows = split(refs, ratio, seed)
    return set(rows.loc[rows["labelled"], "ref_id"])


@given(ratios, ratios, st.integers(0, 2**32))
def test_labelled_sets_of_one_seed_are_nested(first, second, seed):
    low, high = sorted((first, second))
    refs = table()
    assert labelled(refs, low, seed) <= labelled(refs, high, seed)


@pytest.mark.parametrize(("ratio", "number"), [(0.5, 1), (1, 1), (5, 2), (10, 4), (11, 4), (12, 5), (100, 40)])
def test_the_ratio_is_per_cent_of_the_training_refs_and_at_least_one(ratio, number):
    assert len(labelled(table(), ratio, 0)) == number


def test_rows_are_the_training_refs_in_their_order():
    refs = table()
    rows = split(refs, 10, 0)
    assert rows["ref_id"].tolist() == refs.loc[refs["split"] == "train", "ref_id"].tolist()
    assert list(rows.columns) == [*refs.columns, "labelled"] and rows["labelled"].dtype == bool


def test_masks_and_parts_are_in_the_labelled_rows_and_no_others_even_as_written():
    refs = table()
    buffer = io.BytesIO()
    split(refs, 10, 3).to_parquet(buffer, compression=None)
    rows = pd.read_parquet(buffer)
    masks = refs.set_index("ref_id")["mask"]
    for row in rows.itertuples():
        assert pd.isna(row.mask) != row.labelled and (row.parts is None) != row.labelled
        assert not row.labelled or row.mask == masks[row.ref_id]
    written = {mask for mask in masks if mask.encode() in buffer.getvalue()}
    assert written == set(rows.loc[rows["labelled"], "mask"]) and len(written) == 4


def test_only_refs_with_a_mask_are_labelled_and_counted():
    refs = table(without_mask=range(0, 43, 2))
    with_mask = set(refs.loc[refs["mask"].notna() & (refs["split"] == "train"), "ref_id"])
    assert labelled(refs, 100, 0) == with_mask
    assert len(labelled(refs, 50, 0)) == int(len(with_mask) / 2 + 0.5)


def test_the_labelled_set_depends_on_the_seed_and_not_on_the_order_of_rows():
    refs = table()
    assert labelled(refs, 10, 0) == labelled(refs.sample(frac=1, random_state=1), 10, 0)
    assert len({frozenset(labelled(refs, 10, seed)) for seed in range(10)}) > 5


def test_the_given_table_is_left_as_it_was():
    refs = table()
    before = refs.copy(deep=True)
    split(refs, 5, 0)
    pd.testing.assert_frame_equal(refs, before)


@pytest.mark.parametrize("ratio", [0, -1, 100.1, float("nan")])
def test_a_ratio_out_of_range_is_refused(ratio):
    with pytest.raises(DataError, match="per cent"):
        split(table(), ratio, 0)


def test_a_ratio_that_leaves_step_3_no_ref_is_refused():
    for ratio in (98.8, 99.9):
        with pytest.raises(DataError, match=f"{ratio} % labels all 40 training refs"):
            split(table(), ratio, 0)
    assert split(table(without_mask=[1]), 99.9, 0)["labelled"].sum() == 39  # one without a mask is left to step 3
    assert split(table().query("ref_id == 7"), 100, 0)["labelled"].all()
    with pytest.raises(DataError, match="labels all 1 training"):
        split(table().query("ref_id == 7"), 1, 0)


def test_no_training_mask_is_an_error():
    with pytest.raises(DataError, match="mask"):
        split(table(without_mask=range(43)), 10, 0)
    with pytest.raises(DataError, match="no ref of 0"):
        split(table().query("split == 'val'"), 10, 0)
