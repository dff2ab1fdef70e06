"""What is measured during a training, into progress.csv and TensorBoard, under stable-baselines3's names."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .disk import Disk, append
from .run_folder import RunFolder

if TYPE_CHECKING:
    from ..agents.core.buffer import Buffer
    from ..agents.core.status import Status


class Events:
    """TensorBoard's file in a run folder, one record per log row or evaluation; imported with the first number."""

    def __init__(
        self, folder: RunFolder, disk: Disk, purge_from: int | None = None, settings: Mapping[str, Any] | None = None
    ):
        """TensorBoard is told to forget what older files say from the clock `purge_from` on, and the `settings`."""
        self.disk, self.path = disk, folder.path / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        self._purge_from, self._settings = purge_from, settings
        self._pending = b""
        """What the disk has refused so far."""

    def add(self, values: Mapping[str, float], clock: int) -> None:
        self.disk.attempt(self.path.with_name("TensorBoard events"), lambda: self._add(values, clock))

    def _add(self, values: Mapping[str, float], clock: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary

        if not (self._pending or self.path.exists()):
            self._pending = record(Event(file_version="brain.Event:2"))
            if self._purge_from is not None:
                start = SessionLog(status=SessionLog.START)
                self._pending += record(Event(step=self._purge_from, session_log=start))
            elif self._settings:
                self._pending += b"".join(record(Event(summary=part)) for part in hparams(self._settings))
        numbers = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._pending += record(Event(step=clock, summary=Summary(value=numbers)))
        append(self.path, self._pending)
        self._pending = b""


def hparams(settings: Mapping[str, Any]) -> Iterable[Any]:
    """Settings as TensorBoard's tab HPARAMS reads them, beside the return in training and in evaluation."""
    from torch.utils.tensorboard.summary import hparams as summaries

    plain = {name: value if isinstance(value, bool | int | float) else str(value) for name, value in settings.items()}
    return summaries(plain, dict.fromkeys(("rollout/ep_rew_mean", "eval/mean_reward"), 0.0))


def record(event: Any) -> bytes:
    """An event as TensorBoard's files hold it: length, checksum, content, checksum."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    event.wall_time, content = time.time(), io.BytesIO()
    RecordWriter(content).write(event.SerializeToString())
    return content.getvalue()


class Log:
    """The hook that writes a row of progress.csv and the same numbers to TensorBoard."""

    def __init__(
        self,
        every: int,
        folder: RunFolder,
        events: Events,
        disk: Disk,
        *,
        offset: int,
        elapsed: float,
        validation: Buffer | None = None,
    ):
        """`validation` is what the agent does not learn from; its losses there are logged if it can `validate`."""
        self.every, self.validation = every, validation
        self.folder, self.events, self.disk, self.offset = folder, events, disk, offset
        self.clock = -1
        """That of the last row."""
        self.started = time.perf_counter() - elapsed

    @property
    def elapsed(self) -> float:
        """Seconds of training, with those before the run was resumed."""
        return time.perf_counter() - self.started

    def __call__(self, status: Status) -> None:
        agent, clock, self.clock = status.agent, self.offset + status.clock, status.clock
        values = {f"train/{name}": value for name, value in status.metrics().items()}
        validate = getattr(agent, "validate", None)
        if self.validation is not None and validate is not None:
            values |= {f"validation/{name}": float(value) for name, value in validate(self.validation).items()}
        if agent.updates:
            values["train/learning_rate"] = agent.learning_rate("")
        if status.episodes:
            returns, lengths = zip(*status.episodes, strict=True)
            values |= {"rollout/ep_rew_mean": float(np.mean(returns)), "rollout/ep_len_mean": float(np.mean(lengths))}
        if status.env is not None and (rate := status.env.successes.rate) is not None:
            values["rollout/success_rate"] = rate
        for column, name in (("lost_episodes", "lost_episodes"), ("non_finite", "non_finite_count")):
            if status.env is not None and (count := getattr(status.env, name)):
                values[f"rollout/{column}"] = count
        values |= {"time/fps": status.rate, "time/time_elapsed": self.elapsed}
        counters = {"clock": clock, "steps": agent.steps, "updates": agent.updates, "episodes": len(status.finished)}
        if status.env is not None:
            monitor, episodes, env_id = self.folder.monitor, [*status.finished], status.env.env_id
            self.disk.attempt(monitor.path, lambda: monitor.add(episodes, clock, self.elapsed, env_id))
        status.finished.clear()
        row = counters | {name: f"{value:.6g}" for name, value in values.items()}
        self.disk.attempt(self.folder.progress.path, lambda: self.folder.progress.add(row))
        self.events.add(values | {"time/total_timesteps": agent.steps, "train/n_updates": agent.updates}, clock)
