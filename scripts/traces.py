"""One episode of an agent, step by step: rewards, what the agent thought that they would be, frames."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ..agents.core.advantages import backward
from ..agents.core.agent import Agent
from ..agents.core.errors import InvalidSetting

if TYPE_CHECKING:
    from ..envs.vector import VectorEnv

NEGLIGIBLE = 0.05
"""Weight of what would have come after an episode was cut off, below which a return counts as known."""


class Trace(NamedTuple):
    """An episode of T steps."""

    rewards: np.ndarray
    """[T] as the environment gave them."""
    learnt: np.ndarray
    """[T] as the agent learns from them: their signs, or scaled."""
    values: np.ndarray
    """[T] what the agent thought that each state, or its action there, was worth; empty if it has no critic."""
    gamma: float
    """Discount per step."""
    truncated: bool
    """Whether the episode was cut off."""
    frames: list[np.ndarray]
    """[T + 1] pictures `[H, W, 3]`; none if they were not asked for."""

    @property
    def returns(self) -> np.ndarray:
        """[T] discounted sums of the rewards that the agent learns from, from each step to the end."""
        rewards = torch.as_tensor(self.learnt)
        return backward(rewards, torch.full_like(rewards, self.gamma)).numpy()

    @property
    def known(self) -> np.ndarray:
        """[T] whether the return is as good as complete: all are, but for the last of an episode that was cut off."""
        left = np.arange(len(self.rewards), 0, -1)
        return self.gamma**left < NEGLIGIBLE if self.truncated else np.ones(len(left), bool)


def trace(
    agent: Agent, env: VectorEnv, seed: int, deterministic: bool = True, render: Callable[[], Any] | None = None
) -> Trace:
    """Acts through one episode of an environment alone, on a random stream of its own."""
    rewards, values, frames, state = list[float](), list[float](), [], None
    remember, credit = getattr(agent, "act_from", None), getattr(agent, "credit", None)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        obs, over = env.reset(seed), False
        frames += [] if render is None else [render()]
        while not over:
            if remember is None:
                action = agent.act_on(obs, explore=not deterministic)
            else:
                action, state = remember(obs, state, env.episode_start, explore=not deterministic)
            values += estimate(agent, obs, action)
            step = env.step(action)
            state = state if credit is None else credit(state, step.reward)
            rewards.append(float(step.reward[0]))
            frames += [] if render is None else [render()]
            over, obs = bool(step.terminated[0] or step.truncated[0]), step.obs
    env.pop_episodes()
    known, gamma = np.array(rewards), agent.config.gamma
    return Trace(known, as_learnt(agent, known), np.array(values), gamma, bool(step.truncated[0]), frames)


@torch.inference_mode()
def estimate(agent: Agent, obs: np.ndarray, action: np.ndarray) -> list[float]:
    """`[V(s)]` or `[Q(s, a)]`, the mean of an ensemble; `[]` for an agent without a critic, or with a memory."""
    net: Any = agent
    if hasattr(agent, "act_from"):
        return []
    seen, chosen = agent.inputs(obs), torch.as_tensor(action, device=agent.device)
    if hasattr(net, "actor_critic"):
        value = net.actor_critic.value(seen)
    elif hasattr(net, "q") or (hasattr(net, "critic") and agent.spec.discrete):
        every = net.noiseless_values(seen) if hasattr(net, "noiseless_values") else net.critic(seen)
        value = every.reshape(-1, len(obs), agent.spec.actions).mean(0).gather(1, chosen[:, None])
    elif hasattr(net, "critic") and "action" in inspect.signature(net.critic.forward).parameters:
        value = net.critic(seen, chosen).mean(0)
    elif hasattr(net, "value") and isinstance(net.value, torch.nn.Module):
        value = net.value(seen)
    else:
        return []
    return [float(value.reshape(-1)[0])]


def as_learnt(agent: Agent, rewards: np.ndarray) -> np.ndarray:
    """Rewards in the units of the agent's values."""
    if getattr(agent.config, "clip_reward", False):
        return np.sign(rewards)
    if getattr(agent.config, "normalize_reward", False):
        return agent.return_normalizer.scale(torch.as_tensor(rewards, device=agent.device)).cpu().numpy()  # type: ignore[operator, union-attr]
    return rewards


def rendering(settings: dict[str, Any]) -> tuple[VectorEnv, Callable[[], np.ndarray]]:
    """One environment that can be looked at, and what gives its picture. Raises InvalidSetting where none works."""
    from ..envs import atari, remake

    if not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    alone = {"num_envs": 1, "backend": "sync", "autoreset": None}
    if atari.is_atari(settings.get("env_id")):
        env = remake(settings, **alone)
        game: Any = env.env.envs[0].unwrapped  # type: ignore[attr-defined]
        return env, game.ale.getScreenRGB
    kwargs = settings.get("kwargs", {}) | {"render_mode": "rgb_array"}
    env = remake(settings | {"kwargs": kwargs}, **alone)
    return env, env.env.envs[0].render  # type: ignore[attr-defined]


def checked(env_id: str, render: Callable[[], Any]) -> Callable[[], np.ndarray]:
    """`render`, whose failure is an InvalidSetting that names the remedy."""

    def picture() -> np.ndarray:
        try:
            frame = np.asarray(render())
            if frame.ndim != 3 or frame.shape[2] != 3:
                raise ValueError(f"its picture has the shape {frame.shape}")
            return frame.astype(np.uint8)
        except Exception as error:
            raise InvalidSetting(
                f"'{env_id}' cannot be rendered without a screen ({type(error).__name__}: {error}): install a software "
                "renderer (Debian: libegl1 libgl1-mesa-dri, or libosmesa6) and set MUJOCO_GL to egl or osmesa; an "
                "environment of your own must have render_mode='rgb_array'"
            ) from error

    return picture
