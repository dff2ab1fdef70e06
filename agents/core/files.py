"""Files that take another's place as a whole or not at all: a crash or a full disk leaves what was there as it was."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Gives an empty file to write to, which takes the place of `path` at the end, when all of it is on the disk.

    Whatever is raised meanwhile leaves `path` as it was, and nothing else.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # a library that itself makes a file and renames it may have kept it to its owner
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: str | Path, content: bytes) -> None:
    """Replaces `path` by `content`, or leaves it as it was."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)
