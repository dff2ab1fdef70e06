"""What an agent must know of its environment: the shapes, and how raw values become the agent's own."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

import numpy as np

from .config import convert
from .errors import UnsupportedSpace


@dataclass(frozen=True)
class Spec:
    """The interface between an agent and an environment, as plain data (it is written to every checkpoint).

    Inside agents, vector observations are float32, images stay uint8, discrete observations are one-hot;
    continuous actions are `[N, actions]` in [-1, 1], discrete actions are int64 `[N]` from 0.
    """

    obs_shape: tuple[int, ...]
    """Shape of one observation, without the batch."""
    actions: int
    """Number of action dimensions (continuous) or of choices (discrete)."""
    discrete: bool
    """Whether an action is one of `actions` choices."""
    obs_dtype: str = "float32"
    """`float32`, or `uint8` for images, which are channels first: `[C, H, W]`."""
    channels_last: bool = False
    """Whether the environment gives images as `[H, W, C]`."""
    obs_choices: int = 0
    """Size of the one-hot code if the environment's observation is a number of choices, else 0."""
    obs_axes: int = -1
    """Number of axes of one raw observation; -1 = as many as `obs_shape` has."""
    obs_start: int = 0
    """Smallest value of a discrete observation."""
    action_shape: tuple[int, ...] = ()
    """Shape of one continuous action as the environment wants it."""
    action_low: tuple[float, ...] = ()
    """Lower bounds of the environment's actions, flattened."""
    action_high: tuple[float, ...] = ()
    """Upper bounds of the environment's actions, flattened."""
    action_start: int = 0
    """Smallest value of a discrete action."""

    @classmethod
    def from_spaces(cls, observation_space: Any, action_space: Any) -> Spec:
        """Reads two gymnasium spaces (of one environment, not of a batch).

        Raises UnsupportedSpace for anything but Box and Discrete observations, and bounded Box and Discrete actions.
        """
        return cls.from_dict(_read_obs_space(observation_space) | _read_action_space(action_space))

    @property
    def is_image(self) -> bool:
        return len(self.obs_shape) == 3 and self.obs_dtype == "uint8"

    def require_discrete(self, agent: str) -> None:
        """Raises UnsupportedSpace if actions are continuous."""
        if not self.discrete:
            raise UnsupportedSpace(f"'{agent}' needs discrete actions: take td3, sac or ppo for continuous ones")

    def require_continuous(self, agent: str) -> None:
        """Raises UnsupportedSpace if actions are discrete."""
        if self.discrete:
            raise UnsupportedSpace(f"'{agent}' needs continuous actions: take dqn or ppo for discrete ones")

    @property
    def obs_size(self) -> int:
        """Number of values in one observation."""
        return math.prod(self.obs_shape)

    @property
    def vector_size(self) -> int:
        """`obs_size`, for networks that read vectors only. Raises UnsupportedSpace for images."""
        if self.is_image:
            raise UnsupportedSpace(
                f"images {self.obs_shape} are not supported by agents for continuous actions: "
                "flatten or encode them to a vector first (gymnasium.wrappers.FlattenObservation)"
            )
        return self.obs_size

    @functools.cached_property
    def _bounds(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Low, high and half the range of each action dimension."""
        low, high = np.array(self.action_low, np.float32), np.array(self.action_high, np.float32)
        return low, high, 0.5 * (high - low)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Spec:
        """The inverse of `to_dict`. Raises UnsupportedSpace for values that are no spec."""
        hints = get_type_hints(cls)
        if not {"obs_shape", "actions", "discrete"} <= values.keys() <= hints.keys():
            raise UnsupportedSpace(f"a spec has the fields {', '.join(hints)}, not {', '.join(map(str, values))}")
        spec = cls(**{name: convert(name, value, hints[name]) for name, value in values.items()})
        spec._check()
        return spec

    def _check(self) -> None:
        low, high = self.action_low, self.action_high
        sound = {
            "obs_shape": min(self.obs_shape, default=0) > 0,
            "obs_dtype": self.obs_dtype in ("float32", "uint8"),
            "obs_choices": self.obs_choices == 0 or self.obs_shape == (self.obs_choices,),
            "obs_axes": self.obs_axes >= -1,
            "actions": self.actions > 0,
            "action_shape": self.discrete or math.prod(self.action_shape) == self.actions,
            "action_low": all(map(math.isfinite, low)) and len(low) == (0 if self.discrete else self.actions),
            "action_high": len(high) == len(low) and all(a < b < math.inf for a, b in zip(low, high, strict=True)),
        }
        for name, is_sound in sound.items():
            if not is_sound:
                raise UnsupportedSpace(f"a spec with {name} = {getattr(self, name)!r} describes no environment: {self}")

    def is_single(self, obs: np.ndarray) -> bool:
        """Whether this is one raw observation, not a batch."""
        return obs.ndim == (len(self.obs_shape) if self.obs_axes < 0 else self.obs_axes)

    def encode_obs(self, obs: Any, batched: bool = True) -> np.ndarray:
        """Raw observations `[N, ...]` (or one, if not `batched`) as a new array `[N, *obs_shape]`."""
        raw = np.asarray(obs) if batched else np.asarray(obs)[None]
        if self.obs_choices:
            code = np.zeros((raw.shape[0], self.obs_choices), np.float32)
            code[np.arange(raw.shape[0]), raw.reshape(raw.shape[0]) - self.obs_start] = 1.0
            return code
        if self.channels_last:
            return np.array(np.moveaxis(raw, -1, 1), order="C")
        return np.array(raw, dtype=self.obs_dtype).reshape(raw.shape[0], *self.obs_shape)

    def decode_action(self, action: np.ndarray) -> np.ndarray:
        """The agent's actions `[N, actions]` in [-1, 1] (clipped to it) or `[N]`, in the environment's own units."""
        if self.discrete:
            return action + self.action_start if self.action_start else action
        low, high, half = self._bounds
        scaled = low + (np.minimum(np.maximum(action, -1.0), 1.0) + 1.0) * half
        return np.minimum(scaled, high).reshape(-1, *self.action_shape)  # rounding may pass the upper bound only

    def encode_action(self, action: Any) -> np.ndarray:
        """The environment's actions `[N, ...]` in the agent's units: the inverse of `decode_action`."""
        if self.discrete:
            return np.asarray(action, np.int64).reshape(-1) - self.action_start
        low, _, half = self._bounds
        return (np.asarray(action, np.float32).reshape(-1, self.actions) - low) / half - 1.0


def _read_obs_space(space: Any) -> dict[str, Any]:
    kind = type(space).__name__
    if kind == "Discrete":
        choices = int(space.n)
        return {"obs_shape": (choices,), "obs_axes": 0, "obs_choices": choices, "obs_start": int(space.start)}
    if kind == "Box":
        if len(space.shape) == 3 and space.dtype == np.uint8:
            last = space.shape[-1] <= 4 < space.shape[0]
            shape = (space.shape[-1], *space.shape[:-1]) if last else space.shape
            return {"obs_shape": tuple(shape), "obs_dtype": "uint8", "channels_last": last}
        return {"obs_shape": (math.prod(space.shape),), "obs_axes": len(space.shape)}
    raise UnsupportedSpace(
        f"the observation space {space} is not supported: Bellmark takes Box and Discrete. "
        "Wrap the environment in gymnasium.wrappers.FlattenObservation."
    )


def _read_action_space(space: Any) -> dict[str, Any]:
    kind = type(space).__name__
    if kind == "Discrete":
        return {"actions": int(space.n), "discrete": True, "action_start": int(space.start)}
    if kind != "Box":
        raise UnsupportedSpace(
            f"the action space {space} is not supported: Bellmark takes Box and Discrete. "
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
