"""What gymnasium's spaces say, as fields of a Spec."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .errors import UnsupportedSpace
from .parts import Part

TAKEN = "Bellmark takes Box, Discrete, MultiDiscrete and MultiBinary"


def read_obs_space(space: Any) -> dict[str, Any]:
    """The fields on observations. Raises UnsupportedSpace."""
    kind = type(space).__name__
    if kind == "Flat":
        return dict(space.fields)
    if kind == "Discrete":
        choices = int(space.n)
        return {"obs_shape": (choices,), "obs_axes": 0, "obs_choices": choices, "obs_start": int(space.start)}
    if kind in ("Box", "MultiBinary"):
        if is_image(space):
            shape = (space.shape[-1], *space.shape[:-1]) if is_channels_last(space) else space.shape
            return {"obs_shape": tuple(shape), "obs_dtype": "uint8", "channels_last": is_channels_last(space)}
        return {"obs_shape": (math.prod(space.shape),), "obs_axes": len(space.shape)}
    return flat_fields(read_parts(space))


def read_parts(space: Any) -> tuple[Part, ...]:
    """The parts of any observation space: images behind the rest, else in the space's order.

    Raises UnsupportedSpace for anything but the spaces in TAKEN and flat dictionaries of them.
    """
    entries = space.spaces.items() if type(space).__name__ == "Dict" else [("", space)]
    parts = [_read_part(name, entry, space) for name, entry in entries]
    return tuple(sorted(parts, key=lambda part: part.is_image))


def flat_fields(parts: tuple[Part, ...], mask: int = 0) -> dict[str, Any]:
    """The fields of a spec whose observations are these parts and a mask over so many choices of actions."""
    size = sum(part.size for part in parts) + mask
    return {"obs_shape": (size,), "obs_axes": 1, "parts": parts, "masked": mask > 0}


def _read_part(name: str, space: Any, whole: Any) -> Part:
    kind, shape = type(space).__name__, tuple(space.shape or ())
    if kind == "Discrete":
        return Part(name, (), "one_hot", (int(space.n),), (int(space.start),))
    if kind == "MultiDiscrete":
        return Part(name, shape, "one_hot", *_choices(space))
    if kind not in ("Box", "MultiBinary"):
        raise UnsupportedSpace(
            f"the observation space {whole} is not supported: {TAKEN}, and dictionaries of these. "
            "Wrap the environment in gymnasium.wrappers.FlattenObservation."
        )
    if is_image(space):
        return Part(name, shape, "image_last" if is_channels_last(space) else "image")
    return Part(name, shape, "vector")


def is_image(space: Any) -> bool:
    return len(space.shape) == 3 and space.dtype == np.uint8


def is_channels_last(space: Any) -> bool:
    return bool(space.shape[-1] <= 4 < space.shape[0])


def _choices(space: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Number of values, and smallest value, of each number of a MultiDiscrete space, flattened."""
    choices = tuple(map(int, space.nvec.reshape(-1)))
    start = getattr(space, "start", None)
    return choices, (0,) * len(choices) if start is None else tuple(map(int, np.reshape(start, -1)))


def read_action_space(space: Any) -> dict[str, Any]:
    """The fields on actions. Raises UnsupportedSpace."""
    kind = type(space).__name__
    if kind == "Discrete":
        return {"actions": int(space.n), "discrete": True, "action_start": int(space.start)}
    if kind in ("MultiDiscrete", "MultiBinary"):
        shape, binary = tuple(space.shape), kind == "MultiBinary"
        count = math.prod(shape)
        choices, starts = ((2,) * count, (0,) * count) if binary else _choices(space)
        fields = {"actions": sum(choices), "discrete": True, "action_shape": shape}
        return fields | {"action_choices": choices, "action_starts": starts}
    if kind != "Box":
        raise UnsupportedSpace(
            f"the action space {space} is not supported: {TAKEN}. "
            "Wrap the environment so that its action is one of these."
        )
    low, high = space.low.reshape(-1), space.high.reshape(-1)
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise UnsupportedSpace(
            f"the action space {space} has no finite bounds, so actions cannot be scaled from [-1, 1]: "
            "give its Box a low and a high."
        )
    return {
        "actions": low.size,
        "discrete": False,
        "action_shape": tuple(space.shape),
        "action_low": tuple(map(float, low)),
        "action_high": tuple(map(float, high)),
    }
