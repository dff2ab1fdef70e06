"""Offline to online with a Q-ensemble."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..agents.core.agent import Metrics
from ..agents.core.batch import Batch
from ..agents.core.config import Count, NonNegative
from ..agents.core.errors import InvalidSetting
from ..agents.core.spec import Spec
from .cql import CQL, CQLConfig


@dataclass(frozen=True)
class E2OConfig(CQLConfig):
    """Defaults: ours where the paper's text does not say (10 critics, 10 candidates, equal weight of the deviation)."""

    critics: Count = 10
    """Size of the critic ensemble."""
    candidates: Count = 10
    """Actions of the policy among which the most promising is taken online."""
    optimism: NonNegative = 1.0
    """Standard deviations of the critics that are added to their mean to rank candidates."""
    doubt: NonNegative = 20.0
    """How fast the weight of a row falls as the critics disagree about its next action, per unit of value."""


class E2O(CQL, name="e2o"):
    """E2O, later ENOTO (Zhao et al. 2023, arXiv 2306.06871): CQL with N critics offline, loosened SAC-N online.

        offline     CQL with the minimum of N critics
        online      the penalty is dropped:  critic  sum_e mean w (Q_e(s, a) - y)^2 / 2
        y         = r + discount (mean over pairs i < j of min(Qbar_i, Qbar_j)(s', a') - alpha log pi(a'|s'))
        w         = sigmoid(-T std_e Qbar_e(s', a')) + 1/2                                  (SUNRISE, arXiv 2007.04938)
        acts by     argmax of mean_e Q_e + lambda std_e Q_e over candidates from the policy  (likewise)

    Online begins with the first step of `learn`; networks, optimisers and targets stay.

    Departures, there being no code of the authors: candidates are samples of the one policy, where SUNRISE has a policy
    for each critic; the actor climbs the minimum in both stages, rows are drawn uniformly from data and new ones
    together, and N, T and lambda are ours, which the text that we have leaves open; those of CQL.
    """

    config: E2OConfig = E2OConfig()

    online = False
    """Whether the second stage has begun."""

    def build(self, spec: Spec, c: Any) -> None:
        if c.critic_head != "scalar" or c.critics < 2:
            raise InvalidSetting("e2o compares numbers of critics in pairs: set critic_head to scalar, critics above 1")
        super().build(spec, c)

    def step(self, batch: Batch) -> Metrics:
        self.online = self.steps > 0
        return super().step(batch)

    def act(self, obs: Tensor, explore: bool) -> Tensor:
        if not explore:
            return super().act(obs, explore)
        action, _ = self.draw(obs, self.config.candidates)
        value = self.critic.of_actions(obs, action)
        best = (value.mean(0) + self.config.optimism * value.std(0, correction=0)).argmax(1)
        return action.take_along_dim(best.view(-1, 1, 1), 1).squeeze(1)

    def update_critic(self, batch: Batch) -> Metrics:
        if self.online:
            return {"critic_loss": self.minimize("critic", self.critic_loss(batch))}
        return super().update_critic(batch)

    def critic_loss(self, batch: Batch) -> Tensor:
        if not self.online:
            return super().critic_loss(batch)
        target, weight = self.loosened(batch)
        batch = batch._replace(weight=batch.weight * weight)
        return 0.5 * self.regression(batch, self.critic.output(batch.obs, batch.action), target)

    @torch.no_grad()
    def loosened(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Targets of the second stage, and the weights of the rows `[B]`."""
        action, log_prob = self.actor(batch.next_obs).sample_with_log_prob()
        value = self.critic_target(batch.next_obs, action)
        weight = (-self.config.doubt * value.std(0, correction=0)).sigmoid() + 0.5
        return self.backup(batch, weighted_min_pair(value).unsqueeze(-1), log_prob), weight


def weighted_min_pair(value: Tensor) -> Tensor:
    """The mean over all pairs of the smaller of two, from `[N, B]`: `[B]`."""
    count = len(value)
    rank = torch.arange(count - 1, -1, -1, device=value.device, dtype=value.dtype)
    return (2.0 / (count * (count - 1))) * rank @ value.sort(0).values
