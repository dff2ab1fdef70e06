"""Fresh processes that import a module, as contestants."""

# mypy: disable-error-code="no-redef"
from __future__ import annotations

import resource
import subprocess
import sys
from typing import Any

try:
    from .protocol import Run, serve
except ImportError:  # a script
    from protocol import Run, serve


def build(words: dict[str, Any]) -> Run:
    def run(count: int) -> dict[str, Any]:
        for _ in range(count):
            subprocess.run([sys.executable, "-c", f"import {words['module']}"], check=True)
        return {"peak_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024}

    return run


if __name__ == "__main__":
    serve(build)
