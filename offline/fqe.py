"""Fitted Q-evaluation: the value of a given policy, from data of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from ..agents.core.agent import Agent, Metrics
from ..agents.core.batch import Batch
from ..agents.core.buffer import Buffer
from ..agents.core.config import Count, NonNegative, ReplayConfig
from ..agents.core.critics import DiscreteQ, Q
from ..agents.core.errors import InvalidSetting
from ..agents.core.losses import mse
from ..agents.core.nets import frozen_copy
from ..agents.core.replay import ReplayAgent
from ..agents.core.spec import Spec
from .behaviour import ROWS, act, probabilities
from .trajectories import trajectories


@dataclass(frozen=True)
class FQEConfig(ReplayConfig):
    """Defaults: d3rlpy's, but for larger batches."""

    learning_rate: NonNegative = 1e-4
    """Step size of Adam."""
    critics: Count = 1
    """Networks; the estimate is their mean."""
    target_every: Count = 100
    """Updates between two copies of the networks into the target networks."""


class FQE(ReplayAgent):
    """FQE (Le, Voloshin, Yue 2019, arXiv 1903.08738): SARSA's regression with the actions of the policy pi judged.

        y_e     = r + discount E_{a' ~ pi(.|s')} Qbar_e(s', a')      (continuous: one a'; discrete: the sum)
        critic    sum_e mean (Q_e(s, a) - y_e)^2,   Qbar <- Q every `target_every` updates
        J       = mean over initial states of mean_e E_{a ~ pi(.|s)} Q_e(s, a)

    It has no actor and no pessimism: a mean over networks, never a minimum. A cut-off episode bootstraps, so J is the
    value without a horizon. Made by `FQE.of`; it is no agent of its own and has no name.
    """

    config: FQEConfig = FQEConfig()
    learns: ClassVar[tuple[str, ...]] = ("from data",)
    judged: tuple[Agent, bool]
    """The agent that is judged, and whether without its exploration. In a tuple, since it is no part of this one."""

    @classmethod
    def of(cls, agent: Agent, *, deterministic: bool = True, seed: int = 0, **settings: Any) -> Self:
        """What judges `agent`. Raises InvalidSetting for one with a memory, or that chooses several things at once."""
        if hasattr(agent, "act_from") or agent.spec.action_choices:
            raise InvalidSetting(f"'{agent.name}' here depends on more than Q(s, a) can say: judge it in episodes")
        found = cls(agent.spec, cls.config.override(settings), device=agent.device, seed=seed)
        found.judged = agent, deterministic
        return found

    def build(self, spec: Spec, c: FQEConfig) -> None:
        if c.normalize_obs:
            raise InvalidSetting("fitted Q-evaluation reads observations as they are: leave normalize_obs out")
        self.critic = (DiscreteQ if spec.discrete else Q)(spec, c.hidden, size=c.critics)
        self.critic_target = frozen_copy(self.critic)

    def act(self, obs: Tensor, explore: bool) -> Tensor:
        return act(self.judged[0], obs, explore)

    def update(self, batch: Batch) -> Metrics:
        loss = self.minimize("critic", self.critic_loss(batch))
        if self.due(self.config.target_every):
            self.follow(1.0)
        return {"critic_loss": loss}

    def critic_loss(self, batch: Batch) -> Tensor:
        return mse(self.values(batch.obs, batch.action), self.target(batch)).mean(1).sum()

    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        return batch.reward + batch.discount * self.expected(self.critic_target, batch.next_obs)

    def values(self, obs: Tensor, action: Tensor) -> Tensor:
        """Q_e(s, a) `[E, B]`."""
        if not self.spec.discrete:
            return self.critic(obs, action)
        return self.critic(obs).take_along_dim(action.view(1, -1, 1), 2).squeeze(2)

    def expected(self, critic: Any, obs: Tensor) -> Tensor:
        """E_{a ~ pi(.|s)} Q_e(s, a) `[E, B]`; for continuous actions from one sample."""
        agent, deterministic = self.judged
        if not self.spec.discrete:
            return critic(obs, act(agent, obs, explore=not deterministic))
        return (critic(obs) * probabilities(agent, obs, deterministic)).sum(-1)

    @torch.no_grad()
    def estimates(self, buffer: Buffer, rows: Any) -> tuple[np.ndarray, np.ndarray]:
        """Q(s, a) and V(s) `[M]` float64 at flat indices `[M]` of a buffer."""
        found = []
        for part in torch.as_tensor(rows, device=buffer.device).split(ROWS):
            obs, action = buffer.observations(part), buffer.action.flatten(0, 1)[part]
            found.append(torch.stack([self.values(obs, action).mean(0), self.expected(self.critic, obs).mean(0)]))
        q, value = torch.cat(found, 1).double().cpu().numpy()
        return q, value

    def initial_values(self, buffer: Buffer) -> np.ndarray:
        """V(s_0) of each episode `[n]`: their mean is the estimate of J."""
        found = trajectories(buffer)
        return self.estimates(buffer, found.rows[found.first])[1]
