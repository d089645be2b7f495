"""Quantise coordinates to tokens, and convert tokens back to coordinates (paper eq. 2)."""

import numpy as np

Extent = float | np.ndarray  # pixels that all bins together span: one number for both axes, or [..., 2] for x and y


def quantise(coordinates: np.ndarray, extent: Extent, bins: int, rounding: str = "round") -> np.ndarray:
    """Quantise coordinates, float in pixels, any shape, to bins (eq. 2): int64 in [0, bins - 1], same shape.

    extent: broadcast against coordinates. rounding: "round" as in the paper, or "truncate" as in the released code.
    """
    scaled = np.asarray(coordinates, dtype=np.float64) * bins / extent  # divided last, to keep whole quotients exact
    whole = np.rint(scaled) if rounding == "round" else np.trunc(scaled)
    return np.clip(whole, 0, bins - 1).astype(np.int64)


def points_to_sequence(points: np.ndarray, extent: Extent, bins: int, rounding: str = "round") -> np.ndarray:
    """Convert points [N, 2] (x, y in pixels of the frame) to tokens [2N + 1]: x1, y1, ..., xN, yN, end (= bins).

    The coordinates of a missing point, NaN, become end tokens, as in the released code.
    """
    points = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    absent = np.isnan(points)
    tokens = quantise(np.where(absent, 0, points), extent, bins, rounding)
    return np.append(np.where(absent, bins, tokens), bins)


def sequence_to_points(tokens: np.ndarray, extent: Extent, bins: int) -> np.ndarray:
    """Convert tokens [..., 2N], without the final end, to points [..., N, 2] in pixels: eq. 2 inverted.

    If a sequence ends early its last point is repeated, which leaves the polygon unchanged.
    """
    tokens = np.reshape(tokens, (*np.shape(tokens)[:-1], -1, 2))
    extent = np.asarray(extent, dtype=np.float64)
    points = tokens * ((extent[..., None, :] if extent.ndim else extent) / bins)
    ended = np.logical_or.accumulate((tokens == bins).any(-1), axis=-1)
    last = np.maximum(np.sum(~ended, axis=-1, keepdims=True) - 1, 0)
    index = np.where(ended, last, np.arange(points.shape[-2]))
    return np.take_along_axis(points, index[..., None], axis=-2)
