"""What is measured during a training, into progress.csv and TensorBoard, under stable-baselines3's names."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..agents.core.loop import POOL
from .disk import Disk
from .run_folder import RunFolder

if TYPE_CHECKING:
    from ..agents.core.loop import Status


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


def carried(status: Status) -> dict[str, Any]:
    """What the next row needs of the time before a checkpoint, as plain values: episodes, and metrics not yet read."""
    plain = lambda metrics: {name: float(value) for name, value in metrics.items()}  # noqa: E731
    return {
        "episodes": [list(episode) for episode in status.episodes],
        "finished": [list(episode) for episode in status.finished],
        "pools": [[count, plain(pool)] for count, pool in status._pools],
        "pending": [plain(metrics) for metrics in status._pending],
        "since": status._since,
    }


class CarryOn:
    """The hook that gives a resumed training, after its first round, what `carried` kept."""

    every = 1

    def __init__(self, kept: Mapping[str, Any] | None):
        self.kept = kept

    def __call__(self, status: Status) -> None:
        if self.kept is None:
            return
        kept, self.kept = self.kept, None
        tensors = lambda metrics: {name: torch.tensor(value) for name, value in metrics.items()}  # noqa: E731
        for name in ("episodes", "finished"):
            new = list(getattr(status, name))
            getattr(status, name).clear()
            getattr(status, name).extend([*map(tuple, kept[name]), *new])
        pools, pending = status._pools, status._pending
        status._pools, status._pending = [(count, tensors(pool)) for count, pool in kept["pools"]], []
        for metrics in [*map(tensors, kept["pending"]), *pending]:
            status.record(metrics)
            if len(status._pending) >= POOL:
                status._pool()
        status._pools += pools
        status._since = kept["since"]
