"""DQN with quantile regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..core.config import Count, NonNegative
from ..core.heads import Head, Quantile
from .dqn import DQN, DQNConfig


@dataclass(frozen=True)
class QRDQNConfig(DQNConfig):
    """Defaults: the paper's head, otherwise DQN's."""

    quantiles: Count = 200
    """Number of equally likely returns that are learnt."""
    threshold: NonNegative = 1.0
    """Errors up to this count squared, larger ones linearly; 0 = all linearly."""


class QRDQN(DQN, name="qr_dqn"):
    """QR-DQN (Dabney, Rowland, Bellemare, Munos 2018, arXiv 1710.10044): DQN with quantiles of the return.

        Q(s, a) = mean_i theta_i(s, a),   theta_i the quantile at tau_i = (i + 1/2) / N
        y_j     = r + discount thetabar_j(s', a*)
        loss    = mean over rows of sum_i mean_j |tau_i - 1{y_j < theta_i}| Huber(y_j - theta_i(s, a))       (eq. 10)

    Departures from the paper are those of DQN.
    """

    config: QRDQNConfig = QRDQNConfig()

    def head(self, c: Any) -> Head:
        return Quantile(c.quantiles, c.threshold)
