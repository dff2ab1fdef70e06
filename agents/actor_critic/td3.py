"""Twin delayed deep deterministic policy gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.agent import Metrics
from ..core.batch import Batch
from ..core.config import Count, NonNegative
from ..core.ensemble import EnsembleAgent, EnsembleConfig, ensemble
from ..core.nets import frozen_copy
from ..core.policies import Deterministic
from ..core.spec import Spec


@dataclass(frozen=True)
class TD3Config(EnsembleConfig):
    """Defaults: the authors' repository, but for a shorter random start (theirs: 25,000)."""

    actor_delay: Count = 2
    """Critic updates per update of actor and targets."""
    exploration_noise: NonNegative = 0.1
    """Standard deviation of the noise on actions in training, of the range [-1, 1]."""
    target_noise: NonNegative = 0.2
    """Standard deviation of the noise on target actions."""
    target_noise_clip: NonNegative = 0.5
    """Bound of the noise on target actions."""


class TD3(EnsembleAgent, name="td3"):
    """TD3 (Fujimoto, van Hoof, Meger 2018, arXiv 1802.09477).

        a'      = clip(pibar(s') + clip(N(0, target_noise^2), -c, c), -1, 1)
        y       = r + discount min_e Qbar_e(s', a')
        critic    sum_e mean (Q_e(s, a) - y)^2
        actor     -mean Q_1(s, pi(s)),  with all targets (x <- x + tau (online - x)) every `actor_delay` critic updates

    With another `critic_head` Q_e is the mean of a distribution; the target is the distribution of the critic with the
    smallest mean at (s', a'), scaled and shifted (its mean for hl_gauss and two_hot); the loss is the head's.

    Departures from the paper: networks 256-256 and step size 3e-4, one update per step, as in the authors' current
    code; the random start is `start` transitions.
    """

    config: TD3Config = TD3Config()

    def build(self, spec: Spec, c: TD3Config) -> None:
        spec.require_continuous(self.name)
        self.actor, self.critic = Deterministic(spec, c.hidden), ensemble(spec, c, self.head(c))
        self.actor_target, self.critic_target = frozen_copy(self.actor), frozen_copy(self.critic)

    def act(self, obs: Tensor, explore: bool) -> Tensor:
        action = self.actor(obs)
        if explore:
            action = (action + self.config.exploration_noise * torch.randn_like(action)).clamp(-1.0, 1.0)
        return action

    def update(self, batch: Batch) -> Metrics:
        metrics = {"critic_loss": self.minimize("critic", self.critic_loss(batch))}
        if self.due(self.config.actor_delay):
            metrics["actor_loss"] = self.minimize("actor", self.actor_loss(batch))
            self.follow(self.config.tau)
        return metrics

    def smoothing(self, action: Tensor) -> Tensor:
        """Noise for target actions, `[B, A]` as they are."""
        c = self.config
        return (c.target_noise * torch.randn_like(action)).clamp(-c.target_noise_clip, c.target_noise_clip)

    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        """What outputs at (s, a) are compared with, as the head has it: `[B]` or `[B, K]`."""
        action = self.actor_target(batch.next_obs)
        action = (action + self.smoothing(action)).clamp(-1.0, 1.0)
        output = self.critic_target.lowest(self.critic_target.output(batch.next_obs, action))
        return self.critic.head.backup(batch.reward, batch.discount, output)

    def critic_loss(self, batch: Batch) -> Tensor:
        """0-d: its mean over the batch, summed over the critics."""
        return self.regression(batch, self.critic.output(batch.obs, batch.action), self.target(batch))

    def actor_loss(self, batch: Batch) -> Tensor:
        """0-d."""
        return -self.critic.first(batch.obs, self.actor(batch.obs)).mean()
