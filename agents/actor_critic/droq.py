"""Dropout Q-functions."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.config import Count, Share
from .redq import REDQ, REDQConfig


@dataclass(frozen=True)
class DroQConfig(REDQConfig):
    """Defaults: the author's code with one dropout rate for all tasks."""

    critics: Count = 2
    """Size of the critic ensemble."""
    layer_norm: bool = True
    """Normalise every critic layer over its units, before the activation."""
    dropout: Share = 0.01
    """Probability of leaving out a unit of a critic, in updates and in targets."""


class DroQ(REDQ, name="droq"):
    """DroQ (Hiraoka et al. 2022, arXiv 2110.02034): REDQ whose ensemble is two critics with dropout.

        Q_e     linear -> dropout -> layer norm -> relu, twice, then linear
        y       = r + discount (min_e Qbar_e(s', a') - alpha log pi(a'|s')),  a' ~ pi(.|s')
        critic    sum_e mean (Q_e(s, a) - y)^2 / 2
        actor     mean (alpha log pi(a|s) - mean_e Q_e(s, a)),  every `actor_delay` updates

    Units are left out anew in every pass, for each critic on its own, in targets and in the actor's loss as well.

    Departures from the authors' code: REDQ's, and the actor learns from the last critic batch, not from one of its own.
    """

    config: DroQConfig = DroQConfig()
