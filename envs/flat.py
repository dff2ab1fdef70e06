"""Environments whose observations are not one array, or that say which actions are allowed, as flat vectors.

The wrapper stands around each single environment, in its worker, so that autoreset, final observations, shared memory
and saved states need to know nothing of dictionaries and masks.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from ..agents.core.errors import InvalidMask
from ..agents.core.spaces import flat_fields, read_action_space, read_obs_space, read_parts
from ..agents.core.spec import Spec

METHOD, KEY = "action_masks", "action_mask"


class Flat(gymnasium.spaces.Box):
    """The space of flat float32 observations; `layout` is what the agent gets to know about them."""

    def __init__(self, fields: dict[str, Any], action_space: gymnasium.Space):
        super().__init__(-np.inf, np.inf, fields["obs_shape"], np.float32)
        self.fields = fields
        self.layout = Spec.from_spaces(self, action_space)


class FlatObs(gymnasium.Wrapper):
    """Gives the parts of an observation and, if `masked`, the allowed actions as one vector.

    A mask comes from the environment's method `action_masks()`, as for sb3-contrib, or, if it has an attribute
    `action_mask` as gymnasium's Taxi does, from `info["action_mask"]`. Raises InvalidMask where it is missing, has
    another size or allows nothing, but for final observations: nothing is done in them, so all counts as allowed there.
    """

    def __init__(self, env: gymnasium.Env, masked: bool):
        super().__init__(env)
        mask = Spec.from_spaces(env.observation_space, env.action_space).actions if masked else 0
        self.observation_space = Flat(flat_fields(read_parts(env.observation_space), mask), env.action_space)
        self.has_method = env.has_wrapper_attr(METHOD)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        return self.encode(obs, info, final=False), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        return self.encode(obs, info, bool(terminated or truncated)), reward, terminated, truncated, info

    def encode(self, obs: Any, info: dict[str, Any], final: bool) -> np.ndarray:
        assert isinstance(self.observation_space, Flat)
        layout, mask = self.observation_space.layout, None
        if layout.masked:
            try:
                mask = layout.checked_masks(self.get_wrapper_attr(METHOD)() if self.has_method else info.get(KEY))
            except InvalidMask:
                if not final:
                    raise
        return layout.encode_obs(obs, batched=False, action_masks=mask)[0]


def flattened(env: gymnasium.Env) -> gymnasium.Env:
    """The environment in a FlatObs if its observations or its masks need one, else as it is.

    Raises UnsupportedSpace.
    """
    masked = read_action_space(env.action_space)["discrete"] and any(map(env.has_wrapper_attr, (METHOD, KEY)))
    return FlatObs(env, masked) if masked or "parts" in read_obs_space(env.observation_space) else env


def has_masks(env: gymnasium.vector.VectorEnv) -> bool:
    """Whether a vector environment, or one within it, says which actions are allowed."""
    env = env.unwrapped
    call = getattr(env, "call", None)
    return any(hasattr(env, name) or (call and any(call("has_wrapper_attr", name))) for name in (METHOD, KEY))
