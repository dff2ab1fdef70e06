"""Calibrated conservative Q-learning."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..agents.core.buffer import Buffer
from ..agents.core.config import Count, NonNegative, Replay
from ..agents.core.spec import Spec
from .cql import CQL, CQLConfig
from .returns import ReturnsToGo


@dataclass(frozen=True)
class CalQLConfig(CQLConfig):
    """Defaults: the authors' for AntMaze; rewards there are 10 r - 5, an option of the data set."""

    actor_learning_rate: NonNegative = 1e-4
    """Step size of the actor's Adam."""
    temperature_learning_rate: NonNegative = 1e-4
    """Step size of the temperature's Adam."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers of the actor."""
    critic_hidden: tuple[int, ...] = (256, 256, 256, 256)
    """Widths of the hidden layers of every critic; () = those of `hidden`."""
    penalty_weight: NonNegative = 5.0
    """Weight alpha of the penalty against the squared error."""
    backup_samples: Count = 10
    """Next actions among which the target takes the best: 1, or 10 for AntMaze ("max backup")."""
    lagrange: bool = True
    """Learn a factor on `penalty_weight` that holds the gap at `lagrange_gap`."""
    lagrange_gap: float = 0.8
    """Gap to hold, in units of value; smaller gaps than this are not punished."""
    timeout_return: float = 0.0
    """Return after an episode was cut off; r / (1 - gamma) where failing forever gives r, as in AntMaze."""
    replay: Replay = "balanced"
    """How transitions are drawn: balanced = half from the data, half from new ones."""


class BoundedBatch(NamedTuple):
    """A batch with what is known of each row's return. See `Batch` for the fields that it has too."""

    obs: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    next_obs: Tensor
    weight: Tensor
    row: Tensor
    bound: Tensor
    """[B] the return from here to the end of the row's own episode; -infinity where that has not ended."""


class CalQL(CQL, name="cal_ql"):
    """Cal-QL (Nakamoto et al. 2023, arXiv 2303.05479): CQL that pushes no value of the policy below a known return.

        gap_e     = log sum_i exp(q_ei - log mu_i) - Q_e(s, a)
        q_ei      = max(Q_e(s, a_i), G(s)) for actions of the policy, Q_e(s, a_i) for uniform ones
        G         = sum_k gamma^k r_{t+k} to the end of the row's own episode

    Rows of an episode that has not ended yet have no bound, as in CQL. Departures from the authors' code: online, an
    update follows every step, not every episode; `timeout_return` stands for its rule that an episode of nothing but
    failure counts as lasting for ever (it lowers the bound of successes that are cut off as well).
    """

    config: CalQLConfig = CalQLConfig()

    def build(self, spec: Spec, c: Any) -> None:
        super().build(spec, c)
        self.returns = ReturnsToGo(c.gamma, c.timeout_return)

    def sample(self, buffer: Buffer, count: int = 1) -> Iterable[BoundedBatch]:  # type: ignore[override]
        self.returns.agree(buffer)
        for batch in super().sample(buffer, count):
            yield BoundedBatch(*batch, self.returns.column[batch.row])

    def pushed_down(self, batch: BoundedBatch, value: Tensor, log_density: Tensor) -> Tensor:  # type: ignore[override]
        uniform, policy = value[..., 1:].tensor_split([self.config.samples], -1)
        bounded = policy.maximum(batch.bound.unsqueeze(-1))
        return (torch.cat([uniform, bounded], -1) - log_density).logsumexp(-1)
