"""Small environments whose values are known exactly: an agent that gets them wrong has a bug, not bad luck.

Registered with gymnasium as `bellmark/<class>-v0`. Each takes `continuous`: False for two choices (0 and 1), True for
one action in [-1, 1], where everything above zero means choice 1. The values are those of the best policy.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

Transition = tuple[np.ndarray, float, bool, bool, dict[str, Any]]


class Probe(gymnasium.Env):
    """The action space of all probes, and a count of the steps in the episode."""

    def __init__(self, obs_size: int, continuous: bool = False):
        self.continuous = continuous
        self.action_space = Box(-1.0, 1.0, (1,), np.float32) if continuous else Discrete(2)
        self.observation_space = Box(-1.0, 1.0, (obs_size,), np.float32)
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.steps = 0
        return self.observe(), {}

    def observe(self) -> np.ndarray:
        """What the agent sees now, `[obs_size]`."""
        raise NotImplementedError

    def choice(self, action: Any) -> int:
        """0 or 1, whatever the action space is."""
        return int(np.asarray(action).item() > 0)


class TruncatedForever(Probe):
    """A reward of 1 at every step, always the same observation, cut off every `limit` steps but never terminated.

    Value 1 / (1 - gamma). An agent that takes truncation for termination finds at most (1 - gamma^limit) / (1 - gamma).
    """

    def __init__(self, continuous: bool = False, limit: int = 5):
        super().__init__(1, continuous)
        self.limit = limit

    def observe(self) -> np.ndarray:
        return np.ones(1, np.float32)

    def step(self, action: Any) -> Transition:
        self.steps += 1
        return self.observe(), 1.0, False, self.steps >= self.limit, {}

    @staticmethod
    def value(gamma: float) -> float:
        """The value of its only state."""
        return 1.0 / (1.0 - gamma)


class DelayedReward(Probe):
    """A reward of 1 at the last of `length` steps, which terminates; the observation is the step, one-hot.

    Value of step t: gamma^(length - 1 - t), whatever the actions are. The final observation is all zeros.
    """

    def __init__(self, continuous: bool = False, length: int = 4):
        super().__init__(length, continuous)
        self.length = length

    def observe(self) -> np.ndarray:
        return (np.arange(self.length) == self.steps).astype(np.float32)

    def step(self, action: Any) -> Transition:
        self.steps += 1
        over = self.steps >= self.length
        return self.observe(), float(over), over, False, {}

    @staticmethod
    def value(gamma: float, length: int = 4) -> np.ndarray:
        """`[length]` values of the steps of an episode."""
        return gamma ** np.arange(length - 1, -1, -1.0)


class ChooseSign(Probe):
    """One step: the observation is -1 or 1 at random; choosing its sign (1 above zero) gives 1, anything else -1.

    Value 1 in both states; the value of an action is 1 or -1.
    """

    def __init__(self, continuous: bool = False):
        super().__init__(1, continuous)
        self.sign = 1.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.sign = float(self.np_random.integers(2) * 2 - 1)
        return self.observe(), {}

    def observe(self) -> np.ndarray:
        return np.full(1, self.sign, np.float32)

    def step(self, action: Any) -> Transition:
        right = self.choice(action) == (self.sign > 0)
        return self.observe(), 1.0 if right else -1.0, True, False, {}

    @staticmethod
    def value(obs: np.ndarray, choice: np.ndarray) -> np.ndarray:
        """`[N]` values of choices `[N]` under observations `[N, 1]`."""
        return np.where((obs[:, 0] > 0) == (choice == 1), 1.0, -1.0)


class TwoStep(Probe):
    """Two steps: choice 0 gives 0.5 at once and nothing later; choice 1 gives nothing at once and 1 at the second step.

    The second choice is without effect. Observations: [1, 0, 0], then [0, 1, 0] after choice 0 or [0, 0, 1] after
    choice 1, and [0, 0, 0] at the end. Values of the first choices: 0.5 and gamma, so 1 is right where gamma > 0.5.
    """

    def __init__(self, continuous: bool = False):
        super().__init__(3, continuous)
        self.place = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        self.place = 0
        return super().reset(seed=seed)

    def observe(self) -> np.ndarray:
        return (np.arange(3) == self.place).astype(np.float32)

    def step(self, action: Any) -> Transition:
        self.steps += 1
        if self.steps == 1:
            self.place = 1 + self.choice(action)
            return self.observe(), 0.5 if self.place == 1 else 0.0, False, False, {}
        reward, self.place = float(self.place == 2), 3
        return self.observe(), reward, True, False, {}

    @staticmethod
    def value(gamma: float) -> np.ndarray:
        """`[2]` values of the two first choices."""
        return np.array([0.5, gamma])


PROBES: dict[str, type[Probe]] = {
    f"bellmark/{kind.__name__}-v0": kind for kind in (TruncatedForever, DelayedReward, ChooseSign, TwoStep)
}
for _name, _kind in PROBES.items():
    gymnasium.register(_name, entry_point=f"{__name__}:{_kind.__name__}")
