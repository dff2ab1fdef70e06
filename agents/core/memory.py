"""How much memory there is, and a refusal to plan for more: Linux promises any amount and kills who uses it."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
from pathlib import Path
from typing import Any

from .errors import BellmarkError, InvalidSetting


def available(device: Any = "cpu") -> int:
    """The memory of `device` in bytes; on the host no more than the control groups of this process may use."""
    if str(device).startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[1]
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_group_limits()])


def require(
    size: int, what: str, remedy: str, device: Any = "cpu", error: type[BellmarkError] = InvalidSetting
) -> None:
    """Raises `error` if `device` has less: "`what` = 9.0 GB, and the machine has 8.0 GB: `remedy`". `size` in bytes."""
    limit = available(device)
    if size > limit:
        place = str(device) if str(device).startswith("cuda") else "the machine"
        raise error(f"{what} = {min(size, 2**99) / 1e9:,.1f} GB, and {place} has {limit / 1e9:,.1f} GB: {remedy}")


@functools.cache
def keep_freed() -> None:
    """Has the C library keep up to 512 MB of what tensors of up to 32 MB free, for the next update's tensors.

    By default glibc hands such memory back to the system after an update and has it paged in, zeroed, at the next: a
    fifth of the time of an update with large activations. Only the GNU C library has this; elsewhere nothing happens.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library, another system
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-1, 512 << 20)  # M_TRIM_THRESHOLD: less than this at the top of the heap is not given back
        mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD: larger blocks, as a replay buffer's, come and go by themselves


def _group_limits() -> list[int]:
    """The limits that Linux sets on this process' control groups (either version of that interface), in bytes."""
    limits, root = [], Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError):  # another system
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            base, file = (root / "memory", "memory.limit_in_bytes") if controllers else (root, "memory.max")
            group = base / name.lstrip("/")
            for folder in (group, *group.parents):
                if folder.is_relative_to(base):
                    with contextlib.suppress(OSError, ValueError):  # no such file, or the word "max"
                        limits.append(int((folder / file).read_text()))
    return limits
