"""Save and load the state from which a stopped training resumes."""

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


@contextmanager
def sigterm_noted(alone: bool) -> Iterator[Callable[[], bool]]:
    """Let SIGTERM, a scheduler's preemption, wait for the end of a step; yields a function that tells whether it came.

    alone: whether this is the only process. With several, SIGTERM ends each at once, or the others would wait for it.
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
    """Keeps an unfinished training's state apart from its outputs, which Snakemake deletes before it reruns a job."""

    def __init__(self, root: Path | None, key: Mapping[str, Any]) -> None:
        """root: folder for states, or None to keep none. key: the training's provenance, which fixes its result."""
        self.path = root / f"{digest(dict(key))}.pt" if root else None

    def save(self, state: dict[str, Any]) -> None:
        """Write the state atomically, followed by its digest, because torch would silently read damaged numbers.

        If it cannot be written, there is a warning and training goes on: the training itself is whole.
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
        """Load the saved state; None if there is none, or if it is damaged, which is reported: training starts anew."""
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
        except (RuntimeError, ValueError, pickle.UnpicklingError):  # an empty file, or more than plain data
            pass
        say(f"{self.path}: the resume state is damaged; starting anew")
        return None

    def clear(self) -> None:
        """Remove the state of a finished training."""
        if self.path:
            self.path.unlink(missing_ok=True)
