"""Coordinates as tokens: the quantisation of the paper's eq. 2 and its way back."""

from __future__ import annotations

import numpy as np


def quantise(coordinates: np.ndarray, extent: float, bins: int, rounding: str = "round") -> np.ndarray:
    """Coordinates in pixels -> bin numbers (eq. 2).

    coordinates: float, any shape, in pixels of an axis of length `extent`. rounding: "round" as in the paper, or
    "truncate" as the released code does. Returns int64 of the same shape, clamped to [0, bins - 1].
    """
    scaled = np.asarray(coordinates, dtype=np.float64) * (bins / extent)
    whole = np.rint(scaled) if rounding == "round" else np.trunc(scaled)
    return np.clip(whole, 0, bins - 1).astype(np.int64)


def dequantise(tokens: np.ndarray, extent: float, bins: int) -> np.ndarray:
    """Bin numbers -> coordinates in pixels, the value that `quantise` rounds to that bin: within extent / bins / 2."""
    return np.asarray(tokens, dtype=np.float64) * (extent / bins)


def points_to_sequence(points: np.ndarray, extent: float, bins: int, rounding: str = "round") -> np.ndarray:
    """Points [N, 2] (x, y in pixels of the square frame) -> tokens [2N + 1]: x1, y1, ..., xN, yN, end (= bins)."""
    tokens = quantise(np.asarray(points).reshape(-1), extent, bins, rounding)
    return np.append(tokens, bins)


def sequence_to_points(tokens: np.ndarray, extent: float, bins: int) -> np.ndarray:
    """Coordinate tokens [..., 2N] (without the end) -> points [..., N, 2] in pixels."""
    tokens = np.asarray(tokens)
    return dequantise(tokens, extent, bins).reshape(*tokens.shape[:-1], -1, 2)
