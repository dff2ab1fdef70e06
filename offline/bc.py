"""Behaviour cloning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..agents.core.agent import Metrics
from ..agents.core.batch import Batch
from ..agents.core.buffer import Buffer
from ..agents.core.config import ReplayConfig
from ..agents.core.losses import mse
from ..agents.core.policies import Deterministic, Gaussian, Softmax
from ..agents.core.replay import ReplayAgent
from ..agents.core.spec import Spec

VALIDATED = 4096
"""Most transitions that a loss is validated on."""


@dataclass(frozen=True)
class BCConfig(ReplayConfig):
    """Defaults: CORL's. The settings of replay, start and bootstrapping have no effect."""

    normalize_obs: bool = True
    """Shift and scale each observation dimension by the data's mean and standard deviation (plus 1e-3)."""
    gaussian: bool = False
    """For continuous actions, learn a Gaussian law by its likelihood instead of one action by its squared error."""


class BC(ReplayAgent, name="bc"):
    """Behaviour cloning (Pomerleau 1991): supervised learning of the recorded actions, blind to rewards.

        continuous   mean (pi(s) - a)^2, over rows and action dimensions
        gaussian     -mean log pi(a|s),  pi a Gaussian with mean tanh(.) and one log sigma for all states in [-5, 2]
        discrete     -mean log pi(a|s),  pi a softmax

    It has no values and learns from data alone: online it would clone itself.

    Departures: none from CORL's code, whose loss, network and settings are those for continuous actions; the other two
    laws are as usual. The paper's network is another.
    """

    config: BCConfig = BCConfig()
    learns: ClassVar[tuple[str, ...]] = ("from data",)

    def build(self, spec: Spec, c: BCConfig) -> None:
        self.actor: Softmax | Gaussian | Deterministic
        if spec.discrete:
            self.actor = Softmax(spec, c.hidden)
        else:
            self.actor = Gaussian(spec, c.hidden, squash_mean=True) if c.gaussian else Deterministic(spec, c.hidden)

    def act(self, obs: Tensor, explore: bool) -> Tensor:
        found = self.actor(obs)
        if isinstance(found, Tensor):
            return found
        return found.sample() if explore else found.mode()

    def update(self, batch: Batch) -> Metrics:
        return {"actor_loss": self.minimize("actor", self.actor_loss(batch))}

    @torch.no_grad()
    def validate(self, buffer: Buffer) -> Metrics:
        """The loss on transitions that are not learnt from: evenly spaced ones, at most 4,096. Draws nothing."""
        index = buffer.valid_index()
        batch = buffer.gather(index[:: -(-len(index) // VALIDATED)], self.config.gamma)
        return {"actor_loss": self.actor_loss(batch._replace(obs=self.normalized_obs(batch.obs)))}

    def actor_loss(self, batch: Batch) -> Tensor:
        """0-d."""
        found = self.actor(batch.obs)
        if isinstance(found, Tensor):
            return mse(found, batch.action).mean()
        return -found.log_prob(batch.action).mean()
