"""Bellmark: deep reinforcement learning for control, online and from data.

    agent = bellmark.make("ppo", "CartPole-v1", seed=1, num_envs=8)
    agent.learn(100_000, progress_bar=True)

Nothing, not even torch, is imported before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agents.core.agent import Agent
    from .offline import Dataset

__version__ = "0.1.0"
__all__ = ["dataset", "list_agents", "load", "make", "to_stable_baselines3"]


def make(
    name: str, env_or_data: Any, *, seed: int = 0, num_envs: int = 1, device: str = "cpu", **settings: Any
) -> Agent:
    """A new agent by name, for an environment (an id, a callable, a VectorEnv) or for a Dataset.

    Seeds torch's default generator with `seed`. Any other keyword is a setting of that agent. Made for a Dataset, the
    agent will go on online in the data's evaluation environment, if it has one.
    Raises UnknownName for an unknown agent or setting, UnsupportedSpace where the agent does not fit.
    """
    from .agents.core.errors import InvalidSetting
    from .agents.core.registry import agent_class
    from .agents.core.seeding import seed_all
    from .envs import make as make_env

    kind = agent_class(name)
    config = kind.config.override(settings)
    env = None
    if not hasattr(env_or_data, "buffer"):
        env = env_or_data if hasattr(env_or_data, "pop_episodes") else make_env(env_or_data, num_envs)
        if num_envs not in (1, env.num_envs):
            raise InvalidSetting(
                f"num_envs is {num_envs}, and the {env.num_envs} environments are taken as they are: leave num_envs out"
            )
    elif env_or_data.env_id:
        env = make_env(env_or_data.env_id, num_envs, **env_or_data.env_kwargs)
    seed_all(seed)
    agent = kind((env_or_data if env is None else env).spec, config, device=device, seed=seed)
    agent.env = env
    return agent


def load(path: Any, *, device: str = "cpu") -> Agent:
    """The agent of a checkpoint, or of a stable-baselines3 zip (see `agents.stable_baselines3` for what it keeps).

    Raises InvalidCheckpoint for a file that is truncated, foreign or newer.
    """
    if str(path).endswith(".zip"):
        from .agents.stable_baselines3 import load
    else:
        from .agents.core.checkpoint import load

    return load(path, device=device)


def dataset(name_or_path: Any, **options: Any) -> Dataset:
    """Recorded transitions: a D4RL id or a path; see `bellmark.offline.dataset.dataset` for the options."""
    from .offline.dataset import dataset

    return dataset(name_or_path, **options)


def to_stable_baselines3(agent: Agent, env: Any = None) -> Any:
    """A model of stable-baselines3 with the agent's networks; see `agents.stable_baselines3_export`."""
    from .agents.stable_baselines3_export import to_stable_baselines3

    return to_stable_baselines3(agent, env)


def list_agents() -> list[str]:
    """The names of all agents."""
    from .agents.core.registry import find_agents

    return sorted(find_agents())
