"""PPO with a memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..core.batch import Rollout, RolloutBatch
from ..core.bodies import body
from ..core.buffer import Buffer
from ..core.config import Count
from ..core.parts import Part
from ..core.policies import Law
from ..core.recurrence import Cell, Recurrence, forget, starts
from ..core.rollouts import ActorCritic, explained_variance, vector_spec
from ..core.spaces import flat_fields
from ..core.spec import Spec
from .ppo import PPO, PPOConfig


@dataclass(frozen=True)
class RecurrentPPOConfig(PPOConfig):
    """Defaults: PPO's, with rollouts and batches of sb3-contrib's RecurrentPPO."""

    rollout_length: Count = 128
    """Steps of every environment between two rounds of updates; the gradient goes back so far at most."""
    batch_size: Count = 128
    """Transitions per update, as whole sequences of so many environments: at least one environment's."""
    memory: Cell = "lstm"
    """Kind of recurrent layer."""
    memory_size: Count = 128
    """Its width. The hidden layers of policy and critic come after it."""


class SequenceBatch(NamedTuple):
    """Whole columns of a rollout, time first, and what belongs to their transitions as a `RolloutBatch` has it."""

    obs: Tensor
    """[T, n, ...]"""
    action: Tensor
    """[B, A] or [B]."""
    log_prob: Tensor
    """[B]"""
    value: Tensor
    """[B]"""
    advantage: Tensor
    """[B]"""
    target: Tensor
    """[B]"""
    rows: Tensor
    """[B] int64, where the transitions are in the T x n rows, flat."""
    start: Tensor
    """[T, n] bool: the first row of an episode."""
    state: Tensor
    """[n, S] the memory before the first row."""
    cuts: tuple[int, ...]
    """Rows above 0 with a start in any column."""


