"""The state of running environments as plain data, so that a restored run goes on bit for bit.

Whether an environment can be saved is found by looking, not by its name: every attribute of it and of its wrappers must
be plain data, a numpy random generator, MuJoCo's, or an object that holds no state of the task (a space, a
renderer). Anything else, such as the world of box2d, makes `take` give None. What lies outside the attributes (global
variables, a MuJoCo model that the environment changes as it runs) is not seen.
"""

from __future__ import annotations

import enum
import types
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import SyncVectorEnv

from ..agents.core.errors import InvalidCheckpoint
from . import physics

_VECTOR_FIELDS = ("_observations", "_autoreset_envs")  # all else of a SyncVectorEnv is written anew at each step
_MADE_AGAIN = {"env", "spec", "metadata", "_metadata", "_cached_spec", "_saved_kwargs", "_ezpickle_args"}
_MADE_AGAIN |= {"_ezpickle_kwargs"}
_STATELESS = (type, types.ModuleType, types.BuiltinFunctionType, enum.Enum, gymnasium.envs.registration.EnvSpec)


class _NotPlain(Exception):
    """A value that cannot be written as plain data."""


def take(env: gymnasium.vector.VectorEnv) -> dict[str, Any] | None:
    """The state of a SyncVectorEnv, or None if it, or an environment in it, cannot be saved."""
    if not isinstance(env, SyncVectorEnv):
        return None
    try:
        columns = [_take_column(column) for column in env.envs]
    except _NotPlain:
        return None
    return {"vector": {name: getattr(env, name).copy() for name in _VECTOR_FIELDS}, "columns": columns}


def put_back(env: gymnasium.vector.VectorEnv, state: dict[str, Any]) -> np.ndarray:
    """Brings a SyncVectorEnv that was made in the same way into that state; gives its raw observations.

    Raises InvalidCheckpoint if the state is not of such an environment.
    """
    if not isinstance(env, SyncVectorEnv):
        raise InvalidCheckpoint("the state is of environments in one process: make them with backend='sync'.")
    for column, layers in zip(env.envs, state["columns"], strict=True):
        if [type(layer).__name__ for layer in _layers(column)] != [layer["type"] for layer in layers]:
            raise InvalidCheckpoint(
                f"the state is of {' in '.join(layer['type'] for layer in reversed(layers))}, and the environment is "
                f"{' in '.join(type(layer).__name__ for layer in reversed(_layers(column)))}: make it as it was made."
            )
        for layer, saved in zip(_layers(column), layers, strict=True):
            _put_back_layer(layer, saved)
    for name in _VECTOR_FIELDS:
        setattr(env, name, state["vector"][name].copy())
    return env._observations


def _layers(env: gymnasium.Env) -> list[gymnasium.Env]:
    """The wrappers from the outermost, and the environment itself."""
    layers = [env]
    while isinstance(layers[-1], gymnasium.Wrapper):
        layers.append(layers[-1].env)
    return layers


def _take_column(env: gymnasium.Env) -> list[dict[str, Any]]:
    seen = set[int]()
    return [_take_layer(layer, seen) for layer in _layers(env)]


def _take_layer(layer: gymnasium.Env, seen: set[int]) -> dict[str, Any]:
    fields, spaces = {}, {}
    for name, value in vars(layer).items():
        if name in _MADE_AGAIN or physics.belongs(value) or _is_stateless(value):
            continue
        if isinstance(value, gymnasium.Space):
            if value._np_random is not None:
                spaces[name] = encode(value._np_random, seen)
        else:
            fields[name] = encode(value, seen)
    saved = {"type": type(layer).__name__, "fields": fields, "spaces": spaces}
    if physics.found(layer):
        saved["physics"] = physics.take(layer)
    return saved


def _put_back_layer(layer: gymnasium.Env, saved: dict[str, Any]) -> None:
    for name, value in saved["fields"].items():
        setattr(layer, name, decode(value))
    for name, value in saved["spaces"].items():
        getattr(layer, name)._np_random = decode(value)
    if "physics" in saved:
        physics.put_back(layer, saved["physics"])


def _is_stateless(value: Any) -> bool:
    if isinstance(value, types.FunctionType):
        return value.__closure__ is None
    return isinstance(value, _STATELESS)


def encode(value: Any, seen: set[int]) -> Any:
    """A value as JSON and arrays of numbers: what JSON has no word for becomes a dict with one key, its type.

    `seen` holds the identities of what can change; a thing that is met twice raises _NotPlain, as would any other
    type, because its two copies would go different ways.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.generic) and value.dtype.kind in "biufU":
        return {"scalar": [value.dtype.str, value.item()]}
    if type(value) is tuple:
        return {"tuple": [encode(item, seen) for item in value]}
    owner = _owner(value)
    if id(owner) in seen:
        raise _NotPlain
    seen.add(id(owner))
    if type(value) is np.ndarray:
        if value.dtype.kind in "biuf":
            return value.copy()
        if value.dtype.kind in "SU":
            return {"text": [value.dtype.str, value.astype(str).tolist()]}
    if type(value) is list:
        return [encode(item, seen) for item in value]
    if type(value) is dict:
        return {"dict": [[encode(key, seen), encode(item, seen)] for key, item in value.items()]}
    if type(value) is set:
        return {"set": [encode(item, seen) for item in value]}
    if type(value) is np.random.Generator:
        return {"generator": encode(value.bit_generator.state, set())}
    raise _NotPlain


def decode(value: Any) -> Any:
    """The inverse of `encode`."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind in ("scalar", "text"):
        array = np.array(content[1], content[0])
        return array[()] if kind == "scalar" else array
    if kind == "dict":
        return {decode(key): decode(item) for key, item in content}
    if kind == "generator":
        state = decode(content)
        bits = getattr(np.random, state["bit_generator"])()
        bits.state = state
        return np.random.Generator(bits)
    return {"tuple": tuple, "set": set}[kind](decode(item) for item in content)


def _owner(value: Any) -> Any:
    """The array that owns the memory of an array; any other value itself. Foreign memory raises _NotPlain."""
    while type(value) is np.ndarray and value.base is not None:
        value = value.base
        if not isinstance(value, np.ndarray):
            raise _NotPlain
    return value
