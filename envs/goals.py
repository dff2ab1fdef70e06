"""Environments with goals: how they judge what was achieved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from ..agents.core.errors import UnsupportedSpace
from .vector import VectorEnv

ACHIEVED, DESIRED = "achieved_goal", "desired_goal"


class GoalTask:
    """The vectorised `compute_reward` of an environment and, if it has it, `compute_terminated`, as gymnasium-robotics.

    Both are called as `(achieved_goal [B, ...], desired_goal [B, ...], info)` with an empty info; one that gives a
    single answer is called for each row. Raises UnsupportedSpace for an environment without goals.
    """

    def __init__(self, env: VectorEnv):
        parts = {part.name: part for part in env.spec.parts}
        achieved, desired = parts.get(ACHIEVED), parts.get(DESIRED)
        one = _one_of(env)
        numbers = achieved is not None and desired is not None and {achieved.kind, desired.kind} == {"vector"}
        if not numbers or one is None or not one.has_wrapper_attr("compute_reward"):
            raise UnsupportedSpace(
                f"'{env.env_id}' has no goals for hindsight: its observation must be a dictionary with numbers as "
                f"{ACHIEVED} and {DESIRED}, and it needs compute_reward; take another replay"
            )
        self.achieved, self.desired = env.spec.columns[ACHIEVED], env.spec.columns[DESIRED]
        self.shape: tuple[int, ...] = parts[DESIRED].shape
        self.compute_reward: Callable[..., Any] = one.get_wrapper_attr("compute_reward")
        has_end = one.has_wrapper_attr("compute_terminated")
        self.compute_terminated = one.get_wrapper_attr("compute_terminated") if has_end else None

    def judge(self, achieved: np.ndarray, desired: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Rewards `[B]`, and where the episode is over `[B]` if goals decide it, for goals in columns `[B, size]`."""
        goals = [goal.reshape(-1, *self.shape) for goal in (achieved, desired)]
        reward = _of_each(self.compute_reward, *goals).astype(np.float32)
        if self.compute_terminated is None:
            return reward, None
        return reward, _of_each(self.compute_terminated, *goals).astype(bool)


def _of_each(compute: Callable[..., Any], achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
    """[B] what `compute` says of each row. One answer to many rows is of all together: it is asked row by row then."""
    answer = np.asarray(compute(achieved, desired, {}))
    if answer.size == 1:
        answer = np.array([compute(*row, {}) for row in zip(achieved, desired, strict=True)])
    return answer.reshape(len(achieved))


def _one_of(env: VectorEnv) -> gymnasium.Env | None:
    """One of the environments; of those in other processes, another one of the same kind; None if there is no way."""
    vector: Any = env.env.unwrapped
    if hasattr(vector, "envs"):
        return vector.envs[0]
    return vector.maker() if hasattr(vector, "maker") else None
