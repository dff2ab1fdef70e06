"""Bit flipping: a goal that random play hardly ever meets (Andrychowicz et al. 2017, arXiv 1707.01495, section 3.1)."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Dict, Discrete, MultiBinary


class BitFlipping(gymnasium.Env):
    """`size` random bits are to become `size` other random bits; an action flips one of them.

    The reward is -1 for every step after which they differ. An episode terminates when they do not, and is truncated
    after `size` steps, which always suffice. Observations are those of environments with goals, so that
    `replay=hindsight` works: without it, no reward but -1 is seen from some 15 bits on.
    """

    def __init__(self, size: int = 15):
        self.size, self.steps = size, 0
        self.bits = self.goal = np.zeros(size, np.int8)
        self.action_space = Discrete(size)
        names = ("observation", "achieved_goal", "desired_goal")
        self.observation_space = Dict({name: MultiBinary(size) for name in names})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict]:
        super().reset(seed=seed)
        self.steps, (self.bits, self.goal) = 0, self.np_random.integers(2, size=(2, self.size), dtype=np.int8)
        return self._observe(), {}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.bits[action] ^= 1
        self.steps += 1
        over = bool(self.compute_terminated(self.bits, self.goal, {}))
        return self._observe(), over - 1.0, over, self.steps >= self.size, {"is_success": over}

    def compute_reward(self, achieved: np.ndarray, desired: np.ndarray, info: Any) -> np.ndarray:
        """`[..., size]` each -> `[...]`."""
        return self.compute_terminated(achieved, desired, info) - 1.0

    def compute_terminated(self, achieved: np.ndarray, desired: np.ndarray, info: Any) -> np.ndarray:
        return (achieved == desired).all(-1)

    def _observe(self) -> dict[str, Any]:
        return {"observation": self.bits.copy(), "achieved_goal": self.bits.copy(), "desired_goal": self.goal.copy()}


gymnasium.register("bellmark/BitFlipping-v0", entry_point=f"{__name__}:BitFlipping")
