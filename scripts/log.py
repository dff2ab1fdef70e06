"""What is measured during a training, into progress.csv and TensorBoard, under stable-baselines3's names."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .disk import Disk
from .run_folder import RunFolder

if TYPE_CHECKING:
    from ..agents.core.status import Status


class Events:
    """TensorBoard's file in a run folder; tensorboard is imported with the first number."""

    def __init__(self, folder: RunFolder, disk: Disk, purge_from: int | None = None):
        self.folder, self.disk, self.purge_from = folder, disk, purge_from
        self._writer: Any = None

    def add(self, values: Mapping[str, float], clock: int) -> None:
        self.disk.attempt(self.folder.path / "TensorBoard events", lambda: self._add(values, clock))

    def _add(self, values: Mapping[str, float], clock: int) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder), purge_step=self.purge_from)
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, clock)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self.disk.attempt(self.folder.path / "TensorBoard events", self._writer.close)


class Log:
    """The hook that writes a row of progress.csv and the same numbers to TensorBoard."""

    def __init__(self, every: int, folder: RunFolder, events: Events, disk: Disk, *, offset: int, elapsed: float):
        self.every = every
        self.folder, self.events, self.disk, self.offset = folder, events, disk, offset
        self.started = time.perf_counter() - elapsed

    @property
    def elapsed(self) -> float:
        """Seconds of training, with those before the run was resumed."""
        return time.perf_counter() - self.started

    def __call__(self, status: Status) -> None:
        agent, clock = status.agent, self.offset + status.clock
        values = {f"train/{name}": value for name, value in status.metrics().items()}
        if agent.updates:
            values["train/learning_rate"] = agent.learning_rate("")
        if status.episodes:
            returns, lengths = zip(*status.episodes, strict=True)
            values |= {"rollout/ep_rew_mean": float(np.mean(returns)), "rollout/ep_len_mean": float(np.mean(lengths))}
        values |= {"time/fps": status.rate, "time/time_elapsed": self.elapsed}
        counters = {"clock": clock, "steps": agent.steps, "updates": agent.updates, "episodes": len(status.finished)}
        status.finished.clear()
        row = counters | {name: f"{value:.6g}" for name, value in values.items()}
        self.disk.attempt(self.folder.progress.path, lambda: self.folder.progress.add(row))
        self.events.add(values | {"time/total_timesteps": agent.steps, "train/n_updates": agent.updates}, clock)
