"""Proximal policy optimisation with generalised advantage estimation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core.agent import Metrics
from ..core.batch import RolloutBatch
from ..core.config import NonNegative, Positive, RolloutConfig, Schedule, scheduled
from ..core.losses import clipped_surrogate, clipped_value
from ..core.policies import Law
from ..core.rollouts import RolloutAgent


@dataclass(frozen=True)
class PPOConfig(RolloutConfig):
    """Defaults: the paper's MuJoCo column, with the gradient clipping of OpenAI Baselines."""

    clip: Positive = 0.2
    """No gain from moving the probability ratio further from 1 than this."""
    clip_schedule: Schedule = "constant"
    """Course of `clip` over the planned training."""
    value_clip: NonNegative = 0.0
    """Value predictions move at most so far per rollout, in units of the (normalised) return; 0 = freely."""
    value_coef: NonNegative = 0.5
    """Weight of the value loss."""
    entropy_coef: NonNegative = 0.0
    """Weight of the entropy bonus, per nat."""
    target_kl: NonNegative = 0.0
    """Stop passing over a rollout once the policy has moved 1.5 times this far, in nats; 0 = never stop."""


class PPO(RolloutAgent, name="ppo"):
    """PPO (Schulman et al. 2017, arXiv 1707.06347) with GAE (Schulman et al. 2016, arXiv 1506.02438).

    On each rollout, once:   A_t = sum_k (gamma lambda)^k delta_{t+k},   R_t = A_t + V(s_t).
    On each batch of several passes, ratio = pi(a|s) / pi_old(a|s):

        policy   -mean min(ratio A, clip(ratio, 1 - e, 1 + e) A)          (eq. 7), A normalised over the batch
        value    c_v mean (V(s) - R)^2
        entropy  -c_e mean H[pi(.|s)]                                      (eq. 9 is their sum)

    Departures from the paper, all of them usual: advantages are normalised per batch; gradients are clipped; layers
    are orthogonal, the policy's last one of gain 0.01; policy and value are separate networks with one optimiser,
    Adam with epsilon 1e-5, but share the CNN for images (as in the paper). Log-probabilities and values of the acting
    policy are computed when the rollout is complete, not while acting: the parameters are the same. Batches are nearly
    equal instead of leaving a rest.
    """

    config: PPOConfig = PPOConfig()

    def update(self, batch: RolloutBatch) -> Metrics:
        c = self.config
        law, output = self.evaluate(batch)
        log_ratio = law.log_prob(batch.action) - batch.log_prob
        policy_loss, value_loss = self.policy_loss(log_ratio.exp(), batch), self.value_loss(output, batch)
        entropy = law.entropy().mean()
        metrics = self.movement(log_ratio.detach())
        if c.target_kl and metrics["approx_kl"] > 1.5 * c.target_kl:
            self.stop_pass = True
        else:
            loss = policy_loss + c.value_coef * value_loss - c.entropy_coef * entropy
            metrics["loss"] = self.minimize("actor_critic", loss)
        metrics |= {"policy_gradient_loss": policy_loss.detach(), "value_loss": value_loss.detach()}
        return metrics | {"entropy_loss": -entropy.detach(), "explained_variance": self.explained_variance.clone()}

    def evaluate(self, batch: RolloutBatch) -> tuple[Law, Tensor]:
        """The present law in the batch's states, and what the critic's head reads there."""
        return self.actor_critic(batch.obs)

    def policy_loss(self, ratio: Tensor, batch: RolloutBatch) -> Tensor:
        """0-d, from the ratios `[B]`."""
        return clipped_surrogate(ratio, self.normalized_advantage(batch), self.clip).mean()

    def value_loss(self, output: Tensor, batch: RolloutBatch) -> Tensor:
        """0-d, from present outputs `[..., K]` where `batch.value` is `[...]`."""
        critic = self.actor_critic.critic
        if self.config.value_clip:
            return clipped_value(critic.head.mean(output), batch.value, batch.target, self.config.value_clip).mean()
        return critic.loss(output, batch.target).mean()

    @property
    def clip(self) -> float:
        """How far the ratio may be from 1 at this moment."""
        return self.config.clip * scheduled(self.config.clip_schedule, self.progress)

    @torch.no_grad()
    def movement(self, log_ratio: Tensor) -> Metrics:
        """How far the policy has moved from the one that acted: KL estimate (ratio - 1) - log ratio, share clipped."""
        change = log_ratio.expm1()
        clipped = (change.abs() > self.clip).float().mean()
        return {"approx_kl": (change - log_ratio).mean(), "clip_fraction": clipped}

    def optimizer(self, name: str, parameters: nn.Parameter) -> torch.optim.Optimizer:
        return torch.optim.Adam([parameters], lr=self.learning_rate(name), eps=1e-5, fused=True)
