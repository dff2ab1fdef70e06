"""Proportional prioritised replay: a sum tree, and draws in proportion to errors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import InvalidCheckpoint
from .rows import zeros
from .sampling import Sampler

if TYPE_CHECKING:
    from .buffer import Buffer

WIDTH = 64
"""Children of a node. Wide nodes make few levels, each of which costs a fixed number of operations."""


class SumTree:
    """`leaves` non-negative numbers whose prefix sums can be searched.

    Every node has WIDTH children, so a draw is log2(leaves) / 6 gathers of blocks (four for a million to 16 million
    leaves) instead of the log2(leaves) dependent ones of a binary tree.
    """

    def __init__(self, leaves: int, device: torch.device):
        self.levels: list[Tensor] = []
        """Children of the root, their children, ..., leaves, each padded with zeros to whole blocks."""
        while not self.levels or len(self.levels[0]) > WIDTH:
            count = -(-leaves // WIDTH)
            self.levels.insert(0, zeros((count * WIDTH,), torch.float64, device))
            leaves = count

    @property
    def total(self) -> Tensor:
        return self.levels[0].sum()

    @property
    def leaves(self) -> Tensor:
        return self.levels[-1]

    def set(self, leaf: Tensor, value: Tensor) -> None:
        """Leaves `[B]` take on values `[B]`; where a leaf is named twice, one of its values stays."""
        self.leaves[leaf] = value.double()
        if len(leaf) * WIDTH > len(self.leaves):
            self.refresh()
            return
        for parent, level in self._pairs():
            leaf = leaf // WIDTH
            parent[leaf] = level.view(-1, WIDTH)[leaf].sum(1)

    def refresh(self) -> None:
        """Sums anew, after something was written to `leaves`."""
        for parent, level in self._pairs():
            blocks = level.view(-1, WIDTH)
            torch.sum(blocks, 1, out=parent[: len(blocks)])

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Each level but the root's, from the leaves up, after that of its parents."""
        return zip(self.levels[-2::-1], self.levels[:0:-1], strict=True)

    def find(self, mass: Tensor) -> Tensor:
        """The leaf where the running sum first exceeds `mass` `[B]`, each in [0, total): never one that holds 0."""
        node, mass = torch.zeros_like(mass, dtype=torch.int64), mass.unsqueeze(1)
        for level in self.levels:
            running = level.view(-1, WIDTH)[node].cumsum(1)
            mass = torch.minimum(mass, running[:, -1:].nextafter(mass.new_zeros(())))  # sums differ by their rounding
            child = torch.searchsorted(running, mass, right=True)
            mass = mass - F.pad(running, (1, 0)).gather(1, child)
            node = node * WIDTH + child[:, 0]
        return node


class Prioritized(Sampler):
    """Draws row i with P(i) = p_i^alpha / sum p^alpha (Schaul et al. 2016, arXiv 1511.05952, section 3.3).

    p = |error| + epsilon as last reported; a new row has the greatest p seen so far. Draws are stratified: one in
    each of B equal parts of the mass. Rows count w = (N P)^-beta over the greatest w of their batch, N the number of
    transitions; beta rises linearly to 1 over the planned training.

    Departure from the paper: its w is divided by the greatest of the whole buffer, here by that of the batch, as
    Rainbow's and Dopamine's code does.
    """

    epsilon = 1e-6
    beside = 10  # a leaf of 8 bytes, and a share of its ancestors and of the padding
    adaptive = True
    tree: SumTree

    def __init__(self, alpha: float = 0.6, beta: float = 0.4):
        self.alpha, self.beta = alpha, beta
        """`beta` is that of the beginning."""
        self.greatest = torch.ones((), dtype=torch.float64)
        self.moves = -1
        """`buffer.moves` when the tree was last made to agree with the buffer; -1 = never."""
        self.head = np.zeros(0, np.int64)
        """`buffer.head` at that time."""

    def fresh(self) -> Self:
        return type(self)(self.alpha, self.beta)

    def draw(self, buffer: Buffer, size: int) -> Tensor:
        self.agree(buffer)
        return self.tree.find(strata(size, buffer.device) * (self.tree.total / size))

    def weight(self, buffer: Buffer, index: Tensor) -> Tensor:
        self.agree(buffer)
        probability = self.tree.leaves[index] / self.tree.total
        weight = (buffer.transitions * probability) ** -(self.beta + (1.0 - self.beta) * self.progress)
        return (weight / weight.max()).float()

    def report(self, buffer: Buffer, row: Tensor, error: Tensor) -> None:
        self.agree(buffer)
        priority = ((error.detach().abs().nan_to_num(0.0, 0.0) + self.epsilon).double()) ** self.alpha
        self.greatest = torch.maximum(self.greatest, priority.max())
        self.tree.set(row, torch.where(buffer.valid.view(-1)[row], priority, 0.0))

    def agree(self, buffer: Buffer) -> None:
        """Gives the rows that were written since the last call the greatest priority, lost ones none.

        Where the heads may have gone round the whole ring since, every row counts as new.
        """
        passed = buffer.moves - self.moves
        if self.moves < 0 or passed + buffer.ahead >= buffer.rows:
            self.start(buffer, buffer.valid_index())
        elif passed:
            self.renew(buffer, buffer.rows_since(self.head))
        self.moves, self.head = buffer.moves, buffer.head

    def start(self, buffer: Buffer, index: Tensor) -> None:
        """Begins with the rows `index` as new ones, and no other."""
        self.tree = SumTree(buffer.rows * buffer.columns, buffer.device)
        self.greatest = self.greatest.to(buffer.device)
        self.renew(buffer, index)

    def renew(self, buffer: Buffer, index: Tensor) -> None:
        """Forgets what is known of the rows `index`: they are new, or lost."""
        self.tree.set(index, buffer.valid.view(-1)[index] * self.greatest)

    def inherit(self, buffer: Buffer, other: Self, source: Tensor, old: Buffer, target: Tensor) -> None:
        other.agree(old)
        self.greatest = other.greatest
        self.agree(buffer)
        self.tree.set(target, torch.where(buffer.valid.view(-1)[target], other.tree.leaves[source], 0.0))

    def state(self, buffer: Buffer) -> dict[str, Tensor]:
        self.agree(buffer)
        return {"priority": self.tree.leaves[: buffer.written * buffer.columns], "greatest": self.greatest}

    def layout(self, rows: int, written: int) -> dict[str, Tensor]:
        shapes = {"priority": (written,), "greatest": ()}
        return {name: torch.empty(shape, dtype=torch.float64, device="meta") for name, shape in shapes.items()}

    def load_state(self, buffer: Buffer, tensors: Mapping[str, Tensor]) -> None:
        priority, greatest = (tensors[name].to(buffer.device, copy=True) for name in ("priority", "greatest"))
        if not (torch.isfinite(priority) & (priority >= 0)).all() or not 0 < greatest < math.inf:
            raise InvalidCheckpoint("the saved buffer has priorities that are negative or not finite")
        self.greatest = greatest
        self.start(buffer, buffer.valid_index()[:0])
        self.tree.set(torch.arange(len(priority), device=buffer.device), priority)
        self.moves, self.head = buffer.moves, buffer.head


def strata(size: int, device: torch.device) -> Tensor:
    """One number in each of [0, 1), [1, 2), ..., [size - 1, size)."""
    return torch.arange(size, device=device) + torch.rand(size, dtype=torch.float64, device=device)
