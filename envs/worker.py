"""What runs in the process of a worker: one environment, in a SyncVectorEnv of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from ..agents.core.errors import InvalidCheckpoint
from . import snapshot
from .ends import FINAL, SUCCESS, success_in, told

INTERRUPTIONS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that ask a training to end: Ctrl-C, `kill`, a terminal that is closed. Windows knows no last one."""


class InfoFree(SyncVectorEnv):
    """SyncVectorEnv that does not collect `info`, which takes a tenth of a HalfCheetah step.

    But for `final_obs`, and at the end of an episode for whether it was a success.
    """

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:  # an environment may draw from its own spaces, which gymnasium leaves to chance
            for column, env in enumerate(self.envs):
                env.unwrapped.action_space.seed(seed + column)
                env.unwrapped.observation_space.seed(seed + column)
        return super().reset(seed=seed, options=options)

    def step(self, actions: np.ndarray) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """The usual case without what gymnasium does for other spaces. What it gives is written to again."""
        obs, rewards, terminated, truncated = self._observations, self._rewards, self._terminations, self._truncations
        if self.autoreset_mode is not AutoresetMode.NEXT_STEP or not isinstance(obs, np.ndarray):
            return super().step(actions)
        infos: list[dict[str, Any]] = [{}] * self.num_envs
        for i, (env, action) in enumerate(zip(self.envs, actions, strict=True)):
            if self._autoreset_envs[i]:
                self._env_obs[i], _ = env.reset()
                rewards[i], terminated[i], truncated[i] = 0.0, False, False
            else:
                self._env_obs[i], rewards[i], terminated[i], truncated[i], infos[i] = env.step(action)
            row = np.asarray(self._env_obs[i])
            if row.shape != obs.shape[1:]:
                raise ValueError(f"an observation has the shape {row.shape}, its space {obs.shape[1:]}")
            obs[i] = row
        self._autoreset_envs = terminated | truncated
        if not np.count_nonzero(self._autoreset_envs):
            return obs, rewards, terminated, truncated, {}
        return obs, rewards, terminated, truncated, {SUCCESS: [success_in(info) for info in infos]}

    def _add_info(self, vector_infos: dict[str, Any], env_info: dict[str, Any], env_num: int) -> dict[str, Any]:
        if "final_obs" in env_info:
            vector_infos.setdefault("final_obs", [None] * self.num_envs)[env_num] = env_info["final_obs"]
            said = vector_infos.setdefault(FINAL, {SUCCESS: [None] * self.num_envs})
            said[SUCCESS][env_num] = success_in(env_info[FINAL])
        elif (success := success_in(env_info)) is not None:
            vector_infos.setdefault(SUCCESS, [None] * self.num_envs)[env_num] = success
        return vector_infos


class Failure(Exception):
    """How a worker failed: its traceback, or how its process ended."""


def fields(shared: Any, layout: np.dtype) -> dict[str, np.ndarray]:
    """The fields of all environments, [N, ...] each, as views of the shared memory."""
    rows = np.frombuffer(shared, layout)
    return {name: rows[name] for name in layout.names or ()}


def work(
    column: int, maker: Callable[[], gymnasium.Env], mode: AutoresetMode, shared: Any, layout: np.dtype, pipe: Any
) -> None:
    """A worker's process: obeys (tag, command, arguments ...) and answers (tag, answer), the first time with tag 0."""
    for interruption in INTERRUPTIONS:  # they come to the whole group; the parent decides what to do
        signal.signal(interruption, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    rows = {name: values[column : column + 1] for name, values in fields(shared, layout).items()}
    tag, answer, vector = 0, None, None
    try:
        vector = InfoFree([maker], copy=False, autoreset_mode=mode)
        while True:
            pipe.send((tag, answer))
            tag, command, *arguments = pipe.recv()
            if command == "close":
                break
            answer = _COMMANDS[command](vector, rows, *arguments)
    except Exception:
        with contextlib.suppress(OSError):
            pipe.send((tag, Failure(traceback.format_exc())))
    finally:
        if vector is not None:
            vector.close()


def _follow_parent() -> None:
    """Ends this process when the parent has ended in whatever way, even while the environment hangs."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _reset(vector: SyncVectorEnv, rows: dict[str, np.ndarray], seed: int | None) -> None:
    rows["obs"][...], _ = vector.reset(seed=seed)


def _step(vector: SyncVectorEnv, rows: dict[str, np.ndarray]) -> Any:
    action = rows["action"].copy()  # the environment may keep it
    rows["obs"][...], rows["reward"][...], rows["terminated"][...], rows["truncated"][...], info = vector.step(action)
    rows["success"][...] = told(info.get(FINAL, info).get(SUCCESS, [None])[0])
    return info["final_obs"][0] if "final_obs" in info else None


def _take(vector: SyncVectorEnv, rows: dict[str, np.ndarray]) -> dict[str, Any] | str:
    try:
        return snapshot.take(vector)
    except Exception as error:
        return str(error) if isinstance(error, snapshot.Obstacle) else repr(error)


def _put_back(vector: SyncVectorEnv, rows: dict[str, np.ndarray], state: dict[str, Any]) -> InvalidCheckpoint | None:
    try:
        rows["obs"][...] = snapshot.put_back(vector, state)
    except InvalidCheckpoint as error:
        return error
    return None


_COMMANDS: dict[str, Callable[..., Any]] = {"reset": _reset, "step": _step, "take": _take, "put_back": _put_back}
