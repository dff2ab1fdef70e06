"""What on-policy agents share: they wait for a rollout, look at it once as a whole, pass over it, and forget it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .advantages import gae
from .agent import Agent
from .batch import Rollout, RolloutBatch
from .buffer import Buffer
from .config import RolloutConfig
from .critics import V
from .nets import Normalizer, orthogonal_init
from .policies import Law, stochastic_policy
from .spec import Spec

CLIP = 10.0
"""Normalised observations and rewards are clipped to +-10, as in OpenAI Baselines."""


class ActorCritic(nn.Module):
    """A policy and a state value that share an optimiser but no layer."""

    def __init__(self, spec: Spec, hidden: tuple[int, ...]):
        super().__init__()
        self.actor = stochastic_policy(spec, hidden)
        self.critic = V(spec, hidden, activation="tanh", init=orthogonal_init(), last_init=orthogonal_init(1.0))


class RolloutAgent(Agent):
    """An agent with an `ActorCritic` that learns from `RolloutBatch`es.

    Observation statistics change only after a rollout has been used, so that the policy that is updated starts as the
    policy that acted: the first rollout sees observations as they are.
    """

    config = RolloutConfig()
    discounted_return: Tensor
    stop_pass = False
    """An update sets it to end the passes over this rollout."""

    def build(self, spec: Spec, c: Any) -> None:
        self.actor_critic = ActorCritic(spec, c.hidden)
        self.return_normalizer = Normalizer(clip=CLIP)
        self.register_buffer("discounted_return", torch.zeros(0))
        self.explained_variance = torch.zeros(())

    def make_normalizer(self) -> Normalizer:
        normalizer = super().make_normalizer()
        normalizer.clip, normalizer.epsilon = CLIP, 1e-8
        return normalizer

    def make_buffer(self, columns: int) -> Buffer:
        return Buffer(self.spec, self.config.rollout_length + 2, columns, device=self.device)

    def law(self, obs: Tensor) -> Law:
        return self.actor_critic.actor(obs)

    def act(self, obs: Tensor, explore: bool) -> Tensor:
        law = self.law(obs)
        return law.sample() if explore else law.mode()

    def batches(self, buffer: Buffer) -> Iterator[RolloutBatch]:
        c = self.config
        if buffer.written <= c.rollout_length:
            return
        rollout = buffer.rollout(c.gamma)
        rows = self.prepare(rollout)
        self.stop_pass = False
        for _ in range(c.epochs):
            order = torch.randperm(len(rows.obs), device=self.device)
            shuffled = (field[order].tensor_split(max(round(len(order) / c.batch_size), 1)) for field in rows)
            for fields in zip(*shuffled, strict=True):
                yield RolloutBatch(*fields)
                if self.stop_pass:
                    break
            if self.stop_pass:
                break
        if self.obs_normalizer is not None:
            self.obs_normalizer.update(rollout.obs[:-1][rollout.valid])
        buffer.restart()

    @torch.no_grad()
    def prepare(self, rollout: Rollout) -> RolloutBatch:
        """All transitions of a rollout with their advantages, computed once, with the values of this moment."""
        c = self.config
        obs = rollout.obs if self.obs_normalizer is None else self.obs_normalizer(rollout.obs)
        reward = self.normalized_reward(rollout) if c.normalize_reward else rollout.reward
        value = self.actor_critic.critic(obs.flatten(0, 1)).view(obs.shape[:2])
        advantage = gae(reward, rollout.discount, rollout.trace, value, c.gae_lambda)
        valid, value = rollout.valid, value[:-1]
        obs, action, value, advantage = obs[:-1][valid], rollout.action[valid], value[valid], advantage[valid]
        target = advantage + value
        self.explained_variance = 1.0 - advantage.var(correction=0) / target.var(correction=0)
        return RolloutBatch(obs, action, self.law(obs).log_prob(action), value, advantage, target)

    def normalized_reward(self, rollout: Rollout) -> Tensor:
        """Rewards over the running standard deviation of sum_i gamma^i r_{t-i}, from each episode's start."""
        if self.discounted_return.shape != rollout.reward[0].shape:  # at first, or with other environments
            self.discounted_return = torch.zeros_like(rollout.reward[0])
        returns = torch.empty_like(rollout.reward)
        for t, (reward, valid) in enumerate(zip(rollout.reward, rollout.valid, strict=True)):
            self.discounted_return = (reward + self.config.gamma * self.discounted_return).masked_fill(~valid, 0.0)
            returns[t] = self.discounted_return
        self.return_normalizer.update(returns[rollout.valid])
        return self.return_normalizer.scale(rollout.reward)


def normalized(advantage: Tensor) -> Tensor:
    """Shifted and scaled to mean 0 and standard deviation 1 (with N - 1) over the batch `[B]`."""
    centred = advantage - advantage.mean()
    return centred / (centred.std() + 1e-8) if len(advantage) > 1 else centred
