"""Behaviour cloning of the best episodes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..agents.core.agent import Metrics
from ..agents.core.batch import Batch
from ..agents.core.buffer import Buffer
from ..agents.core.config import Share
from ..agents.core.errors import InvalidSetting
from .bc import BC, BCConfig
from .trajectories import best_episodes


@dataclass(frozen=True)
class TopBCConfig(BCConfig):
    """Defaults: CORL's."""

    fraction: Share = 0.1
    """Share of the finished episodes that is kept: those with the highest returns, at least one."""


class TopBC(BC, name="top_bc"):
    """%BC (Chen et al. 2021, arXiv 2106.01345, section 5): behaviour cloning of the episodes with the best returns.

        D_x = the best int(x E) of E episodes by undiscounted return,   loss = BC's on rows of D_x, uniformly drawn

    Observations are normalised by the statistics of what is kept, in training and in acting.

    Departures from the paper's code: the share is one of episodes, as in CORL, not of steps, which keeps other data
    where lengths differ; networks are CORL's, without the history of 20 steps.
    """

    config: TopBCConfig = TopBCConfig()
    _whole: Buffer | None = None
    _best: Buffer

    def view(self, buffer: Buffer) -> Buffer:
        if buffer.sampler.weighted:
            raise InvalidSetting("top_bc draws uniformly from the best episodes: leave weighting out, or take bc")
        return super().view(buffer)

    def sample(self, buffer: Buffer, count: int = 1) -> Iterable[Batch]:
        if self._whole is not buffer:
            self._whole, self._best = buffer, best_episodes(buffer, self.config.fraction)
        return super().sample(self._best, count)

    def validate(self, buffer: Buffer) -> Metrics:
        """BC's, on the best episodes of `buffer`."""
        return super().validate(best_episodes(buffer, self.config.fraction))
