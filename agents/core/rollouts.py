"""What on-policy agents share: they wait for a rollout, look at it once as a whole, pass over it, and forget it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .advantages import forward, gae
from .agent import Agent
from .batch import Rollout, RolloutBatch
from .bodies import body
from .buffer import Buffer
from .config import RolloutConfig
from .critics import V
from .direct import Direct
from .heads import head_of
from .nets import orthogonal_init
from .normalizer import Normalizer
from .policies import Law, stochastic_policy
from .spec import Spec

CLIP = 10.0
"""Normalised observations and rewards are clipped to +-10, as in OpenAI Baselines."""


class ActorCritic(Direct):
    """A policy and a state value that share an optimiser: for vectors no layer, for images the CNN.

    With a CNN both read its features directly, and `c.hidden` is not used.
    """

    def __init__(self, spec: Spec, c: RolloutConfig):
        super().__init__()
        self.body: nn.Module = nn.Identity()
        hidden, options = c.hidden, dict[str, Any](init=orthogonal_init()) if c.orthogonal else {}
        if spec.is_image:
            self.body, features = body(spec, (), **options)
            spec, hidden = vector_spec(spec, features), ()
        self.make_heads(spec, hidden, c)

    def make_heads(self, spec: Spec, hidden: tuple[int, ...], c: RolloutConfig) -> None:
        """Makes what reads the features: `spec` says of what shape they are."""
        self.actor, self.critic = make_actor(spec, hidden, c), make_critic(spec, hidden, c)

    def forward(self, obs: Tensor) -> tuple[Law, Tensor]:
        """The law over actions in states `[B, ...]`, and what the critic's head reads there, `[B, K]`."""
        features = self.body(obs)
        return self.actor(features), self.critic.output(features)

    def law(self, obs: Tensor) -> Law:
        """The law over actions in states `[B, ...]`."""
        return self.actor(self.body(obs))

    def value(self, obs: Tensor) -> Tensor:
        """The values of states `[B, ...]`: `[B]`."""
        return self.critic(self.body(obs))


def vector_spec(spec: Spec, size: int) -> Spec:
    """The same actions, but observations are vectors of `size` numbers: the spec of what reads features."""
    return dataclasses.replace(spec, obs_shape=(size,), obs_dtype="float32", channels_last=False, parts=())


def make_actor(spec: Spec, hidden: tuple[int, ...], c: RolloutConfig) -> nn.Module:
    return stochastic_policy(spec, hidden, c.activation, c.log_std, c.orthogonal)


def make_critic(spec: Spec, hidden: tuple[int, ...], c: RolloutConfig) -> V:
    init = {"init": orthogonal_init(), "last_init": orthogonal_init(1.0)} if c.orthogonal else {}
    return V(spec, hidden, head_of(c), activation=c.activation, **init)


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
        self.actor_critic = ActorCritic(spec, c)
        self.make_return_normalizer()

    def make_return_normalizer(self) -> None:
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
        """The law over actions in states `[B, ...]`."""
        return self.actor_critic.law(obs)

    def values(self, obs: Tensor) -> Tensor:
        """V of states `[B, ...]`: `[B]`."""
        return self.actor_critic.value(obs)

    def act(self, obs: Tensor, explore: bool) -> Tensor:
        law = self.law(obs)
        return law.sample() if explore else law.mode()

    def batches(self, buffer: Buffer) -> Iterator[RolloutBatch]:
        if buffer.written <= self.config.rollout_length:
            return
        rollout = buffer.rollout(self.config.gamma)
        self.stop_pass = False
        if not buffer.transitions:  # all environments were being reset
            buffer.restart()
            return
        for batch in self.passes(rollout):
            yield batch
            if self.stop_pass:
                break
        if self.obs_normalizer is not None:
            self.obs_normalizer.update(rollout.obs[:-1][rollout.valid])
        buffer.restart()

    def passes(self, rollout: Rollout) -> Iterator[RolloutBatch]:
        """All batches of all passes over a rollout: each pass takes every transition once, in an order of its own."""
        c, rows = self.config, self.prepare(rollout)
        for _ in range(c.epochs):
            order = torch.randperm(len(rows.obs), device=self.device)
            shuffled = (field[order].tensor_split(max(round(len(order) / c.batch_size), 1)) for field in rows)
            for fields in zip(*shuffled, strict=True):
                yield type(rows)(*fields)

    @torch.no_grad()
    def prepare(self, rollout: Rollout) -> RolloutBatch:
        """All transitions of a rollout with their advantages, computed once, with the values of this moment."""
        obs = self.normalized_obs(rollout.obs)
        value = self.values(obs.flatten(0, 1)).unflatten(0, obs.shape[:2])
        advantage, target = self.advantages(rollout, value)
        valid, value = rollout.valid, value[:-1]
        obs, action, value, target = obs[:-1][valid], rollout.action[valid], value[valid], target[valid]
        self.explained_variance.copy_(explained_variance(target, value))
        return RolloutBatch(obs, action, self.law(obs).log_prob(action), value, advantage[valid], target)

    def advantages(self, rollout: Rollout, value: Tensor) -> tuple[Tensor, Tensor]:
        """Advantages and value targets `[T, N]` from values `[T + 1, N]`."""
        c = self.config
        reward = self.normalized_reward(rollout) if c.normalize_reward else rollout.reward
        advantage = gae(reward, rollout.discount, rollout.trace, value, c.gae_lambda)
        return advantage, advantage + value[:-1]

    def normalized_advantage(self, batch: RolloutBatch) -> Tensor:
        """The batch's advantages, normalised if the settings say so."""
        return normalized(batch.advantage) if self.config.normalize_advantage else batch.advantage

    def normalized_reward(self, rollout: Rollout) -> Tensor:
        """Rewards over the running standard deviation of sum_i gamma^i r_{t-i}, from each episode's start."""
        if self.discounted_return.shape != rollout.reward[0].shape:  # at first, or with other environments
            self.discounted_return = torch.zeros_like(rollout.reward[0])
        returns = forward(rollout.reward, self.config.gamma * rollout.valid, self.discounted_return)
        self.discounted_return = returns.gather(0, rollout.head[None] - 1)[0]
        self.return_normalizer.update(returns[rollout.valid])
        return self.return_normalizer.scale(rollout.reward)


def explained_variance(target: Tensor, value: Tensor) -> Tensor:
    """1 - var(target - value) / var(target) over the transitions `[B]`; 0 where all targets are the same."""
    variance = target.var(correction=0)
    return torch.where(variance > 0, 1.0 - (target - value).var(correction=0) / variance, 0.0)


def normalized(advantage: Tensor) -> Tensor:
    """Shifted and scaled to mean 0 and standard deviation 1 (with N - 1) over the batch `[B]`."""
    centred = advantage - advantage.mean()
    return centred / (centred.std() + 1e-8) if len(advantage) > 1 else centred
