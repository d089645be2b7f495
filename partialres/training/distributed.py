"""Train and predict with several processes, one per device, started by torchrun.

The batch size does not depend on their number: each process takes its share of every batch, and gradients are averaged
weighted by the shares' sizes. Only the first process writes files.
"""

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
    """The rank of this process, and the number of processes."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def share(self, members: np.ndarray) -> np.ndarray:
        """Return this process's contiguous part of an array, so that refs of one image mostly stay together."""
        return np.array_split(members, self.count)[self.rank]


ALONE = Processes()


def pick_device(name: str) -> torch.device:
    """Return the device of that name; "auto" is CUDA if available, else the CPU.

    Under torchrun each process on a machine gets its own CUDA device.
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
    """Connect the processes that torchrun started, with NCCL on CUDA, gloo on the CPU; without torchrun yield ALONE."""
    count = int(os.environ.get("WORLD_SIZE", 1))
    if count == 1:
        yield ALONE
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), count)
    finally:
        dist.destroy_process_group()


def on_device(model: nn.Module, device: torch.device) -> None:
    """Move a model to a device; on CUDA also store its kernels channels-last, as its images are."""
    model.to(device)
    if device.type == "cuda":
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def parallel(model: nn.Module, processes: Processes, device: torch.device) -> nn.Module:
    """Wrap the model so that gradients are averaged over the processes; a single process returns it unchanged.

    On CUDA batch norm uses statistics of the whole batch; gloo cannot, so on the CPU each process uses its share's.
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
