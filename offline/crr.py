"""Critic-regularised regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..agents.core.agent import Metrics
from ..agents.core.batch import Batch
from ..agents.core.config import Count, Positive
from ..agents.core.ensemble import ensemble
from ..agents.core.nets import frozen_copy
from ..agents.core.policies import TanhGaussian, TanhNormal
from ..agents.core.spec import Spec
from .awac import AWAC, AWACConfig

MARGIN = 1e-3
"""Recorded actions are kept so far inside [-1, 1], where tanh has an inverse."""


@dataclass(frozen=True)
class CRRConfig(AWACConfig):
    """Defaults: acme's agent, of the same organisation as the paper. `tau` has no effect: targets are copied."""

    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers of every network."""
    normalize_obs: bool = False
    """Shift and scale each observation dimension by the data's mean and standard deviation (plus 1e-3)."""
    critics: Count = 1
    """Size of the critic ensemble; target and advantage take the minimum."""
    advantage_temperature: Positive = 1.0
    """Advantages are divided by this, in units of return: small values clone only the best actions."""
    max_weight: Positive = 20.0
    """Bound of the weight exp(advantage / advantage_temperature)."""
    baseline: Literal["mean", "max"] = "mean"
    """What the advantage subtracts: the mean or the greatest value of the policy's actions."""
    samples: Count = 4
    """Actions of the policy that the baseline takes."""
    copy_every: Count = 100
    """Updates between two copies of policy and critic into their targets."""


class CRR(AWAC, name="crr"):
    """CRR (Wang et al. 2020, arXiv 2006.15134): AWAC with a better baseline, a target policy, and 0/1 weights at will.

        y       = r + discount min_e Qbar_e(s', a'),  a' ~ pibar(.|s')
        A       = Q(s, a) - mean_j Q(s, a_j)  (or max_j),  a_j ~ pi(.|s), j = 1..4
        actor     -mean w log pi(a|s),  w = min(exp(A), 20)  or  1{A > 0}
        Qbar, pibar <- Q, pi every 100 updates;  both losses are taken at the same parameters

    Departures from the paper: a scalar critic (critic_head = "c51" makes it distributional) and a tanh-Gaussian instead
    of a mixture of Gaussians, and the policy's mode instead of actions resampled by their values, as in acme. From
    acme: it acts by the policy itself, not by its target copy; the critic's loss is not halved. Where the scalar critic
    overestimates, weights vanish, the policy no longer clones and the critic diverges; a categorical one cannot.
    """

    config: CRRConfig = CRRConfig()

    def build(self, spec: Spec, c: CRRConfig) -> None:  # type: ignore[override]
        spec.require_continuous(self.name)
        self.actor = TanhGaussian(spec, c.hidden)  # type: ignore[assignment]
        self.critic = ensemble(spec, c, self.head(c))
        self.actor_target, self.critic_target = frozen_copy(self.actor), frozen_copy(self.critic)

    def update(self, batch: Batch) -> Metrics:
        advantage = self.advantage(batch)
        critic_loss = self.minimize("critic", self.critic_loss(batch))
        inside = batch._replace(action=batch.action.clamp(-1.0 + MARGIN, 1.0 - MARGIN))
        actor_loss = self.minimize("actor", self.actor_loss(inside, advantage))
        if self.due(self.config.copy_every):
            self.follow(1.0)
        return {"critic_loss": critic_loss, "actor_loss": actor_loss, "advantage": advantage.mean()}

    def next_action(self, obs: Tensor) -> Tensor:
        return self.actor_target(obs).sample()

    @torch.no_grad()
    def advantage(self, batch: Batch) -> Tensor:
        c = self.config
        law = self.actor(batch.obs)
        action = TanhNormal(*(x.unsqueeze(1).expand(-1, c.samples, -1) for x in law)).sample()
        values = self.critic.of_actions(batch.obs, action).amin(0)
        baseline = values.amax(1) if c.baseline == "max" else values.mean(1)
        return self.critic(batch.obs, batch.action).amin(0) - baseline
