"""Several processes, one a device, as torchrun starts them: how many there are, and what each of them does.

The global batch does not depend on their number: each takes its share of every batch, and gradients are averaged with
the shares' weights. Only the first process writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from partialres.config import ConfigError


@dataclass(frozen=True)
class Processes:
    """This process among all."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def share(self, members: np.ndarray) -> np.ndarray:
        """Take this process's run of an array: refs of an image, which follow each other, stay in one process."""
        return np.array_split(members, self.count)[self.rank]


ALONE = Processes()


def pick_device(name: str) -> torch.device:
    """Return the device of that name; for "auto" CUDA where there is one, else the CPU.

    Of the processes that torchrun started on one machine each gets a CUDA device of its own.
    Raises ConfigError if there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (AssertionError, RuntimeError) as error:
        raise ConfigError(f"device '{name}' cannot be used ({error}); cpu always can") from None
    device = torch.device(name)
    if device.type == "cuda" and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    return device


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun started, over NCCL on CUDA and over gloo on the CPU; alone without torchrun."""
    count = int(os.environ.get("WORLD_SIZE", 1))
    if count == 1:
        yield ALONE
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), count)
    finally:
        dist.destroy_process_group()


def parallel(model: nn.Module, processes: Processes, device: torch.device) -> nn.Module:
    """Wrap the model for training, so that gradients are averaged over the processes; alone it stays as it is.

    On CUDA batch statistics are those of the whole batch; gloo cannot do that, so on the CPU they are each share's.
    """
    if processes.count == 1:
        return model
    if device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return nn.parallel.DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)


def mean_of_all(value: float, processes: Processes, device: torch.device) -> float:
    """Average a number over the processes."""
    if processes.count == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return float(total) / processes.count


def gathered(items: list[Any], processes: Processes) -> list[Any]:
    """Concatenate the lists of all processes in the first process; the others get an empty list."""
    if processes.count == 1:
        return items
    parts: list[Any] | None = [None] * processes.count if processes.first else None
    dist.gather_object(items, parts)
    return [item for part in parts or [] for item in part]
