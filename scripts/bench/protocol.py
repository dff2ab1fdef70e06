"""What a contestant's process says: a line of JSON when it is ready, and one for each block of work."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Run = Callable[[int], "dict[str, Any] | None"]
FULL = -1
"""A count that asks for the memory of a run whose replay buffer is full."""
first_step: dict[str, float] = {}
"""Seconds from the start of the process to its first environment step, once there was one."""


def watch(owner: Any, name: str, words: dict[str, Any]) -> None:
    """Notes when `owner.name` is called for the first time."""
    original = getattr(owner, name)

    def watched(*args: Any, **kwargs: Any) -> Any:
        first_step["first_step_seconds"] = time.time() - words["began"]
        setattr(owner, name, original)
        return original(*args, **kwargs)

    setattr(owner, name, watched)


def fill(arrays: Iterable[Any]) -> dict[str, Any]:
    """Writes to every page of numpy arrays, as a long run does: what is never written to takes no memory."""
    for array in arrays:
        array.reshape(-1).view("uint8")[::1024] |= 0
    return {}


def peak_bytes() -> int:
    """The most memory that this process has had at once."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # on Linux it would begin at the parent's
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def serve(build: Callable[[dict[str, Any]], Run]) -> None:
    """`build(words)` gives what does `count` units of work; what that returns is kept beside its time."""
    began = time.perf_counter()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to stderr
    run = build(json.loads(sys.argv[1]))
    print(json.dumps({"seconds": time.perf_counter() - began}), file=answers, flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        found = run(int(line)) or {}
        if "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized():
            sys.modules["torch"].cuda.synchronize()
        seconds = time.perf_counter() - began
        answer = {"count": int(line), "seconds": seconds, "peak_bytes": peak_bytes(), **first_step, **found}
        print(json.dumps(answer), file=answers, flush=True)
