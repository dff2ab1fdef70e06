"""Categorical DQN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..core.config import Atoms
from ..core.errors import InvalidSetting
from ..core.heads import Categorical, Head
from .dqn import DQN, DQNConfig


@dataclass(frozen=True)
class C51Config(DQNConfig):
    """Defaults: the paper's support, otherwise DQN's."""

    value_low: float = -10.0
    """Smallest return that can be represented; smaller ones count as this."""
    value_high: float = 10.0
    """Largest return that can be represented; larger ones count as this."""
    atoms: Atoms = 51
    """Number of equally spaced returns whose probabilities are learnt."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.value_low < self.value_high:
            raise InvalidSetting(f"value_low = {self.value_low:g} must be below value_high = {self.value_high:g}")


class C51(DQN, name="c51"):
    """C51 (Bellemare, Dabney, Munos 2017, arXiv 1707.06887): DQN with a distribution over returns.

        Z(s, a) = z_i with probability p_i(s, a) = softmax(logits(s, a))_i,   Q(s, a) = sum_i p_i(s, a) z_i
        m       = r + discount Zbar(s', a*), projected onto the atoms z:
                  m_i = sum_j pbar_j(s', a*) clip(1 - |clip(r + discount z_j, low, high) - z_i| / step, 0, 1)    (eq. 7)
        loss    = -mean sum_i m_i log p_i(s, a)

    Choose the support so that it holds all discounted returns: what lies outside is cut off without a word.
    Departures from the paper are those of DQN.
    """

    config: C51Config = C51Config()

    def head(self, c: Any) -> Head:
        return Categorical(c.value_low, c.value_high, c.atoms)
