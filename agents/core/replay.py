"""What agents with a replay buffer share: they update on random transitions, new or old, online and offline."""

from __future__ import annotations

from collections.abc import Iterable

from .agent import Agent
from .batch import Batch
from .buffer import Buffer
from .config import ReplayConfig


class ReplayAgent(Agent):
    """An agent that learns from random transitions of a replay buffer or of a data set."""

    config: ReplayConfig = ReplayConfig()

    def require_replay(self) -> None:
        return

    def make_buffer(self, columns: int) -> Buffer:
        size = self.config.buffer_size
        return Buffer(self.spec, -(-size // columns) + 1, columns, device=self.device)

    def batches(self, buffer: Buffer) -> Iterable[Batch]:
        """Random batches, as many as are owed."""
        c = self.config
        if self.owed < max(c.train_every * c.update_ratio, 1.0):
            return ()
        count = int(self.owed)
        self.owed -= count
        return self.sample(buffer, count)

    def sample(self, buffer: Buffer, count: int = 1) -> Iterable[Batch]:
        """`count` random batches, from one gather. Before the first update it fits the normaliser to the buffer."""
        c = self.config
        if self.updates == 0 and self.obs_normalizer is not None:
            self.obs_normalizer.update(buffer.obs.flatten(0, 1)[buffer.valid_index()])
        batch = buffer.sample(c.batch_size * count, c.gamma, c.n_step)
        if self.obs_normalizer is not None:
            batch = batch._replace(obs=self.obs_normalizer(batch.obs), next_obs=self.obs_normalizer(batch.next_obs))
        return batch.split(count)
