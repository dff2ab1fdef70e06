"""The one loop: online (an environment, an empty buffer), offline (a filled buffer), offline then online (both)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from .agent import Agent
from .buffer import Buffer
from .errors import InvalidSetting, NotFinite
from .seeding import derive

if TYPE_CHECKING:
    from ...envs.vector import VectorEnv

POOL = 64
"""Metrics are averaged on the device after so many updates, so that their number stays bounded."""


class Hook(Protocol):
    """Something to do every so many ticks of the clock: log, evaluate, save."""

    every: int

    def __call__(self, status: Status) -> None: ...


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
        self._pending: list[Mapping[str, Tensor]] = []
        self._pools: list[tuple[int, dict[str, Tensor]]] = []
        self._since = agent.updates

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

    def record(self, metrics: Mapping[str, Tensor]) -> None:
        """Keeps the metrics of one update, without looking at them."""
        self._pending.append(metrics)
        if len(self._pending) >= POOL:
            self._pool()

    def _pool(self) -> None:
        for name in {name for metrics in self._pending for name in metrics}:
            values = torch.stack([metrics[name] for metrics in self._pending if name in metrics])
            self._pools.append((len(values), {name: values.mean()}))
        self._pending.clear()

    def metrics(self) -> dict[str, float]:
        """Means of all metrics since the last call. Raises NotFinite if one is not a finite number."""
        self._pool()
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        for count, pool in self._pools:
            for name, value in pool.items():
                sums[name] = sums.get(name, 0.0) + count * value.float()
                counts[name] = counts.get(name, 0) + count
        self._pools.clear()
        names = sorted(sums)
        means = [sums[name] / counts[name] for name in names]
        values = dict(zip(names, torch.stack(means).tolist() if means else [], strict=True))  # the one transfer
        since, self._since = self._since, self.agent.updates
        for name, value in values.items():
            if not abs(value) < float("inf"):
                raise NotFinite(
                    f"{name} became {value} between updates {since + 1} and {self.agent.updates} (environment step "
                    f"{self.agent.steps}); try a smaller learning_rate, max_grad_norm 1, or look at the rewards' scale"
                )
        return values


def run(
    agent: Agent, buffer: Buffer, env: VectorEnv | None = None, *, until: int, hooks: Iterable[Hook] = ()
) -> Status:
    """Drives `agent` until its clock reaches `until`: environment steps with an environment, updates without.

    All state is in the agent, the buffer and the environment, so that a run that stops between two rounds and goes on
    from a checkpoint is the same run. Hooks are called when the clock passes a multiple of their `every`.
    """
    status = Status(agent, buffer, env, until)
    hooks = tuple(hooks)
    calls = [(status.clock // hook.every + 1) * hook.every for hook in hooks]
    if env is not None and env.obs is None:
        buffer.begin(env.reset(derive(agent.seed, "environment", agent.steps)))
    elif env is not None and (buffer.current_obs() != env.obs).any():  # not the buffer that it has filled so far
        buffer.begin(env.obs)
    while status.clock < until and not status.stop:
        agent.progress = min(status.clock / until, 1.0)
        if env is None:
            batches = agent.sample(buffer)
        else:
            interact(agent, buffer, env, status)
            batches = agent.batches(buffer)
        for batch in batches:
            status.record(agent.step(batch))
        clock = status.clock
        for i, hook in enumerate(hooks):
            if clock >= calls[i]:
                calls[i] = (clock // hook.every + 1) * hook.every
                hook(status)
    return status


def interact(agent: Agent, buffer: Buffer, env: VectorEnv, status: Status) -> None:
    """One step of all environments, into the buffer."""
    assert env.obs is not None
    action = agent.explore(env.obs)
    step = env.step(action)
    buffer.add(action, step)
    new = int(step.valid.sum())
    agent.steps += new
    if agent.updates or agent.steps >= getattr(agent.config, "start", 0):
        agent.owed += new * getattr(agent.config, "update_ratio", 0.0)
    if episodes := env.pop_episodes():
        status.episodes.extend(episodes)
        status.finished.extend(episodes)


def learn(
    agent: Agent,
    total_timesteps: int,
    *,
    env: Any = None,
    hooks: Iterable[Hook] = (),
    progress_bar: bool = False,
) -> Status:
    """Trains online for `total_timesteps` transitions more, on `env` (an id, a VectorEnv) or the agent's own.

    Called again, it goes on where it was. After `fit` the replay buffer starts with the data.
    """
    if env is not None:
        from ...envs import make

        agent.env = make(env) if not hasattr(env, "pop_episodes") else env
    if agent.env is None:
        raise InvalidSetting("this agent has no environment to learn in: pass env=, an id such as 'HalfCheetah-v5'")
    if agent.env.spec != agent.spec:
        raise InvalidSetting(f"the environment has {agent.env.spec}, the agent was made for {agent.spec}")
    buffer = online_buffer(agent, agent.env.num_envs)
    if progress_bar:
        from ...scripts.progress import ProgressBar

        hooks = (*hooks, ProgressBar())
    return run(agent, buffer, agent.env, until=agent.steps + total_timesteps, hooks=hooks)


def online_buffer(agent: Agent, columns: int) -> Buffer:
    """The agent's buffer. After `fit` it starts with the data and has room for as much again as it would without."""
    fresh = agent.make_buffer(columns)
    if agent.buffer is None:
        agent.buffer = fresh
    elif agent.buffer.recorded or agent.buffer.columns != columns:
        agent.buffer = agent.buffer.spread(fresh.rows - 1, columns)
    return agent.buffer


def fit(agent: Agent, data: Any, updates: int, *, hooks: Iterable[Hook] = (), progress_bar: bool = False) -> Status:
    """Trains offline for `updates` updates more on `data`, a Dataset or a Buffer."""
    buffer: Buffer = getattr(data, "buffer", data)
    shape = lambda spec: (spec.obs_shape, spec.actions, spec.discrete)  # noqa: E731
    if shape(buffer.spec) != shape(agent.spec):
        raise InvalidSetting(f"the data has {buffer.spec}, the agent was made for {agent.spec}")
    agent.buffer = buffer
    if progress_bar:
        from ...scripts.progress import ProgressBar

        hooks = (*hooks, ProgressBar())
    return run(agent, buffer, until=agent.updates + updates, hooks=hooks)
