"""A run folder: what a training leaves behind, in files that a crash cannot tear."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..agents.core.errors import BellmarkError, InvalidCheckpoint, RunExists
from ..agents.core.files import write_atomically
from .disk import append
from .lock import Lock
from .monitor import Monitor
from .outcome import SaveFailed

FORMAT = 1
LARGEST = 10_000_000
"""Most bytes of a manifest.json."""
COLUMNS = (
    *("clock", "steps", "updates", "episodes", "rollout/ep_rew_mean", "rollout/ep_len_mean"),
    *("time/fps", "time/time_elapsed", "train/learning_rate"),
)
"""The first columns of progress.csv; metrics follow in the order in which they turn up."""


class Table:
    """A CSV file that grows by whole rows, each flushed at once. A column that turns up later is added to every row.

    All rows are in memory as well: a run adds one per log interval, by default a hundred in all.
    """

    def __init__(self, path: Path, columns: Iterable[str] = ()):
        self.path = path
        self.columns: list[str] = list(columns)
        self.rows: list[dict[str, Any]] = []
        self._written = False
        """Whether the file holds all rows but the next."""

    def read(self, keep: Callable[[dict[str, str]], bool]) -> None:
        """Takes over the rows of the file that are whole and that `keep` wants; the file loses the others."""
        if self.path.is_file():
            columns, rows = read_rows(self.path)
            self.columns, self.rows = columns or self.columns, [row for row in rows if keep(row)]
        self._rewrite()

    def add(self, row: Mapping[str, Any]) -> None:
        """Appends a row and flushes it. Raises OSError where the disk refuses; the next call then writes it too."""
        self.rows.append(dict(row))
        new = [name for name in row if name not in self.columns]
        self.columns += new
        if new or not self._written:
            self._rewrite()
            return
        self._written = False
        append(self.path, self._lines([self.rows[-1]]))
        self._written = True

    def replace(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Puts these rows in the place of all."""
        self.rows = [dict(row) for row in rows]
        self.columns += [
            name for name in dict.fromkeys(name for row in self.rows for name in row) if name not in self.columns
        ]
        self._rewrite()

    def _rewrite(self) -> None:
        self._written = False
        write_atomically(self.path, self._lines([dict(zip(self.columns, self.columns, strict=True)), *self.rows]))
        self._written = True

    def _lines(self, rows: Iterable[Mapping[str, Any]]) -> bytes:
        text = io.StringIO()
        csv.DictWriter(text, self.columns, restval="", lineterminator="\n").writerows(rows)
        return text.getvalue().encode()


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns of a CSV file and its whole rows. Raises InvalidCheckpoint for what is no CSV file."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = csv.reader(file)
            columns = next(lines, [])
            return columns, [dict(zip(columns, line, strict=True)) for line in lines if len(line) == len(columns)]
    except (csv.Error, ValueError) as error:
        raise InvalidCheckpoint(f"{path} is damaged ({error}): remove it") from error


