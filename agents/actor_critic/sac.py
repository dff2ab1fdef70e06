"""Soft actor-critic with learned temperature."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core.agent import Metrics
from ..core.batch import Batch
from ..core.config import Count, Positive, ReplayConfig, Share
from ..core.critics import Q
from ..core.losses import mse
from ..core.nets import frozen_copy
from ..core.policies import TanhGaussian
from ..core.replay import ReplayAgent
from ..core.spec import Spec


@dataclass(frozen=True)
class SACConfig(ReplayConfig):
    """Defaults: the second paper's, with 10,000 random steps at the start as in rl-zoo."""

    critics: Count = 2
    """Size of the critic ensemble; target and actor take the minimum."""
    tau: Share = 0.005
    """Share by which the target moves at each update."""
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


class SAC(ReplayAgent, name="sac"):
    """SAC (Haarnoja et al. 2018, arXiv 1801.01290), learned temperature (arXiv 1812.05905).

        y         = r + discount (min_e Qbar_e(s', a') - alpha log pi(a'|s')),  a' ~ pi(.|s')
        critic      sum_e mean (Q_e(s, a) - y)^2 / 2
        actor       mean (alpha log pi(a|s) - min_e Q_e(s, a)),  a ~ pi(.|s) reparameterised, with the new critic
        temperature -mean log alpha (log pi(a|s) + H),  with the actor step's sample
        Qbar      <- Qbar + tau (Q - Qbar)

    Departures from the papers: the gradient on the temperature is taken in log alpha, without the factor alpha
    ("log form"), as in stable-baselines3; log sigma is clipped to [-20, 2]; log(1 - tanh^2) is exact, without 1e-6.
    """

    config: SACConfig = SACConfig()

    def build(self, spec: Spec, c: SACConfig) -> None:
        spec.require_continuous(self.name)
        self.actor, self.critic = TanhGaussian(spec, c.hidden), Q(spec, c.hidden, size=c.critics)
        self.critic_target = frozen_copy(self.critic)
        self.temperature, self.target_entropy = Temperature(c.temperature), c.target_entropy * spec.actions

    def act(self, obs: Tensor, explore: bool) -> Tensor:
        law = self.actor(obs)
        return law.sample() if explore else law.mode()

    def update(self, batch: Batch) -> Metrics:
        metrics = {"critic_loss": self.minimize("critic", self.critic_loss(batch))}
        action, log_prob = self.actor(batch.obs).sample_with_log_prob()
        metrics["actor_loss"] = self.minimize("actor", self.actor_loss(batch, action, log_prob))
        if self.config.learn_temperature:
            metrics["ent_coef_loss"] = self.minimize("temperature", self.temperature_loss(log_prob.detach()))
        self.follow(self.config.tau)
        return metrics | {"ent_coef": self.temperature().detach(), "entropy": -log_prob.detach().mean()}

    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        action, log_prob = self.actor(batch.next_obs).sample_with_log_prob()
        value = self.critic_target(batch.next_obs, action).amin(0) - self.temperature() * log_prob
        return batch.reward + batch.discount * value

    def critic_loss(self, batch: Batch) -> Tensor:
        error = mse(self.critic(batch.obs, batch.action), self.target(batch))
        return 0.5 * (batch.weight * error).mean(1).sum()

    def actor_loss(self, batch: Batch, action: Tensor, log_prob: Tensor) -> Tensor:
        return (self.temperature().detach() * log_prob - self.critic(batch.obs, action).amin(0)).mean()

    def temperature_loss(self, log_prob: Tensor) -> Tensor:
        return -(self.temperature.log * (log_prob + self.target_entropy)).mean()
