"""A run folder: what a training leaves behind, in files that a crash cannot tear."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..agents.core.checkpoint import write_atomically
from ..agents.core.errors import InvalidCheckpoint, RunExists

FORMAT = 1
COLUMNS = (
    *("clock", "steps", "updates", "episodes", "rollout/ep_rew_mean", "rollout/ep_len_mean"),
    *("time/fps", "time/time_elapsed", "train/learning_rate"),
)
"""The first columns of progress.csv; metrics follow in the order in which they turn up."""


class Table:
    """A CSV file that grows by whole rows. A column that turns up later is added at the end of every row."""

    def __init__(self, path: Path, columns: Iterable[str] = ()):
        self.path = path
        self.columns: list[str] = list(columns)
        self.rows: list[dict[str, Any]] = []
        self._written = False
        """Whether the file holds all rows but the next."""

    def read(self, keep: Callable[[dict[str, str]], bool]) -> None:
        """Takes over the rows of the file that are whole and that `keep` wants; the file loses the others."""
        if self.path.is_file():
            with self.path.open(newline="", encoding="utf-8") as file:
                lines = csv.reader(file)
                self.columns = next(lines, self.columns)
                whole = [dict(zip(self.columns, line, strict=True)) for line in lines if len(line) == len(self.columns)]
            self.rows = [row for row in whole if keep(row)]
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
        with self.path.open("ab", buffering=0) as file:
            file.write(self._lines([self.rows[-1]]))
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


class RunFolder:
    """The names of what lies in a run folder, and its manifest."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.manifest_file = self.path / "manifest.json"
        self.last = self.path / "last.bell"
        self.best = self.path / "best.bell"
        self.curve = self.path / "learning_curve.png"
        self.progress = Table(self.path / "progress.csv", COLUMNS)
        self.evaluations = Table(self.path / "evaluations.csv")

    def __str__(self) -> str:
        return str(self.path)

    def create(self, manifest: Mapping[str, Any]) -> None:
        """Starts a run. Raises RunExists for a folder that is not empty."""
        self.refuse_existing()
        self.path.mkdir(parents=True, exist_ok=True)
        self.write_manifest(manifest)

    def refuse_existing(self) -> None:
        if self.path.is_file():
            raise RunExists(f"{self} is a file: name another folder with --run")
        if self.path.is_dir() and any(self.path.iterdir()):
            remedy = f"go on with it by `bellmark resume {self}`" if self.last.exists() else "remove it"
            raise RunExists(f"the run folder {self} is not empty: {remedy}, or name another one with --run")

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        write_atomically(self.manifest_file, json.dumps({"format": FORMAT, **manifest}, indent=2).encode())

    def manifest(self) -> dict[str, Any]:
        """Raises InvalidCheckpoint if there is none, or one of a newer version."""
        if not self.manifest_file.is_file():
            raise InvalidCheckpoint(f"{self} is no run folder: it has no manifest.json")
        with contextlib.suppress(ValueError):
            manifest = json.loads(self.manifest_file.read_text(encoding="utf-8"))
            if manifest["format"] > FORMAT:
                raise InvalidCheckpoint(f"{self} was written by a newer version: pip install -U bellmark")
            return manifest
        raise InvalidCheckpoint(f"{self.manifest_file} is damaged")

    def go_on(self, clock: int) -> None:
        """Drops the rows that were written after the checkpoint that is resumed."""
        for table in (self.progress, self.evaluations):
            table.read(lambda row: row["clock"].isdigit() and int(row["clock"]) <= clock)
