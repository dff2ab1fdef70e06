"""Where a training stands: counters, recent episodes, and metrics that stay on the device until somebody reads them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .agent import Agent
from .buffer import Buffer
from .errors import NotFinite

if TYPE_CHECKING:
    from ...envs.vector import VectorEnv

POOL = 64
"""Metrics are averaged on the device after so many updates, so that their number stays bounded."""

LOOK = 100
"""Pools after which metrics are looked at where nobody else does, lest a training goes on with NaN."""


class Status:
    """Where a training stands: what hooks get to see."""

    def __init__(self, agent: Agent, buffer: Buffer, env: VectorEnv | None, until: int):
        self.agent, self.buffer, self.env, self.until = agent, buffer, env, until
        self.stop = False
        """A hook sets it to end the training after this round."""
        self.episodes: deque[Any] = deque(maxlen=100)
        """The last 100 training episodes, `(reward_sum, length)`."""
        self.finished: list[Any] = []
        """Episodes that ended since the log was last written; the hook that logs empties it."""
        self.started, self.first_tick = time.perf_counter(), self.clock
        self.seconds: dict[str, float] = {}
        """Where the time of this process went: acting, environment, buffer (adding and drawing), update, hooks."""
        self._lap = self.started
        self._pending: list[Mapping[str, Tensor]] = []
        self._means: dict[str, tuple[int, Tensor]] = {}
        """Since the last look: of how many updates each metric is, and its mean."""
        self._pooled = 0
        self._since = agent.updates

    def state(self) -> dict[str, Any]:
        """Episodes, and metrics that were not read yet, as plain values: what a resumed run needs."""
        plain = lambda metrics: {name: float(value) for name, value in metrics.items()}  # noqa: E731
        return {
            "episodes": [list(episode) for episode in self.episodes],
            "finished": [list(episode) for episode in self.finished],
            "pools": [[count, {name: float(mean)}] for name, (count, mean) in self._means.items()],
            "pending": [plain(metrics) for metrics in self._pending],
            "since": self._since,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state` gave."""
        device = self.agent.device
        tensors = lambda metrics: {k: torch.tensor(value, device=device) for k, value in metrics.items()}  # noqa: E731
        self.episodes.extend(tuple(episode) for episode in state["episodes"])
        self.finished.extend(tuple(episode) for episode in state["finished"])
        for count, pool in state["pools"]:
            for name, mean in tensors(pool).items():
                self._merge(name, count, mean)
        self._pending = [tensors(metrics) for metrics in state["pending"]]
        self._since = state["since"]

    @property
    def unit(self) -> str:
        """What the clock counts: environment `steps` online, `updates` offline."""
        return "updates" if self.env is None else "steps"

    @property
    def clock(self) -> int:
        return self.agent.updates if self.env is None else self.agent.steps

    @property
    def rate(self) -> float:
        """Ticks per second since this training began."""
        return (self.clock - self.first_tick) / max(time.perf_counter() - self.started, 1e-9)

    def lap(self, phase: str) -> None:
        """The time since the last call went into that phase."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._lap
        self._lap = now

    def record(self, metrics: Mapping[str, Tensor]) -> None:
        """Keeps the metrics of one update, without looking at them."""
        self._pending.append(metrics)
        if len(self._pending) >= POOL:
            self._pool()

    def _pool(self) -> None:
        for name in {name for metrics in self._pending for name in metrics}:
            values = torch.stack([metrics[name] for metrics in self._pending if name in metrics])
            self._merge(name, len(values), values.mean(dtype=torch.float32))
        self._pending.clear()
        self._pooled += 1
        if self._pooled % LOOK == 0:
            self._read()

    def _merge(self, name: str, count: int, mean: Tensor) -> None:
        if name in self._means:
            before, old = self._means[name]
            count, mean = before + count, old + (mean - old) * (count / (before + count))
        self._means[name] = count, mean

    def metrics(self) -> dict[str, float]:
        """Means of all metrics since the last call, sums of those called `..._count`.

        Raises NotFinite if one is not a finite number.
        """
        self._pool()
        values = self._read()
        self._means.clear()
        self._since = self.agent.updates
        return values

    def require_finite(self) -> None:
        """Raises NotFinite as `metrics` does, and leaves them to it: a resumed run pools the same values."""
        means, pending = dict(self._means), [*self._pending]
        self._pool()
        self._read()
        self._means, self._pending = means, pending

    def _read(self) -> dict[str, float]:
        names = sorted(self._means)
        found = [self._means[name][1] * (self._means[name][0] if name.endswith("_count") else 1) for name in names]
        values = dict(zip(names, torch.stack(found).tolist() if found else [], strict=True))  # the one transfer
        if broken := [name for name, value in values.items() if not abs(value) < float("inf")]:
            raise NotFinite(
                f"{', '.join(broken)} became {values[broken[0]]} between updates {self._since + 1} and "
                f"{self.agent.updates} (environment step {self.agent.steps}); try a smaller learning_rate, "
                "max_grad_norm 1, or look at the rewards' scale"
            )
        return values
