"""Which rows of a buffer are drawn, and how much each counts: the base of all ways to do so draws uniformly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from .buffer import Buffer

MANY = 8
"""With more candidates than this for each row that is missing, listing the valid rows is cheaper."""
SPARE = 8
"""Candidates beyond those that are expected to be enough, so that a second round is rare."""


class Sampler:
    """Uniform over valid rows, with replacement. It may be used with one buffer only, which it is told in each call.

    A subclass that keeps something for each row learns of new and lost rows at its next draw, from `buffer.moves` and
    `buffer.head`, so that writing a row costs nothing.
    """

    beside = 0
    """Bytes that it keeps for each row of a column."""
    adaptive = False
    """Whether draws depend on reported errors, so that each batch is to be drawn when its turn comes."""
    weighted = False
    """Whether rows count differently by what was said about the data, which another sampler would not know."""
    progress = 0.0
    """Share of the planned training that is over, which whoever draws sets."""

    def fresh(self) -> Self:
        """One with the same settings, for another buffer."""
        return type(self)()

    def draw(self, buffer: Buffer, size: int) -> Tensor:
        """Flat indices `[size]` of valid rows."""
        return draw_between(buffer, 0, buffer.written * buffer.columns, size)

    def weight(self, buffer: Buffer, index: Tensor) -> Tensor:
        """Importance weights of the rows `[B]`."""
        return buffer.ones.expand(index.shape[0])

    def report(self, buffer: Buffer, row: Tensor, error: Tensor) -> None:
        """Takes note of the errors `[B]` of rows `[B]`."""

    def inherit(self, buffer: Buffer, other: Self, source: Tensor, old: Buffer, target: Tensor) -> None:
        """Takes over what `other` knows of rows `source` of the buffer `old`, which are rows `target` of this one."""

    def state(self, buffer: Buffer) -> dict[str, Tensor]:
        """Everything that decides the next draws but random streams."""
        return {}

    def layout(self, rows: int, written: int) -> dict[str, Tensor]:
        """What `state` gives for a buffer of so many rows in all columns, on the meta device."""
        return {}

    def load_state(self, buffer: Buffer, tensors: Mapping[str, Tensor]) -> None:
        """Takes over what `state` gave, as far as `tensors` has it. Raises InvalidCheckpoint for absurd values."""


def draw_between(buffer: Buffer, start: int, stop: int, size: int) -> Tensor:
    """Flat indices `[size]`, uniform over the valid rows in [start, stop), which may pass the end of the ring.

    None are given where none is valid. Drawn on the host, which knows the valid rows, so that nobody waits for the
    device: candidates that are no transition (few, about one an episode) are drawn again.
    """
    valid, each = buffer.valid_on_host(), buffer.written * buffer.columns / buffer.transitions
    found, missing = [], size
    while missing and each < MANY:
        candidates = torch.randint(start, stop, (math.ceil(each * missing) + SPARE,)).numpy() % len(valid)
        good = candidates[valid[candidates]][:missing]
        found.append(good)
        missing -= len(good)
        each *= 2
    if missing:
        rows = np.arange(start, stop) % len(valid)
        rows = rows[valid[rows]]
        found = [*found, rows[torch.randint(len(rows), (missing,)).numpy()]] if len(rows) else []
    return torch.as_tensor(np.concatenate([np.zeros(0, np.int64), *found]), device=buffer.device)
