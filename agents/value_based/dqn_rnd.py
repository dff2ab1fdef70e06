"""DQN with a bonus for novelty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.agent import Metrics
from ..core.batch import Batch
from ..core.config import Count, NonNegative
from ..core.novelty import NoveltyAgent
from ..core.spec import Spec
from .dqn import DQN, DQNConfig


@dataclass(frozen=True)
class DQNRNDConfig(DQNConfig):
    """Defaults: DQN's."""

    intrinsic_coef: NonNegative = 0.1
    """Weight of the bonus, whose running standard deviation is 1."""
    predictor_learning_rate: NonNegative = 1e-4
    """Step size of Adam for the predictor: the larger, the sooner a state is not new any more."""
    novelty_features: Count = 128
    """Outputs of the random network."""


class DQNRND(DQN, NoveltyAgent, name="dqn_rnd"):
    """DQN whose rewards are raised by novelty, from random network distillation (Burda et al. 2018, arXiv 1810.12894).

        r <- r + c novelty(s') / std(novelty),   predictor: mean novelty(s')      (see `NoveltyAgent`)

    The paper's agent is PPO; a bonus on replayed transitions is worth what it is now, not what it was when they were
    made. Departures: one value for the sum, so novelty ends with an episode; it is divided by its own standard
    deviation, since replay has no order in which to sum it up. With `n_step` above 1 only the last state counts.
    """

    config: DQNRNDConfig = DQNRNDConfig()
    uncompiled = "they change running statistics, which the compiler loses"

    def build(self, spec: Spec, c: Any) -> None:
        super().build(spec, c)
        self.build_novelty(spec, c)

    def update(self, batch: Batch) -> Metrics:
        self.observe(batch.next_obs)
        novelty = self.novelty(batch.next_obs)
        bonus = self.bonus(novelty.detach())
        metrics = super().update(batch._replace(reward=batch.reward + bonus))
        return metrics | {"predictor_loss": self.minimize("predictor", novelty.mean()), "bonus": bonus.mean()}

    @torch.no_grad()
    def bonus(self, novelty: Tensor) -> Tensor:
        """What is added to rewards, `[B]`, from novelties `[B]`, which enter their running deviation first."""
        self.novelty_normalizer.update(novelty)
        return self.config.intrinsic_coef * self.novelty_normalizer.scale(novelty)
