"""What agents with an ensemble of critics of continuous actions share: settings, heads and the critics' loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from .batch import Batch
from .config import Atoms, Count, ReplayConfig, Share
from .critics import Q
from .errors import InvalidSetting
from .heads import Categorical, Head, Quantile, Scalar
from .replay import ReplayAgent
from .spec import Spec


@dataclass(frozen=True)
class EnsembleConfig(ReplayConfig):
    """What every agent has that learns from an ensemble of critics of continuous actions."""

    critics: Count = 2
    """Size of the critic ensemble."""
    critic_hidden: tuple[int, ...] = ()
    """Widths of the hidden layers of every critic; those of `hidden` if there are none."""
    critic_head: Literal["scalar", "c51", "two_hot", "hl_gauss", "quantile"] = "scalar"
    """How outputs stand for a value: one number, a histogram (of returns in c51, else of their mean), or quantiles."""
    atoms: Atoms = 101
    """Outputs of a histogram, or of quantiles."""
    value_low: float = -100.0
    """Smallest value of a histogram; what is smaller is clipped to it."""
    value_high: float = 100.0
    """Largest value of a histogram; what is larger is clipped to it."""
    layer_norm: bool = False
    """Normalise every critic layer over its units, before the activation."""
    dropout: Share = 0.0
    """Probability of leaving out a unit of a critic, in updates and in targets."""
    tau: Share = 0.005
    """Share by which targets move at each of their updates."""


def head_of(c: EnsembleConfig) -> Head:
    """The head that the settings describe. Raises InvalidSetting for a histogram without room for values."""
    if c.critic_head == "scalar":
        return Scalar()
    if c.critic_head == "quantile":
        return Quantile(c.atoms)
    if c.value_low >= c.value_high:
        raise InvalidSetting(
            f"value_low = {c.value_low:g} and value_high = {c.value_high:g} leave no room for values: give the "
            "smallest and the largest return that can occur"
        )
    return Categorical(c.value_low, c.value_high, c.atoms, c.critic_head)


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
        head = self.critic.head
        loss = head.loss(output, target)
        if self.prioritized:
            self.prioritize(batch, head.error(loss.detach()))
        return (batch.weight * loss).mean(1).sum()
