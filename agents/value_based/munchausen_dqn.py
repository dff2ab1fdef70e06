"""Munchausen DQN."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.batch import Batch
from ..core.config import Positive, Share
from ..core.critics import at_action
from ..core.errors import InvalidSetting
from .dqn import DQN, DQNConfig


@dataclass(frozen=True)
class MunchausenDQNConfig(DQNConfig):
    """Defaults: the paper's, otherwise DQN's."""

    temperature: Positive = 0.03
    """Weight of the entropy, in units of the return per nat."""
    alpha: Share = 0.9
    """Share of the scaled log-probability that is added to the reward; 0 = soft DQN."""
    bonus_low: float = -1.0
    """Smallest scaled log-probability; smaller ones count as this."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.double:
            raise InvalidSetting("munchausen_dqn averages over the next actions and chooses none: leave double out")


class MunchausenDQN(DQN, name="munchausen_dqn"):
    """M-DQN (Vieillard, Pietquin, Geist 2020, arXiv 2007.14430): DQN rewarded for what its policy finds likely.

        t log pi(.|s) = t log softmax(Qbar(s, .) / t),   t the temperature
        y             = r + alpha clip(t log pi(a|s), low, 0) + discount t log sum_a' exp(Qbar(s', a') / t)    (eq. 1)

    The last term is sum_a' pi(a'|s') (Qbar(s', a') - t log pi(a'|s')). Acting is epsilon-greedy in Q, as in DQN.

    Departures from the paper: those of DQN; with n-step returns the bonus belongs to the first step alone.
    """

    config: MunchausenDQNConfig = MunchausenDQNConfig()

    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        c = self.config
        log_policy = (self.q_target(batch.obs) / c.temperature).log_softmax(1)
        bonus = (c.temperature * at_action(log_policy, batch.action)).clamp(c.bonus_low, 0.0)
        value = c.temperature * (self.q_target(batch.next_obs) / c.temperature).logsumexp(1)
        return batch.reward + c.alpha * bonus + batch.discount * value
