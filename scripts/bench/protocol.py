"""What a contestant's process says: a line of JSON when it is ready, and one for each block of work."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

Run = Callable[[int], "dict[str, Any] | None"]
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
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        answer = {"count": int(line), "seconds": seconds, "peak_bytes": peak, **first_step, **found}
        print(json.dumps(answer), file=answers, flush=True)
