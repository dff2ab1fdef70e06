"""Randomised ensembled double Q-learning."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.config import Count, Number, Positive
from ..core.errors import InvalidSetting
from ..core.spec import Spec
from .sac import SAC, SACConfig


@dataclass(frozen=True)
class REDQConfig(SACConfig):
    """Defaults: the authors' code; its target entropy differs from task to task."""

    start: Number = 5_000
    """Transitions collected with random actions before the first update."""
    update_ratio: Positive = 20.0
    """Updates per transition."""
    actor_delay: Count = 20
    """Critic updates per update of actor and temperature."""
    critics: Count = 10
    """Size of the critic ensemble."""
    subset: Count = 2
    """Critics drawn at each update, whose minimum is the target."""


class REDQ(SAC, name="redq"):
    """REDQ (Chen, Wang, Zhou, Ross 2021, arXiv 2101.05982): SAC with an ensemble and many updates per transition.

        M         `subset` of the E critics, drawn anew at each update
        y         = r + discount (min_{e in M} Qbar_e(s', a') - alpha log pi(a'|s')),  a' ~ pi(.|s')
        critic      sum_e mean (Q_e(s, a) - y)^2 / 2,  over all critics;  all targets follow
        actor       mean (alpha log pi(a|s) - mean_e Q_e(s, a)),  every `actor_delay` updates

    Departures from the authors' code: the factor 1/2; the actor is updated with the new critics, not with those before
    the same update's step; layers start uniform in +-1/sqrt(inputs), not as Xavier's; the temperature starts at 1 and
    stays what the optimiser makes it (theirs is 0.2 until the first step).
    """

    config: REDQConfig = REDQConfig()

    def build(self, spec: Spec, c: REDQConfig) -> None:
        if c.subset > c.critics:
            raise InvalidSetting(f"subset = {c.subset} is more than the {c.critics} critics: choose it smaller")
        super().build(spec, c)

    def next_output(self, obs: Tensor, action: Tensor) -> Tensor:
        c = self.config
        members = torch.rand(c.critics, device=obs.device).topk(c.subset).indices
        return self.critic_target.lowest(self.critic_target.output_of(members, obs, action))

    def actor_value(self, obs: Tensor, action: Tensor) -> Tensor:
        return self.critic(obs, action).mean(0)
