"""Conservative Q-learning, CQL(H)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..agents.actor_critic.sac import SAC, SACConfig, Temperature
from ..agents.core.agent import Metrics
from ..agents.core.batch import Batch
from ..agents.core.chunks import sum_in_chunks
from ..agents.core.config import Count, NonNegative
from ..agents.core.critics import at_action
from ..agents.core.spec import Spec

GREATEST_MULTIPLIER = 1e6
ROWS = 2000
"""State-action pairs of a chunk, over all critics: their activations stay in a core's cache."""


@dataclass(frozen=True)
class CQLConfig(SACConfig):
    """Defaults: CORL's for MuJoCo, without its normalisation of observations."""

    actor_learning_rate: NonNegative = 3e-5
    """Step size of the actor's Adam."""
    temperature_learning_rate: NonNegative = 3e-5
    """Step size of the temperature's Adam."""
    hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the hidden layers of every network."""
    penalty_weight: NonNegative = 10.0
    """Weight alpha of the penalty against the squared error."""
    samples: Count = 10
    """Actions drawn per state from each of the three laws."""
    backup_samples: Count = 1
    """Next actions among which the target takes the best: 1, or 10 for AntMaze ("max backup")."""
    lagrange: bool = False
    """Learn a factor on `penalty_weight` that holds the gap at `lagrange_gap`."""
    lagrange_gap: float = 5.0
    """Gap to hold, in units of value; smaller gaps than this are not punished."""


class CQL(SAC, name="cql"):
    """CQL(H) (Kumar et al. 2020, arXiv 2006.04779), with importance sampling over 3 n actions a_i.

        a_i       n uniform, n from pi(.|s), n from pi(.|s'), with log densities log mu_i, all judged in s
        gap_e     = log sum_i exp(Q_e(s, a_i) - log mu_i) - Q_e(s, a)
        y         = r + discount min_e Qbar_e(s', a'),  a' ~ pi(.|s'),  without the entropy
        critic      sum_e mean ((Q_e(s, a) - y)^2 / 2 + alpha m gap_e / 2)
        m         = 1, or learned: -mean_e alpha m (gap_e - tau), m = exp(.) at most 1e6
        actor and temperature as in SAC

    As in the authors' code: alpha is relative to the whole squared error, the penalty lacks the constant -log 3n (which
    matters to tau only), and samples carry no gradient. Departures: SAC's order of steps (there all losses come from
    the old parameters); PyTorch's initialisation. The multiplier is as in JaxCQL, Cal-QL and CORL: alpha (gap - tau),
    from log m = 1.
    """

    config: CQLConfig = CQLConfig()

    def build(self, spec: Spec, c: Any) -> None:
        super().build(spec, c)
        if c.lagrange:
            self.multiplier = Temperature(math.e)

    def update_critic(self, batch: Batch) -> Metrics:
        penalty = self.penalty(batch)
        loss = self.critic_loss(batch) + 0.5 * self.config.penalty_weight * self.factor().detach() * penalty
        metrics = {"critic_loss": self.minimize("critic", loss), "gap": penalty.detach() / self.config.critics}
        if self.config.lagrange:
            self.minimize("multiplier", self.multiplier_loss(metrics["gap"]))
            metrics["multiplier"] = self.factor().detach()
        return metrics

    def factor(self) -> Tensor:
        """What alpha is multiplied by."""
        c = self.config
        return self.multiplier().clamp(max=GREATEST_MULTIPLIER) if c.lagrange else torch.ones((), device=self.device)

    def multiplier_loss(self, gap: Tensor) -> Tensor:
        """0-d, from the mean gap."""
        return -self.factor() * self.config.penalty_weight * (gap - self.config.lagrange_gap)

    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        action, _ = self.draw(batch.next_obs, self.config.backup_samples)
        output = self.critic_target.output_of_actions(batch.next_obs, action)  # [E, B, n, K]
        lowest = self.critic_target.lowest(output.flatten(1, 2)).unflatten(0, action.shape[:2])
        best = self.critic.head.mean(lowest).argmax(1)
        return self.critic.head.backup(batch.reward, batch.discount, at_action(lowest, best))

    def draw(self, obs: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Actions `[B, count, A]` of the policy and their log-probabilities `[B, count]`."""
        law = self.actor(obs)
        return type(law)(*(x.unsqueeze(1).expand(-1, count, -1) for x in law)).sample_with_log_prob()

    @torch.no_grad()
    def proposals(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The actions `[B, 3 n, A]` to push down in each state, and their log densities `[B, 3 n]`."""
        action, log_prob = self.draw(torch.cat([batch.obs, batch.next_obs]), self.config.samples)
        here, there = action.chunk(2)
        uniform = torch.rand_like(here) * 2.0 - 1.0
        density = torch.full_like(log_prob[: len(here)], -math.log(2.0) * self.spec.actions)
        return torch.cat([uniform, here, there], 1), torch.cat([density, *log_prob.chunk(2)], 1)

    def penalty(self, batch: Batch) -> Tensor:
        """Sum over critics of the mean gap, with its gradient in the critic."""
        actions, log_density = self.proposals(batch)

        def part(actions: Tensor, log_density: Tensor, *fields: Tensor) -> Tensor:
            rows = type(batch)(*fields)
            value = self.critic.of_actions(rows.obs, torch.cat([rows.action.unsqueeze(1), actions], 1))
            gap = self.pushed_down(rows, value, log_density) - value[..., 0]
            return (rows.weight * gap).sum() / len(batch.obs)

        pairs = (actions.shape[1] + 1) * self.config.critics
        rows = max(ROWS // pairs, 1) if self.device.type == "cpu" else len(batch.obs)
        return sum_in_chunks(part, [*self.critic.parameters()], rows, actions, log_density, *batch)

    def pushed_down(self, batch: Batch, value: Tensor, log_density: Tensor) -> Tensor:
        """What the penalty pushes down, `[E, B]`, from values `[E, B, 1 + 3 n]`, the recorded action's first."""
        return (value[..., 1:] - log_density).logsumexp(-1)
