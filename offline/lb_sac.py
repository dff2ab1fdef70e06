"""SAC with large batches instead of a large ensemble."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..agents.core.config import Count, NonNegative
from .sac_n import SACN, SACNConfig

BASE = 256
"""Transitions per update for which the step size is stated."""


@dataclass(frozen=True)
class LBSACConfig(SACNConfig):
    """Defaults: the authors' for halfcheetah-medium."""

    batch_size: Count = 10_000
    """Transitions per update."""
    learning_rate: NonNegative = 3e-4
    """Step size of Adam for 256 transitions; it is scaled by the square root of `batch_size` / 256."""
    critics: Count = 4
    """Size of the critic ensemble."""


class LBSAC(SACN, name="lb_sac"):
    """LB-SAC (Nikulin et al. 2022, arXiv 2211.11092): SAC-N with few critics and batches of B = 10,000.

        y, losses and order as in SAC-N,   step size = learning_rate sqrt(B / 256):  3e-4 becomes 1.875e-3

    For hopper-medium, and in no other of their files, the authors' critics have layer norm.

    Departures from the authors' code: every critic has its own scale and shift in layer norm (there all share one);
    critics' losses are summed, not averaged (the same to Adam, but for its epsilon); and SAC-N's.
    """

    config: LBSACConfig = LBSACConfig()

    def learning_rate(self, name: str) -> float:
        return super().learning_rate(name) * math.sqrt(self.config.batch_size / BASE)
