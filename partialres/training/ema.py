"""Exponential moving average of a model's weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """Moving average of the parameters that train; at update s, from 0, the decay is min(decay, (s + 1) / (s + 10))."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.source = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.average = {name: parameter.detach().clone() for name, parameter in self.source.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the model's current weights."""
        decay = min(self.decay, (self.steps + 1) / (self.steps + 10))
        torch._foreach_lerp_(list(self.average.values()), list(self.source.values()), 1 - decay)
        self.steps += 1

    @torch.no_grad()
    def apply(self) -> None:
        """Copy the average into the model."""
        torch._foreach_copy_(list(self.source.values()), list(self.average.values()))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average in the model's place for a while."""
        present = [parameter.detach().clone() for parameter in self.source.values()]
        self.apply()
        yield
        with torch.no_grad():
            torch._foreach_copy_(list(self.source.values()), present)

    def state(self) -> dict[str, Tensor | int]:
        """Return the state for `load`."""
        return {**self.average, "steps": self.steps}

    def load(self, state: dict[str, Tensor | int]) -> None:
        """Continue from a saved state."""
        self.steps = int(state["steps"])
        for name, value in self.average.items():
            value.copy_(state[name])  # type: ignore[arg-type]
