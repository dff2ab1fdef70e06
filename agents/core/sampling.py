"""Which rows of a buffer are drawn, and how much each counts: the base of all ways to do so draws uniformly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .buffer import Buffer

MISS = 1e-15
"""Greatest probability that a uniform draw finds no valid row."""
MANY = 128
"""With more candidates than this (three rows of four invalid), listing the valid rows is cheaper."""


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
        """Flat indices `[size]` of valid rows, without a look at the device from the host.

        Invalid rows are few (one an episode), so each draw has spare candidates: enough that the probability of
        finding no valid one is below 1e-15, from counts that the host knows.
        """
        filled = buffer.written * buffer.columns
        invalid = 1.0 - buffer.transitions / filled
        tries = math.ceil(math.log(MISS) / math.log(invalid)) if invalid else 1
        if tries > MANY:
            index = buffer.valid_index()
            return index[torch.randint(len(index), (size,), device=buffer.device)]
        return first_valid(buffer, torch.randint(filled, (tries, size), device=buffer.device))

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


def first_valid(buffer: Buffer, candidates: Tensor) -> Tensor:
    """In each column of the flat indices `[tries, size]` the first valid row, or the first row if none is: `[size]`."""
    candidates = candidates.mT.contiguous()  # the greatest of neighbours is found in a fifth of the time
    first = buffer.valid.take(candidates).to(torch.uint8).argmax(1, keepdim=True)
    return candidates.gather(1, first).squeeze(1)
