"""One process at a time in a run folder."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from ..agents.core.errors import RunInUse
from .outcome import SaveFailed

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_held: set[int] = set()


def _close_in_child() -> None:
    """A worker that outlives its killed parent must not keep the lock."""
    for file in _held:
        os.close(file)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


class Lock:
    """A lock that the system takes back however the process ends, so that none is ever stale.

    The file holds the process id. It is removed by its holder; after a kill it stays, and means nothing. Where the
    system has no `flock` (Windows, some network drives), nothing is locked.
    """

    def __init__(self, path: Path):
        self.path = path
        self._file = -1

    def acquire(self) -> Lock:
        """Raises RunInUse if another process holds it, and SaveFailed where the folder cannot be written."""
        while fcntl and self._file < 0:
            try:
                file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            except OSError as error:
                raise SaveFailed(f"cannot write into {self.path.parent} ({error.strerror}): allow it first") from error
            self._lock(file)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), os.stat(self.path)):
                    self._file = file
                    _held.add(file)
                    with contextlib.suppress(OSError):  # a full disk: then it names no process
                        os.ftruncate(file, 0)
                        os.write(file, str(os.getpid()).encode())
                    break
            os.close(file)  # its holder removed it before it could be locked: try again with the new one
        return self

    def refuse(self) -> None:
        """Raises RunInUse if another process holds it. Writes nothing."""
        if fcntl and self._file < 0 and self.path.is_file():
            file = os.open(self.path, os.O_RDONLY)
            self._lock(file)
            os.close(file)

    def release(self) -> None:
        """Removes the file while it is still locked. Nothing happens in a forked child."""
        if self._file in _held:
            with contextlib.suppress(OSError):
                self.path.unlink()
            os.close(self._file)
            _held.discard(self._file)
        self._file = -1

    def _lock(self, file: int) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(file, 20).decode(errors="replace") or "unknown"
            os.close(file)
            raise RunInUse(
                f"the run folder {self.path.parent} is in use by the process {holder}: wait for it, or end it"
            ) from error
        except OSError as error:
            print(f"note: {self.path} cannot be locked ({error.strerror}): start no second process", file=sys.stderr)

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()
