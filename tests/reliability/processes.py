"""Commands in processes of their own, which start at once because they are forks of one that has imported everything.

Something can happen to such a process at any of the changes that it makes to files.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Collection
from multiprocessing.context import ForkServerProcess
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

COMMANDS = [f"bellmark.scripts.{name}" for name in ("main", "train", "fit", "resume", "plots", "report")]
LIBRARIES = ["bellmark.offline.iql", "torch._dynamo", "torch.utils.tensorboard", "matplotlib.pyplot", "tyro"]
NEW_MOUNTS, NEW_USERS = 0x00020000, 0x10000000
os.environ.setdefault("OMP_NUM_THREADS", "1")

Fault = Callable[[], None]
CHANGES = ("open", "fsync", "fsynced", "os.link", "os.rename", "os.remove", "os.mkdir")
"""Names of what is done to files: open to be written anew, flush to the disk (before, after), link, rename, remove."""
_unflushed: list[int] = []
"""Descriptors of files whose content is not on the disk yet."""


def start(
    words: list[Any], log: Path, fault: Fault | None = None, at: int = 1, among: Collection[str] = CHANGES
) -> ForkServerProcess:
    """Starts `bellmark WORDS`, which writes to `log`; `fault` happens at its `at`-th change of a file `among` these."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(COMMANDS + LIBRARIES)
    arguments = ([str(word) for word in words], str(log), fault, at, among)
    process = context.Process(target=command, args=arguments, daemon=True)
    process.start()
    return process


def run(words: list[Any], log: Path, *fault: Any) -> int:
    """`start`, and the exit status, which is -9 for a process that was killed."""
    process = start(words, log, *fault)
    process.join(300)
    assert process.exitcode is not None, f"{words} does not end: {log.read_text()}"
    return process.exitcode


def command(words: list[str], log: str, fault: Fault | None, at: int, among: Collection[str]) -> None:
    """What the process does. The last line of the log says how many changes it has made."""
    system("prctl", 1, signal.SIGKILL)  # it does not outlive the process that it is a fork of
    file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    changes = count_changes(fault, at, among)
    from bellmark.scripts.main import main

    status = main(words)
    print(f"\n{json.dumps(changes)}", flush=True)
    sys.exit(status)


def count_changes(fault: Fault | None, at: int, among: Collection[str]) -> Counter[str]:
    """Counts from now on what this process does to files."""
    changes, own, fsync = Counter[str](), os.getpid(), os.fsync

    def audited_fsync(descriptor: int) -> None:
        _unflushed.append(descriptor)
        sys.audit("fsync")
        _unflushed.clear()
        fsync(descriptor)
        sys.audit("fsynced")

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in CHANGES or os.getpid() != own:
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & os.O_TRUNC):
            return
        changes[event] += 1
        if fault is not None and event in among and sum(changes[name] for name in among) == at:
            fault()

    os.fsync = audited_fsync
    sys.addaudithook(count)
    return changes


def kill() -> None:
    """What is not on the disk yet may be torn, as if the machine had lost power."""
    for descriptor in _unflushed:
        os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
    os.kill(os.getpid(), signal.SIGKILL)


def limit_files(size: int) -> None:
    """From now on no file can have more bytes. Python ignores the signal, so that writing fails."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def obey_permissions() -> None:
    """From now on folders can be forbidden to this process even if it is root's."""
    if os.geteuid() == 0:
        unshare(NEW_USERS)  # in a name space that knows no users, nobody has power over files


def small_disk(folder: Path, size: int, copy: Path) -> None:
    """Puts an empty disk of so many bytes in the place of the folder; what is on it is copied when the process ends."""
    identity = {"setgroups": "deny", "uid_map": f"0 {os.geteuid()} 1", "gid_map": f"0 {os.getegid()} 1"}
    unshare(NEW_USERS | NEW_MOUNTS)
    for name, words in identity.items():
        Path("/proc/self", name).write_text(words)
    system("mount", b"tmpfs", bytes(folder), b"tmpfs", 0, f"size={size}".encode())
    Finalize(None, shutil.copytree, (folder, copy), exitpriority=1)


def unshare(what: int) -> None:
    """Gives this process name spaces of its own, which needs no privileges on most systems."""
    system("unshare", what)


def system(call: str, *arguments: Any) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, call)(*arguments):
        raise OSError(ctypes.get_errno(), f"{call}: {os.strerror(ctypes.get_errno())}")


def give_way() -> None:
    os.nice(10)
