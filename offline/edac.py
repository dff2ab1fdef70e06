"""Ensemble-diversified actor-critic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..agents.core.batch import Batch
from ..agents.core.config import NonNegative
from ..agents.core.errors import InvalidSetting
from ..agents.core.spec import Spec
from .sac_n import SACN, SACNConfig

EPSILON = 1e-10


@dataclass(frozen=True)
class EDACConfig(SACNConfig):
    """Defaults: the authors' for HalfCheetah."""

    diversity: NonNegative = 1.0
    """Weight of the likeness of the critics' action gradients against the squared error (eta)."""


class EDAC(SACN, name="edac"):
    """EDAC (An et al. 2021, arXiv 2110.01548): SAC-N whose critics disagree about the direction of better actions.

        g_e       = grad_a Q_e(s, a) / |.|  at the recorded action
        likeness  = mean sum_{i != j} g_i . g_j / (N - 1)                         (eq. 6: each pair counts twice)
        critic      sum_e mean (Q_e(s, a) - y)^2 / 2 + eta likeness / 2

    Half of the authors' loss; the sum over pairs is |sum_e g_e|^2 - sum_e |g_e|^2. Departures: SAC-N's.
    """

    config: EDACConfig = EDACConfig()

    def build(self, spec: Spec, c: Any) -> None:
        if c.critics < 2:
            raise InvalidSetting("EDAC compares critics with each other: set critics to at least 2")
        super().build(spec, c)

    def critic_loss(self, batch: Batch) -> Tensor:
        obs, action = (x.expand(self.config.critics, -1, -1) for x in (batch.obs, batch.action))
        action = action.detach().requires_grad_()  # one copy a critic, so that one call gives every gradient
        output = self.critic.output(obs, action)
        error = self.regression(batch, output, self.target(batch))
        return 0.5 * (error + self.config.diversity * likeness(self.critic.head.mean(output), action))


def likeness(value: Tensor, action: Tensor) -> Tensor:
    """Mean over rows of sum_{i != j} g_i . g_j / (N - 1), from values `[N, B]` of actions `[N, B, A]`."""
    (slope,) = torch.autograd.grad(value.sum(), action, create_graph=True)
    direction = slope / (slope.norm(dim=-1, keepdim=True) + EPSILON)
    pairs = direction.sum(0).square().sum(-1) - direction.square().sum((0, -1))
    return pairs.mean() / (len(value) - 1)
