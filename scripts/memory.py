"""Running out of memory: noticed before, where there is a limit to look at, and told from other errors."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..agents.core import rows
from ..agents.core.memory import available

if TYPE_CHECKING:
    from ..agents.core.status import Status

SHARE = 0.95
"""Of a limit; beyond it a training ends while it still can be saved."""


class Memory:
    """A hook that ends the training when this process has used up nearly all the memory that it may have."""

    def __init__(self) -> None:
        self.every = 1
        self.full = ""
        """What is used up, in words, once that is so."""

    def __call__(self, status: Status) -> None:
        for what, used, limit in usage():
            if used > SHARE * limit:
                self.full = f"{used / 1e9:.2f} of {limit / 1e9:.2f} GB of {what} are in use"
                status.stop = True


@contextlib.contextmanager
def announced() -> Iterator[None]:
    """Prints what large buffers are planned, before they take memory."""
    handler, log, before = logging.StreamHandler(sys.stdout), rows.LOG, rows.LOG.level
    handler.setFormatter(logging.Formatter("note: %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


def usage() -> list[tuple[str, int, int]]:
    """What is limited, how much of it this process uses, and the limit, in bytes; nothing where the system hides it."""
    try:
        import resource

        lines = Path("/proc/self/status").read_text().splitlines()
    except (ImportError, OSError):  # not Linux
        return []
    sizes = {
        name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines if "kB" in line)
    }
    found = [("memory", sizes["VmRSS"], available())]
    for what, name, limit in (
        ("address space", "VmSize", resource.RLIMIT_AS),
        ("data segment", "VmData", resource.RLIMIT_DATA),
    ):
        if (most := resource.getrlimit(limit)[0]) != resource.RLIM_INFINITY:
            found.append((what, sizes[name], most))
    return found


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, numpy or torch says that memory could not be had."""
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in ("can't allocate memory", "bad_alloc"))
    )
