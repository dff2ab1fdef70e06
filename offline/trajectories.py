"""What whole episodes of a buffer say: where they begin and end, their returns, and which are the best."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from ..agents.core.buffer import Buffer
from .weighting import Listed


class Trajectories(NamedTuple):
    """The M transitions of a buffer in time order, column by column, and the E episodes that they form.

    An episode ends where it was terminated or truncated, or where its successor is no transition.
    """

    rows: np.ndarray
    """[M] int64 flat indices of the transitions."""
    first: np.ndarray
    """[E] int64 position of each episode's first transition within `rows`."""
    lengths: np.ndarray
    """[E] int64 number of transitions."""
    reward: np.ndarray
    """[M] float64."""
    finished: np.ndarray
    """[E] bool: whether the episode was terminated or truncated, not merely left off."""

    @property
    def returns(self) -> np.ndarray:
        """[E] undiscounted sums of reward."""
        return np.add.reduceat(self.reward, self.first)

    @property
    def time(self) -> np.ndarray:
        """[M] int64 number of transitions since the episode began."""
        return np.arange(len(self.rows)) - np.repeat(self.first, self.lengths)

    @property
    def returns_to_go(self) -> np.ndarray:
        """[M] undiscounted sum of the rewards from each transition to the end of its episode."""
        before = np.concatenate(([0.0], np.cumsum(self.reward)))
        return np.repeat(before[self.first + self.lengths], self.lengths) - before[:-1]

    @property
    def whole(self) -> np.ndarray:
        """The numbers of the finished episodes, whose returns are known; of all, if none is finished."""
        return np.flatnonzero(self.finished) if self.finished.any() else np.arange(len(self.first))

    def best(self, fraction: float) -> np.ndarray:
        """The numbers of the best int(`fraction` E) of the `whole` episodes by return, at least one, in time order.

        Among equal returns the shorter is better, then the earlier.
        """
        whole = self.whole
        order = np.lexsort((self.lengths[whole], -self.returns[whole]))
        return np.sort(whole[order[: max(int(fraction * len(order)), 1)]])

    def transitions(self, episodes: np.ndarray) -> np.ndarray:
        """Flat indices of all transitions of the episodes with these numbers, ascending in time."""
        first, lengths = self.first[episodes], self.lengths[episodes]
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return self.rows[np.repeat(first, lengths) + within]


def trajectories(buffer: Buffer) -> Trajectories:
    """The episodes of all columns of `buffer`. Raises InvalidData if it has no transition."""
    buffer._require_transitions()
    steps = np.arange(buffer.rows)
    wrapped = buffer.written == buffer.rows
    columns = [
        ((steps + head + 1) % buffer.rows if wrapped else steps[: head + 1]) * buffer.columns + column
        for column, head in enumerate(buffer.head)
    ]
    order = np.concatenate(columns)
    flat = {
        name: getattr(buffer, name).cpu().numpy().reshape(-1)[order] for name in ("terminated", "truncated", "valid")
    }
    valid, over = flat["valid"], flat["terminated"] | flat["truncated"]
    ends = (over | ~np.append(valid[1:], False))[valid]
    last = np.flatnonzero(ends)
    first = np.concatenate(([0], last[:-1] + 1))
    rows = order[valid]
    reward = buffer.reward.cpu().numpy().reshape(-1)[rows].astype(np.float64)
    return Trajectories(rows, first, last - first + 1, reward, over[valid][last])


def best_episodes(buffer: Buffer, fraction: float) -> Buffer:
    """A view of the best `fraction` of the finished episodes, see `Trajectories.best`."""
    found = trajectories(buffer)
    return select(buffer, found.transitions(found.best(fraction)))


def select(buffer: Buffer, rows: np.ndarray) -> Buffer:
    """A view of `buffer` with only the transitions at flat indices `rows` `[M]`; nothing but their flags is copied.

    They should be whole episodes, in ascending order. They are drawn uniformly.
    """
    index = torch.as_tensor(rows, device=buffer.device)
    other = buffer.view(Listed(index))
    other.valid = torch.zeros_like(buffer.valid)
    other.valid.view(-1)[index] = True
    other.transitions = len(rows)
    other._share_with_host()
    return other
