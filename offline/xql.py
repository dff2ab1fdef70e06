"""Extreme Q-learning."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..agents.core.batch import Batch
from ..agents.core.config import NonNegative, Number, Positive
from ..agents.core.critics import Q, V
from ..agents.core.heads import Scalar
from ..agents.core.losses import gumbel
from ..agents.core.nets import frozen_copy, orthogonal_init
from ..agents.core.policies import Gaussian
from ..agents.core.spec import Spec
from .iql import IQL, IQLConfig


@dataclass(frozen=True)
class XQLConfig(IQLConfig):
    """Defaults: the authors' one setting for all MuJoCo sets ("consistent"). `expectile` has no effect."""

    gumbel_temperature: Positive = 2.0
    """Softness of the maximum over recorded actions, in units of return: towards 0 the maximum, large the mean."""
    max_clip: Positive = 7.0
    """Rows in which a recorded action is better than the value by more temperatures than this are left out."""
    action_noise: NonNegative = 0.0
    """Standard deviation of the noise, cut at 0.5, on recorded actions in the value's loss."""
    random_actions: Number = 0
    """Uniform actions added to each recorded one in the value's loss."""


class XQL(IQL, name="xql"):
    """XQL (Garg, Hejna, Geist, Ermon 2023, arXiv 2301.02328): IQL with Gumbel regression for the value.

        z       = min((min_e Qbar_e(s, a) - V(s)) / beta, max_clip),   M = max(max z, -1), detached
        value     mean (e^(z - M) - z e^-M - e^-M),  whose minimum is V(s) = beta log E exp(Qbar(s, a) / beta)
        critic    sum_e mean Huber_20(Q_e(s, a) - r - discount V(s')),  the rest as in IQL

    Layer normalisation is in the value network alone.

    Departures from the authors' code: dropout 0.5 there for AntMaze, which their losses never turn on, is left out,
    and so are what is off by default: several steps of the value per batch, a gradient penalty; else none but IQL's.
    """

    config: XQLConfig = XQLConfig()

    def build(self, spec: Spec, c: XQLConfig) -> None:  # type: ignore[override]
        spec.require_continuous(self.name)
        init = orthogonal_init()
        self.actor = Gaussian(spec, c.hidden, squash_mean=True, init=init)
        self.value = V(spec, c.hidden, init=init, layer_norm=True)
        self.critic = Q(spec, c.hidden, head=Scalar(threshold=20.0), init=init)
        self.critic_target = frozen_copy(self.critic)

    def value_loss(self, batch: Batch, q: Tensor) -> Tensor:
        c, obs = self.config, batch.obs
        if c.action_noise or c.random_actions:
            obs, q = self.smoothed(batch)
        return gumbel(q - self.value(obs), c.gumbel_temperature, c.max_clip).mean()

    @torch.no_grad()
    def smoothed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Observations `[B (1 + random_actions), ...]` and the values of noisy and of random actions there."""
        c, count = self.config, 1 + self.config.random_actions
        noise = (c.action_noise * torch.randn_like(batch.action)).clamp(-0.5, 0.5)
        random = 2.0 * torch.rand(c.random_actions, *batch.action.shape, device=batch.action.device) - 1.0
        action = torch.cat([(batch.action + noise).clamp(-1.0, 1.0)[None], random]).flatten(0, 1)
        obs = batch.obs.expand(count, *batch.obs.shape).flatten(0, 1)
        return obs, self.critic_target(obs, action).amin(0)
