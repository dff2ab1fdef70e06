"""Balanced replay: half of every batch from recorded data, half from what was collected since."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .errors import InvalidCheckpoint
from .sampling import Sampler, draw_between

if TYPE_CHECKING:
    from .buffer import Buffer


class Balanced(Sampler):
    """Even places of a draw come from the data, odd ones from the new rows, uniformly each (RLPD, arXiv 2302.02948).

    Any stretch of even length is exactly half and half. Draws are uniform over all rows as long as there are no new
    ones, or no data: after the ring has overwritten them, or without `fit` before `learn`.
    """

    first = 0
    """The row at which collecting began; the rows before it hold data, 0 if there are none."""

    def draw(self, buffer: Buffer, size: int) -> Tensor:
        head, rows = int(buffer.head.max()), buffer.rows
        wrapped = buffer.written == rows and head < rows - 1
        if wrapped and head >= self.first:
            self.first = 0
        if not self.first or head == self.first:
            return super().draw(buffer, size)
        data = head + 1 if wrapped else 0, self.first
        new = self.first, head + rows * wrapped
        odd = size // 2
        halves = [
            draw_between(buffer, low * buffer.columns, high * buffer.columns, count)
            for (low, high), count in ((data, size - odd), (new, odd))
        ]
        places = torch.cat(halves)
        if len(places) < size:
            return super().draw(buffer, size)
        order = torch.arange(size, device=buffer.device)
        return places[order // 2 + (order % 2) * (size - odd)]

    def inherit(self, buffer: Buffer, other: Sampler, source: Tensor, old: Buffer, target: Tensor) -> None:
        self.first = int(buffer.head[0])

    def state(self, buffer: Buffer) -> dict[str, Tensor]:
        return {"first": torch.tensor(self.first)}

    def layout(self, rows: int, written: int) -> dict[str, Tensor]:
        return {"first": torch.empty((), dtype=torch.int64, device="meta")}

    def load_state(self, buffer: Buffer, tensors: Mapping[str, Tensor]) -> None:
        first = int(tensors["first"])
        if not 0 <= first < buffer.rows:
            raise InvalidCheckpoint(f"the saved buffer says that its data end in row {first} of {buffer.rows}")
        self.first = first
