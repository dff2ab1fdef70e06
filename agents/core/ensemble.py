"""What agents with an ensemble of critics of continuous actions share: settings, heads and the critics' loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .batch import Batch
from .config import Count, HeadConfig, ReplayConfig, Share
from .critics import Q
from .heads import Head, head_of
from .replay import ReplayAgent
from .spec import Spec


@dataclass(frozen=True)
class EnsembleConfig(HeadConfig, ReplayConfig):
    """What every agent has that learns from an ensemble of critics."""

    critics: Count = 2
    """Size of the critic ensemble."""
    critic_hidden: tuple[int, ...] = ()
    """Widths of the hidden layers of every critic; those of `hidden` if there are none."""
    layer_norm: bool = False
    """Normalise every critic layer over its units, before the activation."""
    dropout: Share = 0.0
    """Probability of leaving out a unit of a critic, in updates and in targets."""
    tau: Share = 0.005
    """Share by which targets move at each of their updates."""


def ensemble(spec: Spec, c: EnsembleConfig, head: Head, **options: Any) -> Q:
    """The critics that the settings describe. Options go to `mlp`."""
    options = {"layer_norm": c.layer_norm, "dropout": c.dropout} | options
    return Q(spec, c.critic_hidden or c.hidden, c.critics, head, **options)


class EnsembleAgent(ReplayAgent):
    """An agent whose child `critic` is such an ensemble."""

    config: EnsembleConfig = EnsembleConfig()
    critic: Q

    def head(self, c: EnsembleConfig) -> Head:
        """How a critic's outputs stand for values."""
        return head_of(c)

    def return_distribution(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """The mixture of all critics, without dropout."""
        critic, was_training = self.critic, self.critic.training
        critic.eval()
        output = critic.output(obs, self.act(obs, explore=False))
        critic.train(was_training)
        values, probability = critic.head.distribution(output.transpose(0, 1))
        return values.flatten(1), probability.flatten(1) / len(output)

    def regression(self, batch: Batch, output: Tensor, target: Tensor) -> Tensor:
        """The loss of outputs `[E, B, K]` against the target: its mean over the batch, summed over the critics."""
        return self.batch_loss(batch, self.critic.head.loss(output, target), self.critic.head)
