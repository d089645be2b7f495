"""Read COCO's compressed run-length masks with checks that pycocotools lacks: it reads past the end of broken text."""

import numpy as np
from numpy.typing import NDArray

Rle = dict  # {"size": [height, width], "counts": bytes}


def run_lengths(counts: bytes) -> NDArray[np.int64]:
    """Read the runs of one COCO compressed RLE: int64 [K], background first, column by column.

    Each character's code minus 48 holds five bits of a number, lowest first; a sixth bit says that the number continues
    in the next character. The fifth bit of a number's last character is its sign. From the fourth number on, the text
    holds the difference from the run two before.
    Raises ValueError for any other text. The caller must check that runs are not negative and fill the image.
    """
    runs: list[int] = []
    value = bits = 0
    for character in counts:
        code = character - 48
        if not 0 <= code < 64:
            raise ValueError("counts are not COCO's compressed text")
        value |= (code & 31) << bits
        bits += 5
        if bits > 35:
            raise ValueError("counts have a number beyond any image")
        if not code & 32:
            if code & 16:
                value -= 1 << bits
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = bits = 0
    if bits or not runs:
        raise ValueError("counts are not COCO's compressed text")
    return np.array(runs, dtype=np.int64)


def check_runs(runs: NDArray[np.integer], height: int, width: int) -> None:
    """Raise ValueError unless runs [K] fill an image of this size: pycocotools would walk on for ever."""
    pixels = height * width
    if len(runs) == 0 or runs.min() < 0 or runs.max() > pixels or runs.sum() != pixels:
        raise ValueError(f"runs of {sum(runs.tolist())} pixels in all, an image of {pixels}")
