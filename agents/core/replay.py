"""What agents with a replay buffer share: they update on random transitions, new or old, online and offline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from torch import Tensor

from .agent import Agent, Metrics
from .balanced import Balanced
from .batch import Batch
from .buffer import Buffer
from .config import ReplayConfig
from .errors import InvalidSetting
from .frames import FrameBuffer
from .heads import Head
from .hindsight import HindsightBuffer
from .prioritized import Prioritized
from .reshuffled import PrioritizedReshuffled, Reshuffled
from .sampling import Sampler


class ReplayAgent(Agent):
    """An agent that learns from random transitions of a replay buffer or of a data set."""

    config: ReplayConfig = ReplayConfig()

    learns: ClassVar[tuple[str, ...]] = ("online", "from data")

    def make_sampler(self) -> Sampler:
        """How transitions are drawn, as the setting `replay` says."""
        c = self.config
        if c.replay == "balanced":
            return Balanced()
        if not self.prioritized:
            return Reshuffled() if c.replay == "reshuffled" else Sampler()
        kind = Prioritized if c.replay == "prioritized" else PrioritizedReshuffled
        return kind(c.priority_exponent, c.priority_weight)

    def make_buffer(self, columns: int) -> Buffer:
        kind = FrameBuffer if self.spec.frame_stack > 1 else Buffer
        rows = -(-self.config.buffer_size // columns) + self.spec.frame_stack
        if self.config.replay == "hindsight":
            return HindsightBuffer.of(self, rows, columns)
        return kind(self.spec, rows, columns, sampler=self.make_sampler(), device=self.device)

    def view(self, buffer: Buffer) -> Buffer:
        """Recorded data, not copied, from which transitions are drawn as the setting `replay` says."""
        if self.config.replay == "hindsight":
            raise InvalidSetting("replay='hindsight' learns in an environment, not from data: take another replay")
        if self.config.clip_reward:
            raise InvalidSetting("clip_reward does not change rewards of data: leave it out, or clip them in the file")
        if buffer.sampler.weighted and self.config.replay != "uniform":
            raise InvalidSetting(f"replay='{self.config.replay}' does not know the data's weighting: leave one out")
        return buffer if self.config.replay == "uniform" else buffer.view(self.make_sampler())

    def batches(self, buffer: Buffer) -> Iterable[Batch]:
        """Random batches, as many as are owed."""
        c = self.config
        if self.owed < max(c.train_every * c.update_ratio, 1.0):
            return ()
        count = int(self.owed)
        self.owed -= count
        return self.sample(buffer, count)

    def sample(self, buffer: Buffer, count: int = 1) -> Iterable[Batch]:
        """`count` random batches; from one gather unless each draw depends on what the update before reported.

        Before the first update it fits the normaliser to the buffer.
        """
        if self.updates == 0:
            self.fit_normalizer(buffer)
        buffer.sampler.progress = self.progress
        if buffer.sampler.adaptive:
            return self._one_by_one(buffer, count)
        return self._draw(buffer, count).split(count)

    def fit_normalizer(self, buffer: Buffer) -> None:
        """Takes in all observations."""
        if self.obs_normalizer is not None:
            for obs, _ in buffer.parts():
                self.obs_normalizer.update(obs)

    def _one_by_one(self, buffer: Buffer, count: int) -> Iterator[Batch]:
        for _ in range(count):
            yield self._draw(buffer, 1)

    def _draw(self, buffer: Buffer, count: int) -> Batch:
        c = self.config
        batch = buffer.sample(c.batch_size * count, c.gamma, c.n_step)
        if self.obs_normalizer is not None:
            batch = batch._replace(obs=self.obs_normalizer(batch.obs), next_obs=self.obs_normalizer(batch.next_obs))
        return batch

    def batch_loss(self, batch: Batch, losses: Tensor, head: Head) -> Tensor:
        """0-d: the weighted mean over the batch of losses `[B]`, or of `[E, B]` the sum of the critics' means.

        For prioritised replay it notes the rows' errors, of an ensemble the greatest. They are reported after the
        update, whose operations alone may be compiled.
        """
        if self.prioritized:
            error = head.error(losses.detach()).abs()
            self._descents["errors"] = error if error.ndim == 1 else error.amax(0)
        return (batch.weight * losses).mean(-1).sum()

    @property
    def prioritized(self) -> bool:
        """Whether errors decide what is drawn."""
        return self.config.replay in ("prioritized", "prioritized_reshuffled")

    def step(self, batch: Batch) -> Metrics:
        metrics = super().step(batch)
        if "errors" in metrics:
            errors = metrics.pop("errors")
            if self.buffer is not None:
                self.buffer.sampler.report(self.buffer, batch.row, errors)
        return metrics
