"""The C library's allocator, told to keep what is freed."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # names of mallopt(3)'s parameters in glibc's malloc.h


def keep_freed_memory() -> None:
    """Let memory that was freed be used again without going back to the system.

    A training step frees and asks for the same large tensors again and again, and each time the system clears every
    page of them: a quarter of a step at 640 pixels on two cores. Does nothing where the C library is not glibc.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_MAX, 0)  # large blocks come from the heap as well
        library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
