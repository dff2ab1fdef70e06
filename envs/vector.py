"""One interface to N environments at once, whoever runs them and in whatever way they are reset."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from ..agents.core.batch import Step
from ..agents.core.errors import InvalidSetting
from ..agents.core.spec import Spec
from . import snapshot
from .ends import Successes, autoreset_mode
from .guards import Guard
from .pool import Pool
from .workers import LOST, Workers


class Episode(NamedTuple):
    """A finished episode."""

    reward_sum: float
    """Sum of its rewards, undiscounted."""
    length: int
    """Number of its transitions."""


class VectorEnv:
    """N environments in the agent's units, as `Step`s.

    Wraps any gymnasium vector environment. Its autoreset mode decides what a step looks like: with NEXT_STEP the
    step after an episode's end only resets that column (`valid` False there); with SAME_STEP, and with DISABLED where
    this class resets the column itself, the new episode begins within the last step of the old one (`restarted`).
    """

    def __init__(
        self, env: gymnasium.vector.VectorEnv, env_id: str, backend: str, settings: dict[str, Any] | None = None
    ):
        self.env = env
        self.env_id = env_id
        self.backend = backend
        self.settings = settings or {}
        """Plain data from which `remake(settings)` makes it again; empty if it was made from an object."""
        self.num_envs: int = env.num_envs
        self.spec = Spec.from_spaces(env.single_observation_space, env.single_action_space)
        self.autoreset = autoreset_mode(env)
        self.steps = 0
        """Number of times that `step` was called."""
        self.obs: np.ndarray | None = None
        """The observations `[N, *obs_shape]` to act on; None before the first `reset`."""
        self.lost_episodes = 0
        """Episodes that a crashed or hung worker took with it."""
        self.successes = Successes(self.num_envs)
        """Which episodes reached their goals, if the environments say so."""
        self._done = np.zeros(self.num_envs, bool)
        self._reward_sums = np.zeros(self.num_envs)
        self._began = np.zeros(self.num_envs, np.int64)
        self._episodes: list[Episode] = []
        self._guard = Guard(env_id, self.spec.obs_dtype == "float32" and not self.spec.obs_choices)

    @property
    def non_finite(self) -> str:
        """What happens to NaN and infinity in observations, rewards and continuous actions.

        `stop`: NotFinite is raised, for an action before the environment sees it. `clip`: NaN becomes 0, an infinite
        action +-1, anything else +-`guards.LIMIT`. `skip`: the step is no transition (`valid` False) and its column
        begins a new episode; the old one does not count. Actions are mended in place.
        """
        return self._guard.mode

    @non_finite.setter
    def non_finite(self, value: str) -> None:
        """Raises InvalidSetting for `skip` where single environments cannot be reset."""
        if value == "skip" and not isinstance(self.env.unwrapped, (SyncVectorEnv, Workers, Pool)):
            raise InvalidSetting(
                f"non_finite='skip' needs environments that can be reset one by one, and {type(self.env).__name__} "
                "cannot: use 'stop' or 'clip', or let bellmark make the environments."
            )
        self._guard.mode = value

    @property
    def non_finite_count(self) -> int:
        """Times that a column's observation, reward or action was not finite, and was skipped or clipped."""
        return self._guard.count

    def reset(self, seed: int) -> np.ndarray:
        """Starts new episodes everywhere and gives the first observations `[N, *obs_shape]`.

        Each environment gets a random stream of its own. Those of neighbouring seeds do not overlap, as they would if
        environment i took the stream `seed + i`.
        """
        first_stream = int(np.random.SeedSequence(seed).generate_state(1)[0]) >> 2
        raw_obs, _ = self.env.reset(seed=first_stream)
        self._done[:] = False
        self._reward_sums[:] = 0.0
        self._began[:] = self.steps
        self.obs = self._guard.first_obs(self.spec.encode_obs(raw_obs), self.steps)
        return self.obs

    def step(self, action: np.ndarray) -> Step:
        """Acts once in every environment, `action` as `[N, actions]` in [-1, 1] or int `[N]` from 0.

        Where `valid` is False in the result there is no transition: the column was reset, its action ignored; or its
        worker failed, or `non_finite` says `skip`. No array of the result is written to again. Raises NotFinite as
        `non_finite` says, and EnvironmentFailed.
        """
        dropped = None if self.spec.discrete else self._guard.action(action, self.steps + 1)
        raw_obs, raw_reward, raw_terminated, raw_truncated, info = self.env.step(self.spec.decode_action(action))
        next_obs = obs = self.spec.encode_obs(raw_obs)
        reward = np.array(raw_reward, np.float32)
        terminated = np.array(raw_terminated, bool)
        truncated = np.array(raw_truncated, bool)
        valid, restarted = ~self._done, None
        self.steps += 1
        done = terminated | truncated
        if self.autoreset is AutoresetMode.SAME_STEP and np.count_nonzero(done):
            next_obs = self._final_obs(done, obs, info)
        found = self._guard.transition(reward, next_obs, obs, self.steps)
        self._reward_sums += raw_reward if found is None else reward
        if found is not None or dropped is not None or LOST in info:
            gone = self._drop([found, dropped], info.get(LOST), valid, obs)
            next_obs[gone] = obs[gone]
            for values in (reward, terminated, truncated, valid, done):
                values[gone] = 0
        if np.count_nonzero(done):  # six times as fast as done.any()
            truncated &= ~terminated
            self.successes.record(done, info)
            self._record(done)
            if self.autoreset is AutoresetMode.DISABLED:
                obs = self._restart(done, obs.copy())
            if self.autoreset is not AutoresetMode.NEXT_STEP:
                restarted = done
        if self.autoreset is AutoresetMode.NEXT_STEP:
            self._done = done
        self.obs = obs
        return Step(next_obs, reward, terminated, truncated, valid, obs, restarted)

    @property
    def episode_start(self) -> np.ndarray:
        """[N] whether `obs` is the first of an episode."""
        return self._began == self.steps

    def pop_episodes(self) -> list[Episode]:
        """The episodes that ended since the last call, in the order in which they ended."""
        episodes, self._episodes = self._episodes, []
        return episodes

    def state(self) -> dict[str, Any] | None:
        """Everything that decides the future, in the middle of an episode; None if there is an `obstacle`.

        Nested dicts with string keys, lists, plain values, and numpy arrays of numbers.
        """
        try:
            environments = self._take()
        except snapshot.Obstacle:
            return None
        return {
            "environments": environments,
            "steps": self.steps,
            "lost_episodes": self.lost_episodes,
            "non_finite_count": self.non_finite_count,
            "done": self._done.copy(),
            "reward_sums": self._reward_sums.copy(),
            "began": self._began.copy(),
            "episodes": [list(episode) for episode in self._episodes],
            "successes": list(self.successes.recent),
        }

    def obstacle(self) -> str:
        """Why `state()` is None, in words; "" if it is not."""
        try:
            self._take()
        except snapshot.Obstacle as obstacle:
            return f"{obstacle} ('{self.env_id}')"
        return ""

    def _take(self) -> dict[str, Any]:
        return self.env.take() if isinstance(self.env, Workers) else snapshot.take(self.env)

    def load_state(self, state: dict[str, Any]) -> np.ndarray:
        """Goes on from `state()` of an environment that was made with the same settings, bit for bit.

        Gives the observations to act on next. Raises InvalidCheckpoint if the state is of another environment.
        """
        state = snapshot.checked(state, self.num_envs, self.env_id)
        saved = state["environments"]
        raw_obs = self.env.put_back(saved) if isinstance(self.env, Workers) else snapshot.put_back(self.env, saved)
        self.steps = int(state["steps"])
        self.lost_episodes = int(state["lost_episodes"])
        self._guard.count = int(state["non_finite_count"])
        self._done = np.array(state["done"], bool)
        self._reward_sums = np.array(state["reward_sums"], np.float64)
        self._began = np.array(state["began"], np.int64)
        self._episodes = [Episode(float(reward_sum), int(length)) for reward_sum, length in state["episodes"]]
        self.successes.recent.extend(map(float, state["successes"]))
        self.obs = self.spec.encode_obs(raw_obs)
        self._guard.restored(self.obs)
        return self.obs

    def close(self) -> None:
        self.env.close()

    def __enter__(self) -> VectorEnv:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"VectorEnv({self.env_id!r}, num_envs={self.num_envs}, backend={self.backend!r})"

    def _record(self, done: np.ndarray) -> None:
        for column in np.flatnonzero(done):
            self._episodes.append(Episode(float(self._reward_sums[column]), self.steps - int(self._began[column])))
        self._reward_sums[done] = 0.0
        self._began[done] = self.steps + (self.autoreset is AutoresetMode.NEXT_STEP)

    def _final_obs(self, done: np.ndarray, obs: np.ndarray, info: dict[str, Any]) -> np.ndarray:
        """`obs`, with the final observations of the columns that are done in place of the first of the next episode."""
        final_obs, final = obs.copy(), info["final_obs"]
        final_obs[done] = np.concatenate([self.spec.encode_obs(final[i], False) for i in np.flatnonzero(done)])
        return final_obs

    def _restart(self, columns: np.ndarray, obs: np.ndarray) -> np.ndarray:
        """Begins new episodes in `columns` [N]. Gives `obs`, into which their first observations were written."""
        first = self.spec.encode_obs(self.env.reset(options={"reset_mask": columns.copy()})[0])
        first[~columns] = 0
        obs[columns] = self._guard.first_obs(first, self.steps)[columns]
        return obs

    def _drop(
        self, dropped: list[np.ndarray | None], lost: np.ndarray | None, valid: np.ndarray, obs: np.ndarray
    ) -> np.ndarray:
        """Forgets the episodes of columns that were dropped or lost; gives these [N]. New ones begin, in `obs`."""
        gone = np.zeros(self.num_envs, bool)
        for columns in dropped:
            gone |= False if columns is None else columns
        if gone.any():
            self._restart(gone, obs)
        if lost is not None:
            self.lost_episodes += int((lost & valid).sum())
            gone |= lost
        self._reward_sums[gone] = 0.0
        self._began[gone] = self.steps
        if not (valid & ~gone).any():
            self._guard.in_vain(self.steps)
        return gone
