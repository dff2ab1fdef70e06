"""Conservative Q-learning on quantiles of the return."""

from __future__ import annotations

from dataclasses import dataclass

from ..agents.core.config import Count, NonNegative
from ..agents.core.heads import Head, Quantile
from .discrete_cql import DiscreteCQL, DiscreteCQLConfig


@dataclass(frozen=True)
class DiscreteCQLQRConfig(DiscreteCQLConfig):
    """Defaults: the authors' for 10% of Atari's data, whose network is copied every 2000 updates."""

    learning_rate: NonNegative = 5e-5
    """Step size of Adam."""
    target_every: Count = 8_000
    """Transitions between two copies of the network into the target network: 4 an update."""
    quantiles: Count = 200
    """Number of equally likely returns that are learnt."""
    threshold: NonNegative = 1.0
    """Errors up to this count squared, larger ones linearly; 0 = all linearly."""
    double: bool = False
    """Choose the next action by the network itself, not by the target network (van Hasselt et al. 2016)."""


class DiscreteCQLQR(DiscreteCQL, name="discrete_cql_qr"):
    """CQL on QR-DQN, as in the authors' Atari experiments (Kumar et al. 2020, arXiv 2006.04779, section 6).

        Q(s, a) = mean_i theta_i(s, a),   gap = log sum_b exp Q(s, b) - Q(s, a)
        loss    = mean (QR-DQN's loss of theta(s, a) + alpha gap),   alpha 1 for 10% of the data, 4 for 1%

    Departures from the authors' code: Adam's epsilon is 1e-8, not 3.1e-4; gradients are clipped at 10; those of DQN.
    """

    config: DiscreteCQLQRConfig = DiscreteCQLQRConfig()

    def head(self, c: DiscreteCQLQRConfig) -> Head:
        return Quantile(c.quantiles, c.threshold)
