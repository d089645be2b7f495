"""What a mask head learns from: boxes in units of the frame, and masks as shares of the cells of a coarse grid."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd

from partialres.data.batches import Inputs, Samples, encode_expressions
from partialres.data.vocabulary import Vocabulary
from partialres.files import DataError
from partialres.geometry import boxes, contour


def make_mask_samples(
    refs: pd.DataFrame, inputs: Inputs, vocabulary: Vocabulary, *, masks: bool, upsampling: int
) -> Samples:
    """Samples of refs (columns image_id, bbox, expressions; with masks also height, width and mask).

    masks: whether there is a mask to learn, from step 2 on. upsampling: cells of the mask along the side of an image
    position.
    Raises DataError if there is no ref.
    """
    if not len(refs):
        raise DataError("no training refs: is the ratio too small to label any?")
    rows = inputs.rows(refs["image_id"].tolist())
    corners = [
        boxes.to_corners(np.asarray(box, dtype=float)) * inputs.scale(int(row)) / inputs.size
        for box, row in zip(refs["bbox"], rows, strict=True)
    ]
    return Samples(
        rows,
        encode_expressions(refs, vocabulary),
        targets=None,
        boxes=np.stack([centred(each) for each in corners]).astype(np.float32),
        masks=_all_masks(refs, rows, inputs, upsampling) if masks else None,
    )


def centred(corners: np.ndarray) -> np.ndarray:
    """A box's corners [2, 2] (left top, right bottom) -> centre x, y, width, height, [4]."""
    low, high = corners
    return np.concatenate([(low + high) / 2, high - low])


def _all_masks(refs: pd.DataFrame, rows: np.ndarray, inputs: Inputs, upsampling: int) -> np.ndarray:
    """uint8 [n, G, G]: see `coverage`."""
    cells = inputs.size // inputs.stride * upsampling
    found = np.zeros((len(refs), cells, cells), dtype=np.uint8)
    columns = (refs[name].tolist() for name in ("mask", "height", "width"))
    for target, row, counts, height, width in zip(found, rows.tolist(), *columns, strict=True):
        shape = (int(inputs.cache.shape[row][0]), int(inputs.cache.shape[row][1]))
        target[:] = coverage(contour.decode(counts, height, width), shape, inputs.size, cells)
    return found


def coverage(mask: np.ndarray, shape: tuple[int, int], size: int, cells: int) -> np.ndarray:
    """How much of each cell of the frame a mask covers: uint8 [cells, cells], 0 to 255.

    mask: bool [height, width], of the whole image. shape: height and width of the image in the frame, pixels. size: of
    the frame, a multiple of cells. Areas are averaged, so that a mask that grows again from the cells keeps its edges.
    """
    shrinks = max(shape) < max(mask.shape)
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    frame = np.zeros((size, size), dtype=np.float32)
    frame[: shape[0], : shape[1]] = cv2.resize(mask.astype(np.float32), shape[::-1], interpolation=how)
    side = size // cells
    shares: np.ndarray = frame.reshape(cells, side, cells, side).mean(axis=(1, 3))
    return np.rint(255 * shares).astype(np.uint8)


def grown(logits: np.ndarray, shape: tuple[int, int], size: int, height: int, width: int) -> np.ndarray:
    """Where the mask is in the image at its own size: bool [height, width], the logits bilinear between cells.

    logits: float [cells, cells] of the frame of `size` pixels, whose top left of `shape` (height, width) holds the
    image. A logit above zero is a probability above one half.
    """
    frame = cv2.resize(logits, (size, size), interpolation=cv2.INTER_LINEAR)[: shape[0], : shape[1]]
    whole: np.ndarray = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR) > 0
    return whole
