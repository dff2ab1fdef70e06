"""Writing during a training: a full disk is a warning then, and an error at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path


class Disk:
    """Tries to write, and remembers which files could not be written."""

    def __init__(self) -> None:
        self.failed: dict[Path, OSError] = {}

    def attempt(self, path: Path, write: Callable[[], object]) -> bool:
        """Whether `write()` succeeded. Says once that it did not, until it does again."""
        try:
            write()
        except OSError as error:
            if path not in self.failed:
                print(
                    f"warning: cannot write {path} ({error.strerror or error}); what was there is intact, and the "
                    "training goes on: free some space before it ends",
                    file=sys.stderr,
                )
            self.failed[path] = error
            return False
        self.failed.pop(path, None)
        return True


def append(path: Path, content: bytes) -> None:
    """Adds `content` to the end of a file, or raises OSError and leaves the file as it was."""
    with path.open("ab", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            while content:
                content = content[file.write(content) :]
        except OSError:
            file.truncate(size)
            raise
