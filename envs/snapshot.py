"""The state of running environments as plain data, so that a restored run goes on bit for bit.

Whether an environment can be saved is found by looking, not by its name: every attribute of it and of its wrappers must
be plain data, a numpy random generator, MuJoCo's, ALE's, or an object that holds no state of the task (a space, a
renderer). Anything else, such as the world of box2d, is an obstacle. What lies outside the attributes (global
variables, a MuJoCo model that the environment changes as it runs) is not seen.
"""

from __future__ import annotations

import enum
import types
from collections import deque
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import FrameStackObservation

from ..agents.core.errors import InvalidCheckpoint
from . import arcade, physics
from .minatar import MinAtar
from .plain import Obstacle as Obstacle
from .plain import decode, require_form

_VECTOR_FIELDS = ("_observations", "_autoreset_envs")  # all else of a SyncVectorEnv is written anew at each step
_MADE_AGAIN = {"env", "spec", "metadata", "_metadata", "_cached_spec", "_saved_kwargs", "_ezpickle_args"}
_MADE_AGAIN |= {"_ezpickle_kwargs"}
_SIMULATORS = {"physics": physics, "arcade": arcade}
_PLAIN = (types.NoneType, bool, int, float, str, tuple, list, dict, set, np.ndarray, np.generic)
_STATELESS = (type, types.ModuleType, types.BuiltinFunctionType, enum.Enum, gymnasium.envs.registration.EnvSpec)


def take(env: gymnasium.vector.VectorEnv) -> dict[str, Any]:
    """The state of a SyncVectorEnv. Raises Obstacle if it, or an environment in it, cannot be saved."""
    if not isinstance(env, SyncVectorEnv):
        kind = type(env).__name__
        raise Obstacle(f"{'envpool' if kind == 'Pool' else kind} cannot give the state of its environments")
    columns = [_take_column(column) for column in env.envs]
    return {"vector": {name: getattr(env, name).copy() for name in _VECTOR_FIELDS}, "columns": columns}


def join(states: list[dict[str, Any]]) -> dict[str, Any]:
    """The state of all columns from that of each."""
    vectors = [state["vector"] for state in states]
    return {
        "vector": {name: np.concatenate([vector[name] for vector in vectors]) for name in _VECTOR_FIELDS},
        "columns": [column for state in states for column in state["columns"]],
    }


def split(state: dict[str, Any]) -> list[dict[str, Any]]:
    """The inverse of `join`."""
    return [
        {"vector": {name: state["vector"][name][i : i + 1] for name in _VECTOR_FIELDS}, "columns": [column]}
        for i, column in enumerate(state["columns"])
    ]


def checked(state: dict[str, Any], num_envs: int, env_id: str) -> dict[str, Any]:
    """The state of a VectorEnv, but for its environments: raises InvalidCheckpoint if it is not one of `num_envs`."""
    state = {"lost_episodes": 0, "non_finite_count": 0, "successes": []} | state
    done, numbers = state.get("done"), np.zeros(num_envs)
    if isinstance(done, np.ndarray) and done.shape != numbers.shape:
        raise InvalidCheckpoint(
            f"the state is of {done.size} environments, and '{env_id}' has {num_envs} here: "
            "make it with the same num_envs."
        )
    form = {"done": numbers.astype(bool), "reward_sums": numbers, "began": numbers.astype(int), "environments": {}}
    counts = dict.fromkeys(("steps", "lost_episodes", "non_finite_count"), 0)
    require_form(state, form | counts | {"episodes": [(0.0, 0)], "successes": [0.0]}, "the state of the environments")
    return state


def vector_form(env: gymnasium.vector.VectorEnv) -> dict[str, Any]:
    """What the state of all columns together is like, for `require_form`."""
    space = env.observation_space
    return {"_observations": np.empty(space.shape, space.dtype), "_autoreset_envs": np.empty(env.num_envs, bool)}


def put_back(env: gymnasium.vector.VectorEnv, state: dict[str, Any]) -> np.ndarray:
    """Brings a SyncVectorEnv that was made in the same way into that state; gives its raw observations.

    Raises InvalidCheckpoint if the state is not of such an environment.
    """
    if not isinstance(env, SyncVectorEnv):
        raise InvalidCheckpoint("the state is of environments in one process: make them with backend='sync'.")
    layers_form = [{"type": "", "fields": {}, "spaces": {}}]
    form = {"vector": {}, "columns": (layers_form,) * env.num_envs}
    require_form(state, form, "the state of the environments")
    try:
        env.reset(seed=0)  # from now on it has the attributes that it has while it runs
        fresh = take(env)
    except Exception as error:  # an Obstacle, or whatever an environment raises that a file gave absurd keywords
        raise InvalidCheckpoint(f"the state cannot be put back: {error}.") from error
    for column, layers, made in zip(env.envs, state["columns"], fresh["columns"], strict=True):
        if [layer["type"] for layer in made] != [layer["type"] for layer in layers]:
            raise InvalidCheckpoint(
                f"the state is of {' in '.join(layer['type'] for layer in reversed(layers))}, and the environment is "
                f"{' in '.join(layer['type'] for layer in reversed(made))}: make it as it was made."
            )
        _require_obs(state["vector"], env)
        for layer, saved, own in zip(_layers(column), layers, made, strict=True):
            _put_back_layer(layer, saved, own)
    for name in _VECTOR_FIELDS:
        setattr(env, name, state["vector"][name].copy())
    return env._observations


