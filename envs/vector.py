"""One interface to N environments at once, whoever runs them and in whatever way they are reset."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from ..agents.core.batch import Step
from ..agents.core.errors import InvalidCheckpoint, NotFinite
from ..agents.core.spec import Spec
from . import snapshot


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
        self._done = np.zeros(self.num_envs, bool)
        self._reward_sums = np.zeros(self.num_envs)
        self._began = np.zeros(self.num_envs, np.int64)
        self._episodes: list[Episode] = []
        self._check_obs = self.spec.obs_dtype == "float32" and not self.spec.obs_choices

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
        obs = self.spec.encode_obs(raw_obs)
        self._require_finite(obs, self._reward_sums, None)
        self.obs = obs
        return obs

    def step(self, action: np.ndarray) -> Step:
        """Acts once in every environment, `action` as `[N, actions]` in [-1, 1] or int `[N]` from 0.

        Where a column is about to be reset (`valid` will be False), its action is ignored. No array of the result is
        written to again. Raises NotFinite if an observation or a reward is NaN or infinite.
        """
        raw_obs, raw_reward, raw_terminated, raw_truncated, info = self.env.step(self.spec.decode_action(action))
        next_obs = obs = self.spec.encode_obs(raw_obs)
        reward = np.array(raw_reward, np.float32)
        terminated = np.array(raw_terminated, bool)
        truncated = np.array(raw_truncated, bool)
        valid, restarted = ~self._done, None
        self.steps += 1
        self._reward_sums += raw_reward
        done = terminated | truncated
        if np.count_nonzero(done):  # six times as fast as done.any()
            truncated &= ~terminated
            self._record(done)
            if self.autoreset is not AutoresetMode.NEXT_STEP:
                next_obs, obs, restarted = *self._restart(done, obs, info), done
        if self.autoreset is AutoresetMode.NEXT_STEP:
            self._done = done
        self._require_finite(next_obs, reward, action)
        if restarted is not None:
            self._require_finite(obs, reward, None)
        self.obs = obs
        return Step(next_obs, reward, terminated, truncated, valid, obs, restarted)

    def pop_episodes(self) -> list[Episode]:
        """The episodes that ended since the last call, in the order in which they ended."""
        episodes, self._episodes = self._episodes, []
        return episodes

    def state(self) -> dict[str, Any] | None:
        """Everything that decides the future, in the middle of an episode; None if this environment cannot give it.

        Nested dicts with string keys, lists, plain values, and numpy arrays of numbers.
        """
        environments = snapshot.take(self.env)
        if environments is None:
            return None
        return {
            "environments": environments,
            "steps": self.steps,
            "done": self._done.copy(),
            "reward_sums": self._reward_sums.copy(),
            "began": self._began.copy(),
            "episodes": [list(episode) for episode in self._episodes],
        }

    def load_state(self, state: dict[str, Any]) -> np.ndarray:
        """Goes on from `state()` of an environment that was made with the same settings, bit for bit.

        Gives the observations to act on next. Raises InvalidCheckpoint if the state is of another environment.
        """
        if len(state["done"]) != self.num_envs:
            raise InvalidCheckpoint(
                f"the state is of {len(state['done'])} environments, and '{self.env_id}' has {self.num_envs} here: "
                "make it with the same num_envs."
            )
        raw_obs = snapshot.put_back(self.env, state["environments"])
        self.steps = int(state["steps"])
        self._done = np.array(state["done"], bool)
        self._reward_sums = np.array(state["reward_sums"], np.float64)
        self._began = np.array(state["began"], np.int64)
        self._episodes = [Episode(float(reward_sum), int(length)) for reward_sum, length in state["episodes"]]
        self.obs = self.spec.encode_obs(raw_obs)
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

    def _restart(self, done: np.ndarray, obs: np.ndarray, info: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """The final observations of the columns that are done, and the first ones of their new episodes."""
        if self.autoreset is AutoresetMode.DISABLED:
            first_obs, _ = self.env.reset(options={"reset_mask": done.copy()})
            return obs, self.spec.encode_obs(first_obs)
        final_obs = obs.copy()
        final_obs[done] = self.spec.encode_obs(np.stack([info["final_obs"][column] for column in np.flatnonzero(done)]))
        return final_obs, obs

    def _require_finite(self, obs: np.ndarray, reward: np.ndarray, action: np.ndarray | None) -> None:
        for what, values in (("reward", reward), ("observation", obs)):
            if what == "observation" and not self._check_obs:
                continue
            finite = np.isfinite(values)
            if np.count_nonzero(finite) < finite.size:
                self._refuse(values, finite, what, action)

    def _refuse(self, values: np.ndarray, finite: np.ndarray, what: str, action: np.ndarray | None) -> None:
        column = int(np.flatnonzero(~finite.reshape(self.num_envs, -1).all(axis=1))[0])
        if action is not None and not np.isfinite(action[column]).all():
            remedy = f"the agent's action was {action[column]} already: lower its learning rate, or clip its gradients."
        else:
            remedy = "the action was finite, so the environment is at fault."
        raise NotFinite(
            f"the {what} of environment {column} of '{self.env_id}' at step {self.steps} is not finite "
            f"({values[column]}); {remedy}"
        )


def autoreset_mode(env: gymnasium.vector.VectorEnv) -> AutoresetMode:
    """How this very instance resets. The dict that all classes share is not believed: others write into it."""
    own = vars(env.unwrapped).get("autoreset_mode")
    if own is None and env.metadata is not gymnasium.vector.VectorEnv.metadata:
        own = env.metadata.get("autoreset_mode")
    return AutoresetMode.NEXT_STEP if own is None else AutoresetMode(own)
