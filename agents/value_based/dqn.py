"""Deep Q-network; double Q-learning, dueling streams and noisy layers are settings, the head is a method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.agent import Metrics
from ..core.batch import Batch
from ..core.compiled import one_graph
from ..core.config import Count, NonNegative, Number, Positive, ReplayConfig, Share
from ..core.critics import DiscreteQ, at_action
from ..core.heads import Head, Scalar
from ..core.masks import random_actions
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
    dueling: bool = False
    """Separate streams for the state and for the advantages of actions (Wang et al. 2016)."""
    noisy: bool = False
    """Explore by noise on the parameters, which is learnt, instead of random actions (Fortunato et al. 2018)."""
    noise: Positive = 0.5
    """Initial size of that noise: its standard deviation is this / sqrt(inputs of the layer)."""
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
        dueling:  Q = V + A - mean_a A    (Wang et al. 2016, arXiv 1511.06581, eq. 9)
        noisy:    y = x (W + S * f(e) f(e')^T) + b + s * f(e')  in every linear layer, f(x) = sign(x) sqrt|x|,
                  e, e' ~ N(0, 1) drawn anew at each pass   (Fortunato et al. 2018, arXiv 1706.10295)

    The head stands between network and equations, so that a distributional agent only chooses another one; network,
    head and replay combine freely. Noisy networks act without noise when deterministic, and without epsilon.

    Departures from the papers: Adam instead of RMSProp; exploration decays over a share of the planned training; the
    first `start` actions are random whatever epsilon is; environments that act together share one draw of the noise;
    dueling does not scale the gradient where its streams meet.
    """

    config: DQNConfig = DQNConfig()

    def build(self, spec: Spec, c: Any) -> None:
        spec.require_discrete(self.name)
        self.q = self.network(spec, c)
        self.q_target = frozen_copy(self.q)

    def network(self, spec: Spec, c: Any) -> Any:
        """What gives the outputs of all actions."""
        return DiscreteQ(spec, c.hidden, self.head(c), c.dueling, c.noise * c.noisy)

    def head(self, c: Any) -> Head:
        """How outputs stand for values."""
        return Scalar(threshold=1.0)

    def action_values(self, obs: Tensor) -> Tensor:
        """By what actions are chosen: `[B, A]`."""
        return self.q(obs)

    def act(self, obs: Tensor, explore: bool) -> Tensor:
        if not explore:
            return self.noiseless_values(obs).argmax(1)
        epsilon = self.epsilon
        at_random = [draw < epsilon for draw in torch.rand(len(obs)).tolist()]  # by the host: nothing is done in vain
        if all(at_random):
            return random_actions(self.spec, obs)
        greedy = self.greedy(obs)
        if not any(at_random):
            return greedy
        return torch.where(torch.tensor(at_random, device=obs.device), random_actions(self.spec, obs), greedy)

    def exploration(self, obs: Tensor) -> Tensor:  # not one graph, as the host draws: only `greedy` is
        return self.act(self.normalized_obs(obs), True)

    @one_graph
    def greedy(self, obs: Tensor) -> Tensor:
        """The best actions `[B]`."""
        return self.action_values(obs).argmax(1)

    def noiseless_values(self, obs: Tensor) -> Tensor:
        """The values of actions `[B, A]`, without any noise in the network."""
        self.q.eval()
        values = self.action_values(obs)
        self.q.train()
        return values

    def return_distribution(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        self.q.eval()
        output = at_action(self.q.output(obs), self.action_values(obs).argmax(1))
        self.q.train()
        return self.q.head.distribution(output)

    @property
    def epsilon(self) -> float:
        """Probability of a random action."""
        c = self.config
        if c.noisy:
            return 0.0
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
        """What outputs at (s, a) are compared with, as the head has it: `[B]` or `[B, K]`."""
        return self.q.head.backup(batch.reward, batch.discount, self.next_output(batch.next_obs))

    def next_output(self, obs: Tensor) -> Tensor:
        """The target network's outputs `[B, K]` at the chosen next action."""
        output = self.q_target.output(obs)
        value = self.action_values(obs) if self.config.double else self.q_target.values(obs, output)
        return at_action(output, value.argmax(1))

    def losses(self, batch: Batch) -> Tensor:
        """The loss of each row: `[B]`."""
        return self.q.loss(batch.obs, batch.action, self.target(batch))

    def q_loss(self, batch: Batch) -> Tensor:
        """0-d; reports errors to prioritised replay."""
        return self.batch_loss(batch, self.losses(batch), self.q.head)
