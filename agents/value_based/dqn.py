"""Deep Q-network, with double Q-learning as a setting."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.agent import Metrics
from ..core.batch import Batch
from ..core.config import Count, NonNegative, Number, Positive, ReplayConfig, Share
from ..core.critics import DiscreteQ, at_action
from ..core.heads import Head, Scalar
from ..core.nets import frozen_copy
from ..core.replay import ReplayAgent
from ..core.spec import Spec


@dataclass(frozen=True)
class DQNConfig(ReplayConfig):
    """Defaults: stable-baselines3's, for vector observations."""

    learning_rate: NonNegative = 1e-4
    """Step size of Adam."""
    batch_size: Count = 32
    """Transitions per update."""
    max_grad_norm: NonNegative = 10.0
    """Gradients longer than this are shortened to it; 0 = never."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers (for images: none, the CNN's features are read directly)."""
    start: Number = 100
    """Transitions collected with random actions before the first update."""
    train_every: Count = 4
    """Transitions between two visits to the replay buffer."""
    update_ratio: Positive = 0.25
    """Updates per transition."""
    target_every: Count = 10_000
    """Transitions between two copies of the network into the target network."""
    double: bool = False
    """Choose the next action by the network itself, not by the target network (van Hasselt et al. 2016)."""
    exploration_start: Share = 1.0
    """Probability of a random action at the beginning."""
    exploration_end: Share = 0.05
    """Probability of a random action after the decay."""
    exploration_fraction: Share = 0.1
    """Share of the planned training over which that probability falls linearly."""


class DQN(ReplayAgent, name="dqn"):
    """DQN (Mnih et al. 2015); with `double`, Double DQN (van Hasselt, Guez, Silver 2016, arXiv 1509.06461).

        a* = argmax_a Qbar(s', a)         (double: argmax_a Q(s', a))
        y  = r + discount Qbar(s', a*),   loss = mean Huber(Q(s, a) - y),   Qbar <- Q every `target_every` transitions

    The head stands between network and equations, so that a distributional agent only chooses another one.

    Departures from the paper: Adam instead of RMSProp; exploration decays over a share of the planned training; the
    first `start` actions are random whatever epsilon is.
    """

    config: DQNConfig = DQNConfig()

    def build(self, spec: Spec, c: DQNConfig) -> None:
        spec.require_discrete(self.name)
        self.q = DiscreteQ(spec, c.hidden, self.head(c))
        self.q_target = frozen_copy(self.q)

    def head(self, c: DQNConfig) -> Head:
        """How outputs stand for values."""
        return Scalar(threshold=1.0)

    def act(self, obs: Tensor, explore: bool) -> Tensor:
        greedy = self.q(obs).argmax(1)
        if not explore:
            return greedy
        random = torch.randint_like(greedy, self.spec.actions)
        return torch.where(torch.rand(len(obs), device=obs.device) < self.epsilon, random, greedy)

    @property
    def epsilon(self) -> float:
        c = self.config
        share = min(self.progress / c.exploration_fraction, 1.0) if c.exploration_fraction else 1.0
        return c.exploration_start + share * (c.exploration_end - c.exploration_start)

    def update(self, batch: Batch) -> Metrics:
        loss = self.minimize("q", self.q_loss(batch))
        if self.target_is_due():
            self.follow(1.0)
        return {"loss": loss}

    def target_is_due(self) -> bool:
        """Whether `target_every` transitions, counted in updates, have passed since the last copy."""
        c = self.config
        return self.due(max(round(c.target_every * c.update_ratio), 1))

    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        output = self.q_target.output(batch.next_obs)
        value = self.q(batch.next_obs) if self.config.double else self.q.head.mean(output)
        return self.q.head.backup(batch.reward, batch.discount, at_action(output, value.argmax(1)))

    def q_loss(self, batch: Batch) -> Tensor:
        output = at_action(self.q.output(batch.obs), batch.action)
        return (batch.weight * self.q.head.loss(output, self.target(batch))).mean()
