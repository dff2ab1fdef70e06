"""The tuples that flow through the project: its vocabulary.

Shapes: N environments, T rows of time, B rows of a batch, A action dimensions. Discrete actions are int64 without
the last axis. `discount` is the only end-of-episode signal that an algorithm sees: gamma^k (1 - terminated), k the
number of steps summed in `reward`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor


class Step(NamedTuple):
    """What N environments did at one step, on the host."""

    next_obs: np.ndarray
    """[N, ...] successor of the observation that was acted on: the final one where an episode ended."""
    reward: np.ndarray
    """[N] float32."""
    terminated: np.ndarray
    """[N] bool: the task ended; nothing follows. Wins where `truncated` is set as well."""
    truncated: np.ndarray
    """[N] bool: the episode was cut off; the value of `next_obs` still counts."""
    valid: np.ndarray
    """[N] bool: False where this step is no transition: it only reset the environment, or its episode was lost."""
    obs: np.ndarray
    """[N, ...] observation to act on next: `next_obs`, but the first of a new episode where `restarted`."""
    restarted: np.ndarray | None = None
    """[N] bool: a new episode began within this very step (same-step autoreset); None if nowhere."""


class Batch(NamedTuple):
    """Transitions, in random order."""

    obs: Tensor
    """[B, ...]"""
    action: Tensor
    """[B, A] in [-1, 1], or int64 [B]."""
    reward: Tensor
    """[B] sum of gamma^i r_i over the k steps of the window."""
    discount: Tensor
    """[B] gamma^k (1 - terminated)."""
    next_obs: Tensor
    """[B, ...] observation k steps later."""
    weight: Tensor
    """[B] importance weight of the row: 1 under uniform sampling."""
    row: Tensor
    """[B] int64, where the transition lies in the buffer, as a flat index."""

    def split(self, parts: int) -> list[Batch]:
        """`parts` batches of equal size, as views."""
        if parts == 1:
            return [self]
        return [Batch(*fields) for fields in zip(*(field.chunk(parts) for field in self), strict=True)]


class Sequence(NamedTuple):
    """Stretches of consecutive rows, time first. Row t is real where `mask` is 1, else zero."""

    obs: Tensor
    """[L + 1, B, ...]: one more than the rest, the successor of the last row."""
    action: Tensor
    """[L, B, A] or [L, B]."""
    reward: Tensor
    """[L, B]"""
    discount: Tensor
    """[L, B] gamma (1 - terminated)."""
    mask: Tensor
    """[L, B] 1 until the end of the episode, of the data, or of the window."""


class Rollout(NamedTuple):
    """Everything that N environments did since the policy last changed, time first."""

    obs: Tensor
    """[T + 1, N, ...]"""
    action: Tensor
    """[T, N, A] or [T, N]."""
    reward: Tensor
    """[T, N]"""
    discount: Tensor
    """[T, N] gamma (1 - terminated)."""
    trace: Tensor
    """[T, N] 0 where the episode ends for any reason or row t + 1 is no transition, else 1."""
    valid: Tensor
    """[T, N] bool: False in reset rows and beyond what was written."""
    head: Tensor
    """[N] int64: how many rows were written in each column; where episodes began within a step, columns differ."""


class RolloutBatch(NamedTuple):
    """Rows of a rollout, in random order, with what was computed once when it was complete."""

    obs: Tensor
    """[B, ...]"""
    action: Tensor
    """[B, A] or [B]."""
    log_prob: Tensor
    """[B] log pi(action | obs) of the policy that acted."""
    value: Tensor
    """[B] V(obs) of the critic that saw the rollout."""
    advantage: Tensor
    """[B]"""
    target: Tensor
    """[B] what the value should be: advantage + value."""
