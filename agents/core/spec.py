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
from .errors import InvalidMask, UnsupportedSpace
from .parts import Part
from .spaces import read_action_space, read_obs_space


@dataclass(frozen=True)
class Spec:
    """The interface between an agent and an environment, as plain data (it is written to every checkpoint).

    Inside agents, vector observations are float32, images stay uint8, discrete observations are one-hot;
    dictionaries are one float32 vector of their `parts`; continuous actions are `[N, actions]` in [-1, 1], discrete
    actions int64 `[N]` from 0, or `[N, len(action_choices)]`. If `masked`, the last `actions` columns of each
    observation are 1 for the choices that are allowed in it, else 0.
    """

    obs_shape: tuple[int, ...]
    """Shape of one observation, without the batch."""
    actions: int
    """Number of action dimensions (continuous) or of choices (discrete; of all choices together if multi-discrete)."""
    discrete: bool
    """Whether an action is one of `actions` choices, or several choices at once."""
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
    """Shape of one continuous or multi-discrete action as the environment wants it."""
    action_low: tuple[float, ...] = ()
    """Lower bounds of the environment's actions, flattened."""
    action_high: tuple[float, ...] = ()
    """Upper bounds of the environment's actions, flattened."""
    action_start: int = 0
    """Smallest value of a discrete action."""
    action_choices: tuple[int, ...] = ()
    """How many choices each number of a multi-discrete action has; 2 each if multi-binary; empty for one choice."""
    action_starts: tuple[int, ...] = ()
    """Smallest value of each number of a multi-discrete action."""
    frame_stack: int = 1
    """Of so many frames of equal size, oldest first, the first axis of an observation consists."""
    parts: tuple[Part, ...] = ()
    """What the columns of an observation are, in their order; empty if it is a plain vector, image or number."""
    masked: bool = False
    """Whether a mask of the allowed actions stands at the end of each observation."""

    @classmethod
    def from_spaces(cls, observation_space: Any, action_space: Any) -> Spec:
        """Reads two gymnasium spaces (of one environment, not of a batch).

        Raises UnsupportedSpace for anything but Box, Discrete, MultiDiscrete, MultiBinary, flat dictionaries of these
        as observations, and unbounded boxes as actions.
        """
        return cls.from_dict(read_obs_space(observation_space) | read_action_space(action_space))

    @property
    def is_image(self) -> bool:
        return len(self.obs_shape) == 3 and self.obs_dtype == "uint8"

    @property
    def has_images(self) -> bool:
        """Whether observations are images, or have such a part."""
        return self.is_image or any(part.is_image for part in self.parts)

    def require_discrete(self, agent: str) -> None:
        """Raises UnsupportedSpace if actions are continuous."""
        if not self.discrete:
            raise UnsupportedSpace(f"'{agent}' needs discrete actions: take td3, sac or ppo for continuous ones")
        if self.action_choices:
            raise UnsupportedSpace(
                f"'{agent}' chooses one action at a time, not {len(self.action_choices)}: take ppo for multi-discrete "
                "and multi-binary actions"
            )

    def require_continuous(self, agent: str) -> None:
        """Raises UnsupportedSpace if actions are discrete."""
        if self.discrete:
            raise UnsupportedSpace(f"'{agent}' needs continuous actions: take dqn or ppo for discrete ones")

    @property
    def action_row(self) -> tuple[int, ...]:
        """Shape of one action inside agents."""
        if self.discrete:
            return (len(self.action_choices),) if self.action_choices else ()
        return (self.actions,)

    @property
    def obs_size(self) -> int:
        """Number of values in one observation, without the mask."""
        return math.prod(self.obs_shape) - self.actions * self.masked

    @property
    def vector_size(self) -> int:
        """`obs_size`, for networks that read vectors only. Raises UnsupportedSpace for images."""
        if self.has_images:
            raise UnsupportedSpace(
                f"images {self.obs_shape} are not supported by agents for continuous actions: "
                "flatten or encode them to a vector first (gymnasium.wrappers.FlattenObservation)"
            )
        return self.obs_size

    @functools.cached_property
    def _bounds(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
        """Low, high and half the range of each action dimension; whether they are the agent's own, -1 and 1."""
        low, high = np.array(self.action_low, np.float32), np.array(self.action_high, np.float32)
        return low, high, 0.5 * (high - low), bool((low == -1.0).all() and (high == 1.0).all())

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
        low, high, choices = self.action_low, self.action_high, self.action_choices
        sound = {
            "obs_shape": min(self.obs_shape, default=0) > 0,
            "obs_dtype": self.obs_dtype in ("float32", "uint8"),
            "obs_choices": self.obs_choices == 0 or self.obs_shape == (self.obs_choices,),
            "obs_axes": self.obs_axes >= -1,
            "frame_stack": self.frame_stack > 0 and not (self.obs_shape or (1,))[0] % self.frame_stack,
            "parts": not (self.parts or self.masked) or self._parts_fit(),
            "actions": self.actions > 0,
            "action_shape": math.prod(self.action_shape) == math.prod(self.action_row),
            "action_choices": not choices or (self.discrete and min(choices) > 0 and sum(choices) == self.actions),
            "action_starts": len(self.action_starts) == len(choices),
            "action_low": all(map(math.isfinite, low)) and len(low) == (0 if self.discrete else self.actions),
            "action_high": len(high) == len(low) and all(a < b < math.inf for a, b in zip(low, high, strict=True)),
        }
        for name, is_sound in sound.items():
            if not is_sound:
                raise UnsupportedSpace(f"a spec with {name} = {getattr(self, name)!r} describes no environment: {self}")

    def _parts_fit(self) -> bool:
        names = [part.name for part in self.parts]
        return (
            len(names) == len(set(names)) > 0
            and all(part.is_sound() for part in self.parts)
            and self.obs_shape == (sum(part.size for part in self.parts) + self.actions * self.masked,)
            and (self.discrete or not self.masked)
            and (self.obs_dtype, self.obs_choices, self.frame_stack) == ("float32", 0, 1)
        )

    @functools.cached_property
    def columns(self) -> dict[str, slice]:
        """Where each part stands in the flat observations."""
        ends = np.cumsum([part.size for part in self.parts]).tolist()
        return {part.name: slice(end - part.size, end) for part, end in zip(self.parts, ends, strict=True)}

    def is_single(self, obs: Any) -> bool:
        """Whether this is one raw observation, not a batch."""
        if self.parts:
            part = self.parts[0]
            return np.ndim(obs[part.name] if isinstance(obs, Mapping) else obs) == len(part.shape)
        return np.ndim(obs) == (len(self.obs_shape) if self.obs_axes < 0 else self.obs_axes)

    def encode_obs(self, obs: Any, batched: bool = True, action_masks: Any = None) -> np.ndarray:
        """Raw observations `[N, ...]` (or one, if not `batched`) as a new array `[N, *obs_shape]`.

        A dictionary holds arrays `[N, ...]`. What is flat already is copied. `action_masks` `[N, actions]` are the
        choices that are allowed: all if None. Raises InvalidMask for masks that this spec has no place for.
        """
        if self.parts:
            return self._encode_parts(obs, batched, action_masks)
        if action_masks is not None:
            self.checked_masks(action_masks)
        raw = np.asarray(obs) if batched else np.asarray(obs)[None]
        if self.obs_choices:
            code = np.zeros((raw.shape[0], self.obs_choices), np.float32)
            code[np.arange(raw.shape[0]), raw.reshape(raw.shape[0]) - self.obs_start] = 1.0
            return code
        if self.channels_last:
            return np.array(np.moveaxis(raw, -1, 1), order="C")
        return np.array(raw, dtype=self.obs_dtype).reshape(raw.shape[0], *self.obs_shape)

    def _encode_parts(self, obs: Any, batched: bool, action_masks: Any) -> np.ndarray:
        if not isinstance(obs, Mapping):
            obs = {"": np.asarray(obs)}
            if obs[""].shape[batched:] == self.obs_shape and obs[""].dtype == np.float32 and action_masks is None:
                return np.array(obs[""]).reshape(-1, *self.obs_shape)
        raw = [np.asarray(obs[part.name]) for part in self.parts]
        count = len(raw[0]) if batched else 1
        flat = np.ones((count, *self.obs_shape), np.float32)
        for part, values in zip(self.parts, raw, strict=True):
            flat[:, self.columns[part.name]] = part.encode(values if batched else values[None])
        if action_masks is not None:
            flat[:, self.obs_size :] = self.checked_masks(action_masks, count)
        return flat

    def checked_masks(self, masks: Any, count: int = 1) -> np.ndarray:
        """Masks as bool `[count, actions]`. Raises InvalidMask for those that do not fit, or that allow nothing."""
        if not self.masked:
            raise InvalidMask("this agent was made for an environment without action masks: leave action_masks out")
        allowed = np.asarray(np.hstack(masks) if self.action_choices else masks, bool)
        if allowed.size != count * self.actions:
            raise InvalidMask(f"masks of shape {allowed.shape} do not fit {count} x {self.actions} choices")
        allowed = allowed.reshape(count, self.actions)
        first = np.cumsum((0, *self.action_choices[:-1]))
        if not np.logical_or.reduceat(allowed, first, axis=1).all():
            raise InvalidMask(
                "a mask allows no action at all: let action_masks() allow one wherever the episode goes on"
            )
        return allowed

    def decode_action(self, action: np.ndarray) -> np.ndarray:
        """The agent's actions `[N, actions]` in [-1, 1] (clipped to it) or `[N]`, in the environment's own units."""
        if self.action_choices:
            return (action + self.action_starts).reshape(-1, *self.action_shape)
        if self.discrete:
            return action + self.action_start if self.action_start else action
        low, high, half, own = self._bounds
        scaled = np.minimum(np.maximum(action, -1.0), 1.0)
        if not own:
            scaled = np.minimum(low + (scaled + 1.0) * half, high)  # rounding may pass the upper bound only
        return scaled.reshape(-1, *self.action_shape)

    def encode_action(self, action: Any) -> np.ndarray:
        """The environment's actions `[N, ...]` in the agent's units: the inverse of `decode_action`."""
        if self.action_choices:
            return np.asarray(action, np.int64).reshape(-1, *self.action_row) - self.action_starts
        if self.discrete:
            return np.asarray(action, np.int64).reshape(-1) - self.action_start
        low, _, half, _ = self._bounds
        return (np.asarray(action, np.float32).reshape(-1, self.actions) - low) / half - 1.0
