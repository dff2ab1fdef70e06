"""Atari under one explicit protocol, the same through gymnasium and through ALE's own vector environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

from ..agents.core.config import Count, Number, Settings, Share
from ..agents.core.errors import MissingExtra, UnknownName


@dataclass(frozen=True)
class AtariSettings(Settings):
    """The protocol of a game. Defaults: Dopamine's (Castro et al. 2018), after Machado et al. (2018, arXiv 1709.06009).

    Frames are grey; each observation holds the maximum of the last two frames of a step, and zeros before the episode.
    Rewards are the game's: an agent clips them itself (its setting `clip_reward`). FIRE is never pressed for it.
    """

    frame_skip: Count = 4
    """Frames for which an action is repeated; their rewards are summed."""
    sticky_actions: Share = 0.25
    """Probability, at each frame, that the action of the frame before is repeated."""
    noops: Number = 0
    """Most frames without action at the start of a game: their number is uniform from 0 to this."""
    life_loss: bool = False
    """End the episode where a life is lost; the game goes on in the next one. Never so in evaluations."""
    full_action_space: bool = False
    """All 18 actions, instead of those that the game uses."""
    frame_stack: Count = 4
    """Newest screens that make one observation."""
    screen_size: Count = 84
    """Width and height that screens are scaled to, in pixels."""
    max_frames: Count = 108_000
    """Frames after which a game is truncated, those without action included: 30 minutes."""


def make_one(env_id: str, settings: AtariSettings) -> gymnasium.Env:
    """A game through gymnasium's AtariPreprocessing: observations `[frame_stack, screen_size, screen_size]` uint8."""
    s = settings
    _game(env_id)
    env = gymnasium.make(
        env_id,
        disable_env_checker=True,
        obs_type="grayscale",  # not looked at, and the cheapest that has the shape of the screen
        frameskip=1,
        repeat_action_probability=0.0,
        full_action_space=s.full_action_space,
        max_num_frames_per_episode=s.max_frames,
    )
    env = StickyActions(env, s.sticky_actions) if s.sticky_actions else env
    env = Noops(env, s.noops) if s.noops else env
    env = AtariPreprocessing(env, noop_max=0, frame_skip=s.frame_skip, screen_size=s.screen_size)
    env = FrameStackObservation(env, s.frame_stack, padding_type="zero")
    return LifeLoss(env) if s.life_loss else env


def make_vector(env_id: str, num_envs: int, settings: AtariSettings) -> gymnasium.vector.VectorEnv:
    """Games in the threads of ALE's own vector environment, in the same protocol. They restart in the same step."""
    from ale_py.vector_env import AtariVectorEnv

    s = settings
    env = AtariVectorEnv(
        _game(env_id),
        num_envs,
        frameskip=s.frame_skip,
        maxpool=s.frame_skip > 1,
        repeat_action_probability=s.sticky_actions,
        noop_max=s.noops + 1,  # it draws from 0 to one less
        life_loss_info=s.life_loss,
        full_action_space=s.full_action_space,
        stack_num=s.frame_stack,
        img_height=s.screen_size,
        img_width=s.screen_size,
        max_num_frames_per_episode=s.max_frames,
        reward_clipping=False,
        use_fire_reset=False,
        autoreset_mode=AutoresetMode.SAME_STEP,  # in NEXT_STEP it would act in the step after a lost life
    )
    return LastObs(env) if s.life_loss else env


class StickyActions(gymnasium.Wrapper):
    """Repeats the action of the frame before with a probability, as ALE's own sticky actions do.

    ALE's do not survive in a saved state: the emulator leaves out the action that the next frame may repeat.
    """

    def __init__(self, env: gymnasium.Env, probability: float):
        super().__init__(env)
        self.probability, self.last_action = probability, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.last_action = 0  # no action: the first frame may repeat this
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        if self.unwrapped.np_random.random() >= self.probability:
            self.last_action = int(action)
        return self.env.step(self.last_action)


class Noops(gymnasium.Wrapper):
    """Does nothing for a random number of frames, uniform from 0 to `most`, before a game."""

    def __init__(self, env: gymnasium.Env, most: int):
        super().__init__(env)
        self.most = most

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        for _ in range(self.unwrapped.np_random.integers(self.most + 1)):
            obs, _, terminated, truncated, info = self.env.step(0)
            if terminated or truncated:
                obs, info = self.env.reset(options=options)
        return obs, info


class LifeLoss(gymnasium.Wrapper):
    """Terminates the episode where a life is lost. The next one goes on with the game, from the same observation."""

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        self.lives, self.over = 0, True
        self.obs: np.ndarray | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        info = dict[str, Any]()
        if self.over or seed is not None:
            self.obs, info = self.env.reset(seed=seed, options=options)
        self.lives, self.over = self.unwrapped.ale.lives(), False  # type: ignore[attr-defined]
        return self.obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.obs, reward, terminated, truncated, info = self.env.step(action)
        self.over = terminated or truncated
        lives, before = self.unwrapped.ale.lives(), self.lives  # type: ignore[attr-defined]
        self.lives = lives
        return self.obs, reward, terminated or lives < before, truncated, info


class LastObs(gymnasium.vector.VectorWrapper):
    """Mends the final observations of ale_py's vector environment, which are old ones where a life is lost."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        self.frames = info["episode_frame_number"]
        return obs, info

    def step(self, actions: np.ndarray) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(actions)
        before, self.frames = self.frames, info["episode_frame_number"]
        if "final_obs" in info:
            goes_on = (self.frames > before)[:, None, None, None]  # after a reset they are counted anew
            info["final_obs"] = np.where(goes_on, obs, info["final_obs"])
        return obs, reward, terminated, truncated, info


def is_atari(env_id: Any) -> bool:
    """Whether it is an id of one of ALE's games."""
    return isinstance(env_id, str) and env_id.startswith("ALE/")


def _game(env_id: str) -> str:
    """ALE's own name of a game. Raises MissingExtra and UnknownName."""
    try:
        import ale_py
    except ImportError as error:
        raise MissingExtra("ale-py", "atari") from error
    gymnasium.register_envs(ale_py)
    games = {spec.id: spec.kwargs["game"] for spec in gymnasium.registry.values() if is_atari(spec.id)}
    if env_id not in games:
        raise UnknownName("environment", env_id, games)
    return games[env_id]
