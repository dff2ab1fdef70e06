"""Scripted environments that several test files use, and the one way to read transitions off a vector environment."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # going_on.py


class Scripted(gymnasium.Env):
    """Observation [episode, step]; the length (1 to 4) and the ending of each episode are drawn from its own stream."""

    observation_space = gymnasium.spaces.Box(0.0, 1e6, (2,), np.float64)
    action_space = gymnasium.spaces.Discrete(3, start=-1)
    metadata = {"render_modes": []}

    def __init__(self, fixed_length: int = 0):
        self.fixed_length = fixed_length
        self.episode, self.time, self.length, self.ending = -1, 0, 0, 0
        self.actions: list[int] = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.time = self.episode + 1, 0
        self.length = self.fixed_length or int(self.np_random.integers(1, 5))
        self.ending = int(self.np_random.integers(1, 4))
        return np.array([self.episode, 0.0]), {"noise": 1.0}

    def step(self, action):
        assert self.time < self.length, "stepped beyond the end of the episode"
        self.time += 1
        self.actions.append(int(action))
        over = self.time == self.length
        obs = np.array([self.episode, self.time], np.float64)
        reward = 10.0 * self.episode + self.time + 0.1 * float(action)
        return obs, reward, over and bool(self.ending & 1), over and bool(self.ending & 2), {"noise": 2.0}


def transitions(env, seed, steps, rule):
    """Per column, the (obs, action, reward, terminated, truncated, next_obs) of valid steps. `rule`: obs -> action."""
    columns = [[] for _ in range(env.num_envs)]
    obs = env.reset(seed)
    for _ in range(steps):
        action = rule(obs)
        step = env.step(action)
        for i in np.flatnonzero(step.valid):
            columns[i].append(
                (
                    obs[i].tolist(),
                    np.asarray(action[i]).tolist(),
                    float(step.reward[i]),
                    bool(step.terminated[i]),
                    bool(step.truncated[i]),
                    step.next_obs[i].tolist(),
                )
            )
        obs = step.obs
    return columns


@pytest.fixture(name="scripted")
def scripted_class():
    return Scripted


@pytest.fixture(name="transitions")
def transitions_function():
    return transitions


@pytest.fixture(autouse=True)
def no_process_left_behind():
    yield
    assert multiprocessing.active_children() == []
