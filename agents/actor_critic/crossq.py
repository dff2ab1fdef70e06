"""CrossQ: batch normalisation instead of target networks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core.agent import Metrics
from ..core.batch import Batch
from ..core.batch_renorm import training
from ..core.config import Count, NonNegative, Number, Share
from ..core.ensemble import ensemble
from ..core.policies import TanhGaussian
from ..core.spec import Spec
from .sac import SAC, SACConfig, Temperature


@dataclass(frozen=True)
class CrossQConfig(SACConfig):
    """Defaults: the authors' code."""

    learning_rate: NonNegative = 1e-3
    """Step size of Adam."""
    start: Number = 5_000
    """Transitions collected with random actions before the first update."""
    critic_hidden: tuple[int, ...] = (2048, 2048)
    """Widths of the hidden layers of every critic."""
    actor_delay: Count = 3
    """Critic updates per update of actor and temperature."""
    momentum: Share = 0.5
    """Adam's decay of the mean gradient (beta_1) for actor and critics; the temperature's is 0.9."""
    renorm_warmup: Number = 100_000
    """Passes in which a layer normalises by its batch alone, before running statistics correct it."""


class CrossQ(SAC, name="crossq"):
    """CrossQ (Bhatt, Palenicek et al. 2024, arXiv 1902.05605): SAC with batch renormalisation, without targets.

        [Q_e; Q'_e] = the critics' one pass over the rows [(s, a); (s', a')],  a' ~ pi(.|s'),  batch statistics
        y             = r + discount (min_e Q'_e - alpha log pi(a'|s')),  detached
        critic          sum_e mean (Q_e - y)^2 / 2
        actor           mean (alpha log pi(a|s) - min_e Q_e(s, a)),  every `actor_delay` updates;  batch statistics in
                        the actor, running statistics in the critics
        network         norm -> (linear -> relu -> norm) twice -> linear

    Networks use running statistics (evaluation mode) wherever the equations do not say batch statistics: acting,
    predicting, a'. There is no target network, so `tau` is not read.

    Departures from the authors' code: the temperature's gradient is SAC's, in log alpha; layers start uniform in
    +-1/sqrt(inputs) with such biases, not LeCun normal with none.
    """

    config: CrossQConfig = CrossQConfig()

    def build(self, spec: Spec, c: CrossQConfig) -> None:
        spec.require_continuous(self.name)
        self.actor = TanhGaussian(spec, c.hidden, batch_renorm=c.renorm_warmup).eval()
        self.critic = ensemble(spec, c, self.head(c), batch_renorm=c.renorm_warmup).eval()
        self.temperature, self.target_entropy = Temperature(c.temperature), c.target_entropy * spec.actions

    def optimizer(self, name: str, parameters: nn.Parameter) -> torch.optim.Optimizer:
        optimizer = super().optimizer(name, parameters)
        if name != "temperature":
            optimizer.param_groups[0]["betas"] = (self.config.momentum, 0.999)
        return optimizer

    def update_actor(self, batch: Batch) -> Metrics:
        with training(self.actor):
            return super().update_actor(batch)

    def joint(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Outputs at (s, a) `[E, B, K]` and the target, from one pass."""
        with torch.no_grad():
            action, log_prob = self.actor(batch.next_obs).sample_with_log_prob()
        with training(self.critic):
            rows = torch.cat([batch.obs, batch.next_obs]), torch.cat([batch.action, action])
            output, next_output = self.critic.output(*rows).chunk(2, 1)
        return output, self.backup(batch, self.critic.lowest(next_output), log_prob).detach()

    def target(self, batch: Batch) -> Tensor:
        return self.joint(batch)[1]

    def critic_loss(self, batch: Batch) -> Tensor:
        return 0.5 * self.regression(batch, *self.joint(batch))
