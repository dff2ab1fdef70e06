"""envpool as a gymnasium vector environment that honours its seed."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from ..agents.core.errors import MissingExtra, UnknownName


class Pool(gymnasium.vector.VectorEnv):
    """A pool of environments in C++ threads. It resets in the next step.

    envpool fixes the seeds when a pool is made and ignores those of `reset`, so `reset(seed)` makes a new pool.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(self, env_id: str, num_envs: int, kwargs: dict[str, Any]):
        """Raises MissingExtra without envpool, and UnknownName for an id that it does not have."""
        try:
            import envpool
        except ImportError as error:
            raise MissingExtra("envpool", "envpool") from error
        known = envpool.list_all_envs()
        if env_id not in known:
            raise UnknownName("envpool environment", env_id, known)
        self.env_id, self.num_envs, self.kwargs = env_id, num_envs, kwargs
        self._make = envpool.make
        self._pool: Any = None
        spaces = envpool.make_spec(env_id, **kwargs)
        self.single_observation_space = spaces.gymnasium_observation_space
        self.single_action_space = spaces.gymnasium_action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._action_dtype = self.single_action_space.dtype
        if self._action_dtype == np.float64:  # bounds as gymnasium rounds them: the same id has the same spec
            low, high = spaces.gymnasium_action_space.low, spaces.gymnasium_action_space.high
            self.single_action_space = gymnasium.spaces.Box(low.astype(np.float32), high.astype(np.float32))
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Starts new episodes, with `options["reset_mask"]` [N] bool in those columns only (the others give zeros).

        Environment i draws from stream `seed + i`.
        """
        if options is not None:
            columns = np.flatnonzero(options["reset_mask"])
            some, info = self._pool.reset(columns)
            obs = np.zeros((self.num_envs, *some.shape[1:]), some.dtype)
            obs[columns] = some
            return obs, info
        if seed is not None or self._pool is None:
            first = 0 if seed is None else seed
            self.close_extras()
            self._pool = self._make(
                self.env_id,
                env_type="gymnasium",
                num_envs=self.num_envs,
                seed=[first + index for index in range(self.num_envs)],
                **self.kwargs,
            )
        return self._pool.reset()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        return self._pool.step(np.asarray(actions, self._action_dtype))

    def close_extras(self, **kwargs: Any) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None
