"""SAC with a large critic ensemble."""

from __future__ import annotations

from dataclasses import dataclass

from ..agents.actor_critic.sac import SAC, SACConfig
from ..agents.core.config import Count


@dataclass(frozen=True)
class SACNConfig(SACConfig):
    """Defaults: the authors' for HalfCheetah."""

    hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the hidden layers of every network."""
    critics: Count = 10
    """Size of the critic ensemble: the more, the more cautious (up to 500 for hopper-medium)."""


class SACN(SAC, name="sac_n"):
    """SAC-N (An et al. 2021, arXiv 2110.01548): SAC with N critics, target and actor take the minimum of all.

        y         = r + discount (min_e Qbar_e(s', a') - alpha log pi(a'|s')),  a' ~ pi(.|s'),  e = 1..N
        critic      sum_e mean (Q_e(s, a) - y)^2 / 2
        actor       mean (alpha log pi(a|s) - min_e Q_e(s, a)),  temperature as in SAC

    Departures from the authors' code: SAC's order of steps (critic, actor, temperature), half the squared error,
    PyTorch's initialisation, and log sigma in [-20, 2].
    """

    config: SACNConfig = SACNConfig()
