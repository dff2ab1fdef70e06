"""The cache of downloaded data files, and how a file gets there whole or not at all."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from pathlib import Path

from ..agents.core.errors import BellmarkError, InvalidData
from ..agents.core.files import write_atomically
from .scores import Reference

CHUNK = 1 << 20
"""Bytes read at a time."""


class DownloadFailed(BellmarkError, OSError):
    """A file could not be fetched; nothing was left behind."""


def cache_folder() -> Path:
    """Where downloaded data lie: the folder in the variable BELLMARK_DATA, or d4rl's own `~/.d4rl/datasets`."""
    return Path(os.environ.get("BELLMARK_DATA") or "~/.d4rl/datasets").expanduser()


def local_file(reference: Reference, progress: bool = True) -> Path:
    """The file of a D4RL data set, named as d4rl names it: from the cache, or downloaded to it.

    Raises DownloadFailed or InvalidData if there is no such file, and says where to put one by hand.
    """
    if not reference.url:
        raise InvalidData(f"D4RL has no file for '{reference.id}': it is a task without data, choose another id")
    path = cache_folder() / reference.url.rpartition("/")[2]
    if not path.exists():
        download(reference.url, path, progress=progress)
    return path


def download(url: str, path: Path, *, progress: bool = True, timeout: float = 30.0) -> None:
    """Fetches a D4RL file to `path`: to a temporary name beside it, checked for length and schema, flushed, renamed.

    Its SHA-256 goes to `<path>.sha256`, against which `verify` checks the file from then on. `timeout` is in seconds,
    per read. On any failure (DownloadFailed, InvalidData, Ctrl-C) what was at `path` before is still there, untouched.
    """
    from .d4rl import check

    remedy = f"try again, or put the file there by hand: {url} as {path}"
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadFailed(f"the folder {path.parent} cannot be made ({error.strerror}): {remedy}") from error
    try:
        digest = _fetch(url, part, progress, timeout)
        try:
            check(part)
        except InvalidData as error:
            raise InvalidData(f"what {url} sent is no D4RL file ({error}): {remedy}") from error
        os.replace(part, path)
        write_atomically(sidecar(path), f"{digest}  {path.name}\n".encode())
    except urllib.error.HTTPError as error:
        raise DownloadFailed(f"{url} answered {error.code} {error.reason}: {remedy}") from error
    except (OSError, ValueError) as error:
        if isinstance(error, BellmarkError):
            raise
        raise DownloadFailed(f"{path.name} could not be downloaded ({error}): {remedy}") from error
    finally:
        part.unlink(missing_ok=True)


def _fetch(url: str, part: Path, progress: bool, timeout: float) -> str:
    """Streams `url` to the new file `part`, flushed to the disk. Returns its SHA-256 in hexadecimal."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    digest, received = hashlib.sha256(), 0
    with urllib.request.urlopen(url, timeout=timeout) as answer, part.open("wb") as file:
        stated = answer.headers.get("Content-Length")
        with Progress(*columns, disable=not progress) as bar:
            task = bar.add_task(url.rpartition("/")[2], total=int(stated) if stated else None)
            while block := answer.read(CHUNK):
                file.write(block)
                digest.update(block)
                received += len(block)
                bar.update(task, completed=received)
        if stated and received != int(stated):
            raise OSError(f"only {received} of {stated} bytes arrived")
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def sidecar(path: Path) -> Path:
    """The file with the checksum of `path`, in the format of `sha256sum`."""
    return path.with_name(f"{path.name}.sha256")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content in hexadecimal, without loading it. Raises InvalidData if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidData(f"{path} cannot be read: {error.strerror}") from error


def verify(path: Path, sha256: str) -> None:
    """Raises InvalidData if a checksum lies beside `path` and is not `sha256`: the file has changed since."""
    try:
        words = sidecar(path).read_text(errors="replace").split()
    except FileNotFoundError:
        return
    if not words or words[0].lower() != sha256:
        stated = f"{words[0][:12]}..." if words else "nothing"
        raise InvalidData(
            f"{path} is not the file that was downloaded: its SHA-256 is {sha256[:12]}..., and "
            f"{sidecar(path).name} says {stated}; remove both files and load it again"
        )
