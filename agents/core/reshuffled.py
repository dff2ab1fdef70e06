"""Random reshuffling: rows are drawn without replacement, pass after pass, from a buffer whose content changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .errors import InvalidCheckpoint
from .prioritized import Prioritized, SumTree, strata
from .rows import zeros
from .sampling import Sampler

if TYPE_CHECKING:
    from .buffer import Buffer

LEAK = 1e-8
"""What is left of the mass of a row that was drawn more often than expected."""
SMALLEST = 1e-300
"""Least sum that is divided by: before the first draw it is 0."""


class Reshuffled(Sampler):
    """RR-C: each row once per pass (Fujita 2025, arXiv 2503.02269).

    A pass is a random order of all rows of memory. Rows that are no transition when their turn comes are skipped; a
    row that is overwritten keeps its turn. A batch may be cut from two passes.

    Departure from the paper: while the buffer fills, a pass is over twice as many rows as are filled instead of all,
    so that its cost is in proportion to its batches; rows beyond these wait for the next pass.
    """

    beside = 8

    def __init__(self) -> None:
        self.order = np.zeros(0, np.int64)
        """Flat indices of the pass."""
        self.place = 0
        """How many of them have had their turn."""

    def draw(self, buffer: Buffer, size: int) -> Tensor:
        valid, found, missing = buffer.valid_on_host(), [], size
        while missing:
            if self.place == len(self.order):
                count = min(2 * buffer.written, buffer.rows) * buffer.columns
                self.order, self.place = torch.randperm(count).numpy(), 0
            needed = missing * buffer.written * buffer.columns // buffer.transitions + 64
            turns = self.order[self.place : self.place + needed]
            good = np.flatnonzero(valid[turns])[:missing]
            self.place += int(good[-1]) + 1 if len(good) == missing else len(turns)
            missing -= len(good)
            found.append(turns[good])
        return torch.as_tensor(np.concatenate(found), device=buffer.device)

    def state(self, buffer: Buffer) -> dict[str, Tensor]:
        order = torch.full((buffer.rows * buffer.columns,), -1)
        order[: len(self.order)] = torch.as_tensor(self.order)
        return {"order": order, "place": torch.tensor(self.place)}

    def layout(self, rows: int, written: int) -> dict[str, Tensor]:
        shapes = {"order": (rows,), "place": ()}
        return {name: torch.empty(shape, dtype=torch.int64, device="meta") for name, shape in shapes.items()}

    def load_state(self, buffer: Buffer, tensors: Mapping[str, Tensor]) -> None:
        order, place = tensors["order"].cpu().numpy(), int(tensors["place"])
        self.order = order[order >= 0]
        if not (0 <= place <= len(self.order) and (self.order < len(order)).all()):
            raise InvalidCheckpoint("the saved buffer has an order of rows that do not exist")
        self.place = place


class PrioritizedReshuffled(Prioritized):
    """RR-M: rows as often as priorities let expect, without the variance (Fujita 2025, arXiv 2503.02269).

    For each row there are the number of draws c and their expectation e under prioritised replay. A row with c > e
    keeps a 1e-8th of its mass until it is expected again. Each batch of B adds B P(i) to every e, 1 to the c of those
    drawn. A new row has c = e = 0, and before each draw all e are scaled so that their sum is that of c.

    Weights are those of prioritised replay. Every batch takes time in proportion to the number of rows.
    """

    beside = 2 * Prioritized.beside + 16

    def draw(self, buffer: Buffer, size: int) -> Tensor:
        self.agree(buffer)
        self.expected *= self.drawn.sum() / self.expected.sum().clamp(min=SMALLEST)
        priority, mass = (tree.leaves[: len(self.drawn)] for tree in (self.tree, self.masses))
        mass.copy_(self.drawn <= self.expected).clamp_(min=LEAK).mul_(priority)
        self.masses.refresh()
        row = self.masses.find(strata(size, buffer.device) * (self.masses.total / size))
        self.expected.addcmul_(priority, size / self.tree.total)
        self.drawn.index_add_(0, row, torch.ones_like(row, dtype=torch.float64))
        return row

    def start(self, buffer: Buffer, index: Tensor) -> None:
        count = buffer.rows * buffer.columns
        self.drawn, self.expected = (zeros((count,), torch.float64, buffer.device) for _ in range(2))
        self.masses = SumTree(count, buffer.device)
        super().start(buffer, index)

    def renew(self, buffer: Buffer, index: Tensor) -> None:
        super().renew(buffer, index)
        self.drawn[index], self.expected[index] = 0.0, 0.0

    def state(self, buffer: Buffer) -> dict[str, Tensor]:
        own = super().state(buffer)
        written = len(own["priority"])
        return own | {"drawn": self.drawn[:written], "expected": self.expected[:written]}

    def layout(self, rows: int, written: int) -> dict[str, Tensor]:
        own = super().layout(rows, written)
        return own | {"drawn": own["priority"], "expected": own["priority"]}

    def load_state(self, buffer: Buffer, tensors: Mapping[str, Tensor]) -> None:
        super().load_state(buffer, tensors)
        for name, own in (("drawn", self.drawn), ("expected", self.expected)):
            saved = tensors[name].to(buffer.device)
            if not (torch.isfinite(saved) & (saved >= 0)).all():
                raise InvalidCheckpoint(f"the saved buffer has {name} counts that are negative or not finite")
            own[: len(saved)] = saved
