"""Random steps in an environment, for `bellmark doctor`: whether what it gives is what its spaces promise."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..agents.core.spec import Spec

Report = Callable[[str, str, str], None]
"""Grade (`ok`, `note`, `wrong`), what it is about, a sentence."""


class Stopped(Exception):
    """What was found makes the other checks pointless."""


class Play(NamedTuple):
    """What random actions led to."""

    actions: list[Any]
    obs: list[Any]
    """Observations, after resets as well, in order."""
    rewards: np.ndarray
    ends: list[tuple[int, float, bool, bool]]
    """Of each episode: length, return, terminated, truncated."""
    seconds: float


def spaces(env: Any, report: Report) -> Spec:
    """Raises UnsupportedSpace for spaces that no agent can use."""
    from ..envs.flat import flattened

    flat = flattened(env)
    spec = Spec.from_spaces(flat.observation_space, flat.action_space)
    report("ok", "observations", f"{env.observation_space}")
    kind = "discrete: dqn and ppo, say" if spec.discrete else "continuous: sac, td3 and ppo, say"
    report("ok", "actions", f"{env.action_space}, {kind}")
    parts = getattr(env.observation_space, "spaces", {"": env.observation_space}).values()
    if any(getattr(part, "dtype", None) == np.float64 for part in parts):
        report("note", "types", "observations are float64; agents see them as float32")
    return spec


def play(env: Any, steps: int, seed: int, report: Report) -> Play:
    """Takes random steps. Raises Stopped where the environment cannot go on."""
    env.action_space.seed(seed)
    problems: dict[str, str] = {}
    found = Play([], [], np.zeros(steps), [], 0.0)
    total, length, began = 0.0, 0, time.perf_counter()
    try:
        obs = _reset(env, seed, problems)
        found.obs.append(_copy(obs))
        for i in range(steps):
            action = allowed_action(env)
            found.actions.append(action)
            result = env.step(action)
            if not (isinstance(result, tuple) and len(result) == 5):
                report("wrong", "step", "it must give (observation, reward, terminated, truncated, info), as a tuple")
                raise Stopped
            obs, reward, terminated, truncated, info = result
            _look(env, obs, reward, terminated, truncated, info, problems)
            found.rewards[i] = float(np.asarray(reward).reshape(-1)[0])
            total, length = total + found.rewards[i], length + 1
            found.obs.append(_copy(obs))
            if terminated or truncated:
                found.ends.append((length, total, bool(terminated), bool(truncated)))
                total, length = 0.0, 0
                obs = _reset(env, None, problems)
                found.obs.append(_copy(obs))
    except Stopped:
        raise
    except Exception as error:
        report("wrong", "running it", f"after {len(found.actions)} steps it raises {error!r}")
        raise Stopped from error
    for what, text in problems.items():
        report("wrong", what, text)
    if "shape" in problems:
        raise Stopped
    if not problems:
        report("ok", "steps", f"{steps:,} random steps gave what the spaces promise")
    return found._replace(seconds=time.perf_counter() - began)


def allowed_action(env: Any) -> Any:
    """A random action, among the allowed if the environment says which are."""
    if env.has_wrapper_attr("action_masks") and hasattr(env.action_space, "n"):
        return env.action_space.sample(np.asarray(env.get_wrapper_attr("action_masks")(), np.int8))
    return env.action_space.sample()


def _reset(env: Any, seed: int | None, problems: dict[str, str]) -> Any:
    result = env.reset(seed=seed)
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
        raise TypeError("reset must give (observation, info), as a tuple, and info a dictionary")
    _look_at_obs(env.observation_space, result[0], problems, "after a reset ")
    return result[0]


def _look(
    env: Any, obs: Any, reward: Any, terminated: Any, truncated: Any, info: Any, problems: dict[str, str]
) -> None:
    _look_at_obs(env.observation_space, obs, problems)
    if np.ndim(reward) or not np.isfinite(float(reward)):
        problems.setdefault("reward", f"a reward is {reward!r}: it must be one finite number")
    for name, value in (("terminated", terminated), ("truncated", truncated)):
        if not isinstance(value, bool | np.bool_):
            problems.setdefault(name, f"it is {value!r}, of type {type(value).__name__}: it must be True or False")
    if not isinstance(info, dict):
        problems.setdefault("info", f"it is of type {type(info).__name__}, not a dictionary")


def _look_at_obs(space: Any, obs: Any, problems: dict[str, str], when: str = "") -> None:
    """Compares an observation with its space, part by part."""
    if isinstance(obs, Mapping) and hasattr(space, "spaces"):
        if obs.keys() != space.spaces.keys():
            problems.setdefault("observation", f"{when}it has the parts {sorted(obs)}, not {sorted(space.spaces)}")
            return
        for name, part in space.spaces.items():
            _look_at_obs(part, obs[name], problems, f"{when}part '{name}': ")
        return
    values = np.asarray(obs)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        problems.setdefault("NaN", f"{when}an observation is not finite: {values.reshape(-1)[:8]}")
    elif values.shape != space.shape:
        problems.setdefault("shape", f"{when}an observation has the shape {values.shape}, its space {space.shape}")
    elif hasattr(space, "low") and not ((values >= space.low) & (values <= space.high)).all():
        outside = np.flatnonzero(((values < space.low) | (values > space.high)).reshape(-1))
        where = f"dimension {outside[0]} is {values.reshape(-1)[outside[0]]:g}"
        problems.setdefault("bounds", f"{when}an observation leaves its space: {where}, beyond its bounds")
    elif hasattr(space, "low") and values.dtype != space.dtype:
        problems.setdefault("types", f"{when}observations are {values.dtype}, their space says {space.dtype}")
    elif not hasattr(space, "low") and not space.contains(obs):
        problems.setdefault("observation", f"{when}{obs!r} is not in {space}")


def _copy(obs: Any) -> Any:
    return {name: np.array(part) for name, part in obs.items()} if isinstance(obs, Mapping) else np.array(obs)


def flat(obs: Any) -> np.ndarray:
    """An observation as one vector."""
    parts = obs.values() if isinstance(obs, Mapping) else [obs]
    return np.concatenate([np.asarray(part, np.float64).reshape(-1) for part in parts])
