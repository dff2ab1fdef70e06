"""DQN whose values are learnt by classification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ..core.config import Positive
from ..core.heads import Categorical, Head
from .c51 import C51, C51Config


@dataclass(frozen=True)
class HLGaussDQNConfig(C51Config):
    """Defaults: the paper's."""

    encoding: Literal["hl_gauss", "two_hot"] = "hl_gauss"
    """How a scalar becomes probabilities: a Gaussian around it, or the two nearest atoms."""
    sigma: Positive = 0.75
    """Standard deviation of that Gaussian, in distances of atoms."""


class HLGaussDQN(C51, name="hl_gauss_dqn"):
    """DQN by classification (Farebrother et al. 2024, arXiv 2403.03950; HL-Gauss: Imani & White 2018).

        Q(s, a) = sum_i softmax(logits(s, a))_i z_i
        y       = r + discount Qbar(s', a*),   the scalar of DQN
        m_i     = share of N(y, (sigma step)^2), cut to the support, in the bin around z_i
        loss    = -mean sum_i m_i log softmax(logits(s, a))_i

    With the encoding `two_hot`, m lies on the two atoms next to y and has the mean y. Unlike C51 no distribution of
    returns is propagated. Departures from the paper are those of DQN.
    """

    config: HLGaussDQNConfig = HLGaussDQNConfig()

    def head(self, c: Any) -> Head:
        return Categorical(c.value_low, c.value_high, c.atoms, c.encoding, c.sigma)
