"""Trust region policy optimisation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.batch import RolloutBatch
from ..core.config import Count, Share
from ..core.natural import NaturalStep
from ..core.policies import Law
from .npg import NPG, NPGConfig


@dataclass(frozen=True)
class TRPOConfig(NPGConfig):
    """Defaults: sb3-contrib's."""

    line_search: Count = 10
    """Lengths of the step that are tried."""
    shrink: Share = 0.8
    """Each is so many times the one before."""


class TRPO(NPG, name="trpo"):
    """TRPO (Schulman et al. 2015, arXiv 1502.05477), with the value function of the GAE paper as a setting of NPG.

    NPG's step, times the first of 1, shrink, shrink^2, ... with

        mean KL(pi_old || pi) <= max_kl   and   mean pi(a|s) / pi_old(a|s) A above its value before;

    no step if there is none. Departure: all lengths are tried at once and the first is chosen on the device, since a
    pass forward is cheap beside the conjugate gradient and the host need not wait.
    """

    config: TRPOConfig = TRPOConfig()

    @torch.no_grad()
    def share(self, natural: NaturalStep, old: Law, batch: RolloutBatch, advantage: Tensor) -> Tensor:
        flat, c = self._flat["actor"].flat, self.config
        start, before = flat.detach().clone(), self.surrogate(old, batch, advantage)
        chosen = torch.zeros_like(before)
        for k in reversed(range(c.line_search)):
            flat.copy_(start + c.shrink**k * natural.step)
            law = self.law(batch.obs)
            good = (old.kl(law).mean() <= c.max_kl) & (self.surrogate(law, batch, advantage) < before)
            chosen = torch.where(good, c.shrink**k, chosen)
        flat.copy_(start)
        return chosen
