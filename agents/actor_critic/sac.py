"""Soft actor-critic with learned temperature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..core.agent import Metrics
from ..core.batch import Batch
from ..core.config import Count, Positive
from ..core.ensemble import EnsembleAgent, EnsembleConfig, ensemble
from ..core.nets import frozen_copy
from ..core.policies import TanhGaussian
from ..core.spec import Spec


@dataclass(frozen=True)
class SACConfig(EnsembleConfig):
    """Defaults: the second paper's, with 10,000 random steps at the start as in rl-zoo."""

    actor_delay: Count = 1
    """Critic updates per update of actor and temperature."""
    temperature: Positive = 1.0
    """Weight of the entropy at the beginning, or throughout."""
    learn_temperature: bool = True
    """Adapt the temperature until the entropy is the target entropy."""
    target_entropy: float = -1.0
    """Entropy to hold, in nats per action dimension."""


class Temperature(nn.Module):
    """exp of one learned number."""

    def __init__(self, value: float):
        super().__init__()
        self.log = nn.Parameter(torch.tensor(value).log())

    def forward(self) -> Tensor:
        return self.log.exp()


class SAC(EnsembleAgent, name="sac"):
    """SAC (Haarnoja et al. 2018, arXiv 1801.01290), learned temperature (arXiv 1812.05905).

        y         = r + discount (min_e Qbar_e(s', a') - alpha log pi(a'|s')),  a' ~ pi(.|s')
        critic      sum_e mean (Q_e(s, a) - y)^2 / 2
        actor       mean (alpha log pi(a|s) - min_e Q_e(s, a)),  a ~ pi(.|s) reparameterised, with the new critic
        temperature -mean log alpha (log pi(a|s) + H),  with the actor step's sample
        Qbar      <- Qbar + tau (Q - Qbar)

    With another `critic_head` Q_e is the mean of a distribution; the target is the distribution of the critic with the
    smallest mean at (s', a'), less alpha log pi, scaled and shifted (its mean for hl_gauss and two_hot); the loss is
    half the head's.

    Departures from the papers: the gradient on the temperature is taken in log alpha, without the factor alpha
    ("log form"), as in stable-baselines3; log sigma is clipped to [-20, 2]; log(1 - tanh^2) is exact, without 1e-6.
    """

    config: SACConfig = SACConfig()

    def build(self, spec: Spec, c: Any) -> None:
        spec.require_continuous(self.name)
        self.actor, self.critic = TanhGaussian(spec, c.hidden), ensemble(spec, c, self.head(c))
        self.critic_target = frozen_copy(self.critic)
        self.temperature, self.target_entropy = Temperature(c.temperature), c.target_entropy * spec.actions

    def act(self, obs: Tensor, explore: bool) -> Tensor:
        law = self.actor(obs)
        return law.sample() if explore else law.mode()

    def update(self, batch: Batch) -> Metrics:
        metrics = self.update_critic(batch)
        if self.due(self.config.actor_delay):
            metrics |= self.update_actor(batch)
        self.follow(self.config.tau)
        return metrics

    def update_critic(self, batch: Batch) -> Metrics:
        """A step of the critics, and of what belongs to their loss."""
        return {"critic_loss": self.minimize("critic", self.critic_loss(batch))}

    def update_actor(self, batch: Batch) -> Metrics:
        """A step of the actor, then of the temperature with the same sample."""
        action, log_prob = self.actor(batch.obs).sample_with_log_prob()
        metrics = {"actor_loss": self.minimize("actor", self.actor_loss(batch, action, log_prob))}
        if self.config.learn_temperature:
            metrics["ent_coef_loss"] = self.minimize("temperature", self.temperature_loss(log_prob.detach()))
        return metrics | {"ent_coef": self.temperature().detach(), "entropy": -log_prob.detach().mean()}

    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        """What outputs at (s, a) are compared with, as the head has it: `[B]` or `[B, K]`."""
        action, log_prob = self.actor(batch.next_obs).sample_with_log_prob()
        return self.backup(batch, self.next_output(batch.next_obs, action), log_prob)

    def next_output(self, obs: Tensor, action: Tensor) -> Tensor:
        """The critics' outputs that the target bootstraps from, `[B, K]`."""
        return self.critic_target.lowest(self.critic_target.output(obs, action))

    def backup(self, batch: Batch, next_output: Tensor, log_prob: Tensor) -> Tensor:
        """The target, from outputs `[B, K]` and log-probabilities `[B]` at the next state and action."""
        reward = batch.reward - batch.discount * self.temperature() * log_prob
        return self.critic.head.backup(reward, batch.discount, next_output)

    def critic_loss(self, batch: Batch) -> Tensor:
        """0-d: its mean over the batch, summed over the critics."""
        return 0.5 * self.regression(batch, self.critic.output(batch.obs, batch.action), self.target(batch))

    def actor_loss(self, batch: Batch, action: Tensor, log_prob: Tensor) -> Tensor:
        """0-d, from the policy's actions `[B, A]` and their log-probabilities `[B]`."""
        return (self.temperature().detach() * log_prob - self.actor_value(batch.obs, action)).mean()

    def actor_value(self, obs: Tensor, action: Tensor) -> Tensor:
        """What the actor climbs, `[B]`."""
        return self.critic(obs, action).amin(0)

    def temperature_loss(self, log_prob: Tensor) -> Tensor:
        """0-d, from log-probabilities `[B]`."""
        return -(self.temperature.log * (log_prob + self.target_entropy)).mean()
