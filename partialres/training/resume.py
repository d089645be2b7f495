"""The state that a stopped training resumes from."""

from __future__ import annotations

import hashlib
import pickle
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from partialres.files import atomic, say
from partialres.provenance import digest

DIGEST_SIZE = 32  # bytes of a SHA-256


def decisive(origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a run's provenance decides its result."""
    return {key: origin[key] for key in ("commit", "config", "inputs", "versions", "seed", "device")}


@contextmanager
def sigterm_noted(alone: bool) -> Iterator[Callable[[], bool]]:
    """Let SIGTERM, a scheduler's preemption, wait for the end of a step; what is given tells whether it came.

    alone: if not, it ends the process at once: the others would wait for it.
    """
    came: list[int] = []
    before = signal.getsignal(signal.SIGTERM)
    if alone:
        signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGTERM, before)


class Resume:
    """State of an unfinished training, outside the declared outputs: a workflow removes those before it reruns."""

    def __init__(self, root: Path | None, key: Mapping[str, Any]) -> None:
        """root: folder for states, or None to keep none. key: everything that decides the training's result."""
        self.path = root / f"{digest(dict(key))}.pt" if root else None

    def save(self, state: dict[str, Any]) -> None:
        """Write the state atomically, its digest behind it: torch would read damaged numbers without a word.

        If it cannot be written, a warning is said: the training itself is whole.
        """
        if not self.path:
            return
        try:
            with atomic(self.path) as temporary:
                torch.save(state, temporary)
                with open(temporary, "r+b") as stream:
                    stream.write(hashlib.file_digest(stream, "sha256").digest())
        except (OSError, RuntimeError) as error:  # torch's for a full disk
            say(f"warning: {self.path}: no state was saved ({' '.join(str(error).split())}); training goes on")

    def load(self) -> dict[str, Any] | None:
        """Load the saved state; None if there is none or it is damaged (then training starts anew, and says so)."""
        if not self.path:
            return None
        for left in self.path.parent.glob(f".{self.path.stem}.*"):  # by a process that was killed while it saved
            left.unlink(missing_ok=True)
        if not self.path.exists():
            return None
        try:
            content = np.memmap(self.path, mode="r")
            if hashlib.sha256(content[:-DIGEST_SIZE].data).digest() == content[-DIGEST_SIZE:].tobytes():
                return torch.load(self.path, weights_only=True, map_location="cpu")
        except (RuntimeError, ValueError, pickle.UnpicklingError):  # an empty file, or code where only numbers may be
            pass
        say(f"{self.path}: the resume state is damaged; starting anew")
        return None

    def clear(self) -> None:
        """Remove the state of a training that has ended well."""
        if self.path:
            self.path.unlink(missing_ok=True)
