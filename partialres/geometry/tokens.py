"""Quantise coordinates to tokens and turn tokens back into coordinates (paper eq. 2)."""

from __future__ import annotations

import numpy as np

Extent = float | np.ndarray  # the pixels that all bins span: one number for both axes, or x and y [..., 2]


def quantise(coordinates: np.ndarray, extent: Extent, bins: int, rounding: str = "round") -> np.ndarray:
    """Turn coordinates, float in pixels, any shape, into bin numbers (eq. 2): int64 in [0, bins - 1], same shape.

    extent: is broadcast to the coordinates. rounding: "round" as in the paper, or "truncate" as in the released code.
    """
    scaled = np.asarray(coordinates, dtype=np.float64) * bins / extent  # multiplied first: whole quotients stay whole
    whole = np.rint(scaled) if rounding == "round" else np.trunc(scaled)
    return np.clip(whole, 0, bins - 1).astype(np.int64)


def points_to_sequence(points: np.ndarray, extent: Extent, bins: int, rounding: str = "round") -> np.ndarray:
    """Turn points [N, 2] (x, y in pixels of the frame) into tokens [2N + 1]: x1, y1, ..., xN, yN, end (= bins).

    NaN, a missing point, becomes an end token, as in the released code.
    """
    points = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    absent = np.isnan(points)
    tokens = quantise(np.where(absent, 0, points), extent, bins, rounding)
    return np.append(np.where(absent, bins, tokens), bins)


def sequence_to_points(tokens: np.ndarray, extent: Extent, bins: int) -> np.ndarray:
    """Turn tokens [..., 2N], the final end left off, into points [..., N, 2] in pixels: eq. 2 inverted.

    A sequence that ends early repeats its last point, which leaves the polygon unchanged.
    """
    tokens = np.reshape(tokens, (*np.shape(tokens)[:-1], -1, 2))
    extent = np.asarray(extent, dtype=np.float64)
    points = tokens * ((extent[..., None, :] if extent.ndim else extent) / bins)
    ended = np.logical_or.accumulate((tokens == bins).any(-1), axis=-1)
    last = np.maximum(np.sum(~ended, axis=-1, keepdims=True) - 1, 0)
    index = np.where(ended, last, np.arange(points.shape[-2]))
    return np.take_along_axis(points, index[..., None], axis=-2)
