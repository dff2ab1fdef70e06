"""Our environments and our CNN for stable-baselines3, where its own would make another task of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from ...agents.core.bodies import body
from ...agents.core.errors import InvalidSetting
from ...agents.core.nets import orthogonal_init
from ...agents.core.spec import Spec
from ...envs import VectorEnv


def needed(spec: Spec) -> bool:
    """Whether observations are anything but a vector of numbers, on which both libraries agree.

    Raises InvalidSetting for what stable-baselines3 cannot be given alike.
    """
    if spec.masked or (spec.has_images and not spec.is_image):
        what = "masks of actions" if spec.masked else "images beside other observations"
        raise InvalidSetting(f"stable-baselines3 has no like for {what}: leave the sb3 contestant out")
    return bool(spec.is_image or spec.parts or spec.obs_choices or spec.obs_axes not in (-1, 1))


class Environments(VecEnv):
    """`env`, which must restart episodes in the step in which they end, in the agent's units: actions in [-1, 1].

    With `clip_reward` rewards are their signs, as stable-baselines3's AtariWrapper makes them.
    """

    def __init__(self, env: VectorEnv, clip_reward: bool = False):
        self.env, self.clip_reward, spec = env, clip_reward, env.spec
        image = spec.obs_dtype == "uint8"
        low, high = (0, 255) if image else (-np.inf, np.inf)
        obs_space = spaces.Box(low, high, spec.obs_shape, np.uint8 if image else np.float32)
        action_space: spaces.Space[Any] = spaces.Box(-1.0, 1.0, (spec.actions,))
        if spec.discrete:
            choices = spec.action_choices
            action_space = spaces.MultiDiscrete([*choices]) if choices else spaces.Discrete(spec.actions)
        super().__init__(env.num_envs, obs_space, action_space)

    def reset(self) -> np.ndarray:
        seed = self._seeds[0]
        self._reset_seeds()
        return self.env.reset(0 if seed is None else seed)

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        step = self.env.step(self.actions)
        done, infos = step.terminated | step.truncated, [dict[str, Any]() for _ in range(self.num_envs)]
        for column in np.flatnonzero(done):
            infos[column] = {"terminal_observation": step.next_obs[column]}
            infos[column]["TimeLimit.truncated"] = bool(step.truncated[column])
        self.env.pop_episodes()
        return step.obs, np.sign(step.reward) if self.clip_reward else step.reward, done, infos

    def close(self) -> None:
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """There is nothing to draw, and no other attribute."""
        if attr_name != "render_mode":
            raise AttributeError(attr_name)
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise AttributeError(attr_name)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        raise AttributeError(method_name)

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


class Features(BaseFeaturesExtractor):
    """Our CNN; images come as they are, 0 to 255."""

    def __init__(self, space: spaces.Box, spec: Spec, orthogonal: bool):
        options: dict[str, Any] = {"init": orthogonal_init()} if orthogonal else {}
        network, features = body(spec, (), **options)
        super().__init__(space, features)
        self.network = network

    def forward(self, observations: Tensor) -> Tensor:
        return self.network(observations)


def cnn_policy(spec: Spec, orthogonal: bool) -> dict[str, Any]:
    """Arguments of its CnnPolicy: our CNN, and on it one linear layer, as in our networks for images."""
    about = {"spec": spec, "orthogonal": orthogonal}
    extractor = {"features_extractor_class": Features, "features_extractor_kwargs": about}
    return {"net_arch": [], "normalize_images": False, **extractor}
