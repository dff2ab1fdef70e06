"""What the tests of agents share: every agent of the registry, small, on each kind of action that it can handle.

Nothing here knows an agent by name: which action spaces it has is found by building it, its settings by their fields.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from bellmark.agents.core.agent import Agent
from bellmark.agents.core.batch import Step
from bellmark.agents.core.buffer import Buffer
from bellmark.agents.core.config import ReplayConfig
from bellmark.agents.core.errors import UnsupportedSpace
from bellmark.agents.core.registry import find_agents
from bellmark.agents.core.spec import Spec
from torch import Tensor, nn

SMALL: dict[str, Any] = {
    "hidden": (16,),
    "critic_hidden": (),
    "batch_size": 16,
    "buffer_size": 1000,
    "start": 20,
    "rollout_length": 16,
    "memory_size": 8,
    "novelty_features": 8,
    "epochs": 2,
    "target_every": 16,
    "quantiles": 16,
    "policy_quantiles": 16,
    "predictor_updates": 3,
    "samples": 3,
    "backup_samples": 2,
    "copy_every": 4,
}
"""Settings of a small and fast agent, for the fields that it has."""

LONGEST_DELAY = 3
"""Critic updates per update of the actor, at most, so that a few updates reach every network."""

ENVS = {True: "CartPole-v1", False: "Pendulum-v1"}
"""An environment with discrete, and one with continuous actions."""


def spec_of(discrete: bool, obs_size: int = 3, actions: int = 2) -> Spec:
    if discrete:
        return Spec((obs_size,), actions, discrete=True)
    bounds = {"action_low": (-2.0,) * actions, "action_high": (3.0,) * actions}
    return Spec((obs_size,), actions, discrete=False, action_shape=(actions,), **bounds)


def supports(name: str, spec: Spec) -> bool:
    """Whether the agent can be built for that spec."""
    kind = find_agents()[name]
    try:
        kind(spec, kind.config.override(small(kind)))
    except UnsupportedSpace:
        return False
    return True


@functools.cache
def specs_for(name: str) -> dict[bool, Spec]:
    """The specs that the agent can be built for: discrete -> spec."""
    return {discrete: spec_of(discrete) for discrete in (True, False) if supports(name, spec_of(discrete))}


def small(kind: type[Agent], **settings: Any) -> dict[str, Any]:
    """The settings of SMALL and `settings`, as far as this kind of agent has them."""
    fields = {field.name for field in dataclasses.fields(kind.config)}
    delay = {"actor_delay": min(getattr(kind.config, "actor_delay", 1), LONGEST_DELAY)}
    return {name: value for name, value in (SMALL | delay | settings).items() if name in fields}


def has(name: str, setting: str) -> bool:
    """Whether the agent has that setting."""
    return setting in {field.name for field in dataclasses.fields(find_agents()[name].config)}


def has_replay(name: str) -> bool:
    return isinstance(find_agents()[name].config, ReplayConfig)


def goes_online(name: str) -> bool:
    return "online" in find_agents()[name].learns


def has_values(name: str) -> bool:
    """Whether the agent has a critic of any kind."""
    agent = build(name, next(iter(specs_for(name))))
    return any(hasattr(agent, network) for network in ("actor_critic", "value", "critic", "q"))


def remembers(name: str) -> bool:
    """Whether the agent's actions depend on more than the last observation."""
    return hasattr(find_agents()[name], "act_from")


def is_offline(name: str) -> bool:
    """Whether the agent's file is in `offline/`."""
    return find_agents()[name].__module__.split(".")[1] == "offline"


def build(name: str, discrete: bool, seed: int = 0, spec: Spec | None = None, **settings: Any) -> Agent:
    """A small agent; settings that it does not have are left out."""
    kind = find_agents()[name]
    torch.manual_seed(seed)
    return kind(spec or spec_of(discrete), kind.config.override(small(kind, **settings)), seed=seed)


CASES = [(name, discrete) for name in sorted(find_agents()) for discrete in specs_for(name)]
"""All agents, with each kind of action that they can handle: (name, discrete)."""

every_case = pytest.mark.parametrize(
    ("name", "discrete"), CASES, ids=[f"{name}-{'discrete' if discrete else 'continuous'}" for name, discrete in CASES]
)


def cases_where(condition: Any) -> pytest.MarkDecorator:
    """Parametrises over the cases whose agent's name meets the condition."""
    chosen = [case for case in CASES if condition(case[0])]
    ids = [f"{name}-{'discrete' if discrete else 'continuous'}" for name, discrete in chosen]
    return pytest.mark.parametrize(("name", "discrete"), chosen, ids=ids)


