"""What an agent does, as a law over actions: for log-probabilities beside data, and for judging it by data."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from ..agents.core.agent import Agent
from ..agents.core.critics import DiscreteQ
from ..agents.core.masks import FORBIDDEN, random_actions
from ..agents.core.policies import Categorical, Law, Normal
from ..agents.core.spec import Spec

ROWS = 8192
"""Transitions of a chunk."""


class Clipped(NamedTuple):
    """A Gaussian whose samples the environment clips to [-1, 1]: a density inside, a probability at each bound."""

    mean: Tensor
    log_std: Tensor

    def log_prob(self, action: Tensor) -> Tensor:
        """`[B]`: the sum over dimensions of the log density, or of the log probability where the action is a bound."""
        deviation, std = action - self.mean, self.log_std.exp().expand_as(self.mean)
        inside = Normal(self.mean.unsqueeze(-1), self.log_std.expand_as(self.mean).unsqueeze(-1))
        beyond = torch.special.log_ndtr(deviation.where(action < 0.0, -deviation) / std)
        return beyond.where(action.abs() >= 1.0, inside.log_prob(action.unsqueeze(-1))).sum(-1)


class Uniform:
    """Acts at random, uniformly among the actions that are allowed, as D4RL's random policy does."""

    name = "random"

    def __init__(self, spec: Spec):
        self.spec = spec

    def act_on(self, obs: np.ndarray, explore: bool) -> np.ndarray:
        return random_actions(self.spec, torch.from_numpy(obs)).numpy()


def law(actor: Any, obs: Tensor) -> Law | Clipped | None:
    """What `actor` draws actions from in training, in the states `obs` `[B, ...]`; None where it has no density.

    Agents with a Gaussian, squashed or softmax policy have one, and those that are epsilon-greedy in a table of
    values, and `Uniform` for discrete actions. Those with a memory, noisy networks, noise that is added, or
    a choice among candidates have none.
    """
    if hasattr(actor, "act_from") or hasattr(getattr(actor, "config", None), "candidates"):
        return None
    if isinstance(actor, Uniform):
        spec = actor.spec
        return None if spec.masked or spec.action_choices or not spec.discrete else _uniform(spec, obs)
    if (normalizer := actor.obs_normalizer) is not None:
        obs = normalizer(obs)
    if type(getattr(actor, "q", None)) is DiscreteQ and hasattr(actor, "epsilon") and not actor.config.noisy:
        return _epsilon_greedy(actor, obs)
    network = getattr(getattr(actor, "actor_critic", actor), "actor", None)
    found = network(obs) if network is not None else None
    if isinstance(found, Normal):
        return Clipped(found.mean, found.log_std)
    return cast(Law, found) if hasattr(found, "log_prob") else None


@torch.no_grad()
def log_probs(actor: Any, obs: np.ndarray | Tensor, action: np.ndarray | Tensor) -> np.ndarray | None:
    """log pi(a|s) `[M]` float64 of actions in the agent's units, those in [-1, 1]; None where there is no law."""
    device = getattr(actor, "device", "cpu")
    if isinstance(actor, Uniform) and not actor.spec.discrete:
        return np.full(len(obs), -actor.spec.actions * np.log(2.0))
    parts = []
    for start in range(0, len(obs), ROWS):
        rows = slice(start, start + ROWS)
        found = law(actor, torch.as_tensor(obs[rows], device=device))
        if found is None:
            return None
        chosen = torch.as_tensor(action[rows], device=device)
        parts.append(found.log_prob(chosen if actor.spec.discrete else chosen.clamp(-1.0, 1.0)).double().cpu())
    return torch.cat(parts).numpy()


def probabilities(agent: Agent, obs: Tensor, deterministic: bool) -> Tensor:
    """pi(a|s) of each of the discrete actions, `[B, A]`."""
    found = None if deterministic else law(agent, obs)
    if isinstance(found, Categorical):
        return found.log_probs.exp()
    actions = act(agent, obs, explore=not deterministic)
    return torch.nn.functional.one_hot(actions, agent.spec.actions).to(torch.float32)


def act(agent: Agent, obs: Tensor, explore: bool) -> Tensor:
    """The agent's own actions in raw observations on its device, clipped as the environment would."""
    action = agent.act(agent.normalized_obs(obs), explore)
    return action if agent.spec.discrete else action.clamp(-1.0, 1.0)


def _epsilon_greedy(agent: Any, obs: Tensor) -> Categorical:
    values = agent.noiseless_values(obs)
    allowed = (values > 0.5 * FORBIDDEN).float()
    greedy = torch.nn.functional.one_hot(values.argmax(-1), agent.spec.actions)
    chances = agent.epsilon * allowed / allowed.sum(-1, keepdim=True) + (1.0 - agent.epsilon) * greedy
    return Categorical(chances.log())


def _uniform(spec: Spec, obs: Tensor) -> Categorical:
    return Categorical.of(torch.zeros(len(obs), spec.actions))
