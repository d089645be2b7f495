"""Measure times: warm-up, several runs, their median and spread, and the machine they ran on."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

PEAK_SIZE = 2048  # rows and columns of the matrices whose product measures the machine's peak


@dataclass(frozen=True)
class Timing:
    """Holds the seconds of several runs of a piece of work, in the order of the runs."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Return the median of the seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Return (slowest - fastest) / median."""
        return (max(self.seconds) - min(self.seconds)) / self.median


class NoModules:
    """Replaces torch's module tracker in a FLOP counter, which fails if some modules take no gradient."""

    parents = frozenset({"Global"})

    def __enter__(self) -> NoModules:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def device() -> torch.device:
    """Return the device to measure: CUDA if it is available, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def timed(work: Callable[[], Any], repeats: int) -> Timing:
    """Run once to warm up, then `repeats` times, timed until the device has done all of it."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    work()
    wait()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        wait()
        seconds.append(time.perf_counter() - start)
    return Timing(tuple(seconds))


def flops(work: Callable[[], Any]) -> int:
    """Count the floating-point operations of matrix products, convolutions and attentions in a piece of work."""
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = NoModules()  # type: ignore[assignment]
    with counter:
        work()
    return int(counter.get_total_flops())


def peak(dtype: torch.dtype = torch.float32, repeats: int = 5) -> float:
    """Measure floating-point operations per second in a large matrix product on the device: the best of several."""
    first, second = torch.randn(2, PEAK_SIZE, PEAK_SIZE, device=device()).to(dtype).unbind()
    return 2 * PEAK_SIZE**3 / min(timed(lambda: first @ second, repeats).seconds)


def machine() -> dict[str, Any]:
    """Describe the machine and software that the times were measured on."""
    return {
        "processor": _processor(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "matmul_gflops": round(peak() / 1e9, 1),
        "load": round(os.getloadavg()[0], 2),  # other work on the machine
    }


def _processor() -> str:
    """Return the processor's name as Linux reports it, with its widest vector instructions."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            fields = dict(line.split(":", 1) for line in lines if ":" in line)
    except OSError:
        return platform.processor() or platform.machine()
    name, flags = (
        next((v.strip() for k, v in fields.items() if k.strip() == key), "") for key in ("model name", "flags")
    )
    wide = [flag for flag in ("amx_tile", "avx512f", "avx2", "avx") if flag in flags.split()]
    return f"{name or platform.machine()} ({wide[0]})" if wide else name or platform.machine()