class RunFolder:
    """The names of what lies in a run folder, and its manifest.

    `last.bell` and `previous.bell`, the checkpoint before it, are of one size, and while one is saved there are three
    of them. Everything else is small.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.manifest_file = self.path / "manifest.json"
        self.last = self.path / "last.bell"
        self.previous = self.path / "previous.bell"
        self.best = self.path / "best.bell"
        self.curve = self.path / "learning_curve.png"
        self.progress = Table(self.path / "progress.csv", COLUMNS)
        self.evaluations = Table(self.path / "evaluations.csv")
        self.monitor = Monitor(self.path / "monitor.csv")
        self.evaluations_npz = self.path / "evaluations.npz"
        self.lock = Lock(self.path / ".lock")

    def __str__(self) -> str:
        return str(self.path)

    def create(self, manifest: Mapping[str, Any]) -> Lock:
        """Starts a run and gives its lock, held. Raises RunExists for a folder that is not empty, or SaveFailed."""
        self.refuse_existing()
        made = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.lock.acquire()
            self.refuse_existing()
            self.write_manifest(manifest)
        except (OSError, BellmarkError) as error:
            self.lock.release()
            with contextlib.suppress(OSError):
                self.path.rmdir() if made else None
            if isinstance(error, BellmarkError):
                raise
            raise SaveFailed(f"cannot make the run folder {self} ({error.strerror}): name another by --run") from error
        return self.lock

    def refuse_existing(self) -> None:
        if self.path.is_file():
            raise RunExists(f"{self} is a file: name another folder with --run")
        if self.path.is_dir() and any(path != self.lock.path for path in self.path.iterdir()):
            self.lock.refuse()
            remedy = f"go on with it by `bellmark resume {self}`" if self.last.exists() else "remove it"
            raise RunExists(f"the run folder {self} is not empty: {remedy}, or name another one with --run")

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        write_atomically(self.manifest_file, json.dumps({"format": FORMAT, **manifest}, indent=2).encode())

    def manifest(self) -> dict[str, Any]:
        """With None for what an older version did not write.

        Raises InvalidCheckpoint if there is none, one that is damaged, or one of a newer version.
        """
        from .manifest import FORM, check

        if not self.manifest_file.is_file():
            raise InvalidCheckpoint(f"{self} is no run folder: it has no manifest.json")
        try:
            if self.manifest_file.stat().st_size > LARGEST:
                raise ValueError(f"it is larger than {LARGEST:,} bytes")
            manifest = json.loads(self.manifest_file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise InvalidCheckpoint(f"{self.manifest_file} is damaged: {error}") from error
        if isinstance(manifest, dict) and isinstance(found := manifest.get("format"), int) and found > FORMAT:
            raise InvalidCheckpoint(f"{self} was written by a newer version: pip install -U bellmark")
        check(manifest, self.manifest_file)
        return dict.fromkeys(FORM) | manifest

    def save(self, write: Callable[[], object], *, keep: bool) -> None:
        """Calls `write`, which replaces last.bell; with `keep`, what that was becomes previous.bell.

        A last.bell is there at every moment. Raises OSError where the disk refuses.
        """
        spare = self.previous.with_name(".previous.bell.tmp")
        try:
            kept = keep and any(_copied(copy, self.last, spare) for copy in (os.link, shutil.copyfile))
            write()
            if kept:
                spare.replace(self.previous)
        finally:
            with contextlib.suppress(OSError):
                spare.unlink()

    def keep(self, clock: int) -> None:
        """Gives last.bell another name as well, `step-<clock>.bell`, under which it stays."""
        any(_copied(copy, self.last, self.path / f"step-{clock:012d}.bell") for copy in (os.link, shutil.copyfile))

    def checkpoints(self) -> list[Path]:
        """The checkpoints under names of their own in the order of the clock, or else last.bell, if there is one."""
        return sorted(self.path.glob("step-*.bell")) or [path for path in (self.last,) if path.exists()]

    def tidy(self) -> None:
        """Removes what a process that was killed had not finished writing. Only for the holder of the lock."""
        for path in (*self.path.glob(".*.tmp"), *self.path.glob(".tmp*")):  # the latter are the safetensors library's
            path.unlink(missing_ok=True)

    def go_on(self, clock: int) -> None:
        """Drops the rows that were written after the checkpoint that is resumed, and those that are damaged."""
        for table in (self.progress, self.evaluations):
            table.read(lambda row: _is_sound(row) and int(row["clock"]) <= clock)
        self.monitor.go_on(clock)


def _copied(copy: Callable[[Path, Path], object], source: Path, target: Path) -> bool:
    """Whether `copy` could: not every file system has hard links."""
    try:
        target.unlink(missing_ok=True)
        copy(source, target)
    except OSError:
        return False
    return True


def _is_sound(row: Mapping[str, str]) -> bool:
    """Whether every cell that is not empty holds a number, or a list of them, and no evaluation lacks its mean."""
    try:
        for cell in row.values():
            [float(word) for word in cell.split()]
    except ValueError:
        return False
    return row.get("clock", "").isdecimal() and row.get("mean") != ""
