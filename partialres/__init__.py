"""Partial-RES: referring-expression segmentation from every box and a few masks (Qu et al., CVPR 2023).

`partialres.load(path)` gives a trained model that segments pictures.
"""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import `load` and what it returns when they are first asked for: torch takes seconds."""
    if name not in ("load", "Segmentation", "Segmenter"):
        raise AttributeError(f"module 'partialres' has no attribute '{name}'")
    from partialres import use

    return getattr(use, name)