def _require_obs(vector: dict[str, Any], env: gymnasium.vector.VectorEnv) -> None:
    require_form(vector, vector_form(env), "the state of the environments")
    space = env.single_observation_space
    if isinstance(space, gymnasium.spaces.Discrete):
        number = vector["_observations"].astype(float) - space.start
        if not ((number >= 0) & (number < space.n)).all():
            raise InvalidCheckpoint(f"the state has observations that are not in {space}.")


def _layers(env: gymnasium.Env) -> list[gymnasium.Env]:
    """The wrappers from the outermost, and the environment itself; within MinAtar's, the game."""
    layers = [env]
    while isinstance(layers[-1], gymnasium.Wrapper | MinAtar):
        layers.append(layers[-1].env)
    return layers


def _take_column(env: gymnasium.Env) -> list[dict[str, Any]]:
    seen = set[int]()
    return [_take_layer(layer, seen) for layer in _layers(env)]


def _take_layer(layer: gymnasium.Env, seen: set[int]) -> dict[str, Any]:
    fields, spaces = {}, {}
    for name, value in vars(layer).items():
        if name in _MADE_AGAIN or physics.belongs(value) or arcade.belongs(value) or _is_stateless(value):
            continue
        try:
            if type(value) is deque and isinstance(layer, FrameStackObservation):  # these are replaced, not written to
                fields[name] = {"deque": [value.maxlen, [encode(frame, set()) for frame in value]]}
            elif not isinstance(value, gymnasium.Space):
                fields[name] = encode(value, seen)
            elif value._np_random is not None:
                spaces[name] = encode(value._np_random, seen)
        except Obstacle as what:
            raise Obstacle(f"the attribute '{name}' of {type(layer).__name__} holds {what}") from None
    saved = {"type": type(layer).__name__, "fields": fields, "spaces": spaces}
    for name, simulator in _SIMULATORS.items():
        if simulator.found(layer):
            saved[name] = simulator.take(layer)
    return saved


def _put_back_layer(layer: gymnasium.Env, saved: dict[str, Any], fresh: dict[str, Any]) -> None:
    if saved.keys() != fresh.keys() or not fresh["fields"].keys() <= saved["fields"].keys():
        raise InvalidCheckpoint(f"the state of {fresh['type']} is incomplete: take the versions that wrote it.")
    fields = {name: decode(value) for name, value in saved["fields"].items()}
    for name, value in fields.items():
        is_own = name in fresh["fields"]
        if not (_fits(value, vars(layer)[name]) if is_own else _is_free(name, layer)):
            raise InvalidCheckpoint(f"the state of {fresh['type']} has no place for this '{name}'.")
    vars(layer).update(fields)
    for name, value in saved["spaces"].items():
        generator, space = decode(value), vars(layer).get(name)
        if not (isinstance(space, gymnasium.Space) and isinstance(generator, np.random.Generator)):
            raise InvalidCheckpoint(f"the state of {fresh['type']} has no space '{name}'.")
        space._np_random = generator
    for name, simulator in _SIMULATORS.items():
        if name in fresh:
            require_form(saved[name], {key: value.dtype for key, value in fresh[name].items()}, name)
            simulator.put_back(layer, saved[name])


def _fits(value: Any, own: Any) -> bool:
    """Whether a saved value can follow the one that a fresh environment has."""
    if isinstance(value, np.ndarray) and isinstance(own, np.ndarray):
        return (value.shape, value.dtype.kind) == (own.shape, own.dtype.kind)
    if isinstance(value, deque) and isinstance(own, deque):
        same = (value.maxlen, len(value)) == (own.maxlen, len(own))
        return same and all(type(a) is type(b) and _fits(a, b) for a, b in zip(value, own, strict=True))
    return own is None or isinstance(value, np.random.Generator) == isinstance(own, np.random.Generator)


def _is_free(name: str, layer: gymnasium.Env) -> bool:
    """Whether an attribute of that name is plain data that comes into being in a step: it hides no method."""
    hidden = getattr(type(layer), name, None)
    return name not in vars(layer) and name not in _MADE_AGAIN and isinstance(hidden, _PLAIN)


def _is_stateless(value: Any) -> bool:
    if isinstance(value, types.FunctionType):
        return value.__closure__ is None
    return isinstance(value, _STATELESS)


def encode(value: Any, seen: set[int]) -> Any:
    """A value as JSON and arrays of numbers: what JSON has no word for becomes a dict with one key, its type.

    `seen` holds the identities of what can change; a thing that is met twice raises Obstacle, as would any other
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
        raise Obstacle(f"a value of type {type(owner).__name__} that something else holds as well")
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
    if type(value) is np.random.RandomState:
        return {"random_state": encode(value.get_state(legacy=False), set())}
    raise Obstacle(f"a value of type {type(value).__name__}, which cannot be saved")


def _owner(value: Any) -> Any:
    """The array that owns the memory of an array; any other value itself. Foreign memory raises Obstacle."""
    while type(value) is np.ndarray and value.base is not None:
        value = value.base
        if not isinstance(value, np.ndarray):
            raise Obstacle("an array in the memory of something else")
    return value
