"""Truncated quantile critics."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..core.config import Count, Number
from ..core.ensemble import EnsembleConfig
from ..core.errors import InvalidSetting
from ..core.heads import Head, Quantile
from ..core.spec import Spec
from .sac import SAC, SACConfig


@dataclass(frozen=True)
class TQCConfig(SACConfig):
    """Defaults: the authors' code, with SAC's random start."""

    critics: Count = 5
    """Size of the critic ensemble."""
    critic_hidden: tuple[int, ...] = (512, 512, 512)
    """Widths of the hidden layers of every critic."""
    atoms: Count = 25
    """Quantiles of every critic."""
    drop: Number = 2
    """Largest quantiles left out of the target, per critic."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.critic_head not in ("scalar", "quantile"):  # the first is the default of the family
            raise InvalidSetting("tqc's critics are quantiles, of which it drops the largest: leave critic_head out")


class TQC(SAC, name="tqc"):
    """TQC (Kuznetsov, Shvechikov, Grishin, Vetrov 2020, arXiv 2005.04269): SAC, with E critics of M quantiles.

        z         all E M quantiles Zbar_em(s', a'), sorted together, without the `drop` E largest;  a' ~ pi(.|s')
        y_j       = r + discount (z_j - alpha log pi(a'|s'))
        critic      sum_em mean_j |t_m - 1{u < 0}| huber(u) / 2,  u = y_j - Z_em(s, a),  t_m = (m + 1/2) / M
        actor       mean (alpha log pi(a|s) - mean_em Z_em(s, a)),  nothing left out

    Departures from the authors' code: the loss is summed, not averaged, over critics and quantiles, which Adam does not
    notice; the actor is updated with the new critics; updates start after `start` random actions. `critic_head` is
    always "quantile".
    """

    config: TQCConfig = TQCConfig()

    def build(self, spec: Spec, c: TQCConfig) -> None:
        if c.drop >= c.atoms:
            raise InvalidSetting(f"drop = {c.drop} leaves none of the {c.atoms} quantiles: choose it below atoms")
        super().build(spec, c)
        self.kept = c.critics * (c.atoms - c.drop)

    def head(self, c: EnsembleConfig) -> Head:
        return Quantile(c.atoms)

    def next_output(self, obs: Tensor, action: Tensor) -> Tensor:
        pooled = self.critic_target.output(obs, action).transpose(0, 1).flatten(1)
        return pooled.sort(1).values[:, : self.kept]

    def actor_value(self, obs: Tensor, action: Tensor) -> Tensor:
        return self.critic(obs, action).mean(0)
