"""The discounted return from each row of a buffer to the end of its episode, kept up to date while rows are added."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..agents.core.buffer import Buffer
from .trajectories import trajectories


def discounted_sums(reward: np.ndarray, length: np.ndarray, gamma: float) -> np.ndarray:
    """sum_k gamma^k reward[t + k] over the `length[t]` rows that remain of each row's episode, `[M]` float64.

    By doubling the number of rows that are summed, so it takes log2 of the longest episode passes.
    """
    total, width = reward.astype(np.float64), 1
    while width < length.max(initial=0):
        longer = np.where(length[:-width] > width, gamma**width * total[width:], 0.0)
        total = total.copy()
        total[:-width] += longer
        width *= 2
    return total


class ReturnsToGo:
    """A column of returns beside a buffer. Rows of unfinished episodes have -infinity.

    It follows from what the buffer holds, so it is no part of a checkpoint.
    """

    def __init__(self, gamma: float, timeout_return: float = 0.0):
        self.gamma, self.timeout_return = gamma, timeout_return
        self.column = torch.zeros(0)
        """[T * N] by flat index."""
        self._seen: tuple[Tensor, Tensor, int, np.ndarray] | None = None

    def agree(self, buffer: Buffer) -> None:
        """Takes in what was written since the last call. Looks at the flags of the new rows on the host."""
        obs, valid, moves, head = self._seen or (None, None, 0, buffer.head)
        if obs is not buffer.obs or valid is not buffer.valid or buffer.moves - moves >= buffer.rows:
            self._compute(buffer)
        elif buffer.moves != moves:
            new = buffer.rows_since(head)
            if (buffer.terminated.view(-1)[new] | buffer.truncated.view(-1)[new]).any():
                self._compute(buffer)
            else:
                self.column[new] = -math.inf
        self._seen = buffer.obs, buffer.valid, buffer.moves, buffer.head

    def _compute(self, buffer: Buffer) -> None:
        found = trajectories(buffer)
        last = found.first + found.lengths - 1
        reward, length = found.reward.copy(), np.repeat(found.lengths, found.lengths) - found.time
        cut_off = ~buffer.terminated.view(-1).cpu().numpy()[found.rows[last]]
        reward[last[cut_off]] += self.gamma * self.timeout_return
        value = np.where(np.repeat(found.finished, found.lengths), discounted_sums(reward, length, self.gamma), -np.inf)
        self.column = torch.full((buffer.rows * buffer.columns,), -math.inf, device=buffer.device)
        self.column[torch.as_tensor(found.rows, device=buffer.device)] = torch.as_tensor(
            value.astype(np.float32), device=buffer.device
        )