every_online_case = cases_where(goes_online)
every_valuing_case = cases_where(has_values)


def random_actions(spec: Spec, rng: np.random.Generator, count: int) -> np.ndarray:
    if spec.discrete:
        return rng.integers(spec.actions, size=count)
    return rng.uniform(-1, 1, (count, spec.actions)).astype(np.float32)


def filled_buffer(spec: Spec, count: int = 200, seed: int = 0) -> Buffer:
    """Random transitions in episodes of about ten, which end in both ways."""
    rng = np.random.default_rng(seed)
    ended = rng.random(count) < 0.1
    terminated = ended & (rng.random(count) < 0.5)
    return Buffer.from_transitions(
        spec,
        obs=rng.standard_normal((count, *spec.obs_shape)).astype(np.float32),
        action=random_actions(spec, rng, count),
        reward=rng.standard_normal(count).astype(np.float32),
        terminated=terminated,
        truncated=ended & ~terminated,
        next_obs=rng.standard_normal((count, *spec.obs_shape)).astype(np.float32),
    )


def stream(agent: Agent, columns: int = 2, seed: int = 0) -> Iterator[Any]:
    """Batches without end: from a filled buffer with replay, else from what the agent does on random observations."""
    if isinstance(agent.config, ReplayConfig):
        buffer = filled_buffer(agent.spec, seed=seed)
        while True:
            yield from agent.sample(buffer)
    rng, buffer = np.random.default_rng(seed), agent.make_buffer(columns)
    obs = rng.standard_normal((columns, *agent.spec.obs_shape)).astype(np.float32)
    buffer.begin(obs)
    done, start = np.zeros(columns, bool), np.ones(columns, bool)
    while True:
        action, valid = agent.explore(obs, **({"start": start} if remembers(agent.name) else {})), ~done
        start = ~valid
        obs = (3.0 + 2.0 * rng.standard_normal(obs.shape)).astype(np.float32)
        done = valid & (rng.random(columns) < 0.1)
        terminated = done & (rng.random(columns) < 0.5)
        reward = rng.standard_normal(columns).astype(np.float32) * valid
        buffer.add(action, Step(obs, reward, terminated, done & ~terminated, valid, obs))
        yield from agent.batches(buffer)


def one_batch(agent: Agent, **options: Any) -> Any:
    return next(stream(agent, **options))


def updates(agent: Agent, count: int, **options: Any) -> list[dict[str, Tensor]]:
    """Does `count` updates and gives their metrics."""
    batches = stream(agent, **options)
    return [agent.step(next(batches)) for _ in range(count)]


def children(agent: Agent) -> dict[str, nn.Module]:
    """The networks: children with parameters."""
    return {name: child for name, child in agent.named_children() if [*child.parameters()]}


def targets(agent: Agent) -> list[str]:
    return [name for name in children(agent) if name.endswith("_target")]


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two dicts of tensors are equal, bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def seen(agent: Agent, obs: Any) -> Tensor:
    """Observations as the networks see them."""
    tensor = torch.as_tensor(np.asarray(obs, np.float32))
    return tensor if agent.obs_normalizer is None else agent.obs_normalizer(tensor)


@torch.no_grad()
def value_of(agent: Agent, obs: Any) -> Tensor:
    """What the agent thinks that states `[N, ...]` are worth under its policy, whatever its critic is."""
    obs = seen(agent, obs)
    if remembers(agent.name):  # the states of one episode, in their order
        net, start = agent.actor_critic, torch.zeros(len(obs), 1, dtype=torch.bool)
        return net.critic(net.remember(obs[:, None], net.recurrence.initial(1), start, ())[0][:, 0])
    if hasattr(agent, "actor_critic"):
        return agent.actor_critic.critic(obs)
    if hasattr(agent, "value"):
        return agent.value(obs)
    if hasattr(agent, "critic") and not agent.spec.discrete:
        return agent.critic(obs, agent.act(obs, explore=False)).mean(0)
    q = agent.noiseless_values if hasattr(agent, "q") else agent.critic
    return q(obs).reshape(-1, len(obs), agent.spec.actions).mean(0).amax(1)


@torch.no_grad()
def action_value(agent: Agent, obs: Any, action: Any) -> Tensor | None:
    """Its value of actions, or None if it has no critic of actions."""
    obs, action = seen(agent, obs), torch.as_tensor(action)
    if hasattr(agent, "critic") and "action" in inspect.signature(agent.critic.forward).parameters:
        return agent.critic(obs, action).mean(0)
    if hasattr(agent, "q"):
        return agent.noiseless_values(obs).gather(1, action[:, None]).squeeze(1)
    return None
