"""Implicit Q-learning."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..agents.core.agent import Metrics
from ..agents.core.batch import Batch
from ..agents.core.config import NonNegative, Positive, ReplayConfig, Share, scheduled
from ..agents.core.critics import Q, V
from ..agents.core.losses import expectile
from ..agents.core.nets import frozen_copy, orthogonal_init
from ..agents.core.policies import Gaussian
from ..agents.core.replay import ReplayAgent
from ..agents.core.spec import Spec

MARGIN = 1e-5
"""Recorded actions are kept so far inside [-1, 1]."""


@dataclass(frozen=True)
class IQLConfig(ReplayConfig):
    """Defaults: the authors' MuJoCo settings."""

    expectile: Share = 0.7
    """How far towards the best recorded action the value leans: 0.5 = the mean, 1 = the maximum."""
    inverse_temperature: NonNegative = 3.0
    """Weight of the advantage in the exponent: 0 = cloning."""
    max_weight: Positive = 100.0
    """Bound of the weight exp(inverse_temperature * advantage)."""
    tau: Share = 0.005
    """Share by which the target critics move at each update."""
    actor_decay: bool = True
    """Let the actor's step size fall to 0 by half a cosine over the offline updates."""


class IQL(ReplayAgent, name="iql"):
    """IQL (Kostrikov, Nair, Levine 2021, arXiv 2110.06169).

        u       = min_e Qbar_e(s, a) - V(s)
        value     mean |t - 1{u < 0}| u^2                                        (eq. 5)
        actor     -mean min(exp(b u), 100) log pi(a|s),  with the new value       (eq. 7)
        critic    sum_e mean (Q_e(s, a) - r - discount V(s'))^2,  likewise        (eq. 6)
        Qbar    <- Qbar + tau (Q - Qbar)

    The policy is a Gaussian with mean tanh(.) and one log sigma for all states in [-5, 2]. Order, networks and cosine
    are those of the authors' code. Online (after `fit`) the actor's step size stays constant.

    Departures from the authors' code: the actor has no dropout (theirs has 0.1 for kitchen and Adroit).
    """

    config: IQLConfig = IQLConfig()

    def build(self, spec: Spec, c: IQLConfig) -> None:
        spec.require_continuous(self.name)
        init = orthogonal_init()
        self.actor = Gaussian(spec, c.hidden, squash_mean=True, init=init)
        self.value, self.critic = V(spec, c.hidden, init=init), Q(spec, c.hidden, init=init)
        self.critic_target = frozen_copy(self.critic)

    def act(self, obs: Tensor, explore: bool) -> Tensor:
        law = self.actor(obs)
        return law.sample().clamp(-1.0, 1.0) if explore else law.mode()

    def learning_rate(self, name: str) -> float:
        decays = name == "actor" and self.config.actor_decay and self.steps == 0
        return super().learning_rate(name) * scheduled("cosine" if decays else "constant", self.progress)

    def update(self, batch: Batch) -> Metrics:
        with torch.no_grad():
            q = self.critic_target(batch.obs, batch.action).amin(0)
        value_loss = self.minimize("value", self.value_loss(batch, q))
        with torch.no_grad():
            advantage = q - self.value(batch.obs)
        actor_loss = self.minimize("actor", self.actor_loss(batch, advantage))
        critic_loss = self.minimize("critic", self.critic_loss(batch))
        self.follow(self.config.tau)
        losses = {"value_loss": value_loss, "actor_loss": actor_loss, "critic_loss": critic_loss}
        return losses | {"advantage": advantage.mean()}

    def value_loss(self, batch: Batch, q: Tensor) -> Tensor:
        """0-d, from the values `[B]` of the recorded actions."""
        return expectile(q - self.value(batch.obs), self.config.expectile).mean()

    def actor_loss(self, batch: Batch, advantage: Tensor) -> Tensor:
        """0-d, from the advantages `[B]` of the recorded actions."""
        weight = (self.config.inverse_temperature * advantage).exp().clamp(max=self.config.max_weight)
        return -(weight * self.log_prob(batch.obs, batch.action)).mean()

    def log_prob(self, obs: Tensor, action: Tensor) -> Tensor:
        """log pi(a|s) of recorded actions, `[B]`."""
        return self.actor(obs).log_prob(action.clamp(-1.0 + MARGIN, 1.0 - MARGIN))

    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        """What the critics should say, `[B]`."""
        return batch.reward + batch.discount * self.value(batch.next_obs)

    def critic_loss(self, batch: Batch) -> Tensor:
        """0-d: its mean over the batch, summed over the critics."""
        output, head = self.critic.output(batch.obs, batch.action), self.critic.head
        return self.batch_loss(batch, head.loss(output, self.target(batch)), head)
