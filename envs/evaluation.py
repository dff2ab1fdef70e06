"""How good an agent is: whole episodes, on a stream of their own, without a trace in the training run."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from ..agents.core.errors import InvalidSetting
from .vector import VectorEnv


class Actor(Protocol):
    """What evaluation needs of an agent."""

    def act_on(self, obs: np.ndarray, explore: bool) -> np.ndarray:
        """`[N, *obs_shape]` -> `[N, actions]` in [-1, 1], or int `[N]`."""


class Evaluation(NamedTuple):
    """The episodes of an evaluation, those of the first environment first."""

    returns: np.ndarray
    """[episodes] float64: sums of rewards, undiscounted."""
    lengths: np.ndarray
    """[episodes] int64: numbers of transitions."""
    successes: np.ndarray = np.empty(0)
    """[episodes] float64: 1 where the goal was reached, 0 where not, NaN where the environment does not say."""

    @property
    def success_rate(self) -> float | None:
        """The share of episodes that reached their goal; None if the environment never says."""
        told = self.successes[~np.isnan(self.successes)]
        return float(told.mean()) if len(told) else None


def evaluate(agent: Actor, env: VectorEnv, episodes: int, seed: int, deterministic: bool = True) -> Evaluation:
    """Runs `episodes` episodes on `env`, which is reset with `seed`.

    Each environment runs a quota that is fixed beforehand: taking the first episodes that end anywhere would favour the
    short. Torch's random state is the same afterwards, on the host and on every GPU; within, it is seeded with `seed`.
    Raises InvalidSetting if `episodes` is below 1.
    """
    if episodes < 1:
        raise InvalidSetting(f"episodes is {episodes}: evaluation needs at least 1.")
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else range(0)
    with torch.random.fork_rng(devices=list(gpus)):
        torch.default_generator.manual_seed(seed)
        if gpus:
            torch.cuda.manual_seed_all(seed)
        columns = _run(agent, env, episodes, seed, deterministic)
    env.pop_episodes()
    reward_sums, lengths, successes = zip(*(episode for column in columns for episode in column), strict=True)
    return Evaluation(np.array(reward_sums), np.array(lengths, np.int64), np.array(successes))


def _run(agent: Actor, env: VectorEnv, episodes: int, seed: int, deterministic: bool) -> list[list[tuple[Any, ...]]]:
    """The finished episodes of each environment, as many as its quota: return, length, success."""
    quotas = [len(range(column, episodes, env.num_envs)) for column in range(env.num_envs)]
    columns: list[list[tuple[Any, ...]]] = [[] for _ in quotas]
    reward_sums, lengths = np.zeros(env.num_envs), np.zeros(env.num_envs, np.int64)
    missing, state = episodes, None
    remember = getattr(agent, "act_from", None)  # agents with a memory have it
    credit = getattr(agent, "credit", None)  # and this, where it holds rewards
    obs = env.reset(seed)
    while missing:
        if remember is None:
            action = agent.act_on(obs, explore=not deterministic)
        else:
            action, state = remember(obs, state, env.episode_start, explore=not deterministic)
        step = env.step(action)
        state = state if credit is None else credit(state, step.reward)
        obs = step.obs
        reward_sums += step.reward
        lengths += step.valid
        reward_sums[~step.valid], lengths[~step.valid] = 0.0, 0  # an episode that was lost does not count
        for column in np.flatnonzero(step.terminated | step.truncated):
            if len(columns[column]) < quotas[column]:
                success = float(env.successes.last[column])
                columns[column].append((float(reward_sums[column]), int(lengths[column]), success))
                missing -= 1
            reward_sums[column], lengths[column] = 0.0, 0
    return columns
