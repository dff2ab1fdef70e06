"""Advantage-weighted actor-critic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..agents.core.agent import Metrics
from ..agents.core.batch import Batch
from ..agents.core.config import Positive
from ..agents.core.ensemble import EnsembleAgent, EnsembleConfig, ensemble
from ..agents.core.nets import frozen_copy
from ..agents.core.policies import Gaussian
from ..agents.core.spec import Spec

Weighting = Literal["exponential", "softmax", "binary"]


@dataclass(frozen=True)
class AWACConfig(EnsembleConfig):
    """Defaults: CORL's."""

    hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the hidden layers of every network."""
    normalize_obs: bool = True
    """Shift and scale each observation dimension by the data's mean and standard deviation (plus 1e-3)."""
    advantage_temperature: Positive = 1.0 / 3.0
    """Advantages are divided by this, in units of return: small values clone only the best actions."""
    advantage_weighting: Weighting = "exponential"
    """Weight of a recorded action: exp of its advantage, bounded; that divided by the batch's mean; or 0 and 1."""
    max_weight: Positive = 100.0
    """Bound of the weight exp(advantage / advantage_temperature)."""


class AWAC(EnsembleAgent, name="awac"):
    """AWAC (Nair, Gupta, Dalal, Levine 2020, arXiv 2006.09359).

        y       = r + discount min_e Qbar_e(s', a'),  a' ~ pi(.|s')
        critic    sum_e mean (Q_e(s, a) - y)^2
        A       = min_e Q_e(s, a) - min_e Q_e(s, a_pi),  a_pi ~ pi(.|s),  with the new critic
        actor     -mean w log pi(a|s),  w = min(exp(A / temperature), 100)
        Qbar    <- Qbar + tau (Q - Qbar)

    `advantage_weighting` "softmax" is w = B softmax(A / temperature) over the batch, as in the authors' code (with
    temperature 2): blind to a constant added to A and bounded by B. The paper's weight is the unbounded exp.
    Samples are cut to [-1, 1]. The policy is a Gaussian with one log sigma for all states and an unbounded mean.

    Departures from the paper: the bound on w. From CORL's code, whose networks and settings these are: log sigma is not
    bounded (there in [-20, 2]). From the authors': weighting and temperature as said, no weight decay of the policy.
    """

    config: AWACConfig = AWACConfig()

    def build(self, spec: Spec, c: AWACConfig) -> None:
        spec.require_continuous(self.name)
        self.actor, self.critic = Gaussian(spec, c.hidden), ensemble(spec, c, self.head(c))
        self.critic_target = frozen_copy(self.critic)

    def act(self, obs: Tensor, explore: bool) -> Tensor:
        law = self.actor(obs)
        return (law.sample() if explore else law.mode()).clamp(-1.0, 1.0)

    def update(self, batch: Batch) -> Metrics:
        metrics = {"critic_loss": self.minimize("critic", self.critic_loss(batch))}
        advantage = self.advantage(batch)
        metrics["actor_loss"] = self.minimize("actor", self.actor_loss(batch, advantage))
        self.follow(self.config.tau)
        return metrics | {"advantage": advantage.mean()}

    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        """What the critics should say, as their head has it: `[B]` or `[B, K]`."""
        output = self.critic_target.output(batch.next_obs, self.next_action(batch.next_obs))
        return self.critic.head.backup(batch.reward, batch.discount, self.critic_target.lowest(output))

    def next_action(self, obs: Tensor) -> Tensor:
        """What the target looks at, `[B, A]`."""
        return self.actor(obs).sample().clamp(-1.0, 1.0)

    def critic_loss(self, batch: Batch) -> Tensor:
        """0-d: its mean over the batch, summed over the critics."""
        return self.regression(batch, self.critic.output(batch.obs, batch.action), self.target(batch))

    @torch.no_grad()
    def advantage(self, batch: Batch) -> Tensor:
        """How much better the recorded actions are than the policy's, `[B]`."""
        action = self.next_action(batch.obs)
        return self.critic(batch.obs, batch.action).amin(0) - self.critic(batch.obs, action).amin(0)

    def actor_loss(self, batch: Batch, advantage: Tensor) -> Tensor:
        """0-d, from the advantages `[B]` of the recorded actions."""
        c = self.config
        weight = weigh(advantage / c.advantage_temperature, c.advantage_weighting, c.max_weight)
        return -(weight * self.actor(batch.obs).log_prob(batch.action)).mean()


def weigh(advantage: Tensor, weighting: Weighting, bound: float) -> Tensor:
    """Weights of recorded actions from their scaled advantages, `[B]` both. `bound` is that of the exponential."""
    if weighting == "softmax":
        return len(advantage) * advantage.softmax(0)
    return (advantage > 0).float() if weighting == "binary" else advantage.exp().clamp(max=bound)
