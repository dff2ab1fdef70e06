"""What vector environments say about the ends of episodes: how they reset, and whether a goal was reached."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

SUCCESS, MAZES = "is_success", "success"
"""Keys of `info` under which an environment says at the end of an episode whether its goal was reached; the second is
that of mazes and of Meta-World, and counts where the first is absent."""
FINAL = "final_info"
"""Key of `info` under which that is if a new episode begins in the same step."""


class Successes:
    """Which episodes reached their goals, where the environments say so."""

    def __init__(self, num_envs: int):
        self.last = np.full(num_envs, math.nan)
        """[N] whether the last episode of each column did: 1 or 0, NaN where nothing was said."""
        self.recent: deque[float] = deque(maxlen=100)
        """The same of the last 100 episodes of which something was said."""

    @property
    def rate(self) -> float | None:
        """The share of `recent`; None if nothing was ever said."""
        return math.fsum(self.recent) / len(self.recent) if self.recent else None

    def record(self, done: np.ndarray, info: dict[str, Any]) -> None:
        """Episodes ended in the columns `done` `[N]`, with this `info`, as gymnasium's vector environments give it."""
        self.last[done] = math.nan
        said = info.get(FINAL, info)
        name = SUCCESS if SUCCESS in said else MAZES
        if not isinstance(said, dict) or name not in said:
            return
        for column in np.flatnonzero(done & said.get(f"_{name}", True)):
            self.last[column] = told(said[name][column])
        self.recent.extend(self.last[done & ~np.isnan(self.last)].tolist())


def success_in(info: dict[str, Any]) -> Any:
    """What the `info` of a single environment says of a success; None if nothing."""
    return info.get(SUCCESS, info.get(MAZES))


def told(value: Any) -> float:
    """What an environment says of a success: 1 or 0, NaN if that is no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def autoreset_mode(env: gymnasium.vector.VectorEnv) -> AutoresetMode:
    """How this very instance resets. The dict that all classes share is not believed: others write into it."""
    own = vars(env.unwrapped).get("autoreset_mode")
    if own is None and env.metadata is not gymnasium.vector.VectorEnv.metadata:
        own = env.metadata.get("autoreset_mode")
    return AutoresetMode.NEXT_STEP if own is None else AutoresetMode(own)
