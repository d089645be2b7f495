"""Coordinates as tokens: the quantisation of the paper's eq. 2 and its way back."""

from __future__ import annotations

import numpy as np

Extent = float | np.ndarray  # pixels that the bins span: of both axes, or [..., 2] of x and of y


def quantise(coordinates: np.ndarray, extent: Extent, bins: int, rounding: str = "round") -> np.ndarray:
    """Coordinates in pixels -> bin numbers (eq. 2).

    coordinates: float, any shape, in pixels of an axis of length `extent`, which is broadcast to them. rounding:
    "round" as in the paper, or "truncate" as the released code does. Returns int64 of the same shape, clamped to
    [0, bins - 1].
    """
    scaled = np.asarray(coordinates, dtype=np.float64) * bins / extent  # in this order whole quotients come out whole
    whole = np.rint(scaled) if rounding == "round" else np.trunc(scaled)
    return np.clip(whole, 0, bins - 1).astype(np.int64)


def dequantise(tokens: np.ndarray, extent: Extent, bins: int) -> np.ndarray:
    """Bin numbers -> coordinates in pixels, the value that `quantise` rounds to that bin: within extent / bins / 2."""
    return np.asarray(tokens, dtype=np.float64) * (extent / bins)


def points_to_sequence(points: np.ndarray, extent: Extent, bins: int, rounding: str = "round") -> np.ndarray:
    """Points [N, 2] (x, y in pixels of the frame) -> tokens [2N + 1]: x1, y1, ..., xN, yN, end (= bins).

    Points that are not there, NaN, become end tokens, as in the released code.
    """
    points = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    absent = np.isnan(points)
    tokens = quantise(np.where(absent, 0, points), extent, bins, rounding)
    return np.append(np.where(absent, bins, tokens), bins)


def sequence_to_points(tokens: np.ndarray, extent: Extent, bins: int) -> np.ndarray:
    """Tokens [..., 2N] (without the last, the end) -> points [..., N, 2] in pixels. extent: or [..., 2], of each row.

    A sequence that ends early repeats its last point, so that it spans the polygon of those before the end.
    """
    tokens = np.asarray(tokens)
    tokens = tokens.reshape(*tokens.shape[:-1], -1, 2)
    extent = np.asarray(extent, dtype=np.float64)
    points = dequantise(tokens, extent[..., None, :] if extent.ndim else extent, bins)
    ended = np.logical_or.accumulate((tokens == bins).any(-1), axis=-1)
    last = np.maximum(np.sum(~ended, axis=-1, keepdims=True) - 1, 0)
    index = np.where(ended, last, np.arange(points.shape[-2]))
    return np.take_along_axis(points, index[..., None], axis=-2)
