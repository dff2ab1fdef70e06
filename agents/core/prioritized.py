"""Proportional prioritised replay: the one buffer, with another way to draw rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .batch import Batch, Step
from .buffer import Buffer
from .rows import zeros
from .spec import Spec


class SumTree:
    """`leaves` non-negative numbers whose prefix sums can be searched: everything in log2(leaves) batched steps."""

    def __init__(self, leaves: int, device: torch.device):
        self.depth = max(math.ceil(math.log2(leaves)), 1)
        self.first = 2**self.depth
        self.nodes = zeros((2 * self.first,), torch.float64, device)

    @property
    def total(self) -> Tensor:
        return self.nodes[1]

    def __getitem__(self, leaf: Tensor) -> Tensor:
        return self.nodes[leaf + self.first]

    def set(self, leaf: Tensor, value: Tensor) -> None:
        """Leaves `[B]` take on values `[B]`; where a leaf is named twice, one of its values stays."""
        node = leaf + self.first
        self.nodes[node] = value.double()
        for _ in range(self.depth):
            node = node // 2
            self.nodes[node] = self.nodes[2 * node] + self.nodes[2 * node + 1]

    def find(self, mass: Tensor) -> Tensor:
        """The leaf where the running sum first exceeds `mass` `[B]`, each in [0, total): never one that holds 0."""
        node, mass = torch.ones_like(mass, dtype=torch.int64), mass.clone()
        for _ in range(self.depth):
            left = self.nodes[2 * node]
            right = (mass >= left) & (self.nodes[2 * node + 1] > 0)
            mass -= torch.where(right, left, 0.0)
            node = 2 * node + right
        return node - self.first


class PrioritizedBuffer(Buffer):
    """Draws row i with P(i) = p_i^alpha / sum p^alpha (Schaul et al. 2016, arXiv 1511.05952, section 3.3).

    p = |error| + epsilon as last reported by `update_priorities`; a new row has the greatest p seen so far. Draws are
    stratified: one in each of B equal parts of the mass. Batches carry w = (count P)^-beta over its batch maximum.
    """

    epsilon = 1e-6
    beside = 32  # the tree has up to four nodes of 8 bytes for each leaf

    def __init__(
        self,
        spec: Spec,
        rows: int,
        columns: int = 1,
        *,
        alpha: float = 0.6,
        beta: float = 0.4,
        device: str | torch.device = "cpu",
    ):
        self.alpha, self.beta = alpha, beta
        """`beta` is what an agent anneals to 1."""
        self.greatest = torch.ones((), dtype=torch.float64, device=device)
        super().__init__(spec, rows, columns, device=device)

    def _share_with_host(self) -> None:
        super()._share_with_host()
        self.tree = SumTree(self.rows * self.columns, self.device)
        index = self.valid_index()
        self.tree.set(index, self.greatest.expand(len(index)))

    def clear(self) -> None:
        super().clear()
        self.tree = SumTree(self.rows * self.columns, self.device)

    def add(self, action: np.ndarray, step: Step) -> None:
        written = self._flat_heads()
        super().add(action, step)
        self.tree.set(written, self.valid.view(-1)[written] * self.greatest)

    def _move_head(self, moved: np.ndarray | None) -> None:
        super()._move_head(moved)
        heads = self._flat_heads()
        self.tree.set(heads, torch.zeros(len(heads), device=self.device))

    def _flat_heads(self) -> Tensor:
        return torch.as_tensor(self.head * self.columns + self._columns, device=self.device)

    def draw(self, size: int) -> Tensor:
        self._require_transitions()
        strata = torch.arange(size, device=self.device) + torch.rand(size, dtype=torch.float64, device=self.device)
        return self.tree.find(strata * (self.tree.total / size))

    def gather(self, index: Tensor, gamma: float, n_step: int = 1) -> Batch:
        probability = self.tree[index] / self.tree.total
        weight = (self.transitions * probability) ** -self.beta
        return super().gather(index, gamma, n_step)._replace(weight=(weight / weight.max()).float())

    def update_priorities(self, row: Tensor, error: Tensor) -> None:
        """`error` `[B]` of the rows `[B]` of a batch."""
        priority = ((error.detach().abs() + self.epsilon).double()) ** self.alpha
        self.greatest = torch.maximum(self.greatest, priority.max())
        self.tree.set(row, torch.where(self.valid.view(-1)[row], priority, 0.0))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, values = super().state()
        leaves = torch.arange(self.written * self.columns, device=self.device)
        return tensors | {"priority": self.tree[leaves], "greatest": self.greatest}, values

    def _state_layout(self, written: int) -> dict[str, Tensor]:
        shapes = {"priority": (written * self.columns,), "greatest": ()}
        own = {name: torch.empty(shape, dtype=torch.float64, device="meta") for name, shape in shapes.items()}
        return super()._state_layout(written) | own

    def load_state(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        super().load_state(tensors, values)
        priority = tensors["priority"].to(self.device)
        self.tree.set(torch.arange(len(priority), device=self.device), priority)
        self.greatest = tensors["greatest"].to(self.device, copy=True)
