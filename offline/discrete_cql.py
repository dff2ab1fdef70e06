"""Conservative Q-learning for discrete actions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..agents.core.batch import Batch
from ..agents.core.config import Count, NonNegative, Share
from ..agents.core.critics import at_action
from ..agents.value_based.dqn import DQN, DQNConfig


@dataclass(frozen=True)
class DiscreteCQLConfig(DQNConfig):
    """Defaults: d3rlpy's, whose network is copied every 8000 updates."""

    learning_rate: NonNegative = 6.25e-5
    """Step size of Adam."""
    target_every: Count = 32_000
    """Transitions between two copies of the network into the target network: 4 an update."""
    double: bool = True
    """Choose the next action by the network itself, not by the target network (van Hasselt et al. 2016)."""
    exploration_start: Share = 0.05
    """Probability of a random action at the beginning of `learn`: what was learnt from data is not forgotten."""
    penalty_weight: NonNegative = 1.0
    """Weight alpha of the penalty against the loss of the head."""


class DiscreteCQL(DQN, name="discrete_cql"):
    """CQL(H) (Kumar et al. 2020, arXiv 2006.04779) for choices, on Double DQN; the penalty is exact.

        gap  = log sum_b exp Q(s, b) - Q(s, a)
        loss = mean (Huber(Q(s, a) - y) + alpha gap)

    With a distributional head Q is its mean, in both terms. Forbidden actions do not count.

    Departures from the paper: Double DQN with one number for each action, as in d3rlpy (the paper's QR-DQN is
    `discrete_cql_qr`); prioritised replay, if chosen, goes by the whole loss; those of DQN.
    """

    config: DiscreteCQLConfig = DiscreteCQLConfig()

    def losses(self, batch: Batch) -> Tensor:
        output = self.q.output(batch.obs)
        gap = conservative_gap(self.q.values(batch.obs, output), batch.action)
        error = self.q.head.loss(at_action(output, batch.action), self.target(batch))
        return error + self.config.penalty_weight * gap


def conservative_gap(value: Tensor, action: Tensor) -> Tensor:
    """log sum_b exp Q(s, b) - Q(s, a), from values `[B, A]` and actions `[B]`: `[B]`."""
    return value.logsumexp(1) - at_action(value, action)
