"""From a name to N environments."""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from ..agents.core.errors import InvalidSetting, MissingExtra, UnknownName
from . import probes  # noqa: F401  registers the probe environments, in worker processes as well
from .vector import VectorEnv

BACKENDS = ("sync", "async", "envpool")


def make(
    env_id: str | Callable[..., gymnasium.Env] | gymnasium.vector.VectorEnv,
    num_envs: int = 1,
    *,
    backend: str = "sync",
    autoreset: str | None = None,
    **kwargs: Any,
) -> VectorEnv:
    """Makes `num_envs` environments behind one interface.

    `env_id` is an id that gymnasium knows (or envpool, with that backend), a function that makes one
    gymnasium.Env, or a gymnasium vector environment, which is wrapped as it is. `backend` is `sync` (one process),
    `async` (one process for each environment) or `envpool` (threads in C++). `autoreset` is `next_step` (the default),
    `same_step` or `disabled`; all give the same transitions. Further keywords go to the environment.

    Raises UnknownName, MissingExtra, InvalidSetting, and UnsupportedSpace.
    """
    if isinstance(env_id, gymnasium.vector.VectorEnv):
        if kwargs or num_envs not in (1, env_id.num_envs) or backend != "sync" or autoreset is not None:
            raise InvalidSetting(
                "a vector environment is taken as it is: give num_envs, backend, autoreset and "
                "further keywords where you make it."
            )
        return VectorEnv(env_id, env_id.spec.id if env_id.spec else type(env_id.unwrapped).__name__, "given")
    if backend not in BACKENDS:
        raise UnknownName("environment backend", backend, BACKENDS)
    if num_envs < 1:
        raise InvalidSetting(f"num_envs is {num_envs}: it must be at least 1.")
    if not isinstance(env_id, str):
        name = getattr(env_id, "__name__", type(env_id).__name__)
        return VectorEnv(_make_gymnasium(env_id, num_envs, backend, autoreset, kwargs), name, backend)
    settings = {"env_id": env_id, "num_envs": num_envs, "backend": backend, "autoreset": autoreset, "kwargs": kwargs}
    try:
        json.dumps(settings)
    except TypeError as error:
        raise InvalidSetting(
            f"the keywords of '{env_id}' must be plain values, so that it can be made again ({error}): "
            "give a function that makes the environment in place of its id."
        ) from error
    vector = (
        _make_envpool(env_id, num_envs, autoreset, kwargs)
        if backend == "envpool"
        else _make_gymnasium(env_id, num_envs, backend, autoreset, kwargs)
    )
    return VectorEnv(vector, env_id, backend, settings)


def remake(settings: dict[str, Any], **changes: Any) -> VectorEnv:
    """Makes environments from `VectorEnv.settings`, with `changes` to the arguments of `make` (num_envs, ...).

    Raises InvalidSetting for the settings of environments that were made from an object.
    """
    if not settings:
        raise InvalidSetting("this environment was made from an object, not from an id: make it again yourself.")
    arguments = {name: value for name, value in settings.items() if name != "kwargs"} | settings["kwargs"] | changes
    return make(**arguments)


class _InfoFree(SyncVectorEnv):
    """SyncVectorEnv that does not collect `info`, which takes a tenth of a HalfCheetah step, but for `final_obs`."""

    def _add_info(self, vector_infos: dict[str, Any], env_info: dict[str, Any], env_num: int) -> dict[str, Any]:
        if "final_obs" in env_info:
            vector_infos.setdefault("final_obs", [None] * self.num_envs)[env_num] = env_info["final_obs"]
        return vector_infos


def _make_gymnasium(
    env_id: str | Callable[..., gymnasium.Env], num_envs: int, backend: str, autoreset: str | None, kwargs: dict
) -> gymnasium.vector.VectorEnv:
    modes = {mode.name.lower(): mode for mode in AutoresetMode}
    if autoreset is not None and autoreset not in modes:
        raise UnknownName("autoreset mode", autoreset, modes)
    mode = modes[autoreset or "next_step"]
    makers = [functools.partial(_make_one, env_id, kwargs)] * num_envs
    if backend == "async":
        return AsyncVectorEnv(makers, copy=False, autoreset_mode=mode)
    return _InfoFree(makers, copy=False, autoreset_mode=mode)


def _make_one(env_id: str | Callable[..., gymnasium.Env], kwargs: dict[str, Any]) -> gymnasium.Env:
    if not isinstance(env_id, str):
        return env_id(**kwargs)
    if env_id.startswith("ALE/"):
        try:
            import ale_py
        except ImportError as error:
            raise MissingExtra("ale-py", "atari") from error
        gymnasium.register_envs(ale_py)
    try:
        with warnings.catch_warnings():  # old versions are chosen on purpose, and every manifest says which
            warnings.filterwarnings("ignore", ".*is out of date.*")
            return gymnasium.make(env_id, disable_env_checker=True, **kwargs)
    except gymnasium.error.UnregisteredEnv as error:
        raise UnknownName("environment", env_id, gymnasium.registry) from error
    except (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError) as error:
        if "box2d" in str(gymnasium.spec(env_id).entry_point):
            raise MissingExtra("box2d", "box2d") from error
        raise


def _make_envpool(
    env_id: str, num_envs: int, autoreset: str | None, kwargs: dict[str, Any]
) -> gymnasium.vector.VectorEnv:
    if autoreset not in (None, "next_step"):
        raise InvalidSetting(f"envpool resets in the next step only, not '{autoreset}': leave autoreset out.")
    from .pool import Pool

    return Pool(env_id, num_envs, kwargs)