class RecurrentActorCritic(ActorCritic):
    """A policy and a state value that read what one recurrent layer makes of the observations so far."""

    def __init__(self, spec: Spec, c: RecurrentPPOConfig):
        encoder, features = body(spec, ())
        remembered = vector_spec(spec, c.memory_size)
        if spec.masked:  # what reads the memory sees the mask beside it
            fields = flat_fields((Part("", (c.memory_size,), "vector"),), spec.actions)
            remembered = dataclasses.replace(remembered, **fields)
        super().__init__(remembered, c)
        self.spec, self.body, self.recurrence = spec, encoder, Recurrence(features, c.memory_size, c.memory)

    def remember(self, obs: Tensor, state: Tensor, start: Tensor, cuts: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """obs `[T, N, ...]` -> features `[T, N, F]`, with the mask if there is one, and the memory after them."""
        features = self.body(obs.flatten(0, 1)).unflatten(0, obs.shape[:2])
        features, state = self.recurrence(features, state, start, cuts)
        return torch.cat([features, obs[..., -self.spec.actions :]], -1) if self.spec.masked else features, state

    def step(self, obs: Tensor, state: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """One row: obs `[N, ...]` -> features `[N, F]` and the memory after it."""
        features, state = self.remember(obs[None], state, start[None], ())
        return features[0], state

    def law(self, obs: Tensor) -> Law:
        return self.actor(self.first(obs))

    def value(self, obs: Tensor) -> Tensor:
        return self.critic(self.first(obs))

    def first(self, obs: Tensor) -> Tensor:
        """Features of observations `[N, ...]`, each the first of an episode."""
        start = torch.ones(len(obs), dtype=torch.bool, device=obs.device)
        return self.step(obs, self.recurrence.initial(len(obs)), start)[0]


class RecurrentPPO(PPO, name="recurrent_ppo"):
    """PPO whose policy and value see the observations so far, through an LSTM or GRU (Huang et al. 2022, "LSTM").

        h_t = f(o_t, h_{t-1}), zero before an episode's first o_t,   pi(.|h_t),   V(h_t)

    Sequences are whole columns of a rollout, from the memory that the policy had at its beginning; batches are made of
    environments, so take several. An episode's final observation is remembered for its value, and then forgotten.
    `act`, `act_on`, `law` and `values` take every observation as the first of an episode; `explore`, `predict` (as in
    stable-baselines3, with `state` and `episode_start`) and `evaluate` remember.

    Departures: one memory serves policy and value; that of the rollout's beginning is not made anew after updates.
    """

    config: RecurrentPPOConfig = RecurrentPPOConfig()
    uncompiled = "PyTorch does not trace its LSTM and GRU"
    state_now: Tensor
    state_first: Tensor

    def build(self, spec: Spec, c: Any) -> None:
        self.actor_critic: RecurrentActorCritic = RecurrentActorCritic(spec, c)
        self.make_return_normalizer()
        self.register_buffer("state_now", torch.zeros(0))
        self.register_buffer("state_first", torch.zeros(0))  # that of a rollout's first row; empty before it

    # ---- acting ------------------------------------------------------------------------------------------------

    def explore(self, obs: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
        """Acts in training; `start` `[N]` tells first observations, by default those of the agent's environment."""
        if start is None:
            assert self.env is not None
            start = self.env.episode_start
        known = len(self.state_now) == len(obs)
        state = self.state_now if known else self.actor_critic.recurrence.initial(len(obs))
        state = forget(state, torch.as_tensor(start, device=self.device))
        if len(self.state_first) != len(obs):
            self.state_first = state
        action, self.state_now = self._act(obs, state, np.zeros(len(obs), bool), True)
        return action

    def act_from(
        self, obs: np.ndarray, state: Tensor | None, start: np.ndarray, explore: bool
    ) -> tuple[np.ndarray, Tensor]:
        """`act_on` with the memory `[N, S]` before (None: nothing), and the memory after."""
        return self._act(
            obs, self.actor_critic.recurrence.initial(len(obs)) if state is None else state, start, explore
        )

    @torch.no_grad()
    def _act(self, obs: np.ndarray, state: Tensor, start: np.ndarray, explore: bool) -> tuple[np.ndarray, Tensor]:
        features, state = self.actor_critic.step(self.inputs(obs), state, torch.as_tensor(start, device=self.device))
        law = self.actor_critic.actor(features)
        return (law.sample() if explore else law.mode()).cpu().numpy(), state

    def act_next(self, obs: np.ndarray, state: Any, start: Any, explore: bool) -> tuple[np.ndarray, Any]:
        before = None if state is None else torch.as_tensor(state[0], device=self.device)
        action, after = self.act_from(obs, before, starts(start, len(obs)), explore)
        return action, (after.cpu().numpy(),)

    # ---- learning ----------------------------------------------------------------------------------------------

    def batches(self, buffer: Buffer) -> Iterator[Any]:
        if buffer.written <= self.config.rollout_length:
            return
        yield from super().batches(buffer)
        self.state_first = torch.zeros(0, device=self.device)

    def passes(self, rollout: Rollout) -> Iterator[Any]:
        c, (rows, start, cuts) = self.config, self.remembered(rollout)
        columns = rollout.valid.shape[1]
        parts = min(max(round(rollout.valid.numel() / c.batch_size), 1), columns)
        for _ in range(c.epochs):
            for chosen in torch.randperm(columns, device=self.device).tensor_split(parts):
                index = rollout.valid[:, chosen].flatten().nonzero().squeeze(1)
                batch = RolloutBatch(*(field[:, chosen].flatten(0, 1)[index] for field in rows))
                sequence = batch._asdict() | {"obs": rows.obs[:, chosen]}
                yield SequenceBatch(
                    **sequence, rows=index, start=start[:, chosen], state=self.state_first[chosen], cuts=cuts
                )

    @torch.no_grad()
    def remembered(self, rollout: Rollout) -> tuple[RolloutBatch, Tensor, tuple[int, ...]]:
        """All rows `[T, N, ...]` of a rollout, which of them begin an episode, and where any does."""
        obs, net = self.normalized_obs(rollout.obs), self.actor_critic
        start = torch.cat([torch.zeros_like(rollout.valid[:1]), ~rollout.valid])
        cuts = tuple(start.any(1).nonzero().flatten().tolist())
        features, _ = net.remember(obs, self.state_first, start, cuts)
        value = net.critic(features.flatten(0, 1)).unflatten(0, obs.shape[:2])
        advantage, target = self.advantages(rollout, value)
        log_prob = net.actor(features[:-1].flatten(0, 1)).log_prob(rollout.action.flatten(0, 1))
        valid, value = rollout.valid, value[:-1]
        self.explained_variance.copy_(explained_variance(target[valid], value[valid]))
        rows = RolloutBatch(obs[:-1], rollout.action, log_prob.view_as(value), value, advantage, target)
        return rows, start[:-1], tuple(cut for cut in cuts if cut < len(value))

    def evaluate(self, batch: Any) -> tuple[Law, Tensor]:
        features, _ = self.actor_critic.remember(batch.obs, batch.state, batch.start, batch.cuts)
        features = features.flatten(0, 1)[batch.rows]
        return self.actor_critic.actor(features), self.actor_critic.critic.output(features)
