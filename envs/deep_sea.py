"""Deep Sea: one path of N right choices among 2^N leads to the only reward (Osband et al. 2019, arXiv 1703.07608)."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete


class DeepSea(gymnasium.Env):
    """A block falls through a grid of N rows and N columns, one row a step, from the upper left corner.

    Going right costs 0.01 / N; going right in the lower right corner gives 1 as well. Going left is free. Which of the
    actions 0 and 1 is right differs from cell to cell. An episode has N steps and terminates. The best return, 0.99,
    is that of going right always; one wrong choice anywhere and no choice after it can give a positive return. A
    uniformly random policy finds the reward in one episode of 2^N.

    Deterministic, with costs and cells as in bsuite (Osband et al. 2020, arXiv 1908.03568). Departure: observations are
    flat: `[N * N]` float32, 1 where the block is, row by row; all are 0 at the end.
    """

    def __init__(self, size: int = 20, mapping_seed: int = 42):
        """`size` is N. `mapping_seed` decides which action is right in each cell; 42 is bsuite's.

        The grid is the same for every seed of `reset`.
        """
        self.size, self.row, self.column = size, 0, 0
        self.right = np.random.RandomState(mapping_seed).binomial(1, 0.5, (size, size))
        self.action_space = Discrete(2)
        self.observation_space = Box(0.0, 1.0, (size * size,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.row, self.column = 0, 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        reward, last = 0.0, self.size - 1
        if action == self.right[self.row, self.column]:
            reward = float(self.column == last) - 0.01 / self.size
            self.column = min(self.column + 1, last)
        else:
            self.column = max(self.column - 1, 0)
        self.row += 1
        return self._observe(), reward, self.row == self.size, False, {}

    def _observe(self) -> np.ndarray:
        cell = self.row * self.size + self.column if self.row < self.size else -1
        return (np.arange(self.size**2) == cell).astype(np.float32)


gymnasium.register("bellmark/DeepSea-v0", entry_point=f"{__name__}:DeepSea")
