"""The state of MuJoCo's simulation. mujoco is imported only where an environment has done so already."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from ..agents.core.errors import InvalidCheckpoint


def belongs(value: Any) -> bool:
    """Whether a value is MuJoCo's own, or renders it."""
    return type(value).__module__.partition(".")[0] == "mujoco" or type(value).__name__ == "MujocoRenderer"


def found(env: Any) -> bool:
    """Whether an environment holds a MuJoCo simulation, under the names that gymnasium gives it."""
    mujoco = sys.modules.get("mujoco")
    return mujoco is not None and isinstance(vars(env).get("data"), mujoco.MjData)


def take(env: Any) -> dict[str, np.ndarray]:
    """What the next step of the simulation depends on, and the quantities derived from the step before.

    MuJoCo computes the latter before it moves, so they lag a step behind and cannot be recomputed; some environments
    read them before they step (Ant the position of its torso, for the reward).
    """
    import mujoco

    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(env.model, kind))
    mujoco.mj_getState(env.model, env.data, state, kind)
    return {"state": state, "derived": np.concatenate([array.ravel() for array in _derived(env)])}


def put_back(env: Any, saved: dict[str, np.ndarray]) -> None:
    """Raises InvalidCheckpoint if the state is of another model, or of a MuJoCo that lays it out differently."""
    import mujoco

    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    derived = _derived(env)
    sizes = mujoco.mj_stateSize(env.model, kind), sum(array.size for array in derived)
    if sizes != (saved["state"].size, saved["derived"].size):
        raise InvalidCheckpoint(
            f"the state of the simulation has {saved['state'].size} + {saved['derived'].size} numbers, and MuJoCo "
            f"{mujoco.__version__} has {sizes[0]} + {sizes[1]} for this model: use the version that wrote it."
        )
    if not np.isfinite(saved["state"]).all():
        raise InvalidCheckpoint("the state of the simulation holds NaN or infinity: take an older checkpoint.")
    mujoco.mj_setState(env.model, env.data, saved["state"], kind)
    mujoco.mj_forward(env.model, env.data)  # for the contacts and constraints; moves what is put right below
    start = 0
    for array in derived:
        array[...] = saved["derived"][start : start + array.size].reshape(array.shape)
        start += array.size


def _derived(env: Any) -> list[np.ndarray]:
    """Every float array of the simulation whose size depends on the model alone, in the order of their names."""
    import mujoco

    empty = mujoco.MjData(env.model)
    fixed = [name for name in sorted(dir(empty)) if _is_float_array(getattr(empty, name, None))]
    return [getattr(env.data, name) for name in fixed]


def _is_float_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.float64 and value.size > 0
