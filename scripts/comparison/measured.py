"""`python -m bellmark.scripts.comparison.measured FILE MODULE ...`: runs a command and writes what memory it took."""

from __future__ import annotations

import importlib
import json
import re
import resource
import sys
from pathlib import Path

from ...agents.core.errors import BellmarkError
from ...agents.core.files import write_atomically


def peak() -> int:
    """Most bytes that this process had in memory since its program began."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:  # not Linux
        found = None
    return 1024 * int(found[1] if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def main(argv: list[str]) -> int:
    file, module, *words = argv
    path = Path(file)
    before = json.loads(path.read_text())["peak_bytes"] if path.is_file() else 0  # of a run that is resumed
    try:
        status = importlib.import_module(f"{__package__.rpartition('.')[0]}.{module}").main(words)
    except BellmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 1
    write_atomically(path, json.dumps({"peak_bytes": max(peak(), before)}).encode())
    return int(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
