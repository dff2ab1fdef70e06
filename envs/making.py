"""From a name to N environments."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import sys
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode

from ..agents.core.errors import BellmarkError, InvalidSetting, MissingExtra, UnknownName
from . import atari, bit_flipping, deep_sea, minatar, probes  # noqa: F401  register environments, in workers as well
from .flat import flattened, has_masks
from .vector import VectorEnv
from .worker import InfoFree
from .workers import Workers

ROBOTICS = ("Fetch", "Hand", "AdroitHand", "FrankaKitchen", "PointMaze_", "AntMaze_")
"""How the ids of gymnasium-robotics begin."""
BACKENDS = ("sync", "async", "envpool", "ale")
MOST = {"async": 1024}
"""Most environments that `remake` makes; with the other backends 65536."""


def make(
    env_id: str | Callable[..., gymnasium.Env] | gymnasium.vector.VectorEnv,
    num_envs: int = 1,
    *,
    backend: str = "sync",
    autoreset: str | None = None,
    worker_timeout: float = 60.0,
    worker_restarts: int = 10,
    **kwargs: Any,
) -> VectorEnv:
    """Makes `num_envs` environments behind one interface.

    `env_id` is an id that gymnasium knows (or envpool, with that backend), a function that makes one
    gymnasium.Env, or a gymnasium vector environment, which is wrapped as it is. `backend` is `sync` (one process),
    `async` (one process for each environment), `envpool` (threads in C++) or `ale` (the same, for Atari's games).
    `autoreset` is `next_step` (the default), `same_step` or `disabled`; all give the same transitions. With `async`, a
    worker that crashes, or gives no answer within `worker_timeout` seconds, is replaced, up to `worker_restarts` times
    in all. Further keywords go to the environment; those of Atari's games, `ALE/Pong-v5` and so on, are the fields of
    `atari.AtariSettings`.

    Raises UnknownName, MissingExtra, InvalidSetting, and UnsupportedSpace.
    """
    if isinstance(env_id, gymnasium.vector.VectorEnv):
        if kwargs or num_envs not in (1, env_id.num_envs) or backend != "sync" or autoreset is not None:
            raise InvalidSetting(
                "a vector environment is taken as it is: give num_envs, backend, autoreset and "
                "further keywords where you make it."
            )
        given = VectorEnv(env_id, env_id.spec.id if env_id.spec else type(env_id.unwrapped).__name__, "given")
        if given.spec.discrete and not given.spec.masked and has_masks(env_id):
            raise InvalidSetting(
                f"'{given.env_id}' says which actions are allowed, which a vector environment does not pass on: give "
                "a function that makes one of its environments, or its id, and num_envs."
            )
        return given
    if backend not in BACKENDS:
        raise UnknownName("environment backend", backend, BACKENDS)
    if num_envs < 1:
        raise InvalidSetting(f"num_envs is {num_envs}: it must be at least 1.")
    if not (0 < worker_timeout <= 1e6 and worker_restarts >= 0):
        raise InvalidSetting(
            f"worker_timeout is {worker_timeout} and worker_restarts {worker_restarts}: give up to 1e6 seconds, more "
            "than 0, and 0 or more restarts."
        )
    workers = {"worker_timeout": worker_timeout, "worker_restarts": worker_restarts} if backend == "async" else {}
    if not isinstance(env_id, str):
        name = getattr(env_id, "__name__", type(env_id).__name__)
        return VectorEnv(_make_gymnasium(env_id, num_envs, backend, autoreset, kwargs, workers), name, backend)
    if env_id.startswith("MinAtar/"):
        kwargs = minatar.PROTOCOL | kwargs
    if atari.is_atari(env_id):
        kwargs = atari.AtariSettings().override(kwargs).to_dict()
    settings = {"env_id": env_id, "num_envs": num_envs, "backend": backend, "autoreset": autoreset, "kwargs": kwargs}
    settings |= workers
    try:
        json.dumps(settings)
    except TypeError as error:
        raise InvalidSetting(
            f"the keywords of '{env_id}' must be plain values, so that it can be made again ({error}): "
            "give a function that makes the environment in place of its id."
        ) from error
    if backend in ("envpool", "ale"):
        vector = _make_pool(env_id, num_envs, backend, autoreset, kwargs)
    else:
        vector = _make_gymnasium(env_id, num_envs, backend, autoreset, kwargs, workers)
    env = VectorEnv(vector, env_id, backend, settings)
    if atari.is_atari(env_id):
        env.spec = dataclasses.replace(env.spec, frame_stack=kwargs["frame_stack"])
    return env


def remake(settings: dict[str, Any], **changes: Any) -> VectorEnv:
    """Makes environments from `VectorEnv.settings`, with `changes` to the arguments of `make` (num_envs, ...).

    The settings may come from a file, so they import nothing: an id such as `module:Env-v0` is taken only if that
    module is imported already. Raises InvalidSetting for it, for the settings of environments that were made from an
    object, and for damaged ones; what the environment itself raises on bad keywords becomes an InvalidSetting as well.
    """
    if not settings:
        raise InvalidSetting("this environment was made from an object, not from an id: make it again yourself.")
    arguments = {name: value for name, value in settings.items() if name != "kwargs"} | changes
    kwargs, form = settings.get("kwargs"), {"env_id": str, "num_envs": int, "backend": str, "autoreset": str | None}
    form |= dict.fromkeys(("worker_timeout", "worker_restarts"), int | float)
    if (
        not isinstance(kwargs, dict)
        or not {"env_id", "num_envs"} <= arguments.keys() <= form.keys()
        or (kwargs.keys() & (form.keys() | {"id", "disable_env_checker"}))
        or not all(isinstance(value, form[name]) and not isinstance(value, bool) for name, value in arguments.items())
        or not arguments["num_envs"] <= MOST.get(arguments.get("backend", ""), 65536)
    ):
        raise InvalidSetting(f"these settings of an environment are damaged: {settings}")
    module = arguments["env_id"].rpartition(":")[0]
    if module and module not in sys.modules:
        raise InvalidSetting(f"'{arguments['env_id']}' imports a module, which a file may not: name it with --env.")
    try:
        return make(**arguments, **kwargs)
    except BellmarkError:
        raise
    except Exception as error:
        raise InvalidSetting(f"'{arguments['env_id']}' cannot be made with {kwargs}: {error}") from error


def for_evaluation(settings: dict[str, Any]) -> dict[str, Any]:
    """`VectorEnv.settings` with which Atari's games are played whole; those of other environments as they are."""
    kwargs = settings.get("kwargs")
    if not (atari.is_atari(settings.get("env_id")) and isinstance(kwargs, dict)):
        return settings
    return settings | {"kwargs": kwargs | {"life_loss": False}}


def _make_gymnasium(
    env_id: str | Callable[..., gymnasium.Env],
    num_envs: int,
    backend: str,
    autoreset: str | None,
    kwargs: dict[str, Any],
    workers: dict[str, Any],
) -> gymnasium.vector.VectorEnv:
    modes = {mode.name.lower(): mode for mode in AutoresetMode}
    if autoreset is not None and autoreset not in modes:
        raise UnknownName("autoreset mode", autoreset, modes)
    mode = modes[autoreset or "next_step"]
    maker = functools.partial(make_one, env_id, kwargs)
    if backend == "async":
        return Workers(maker, num_envs, mode, **workers)
    return InfoFree([maker] * num_envs, copy=False, autoreset_mode=mode)


def make_one(env_id: str | Callable[..., gymnasium.Env], kwargs: dict[str, Any]) -> gymnasium.Env:
    """One environment as it stands in each worker. Raises UnknownName and MissingExtra."""
    if not isinstance(env_id, str):
        return flattened(env_id(**kwargs))
    if atari.is_atari(env_id):
        return atari.make_one(env_id, atari.AtariSettings(**kwargs))
    if env_id.startswith("dm_control/"):
        _register("shimmy", "dm_control")
    elif env_id.startswith(ROBOTICS) and env_id not in gymnasium.registry:
        _register("gymnasium_robotics", "robotics")
    try:
        with warnings.catch_warnings():  # old versions are chosen on purpose, and every manifest says which
            warnings.filterwarnings("ignore", ".*is out of date.*")
            return flattened(gymnasium.make(env_id, disable_env_checker=True, **kwargs))
    except (gymnasium.error.UnregisteredEnv, gymnasium.error.DeprecatedEnv) as error:
        raise UnknownName("environment", env_id, gymnasium.registry) from error
    except (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError) as error:
        if "box2d" in str(gymnasium.spec(env_id).entry_point):
            raise MissingExtra("box2d", "box2d") from error
        raise


def _register(module: str, extra: str) -> None:
    """Imports a package that registers environments as it is imported. Raises MissingExtra."""
    try:
        gymnasium.register_envs(importlib.import_module(module))
    except ImportError as error:
        raise MissingExtra(module.replace("_", "-"), extra) from error


def _make_pool(
    env_id: str, num_envs: int, backend: str, autoreset: str | None, kwargs: dict[str, Any]
) -> gymnasium.vector.VectorEnv:
    mode = "next_step" if backend == "envpool" else "same_step"
    if autoreset not in (None, mode):
        raise InvalidSetting(
            f"{backend} resets in the {mode.replace('_', ' ')} only, not '{autoreset}': leave autoreset out."
        )
    if backend == "envpool":
        from .pool import Pool

        return Pool(env_id, num_envs, kwargs)
    if not atari.is_atari(env_id):
        raise InvalidSetting(f"the backend 'ale' has Atari's games, as ALE/Pong-v5, not '{env_id}': take 'sync'.")
    return atari.make_vector(env_id, num_envs, atari.AtariSettings(**kwargs))
