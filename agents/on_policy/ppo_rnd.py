"""PPO that explores by random network distillation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..core.advantages import backward, forward, gae
from ..core.agent import Metrics
from ..core.batch import Rollout, RolloutBatch
from ..core.config import Count, NonNegative, Positive, RolloutConfig, Share
from ..core.novelty import NoveltyAgent
from ..core.policies import Law
from ..core.rollouts import ActorCritic, make_critic
from ..core.spec import Spec
from .ppo import PPO, PPOConfig


@dataclass(frozen=True)
class PPORNDConfig(PPOConfig):
    """Defaults: the paper's, with PPO's for vector observations where the paper's are for Atari."""

    gamma: Share = 0.999
    """Discount of the environment's rewards per step, in [0, 1]."""
    learning_rate: NonNegative = 1e-4
    """Step size of Adam."""
    rollout_length: Count = 128
    """Steps of every environment between two rounds of updates."""
    epochs: Count = 4
    """Passes over each rollout."""
    batch_size: Count = 256
    """Transitions per update; each pass is cut into nearly equal batches of about this size."""
    clip: Positive = 0.1
    """No gain from moving the probability ratio further from 1 than this."""
    entropy_coef: NonNegative = 0.001
    """Weight of the entropy bonus, per nat."""
    intrinsic_gamma: Share = 0.99
    """Discount of the novelty per step."""
    extrinsic_coef: NonNegative = 2.0
    """Weight of the advantage in the environment's rewards."""
    intrinsic_coef: NonNegative = 1.0
    """Weight of the advantage in novelty."""
    predictor_learning_rate: NonNegative = 1e-4
    """Step size of Adam for the predictor: the larger, the sooner a state is not new any more."""
    novelty_features: Count = 128
    """Outputs of the random network; the paper has 512."""


class NoveltyBatch(NamedTuple):
    """A `RolloutBatch` whose values and targets are two, of rewards and of novelty, and the next observation."""

    obs: Tensor
    """[B, ...]"""
    action: Tensor
    """[B, A] or [B]."""
    log_prob: Tensor
    """[B]"""
    value: Tensor
    """[B, 2]"""
    advantage: Tensor
    """[B]"""
    target: Tensor
    """[B, 2]"""
    next_obs: Tensor
    """[B, ...]"""


class TwoValues(ActorCritic):
    """A policy, and the values of rewards and of novelty: for vectors separate networks, for images on one CNN."""

    def make_heads(self, spec: Spec, hidden: tuple[int, ...], c: RolloutConfig) -> None:
        super().make_heads(spec, hidden, c)
        self.novelty_critic = make_critic(spec, hidden, c)

    def forward(self, obs: Tensor) -> tuple[Law, Tensor]:
        features = self.body(obs)
        outputs = [critic.output(features) for critic in (self.critic, self.novelty_critic)]
        return self.actor(features), torch.stack(outputs, -2)

    def value(self, obs: Tensor) -> Tensor:
        return self.critic.head.mean(self(obs)[1])


class PPORND(PPO, NoveltyAgent, name="ppo_rnd"):
    """PPO with random network distillation (Burda et al. 2018, arXiv 1810.12894).

    The intrinsic reward is the novelty of the *next* observation (see `NoveltyAgent`) over the running standard
    deviation of its discounted sum. Novelty is not episodic: its advantage goes on through the ends of episodes, with
    a discount of its own, and its value is a network of its own:

        i_t = novelty(o_{t+1}) / std(sum_k gamma_I^k novelty_{t-k}),   A = c_E A_E + c_I A_I,
        loss = PPO's of A + c_v mean [(V_E - R_E)^2 + (V_I - R_I)^2],   predictor: mean novelty

    Statistics are those from before the rollout; they are brought up to date after it has been judged.

    Departures: see `NoveltyAgent`; the predictor has an optimiser of its own and learns from all transitions (right
    for up to 32 environments); advantages are normalised per batch as in PPO (`normalize_advantage`; the authors'
    code does not); gradients are clipped; rewards are not (the authors clip to their sign).
    """

    config: PPORNDConfig = PPORNDConfig()
    discounted_novelty: Tensor

    def build(self, spec: Spec, c: Any) -> None:
        self.actor_critic = TwoValues(spec, c)
        self.make_return_normalizer()
        self.build_novelty(spec, c)
        self.register_buffer("discounted_novelty", torch.zeros(0))

    def prepare(self, rollout: Rollout) -> Any:
        next_obs = self.normalized_obs(rollout.obs)[1:][rollout.valid]
        self.intrinsic = self.intrinsic_reward(next_obs, rollout.valid)
        rows = super().prepare(rollout)
        return NoveltyBatch(*rows, next_obs)

    @torch.no_grad()
    def intrinsic_reward(self, next_obs: Tensor, valid: Tensor) -> Tensor:
        """`[T, N]` for the observations after the rows where `valid`, else 0."""
        if self.updates == 0:
            self.observe(next_obs)
        novelty = torch.zeros(valid.shape, device=valid.device)
        novelty[valid] = self.novelty(next_obs)
        if self.updates:
            self.observe(next_obs)
        if self.discounted_novelty.shape != novelty[0].shape:
            self.discounted_novelty = torch.zeros_like(novelty[0])
        decay = torch.where(valid, self.config.intrinsic_gamma, 1.0)
        sums = forward(novelty, decay, self.discounted_novelty)
        self.discounted_novelty = sums[-1].clone()
        self.novelty_normalizer.update(sums[valid])
        return self.novelty_normalizer.scale(novelty)

    def advantages(self, rollout: Rollout, value: Tensor) -> tuple[Tensor, Tensor]:
        c = self.config
        reward = self.normalized_reward(rollout) if c.normalize_reward else rollout.reward
        extrinsic = gae(reward, rollout.discount, rollout.trace, value[..., 0], c.gae_lambda)
        intrinsic = continuing_gae(self.intrinsic, rollout.valid, value[..., 1], c.intrinsic_gamma, c.gae_lambda)
        target = torch.stack([extrinsic, intrinsic], -1) + value[:-1]
        return c.extrinsic_coef * extrinsic + c.intrinsic_coef * intrinsic, target

    def update(self, batch: Any) -> Metrics:
        metrics = super().update(batch)
        if not self.stop_pass:
            metrics["predictor_loss"] = self.minimize("predictor", self.novelty(batch.next_obs).mean())
        return metrics

    def value_loss(self, output: Tensor, batch: RolloutBatch) -> Tensor:
        return 2.0 * super().value_loss(output, batch)  # the sum of two means


def continuing_gae(reward: Tensor, valid: Tensor, value: Tensor, gamma: float, lam: float) -> Tensor:
    """GAE `[T, N]` of one endless episode: the successor of an episode's last row is the first of the next.

    A row between two episodes, not `valid`, hands on what comes after it.
    """
    between = ~valid & torch.cat([valid[1:], torch.zeros_like(valid[:1])])
    value = torch.cat([torch.where(between, value[1:], value[:-1]), value[-1:]])
    delta = torch.where(valid, reward + gamma * value[1:] - value[:-1], 0.0)
    return backward(delta, torch.where(valid, gamma * lam, between.to(value.dtype)))
