"""Soft actor-critic for discrete actions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.agent import Metrics
from ..core.batch import Batch
from ..core.config import Positive, Share
from ..core.critics import DiscreteQ
from ..core.ensemble import EnsembleConfig
from ..core.errors import InvalidSetting
from ..core.heads import head_of
from ..core.masks import allowed
from ..core.nets import frozen_copy
from ..core.policies import Softmax
from ..core.replay import ReplayAgent
from ..core.spec import Spec
from .sac import Temperature


@dataclass(frozen=True)
class SACDiscreteConfig(EnsembleConfig):
    """Defaults: SAC's, with the paper's target entropy."""

    temperature: Positive = 1.0
    """Weight of the entropy at the beginning, or throughout."""
    learn_temperature: bool = True
    """Adapt the temperature until the entropy is the target entropy."""
    target_entropy: Share = 0.98
    """Entropy to hold, as a share of the largest, log(actions); of those that are allowed, if some are not."""


class SACDiscrete(ReplayAgent, name="sac_discrete"):
    """Discrete SAC (Christodoulou 2019, arXiv 1910.07207): SAC's expectations over actions are sums.

        y         = r + discount sum_a' pi(a'|s') (min_e Qbar_e(s', a') - alpha log pi(a'|s'))
        critic      sum_e mean (Q_e(s, a) - y)^2 / 2
        actor       mean sum_a pi(a|s) (alpha log pi(a|s) - min_e Q_e(s, a)),  with the new critic
        temperature -mean log alpha (sum_a pi(a|s) log pi(a|s) + H),  with the old actor
        Qbar      <- Qbar + tau (Q - Qbar),   H = target_entropy log(actions)

    With the `critic_head` "two_hot" or "hl_gauss" Q_e is the mean of a histogram, which is compared with y encoded as
    one; the loss is the head's. Where actions are masked, H is that of the actions allowed in the state.

    Departures from the paper: the temperature's gradient is taken in log alpha, as in SAC here; targets follow slowly.
    """

    config: SACDiscreteConfig = SACDiscreteConfig()

    def build(self, spec: Spec, c: SACDiscreteConfig) -> None:
        spec.require_discrete(self.name)
        if c.critic_head in ("c51", "quantile"):
            why = "its target is an expectation over actions: take scalar, two_hot or hl_gauss"
            raise InvalidSetting(f"'{self.name}' has no use for critic_head='{c.critic_head}', since {why}")
        norms: dict[str, Any] = {"layer_norm": c.layer_norm, "dropout": c.dropout}
        self.actor = Softmax(spec, c.hidden)
        self.critic = DiscreteQ(spec, c.critic_hidden or c.hidden, head_of(c), size=c.critics, **norms)
        self.critic_target, self.temperature = frozen_copy(self.critic), Temperature(c.temperature)

    def act(self, obs: Tensor, explore: bool) -> Tensor:
        law = self.actor(obs)
        return law.sample() if explore else law.mode()

    def update(self, batch: Batch) -> Metrics:
        metrics = {"critic_loss": self.minimize("critic", self.critic_loss(batch))}
        law = self.actor(batch.obs)
        entropy = law.entropy()
        with torch.no_grad():
            value = self.critic(batch.obs).amin(0)
        metrics["actor_loss"] = self.minimize("actor", self.actor_loss(law.log_probs, entropy, value))
        if self.config.learn_temperature:
            metrics["ent_coef_loss"] = self.minimize("temperature", self.temperature_loss(batch, entropy.detach()))
        self.follow(self.config.tau)
        return metrics | {"ent_coef": self.temperature().detach(), "entropy": entropy.detach().mean()}

    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        """What Q(s, a) should be, `[B]`."""
        law = self.actor(batch.next_obs)
        value = (law.log_probs.exp() * self.critic_target(batch.next_obs).amin(0)).sum(1)
        return batch.reward + batch.discount * (value + self.temperature() * law.entropy())

    def critic_loss(self, batch: Batch) -> Tensor:
        """0-d: its mean over the batch, summed over the critics."""
        head, output = self.critic.head, self.critic.output(batch.obs)
        chosen = output.take_along_dim(batch.action[None, :, None, None], 2).squeeze(2)
        return 0.5 * self.batch_loss(batch, head.loss(chosen, head.encode(self.target(batch))), head)

    def actor_loss(self, log_probs: Tensor, entropy: Tensor, value: Tensor) -> Tensor:
        """0-d, from log-probabilities and values of all actions `[B, A]` and the entropy `[B]`."""
        return -((log_probs.exp() * value).sum(1) + self.temperature().detach() * entropy).mean()

    def temperature_loss(self, batch: Batch, entropy: Tensor) -> Tensor:
        """0-d, from the policy's entropies `[B]`."""
        return -(self.temperature.log * (self.entropy_to_hold(batch.obs) - entropy)).mean()

    def entropy_to_hold(self, obs: Tensor) -> Tensor | float:
        """H, `[B]` where actions are masked."""
        share, actions = self.config.target_entropy, self.spec.actions
        return share * (allowed(self.spec, obs).sum(1).log() if self.spec.masked else math.log(actions))
