"""Conservative Q-learning on quantiles of the return."""

from __future__ import annotations

from dataclasses import dataclass

from ..agents.core.config import Count, NonNegative
from ..agents.core.heads import Head, Quantile
from .discrete_cql import DiscreteCQL, DiscreteCQLConfig


@dataclass(frozen=True)
class DiscreteCQLQRConfig(DiscreteCQLConfig):
    """Defaults: the authors' for 10% of Atari's data."""

    quantiles: Count = 200
    """Number of equally likely returns that are learnt."""
    threshold: NonNegative = 1.0
    """Errors up to this count squared, larger ones linearly; 0 = all linearly."""
    double: bool = False
    """Choose the next action by the network itself, not by the target network (van Hasselt et al. 2016)."""


class DiscreteCQLQR(DiscreteCQL, name="discrete_cql_qr"):
    """CQL on QR-DQN, as in the authors' Atari experiments (Kumar et al. 2020, arXiv 2006.04779, section 6).

    The gap is that of the quantiles' means; alpha is 1 for 10% of the data, 4 for 1%.
    """

    config: DiscreteCQLQRConfig = DiscreteCQLQRConfig()

    def head(self, c: DiscreteCQLQRConfig) -> Head:
        return Quantile(c.quantiles, c.threshold)
