"""Two files in the form of stable-baselines3, so that its plots and those of RL-Zoo read a run folder."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..agents.core.files import write_atomically
from .disk import append


class Monitor:
    """`monitor.csv`: a line for each training episode, as stable-baselines3's Monitor writes it.

    Return `r`, length `l`, seconds of training `t` and, beyond theirs, the `clock`, both of the log row that the
    episode came with. The file is made with the first episode.
    """

    def __init__(self, path: Path):
        self.path = path
        self._pending: list[bytes] = []
        """Lines that the disk has refused so far."""

    def add(self, episodes: Iterable[tuple[float, int]], clock: int, elapsed: float, env_id: str) -> None:
        """Appends finished episodes `(return, length)`. Raises OSError; the next call then writes them too."""
        self._pending += [f"{total:.6f},{length},{elapsed:.3f},{clock}\n".encode() for total, length in episodes]
        if self._pending:
            head = f"#{json.dumps({'t_start': time.time() - elapsed, 'env_id': env_id})}\nr,l,t,clock\n".encode()
            append(self.path, b"".join([*([] if self.path.exists() else [head]), *self._pending]))
            self._pending = []

    def go_on(self, clock: int) -> None:
        """Drops what was written after `clock`, and lines that are damaged."""
        if not self.path.is_file():
            return
        head, columns, *lines = [*self.path.read_bytes().splitlines(keepends=True), b"", b""]
        if not head.startswith(b"#{") or columns != b"r,l,t,clock\n":
            lines = []
        kept = [line for line in lines if _clock(line) <= clock]
        write_atomically(self.path, b"".join([head, columns, *kept])) if kept else self.path.unlink()


def _clock(line: bytes) -> float:
    """The clock of a line; infinity if the line is damaged."""
    try:
        *values, clock = line.decode().split(",")
        sound = line.endswith(b"\n") and len([float(value) for value in values]) == 3
        return int(clock) if sound else math.inf
    except ValueError:
        return math.inf


def write_evaluations(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """`evaluations.npz` as EvalCallback of stable-baselines3 writes it, from the rows of evaluations.csv.

    `timesteps` `[R]` (the clock), `results` and `ep_lengths` `[R, episodes]`. Rows with another number of episodes than
    the last are left out.
    """
    words = [[row.get(name, "").split() for name in ("returns", "lengths")] for row in rows]
    alike = [i for i, row in enumerate(words) if list(map(len, row)) == list(map(len, words[-1]))]
    content = io.BytesIO()
    np.savez(
        content,
        timesteps=np.array([int(rows[i]["clock"]) for i in alike]),
        results=np.array([words[i][0] for i in alike], np.float64),
        ep_lengths=np.array([words[i][1] for i in alike], np.int64),
    )
    write_atomically(path, content.getvalue())
