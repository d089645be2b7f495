"""Choose the training refs that keep their masks in Partial-RES (paper sec. 3: 1, 5 or 10 per cent)."""

import numpy as np
import pandas as pd

from partialres.files import DataError


def split(refs: pd.DataFrame, ratio: float, seed: int) -> pd.DataFrame:
    """Return the training rows in order, with a column `labelled`; mask and parts are null where it is false.

    refs: a refs table. ratio: per cent of the training masks to keep, 0 < ratio <= 100; at least one is kept. For the
    same seed, a smaller ratio labels a subset of the refs that a larger one labels, whatever the order of the rows.
    Raises DataError if the ratio is out of range, no training ref has a mask, or a ratio under 100 labels every ref.
    """
    if not 0 < ratio <= 100:
        raise DataError(f"ratio is per cent of the training refs: 0 < ratio <= 100, not {ratio}")
    rows = refs[refs["split"] == "train"].reset_index(drop=True)
    candidates = np.sort(rows.loc[rows["mask"].notna(), "ref_id"].to_numpy())
    if len(candidates) == 0:
        raise DataError(f"no ref of {len(rows)} in split 'train' has a mask to keep; Partial-RES needs at least one")
    order = np.random.default_rng(seed).permutation(candidates)
    labelled = rows["ref_id"].isin(order[: max(1, int(len(order) * ratio / 100 + 0.5))])
    if ratio < 100 and labelled.all():
        raise DataError(
            f"a ratio of {ratio:g} % labels all {len(rows)} training refs and leaves step 3 none; give a smaller "
            "ratio, or 100, where there is no step 3"
        )
    for column in ("mask", "parts"):
        rows[column] = rows[column].astype(object).where(labelled, None)
    return rows.assign(labelled=labelled)
