"""What Python is told to do while files are read: nothing of what no file may make it do."""

from __future__ import annotations

import os
import sys
from typing import Any

FORBIDDEN = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate"}
FORBIDDEN |= {"pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.fork", "socket.connect"}


class Audit:
    """Notes files opened for writing, processes, classes that pickle looks up, and so on, while it is `armed`.

    It cannot be taken off: it is for processes that do nothing else.
    """

    def __init__(self) -> None:
        self.armed, self.seen = False, list[str]()
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        writes = event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes or event in FORBIDDEN:
            self.seen.append(f"{event} {arguments!r:.200}")
