"""Advantage actor-critic, synchronous."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ..core.agent import Metrics
from ..core.batch import RolloutBatch
from ..core.config import Count, NonNegative, Positive, RolloutConfig, Share
from ..core.optimizers import RMSProp
from ..core.rollouts import RolloutAgent


@dataclass(frozen=True)
class A2CConfig(RolloutConfig):
    """Defaults: stable-baselines3's, with the optimiser of OpenAI Baselines."""

    learning_rate: NonNegative = 7e-4
    """Step size of RMSProp."""
    batch_size: Count = 1_000_000
    """Transitions per update; by default more than a rollout has: one batch."""
    rollout_length: Count = 5
    """Steps of every environment between two updates."""
    epochs: Count = 1
    """Passes over each rollout; the gradient is that of the policy only in the first."""
    gae_lambda: Share = 1.0
    """Decay of the advantage estimate: 0 = one step, 1 = all rewards of the rollout."""
    normalize_advantage: bool = False
    """Shift and scale the advantages of each batch to mean 0 and standard deviation 1."""
    value_coef: NonNegative = 0.5
    """Weight of the value loss."""
    entropy_coef: NonNegative = 0.0
    """Weight of the entropy bonus, per nat."""
    rms_decay: Share = 0.99
    """Share of RMSProp's mean squared gradient that an update keeps."""
    rms_epsilon: Positive = 1e-5
    """Added to that mean before its root is taken."""


class A2C(RolloutAgent, name="a2c"):
    """A2C: A3C (Mnih et al. 2016, arXiv 1602.01783) with environments in step instead of asynchronous.

    On each rollout of a few steps, once:   A_t = sum_k (gamma lambda)^k delta_{t+k},   R_t = A_t + V(s_t).

        policy   -mean A log pi(a|s)
        value    c_v mean (V(s) - R)^2
        entropy  -c_e mean H[pi(.|s)]

    With lambda 1, R_t is the n-step return of the paper. PPO with one pass in one batch has the same gradient.

    Departures from the paper: gradients are clipped; layers are orthogonal; policy and value share no layer but a CNN.
    """

    config: A2CConfig = A2CConfig()

    def update(self, batch: RolloutBatch) -> Metrics:
        c = self.config
        law, output = self.actor_critic(batch.obs)
        policy_loss = -(self.normalized_advantage(batch) * law.log_prob(batch.action)).mean()
        value_loss, entropy = self.actor_critic.critic.loss(output, batch.target).mean(), law.entropy().mean()
        loss = policy_loss + c.value_coef * value_loss - c.entropy_coef * entropy
        metrics = {"policy_loss": policy_loss.detach(), "value_loss": value_loss.detach()}
        metrics |= {"entropy_loss": -entropy.detach(), "explained_variance": self.explained_variance.clone()}
        return metrics | {"loss": self.minimize("actor_critic", loss)}

    def optimizer(self, name: str, parameters: nn.Parameter) -> torch.optim.Optimizer:
        return RMSProp([parameters], self.learning_rate(name), self.config.rms_decay, self.config.rms_epsilon)
