"""Partial-RES: referring-expression segmentation from every box and a few masks (Qu et al., CVPR 2023).

`partialres.load(path)` gives a trained model that segments pictures.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """Import `load` and what it returns, or look up the version, when it is first asked for: torch takes seconds."""
    if name == "__version__":
        return _version()
    if name not in ("load", "Segmentation", "Segmenter"):
        raise AttributeError(f"module 'partialres' has no attribute '{name}'")
    from partialres import use

    return getattr(use, name)


def _version() -> str:
    """Return the version, which was taken from git's tags at installation; "unknown" without an installation."""
    from importlib import metadata

    try:
        return metadata.version("partialres")
    except metadata.PackageNotFoundError:
        return "unknown"
