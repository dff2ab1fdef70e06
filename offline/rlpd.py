"""Online learning with prior data in every batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..agents.actor_critic.redq import REDQ, REDQConfig
from ..agents.core.batch import Batch
from ..agents.core.config import Replay, Share


@dataclass(frozen=True)
class RLPDConfig(REDQConfig):
    """Defaults: the authors' for locomotion."""

    layer_norm: bool = True
    """Normalise every critic layer over its units, before the activation."""
    target_entropy: float = -0.5
    """Entropy to hold, in nats per action dimension."""
    entropy_in_target: Share = 1.0
    """Share of the entropy's reward that the target counts: 1, or 0 for AntMaze and Adroit."""
    replay: Replay = "balanced"
    """How transitions are drawn: balanced = half from the data, half from new ones."""


class RLPD(REDQ, name="rlpd"):
    """RLPD (Ball, Smith, Kostrikov, Levine 2023, arXiv 2302.02948): REDQ with layer norm and half of each batch data.

        batch     rows at even places from the data, at odd ones from what was collected since `learn` began
        Q_e       linear -> layer norm -> relu, twice, then linear;  10 critics, 20 updates per transition
        y         = r + discount (min_{e in M} Qbar_e(s', a') - c alpha log pi(a'|s')),  c = 1, or 0 for AntMaze and
                    Adroit;  M and losses as in REDQ

    `fit(data, updates=0)`, then `learn`; without data every batch is new.

    Departures from the authors' code: the temperature's gradient is taken in log alpha; layers start uniform in
    +-1/sqrt(inputs), not as Xavier's; critics' losses are halved and summed, not averaged (the same to Adam, but for
    its epsilon); data are overwritten once `buffer_size` transitions have been collected, and batches are uniform from
    then on.
    """

    config: RLPDConfig = RLPDConfig()

    def backup(self, batch: Batch, next_output: Tensor, log_prob: Tensor) -> Tensor:
        return super().backup(batch, next_output, self.config.entropy_in_target * log_prob)
