"""The one loop: online (an environment, an empty buffer), offline (a filled buffer), offline then online (both)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .agent import Agent
from .batch import Step
from .buffer import Buffer
from .errors import InvalidSetting
from .memory import keep_freed
from .seeding import derive
from .status import Status

if TYPE_CHECKING:
    from ...envs.vector import VectorEnv


class Hook(Protocol):
    """Something to do every so many ticks of the clock: log, evaluate, save."""

    every: int

    def __call__(self, status: Status) -> None: ...


def run(
    agent: Agent,
    buffer: Buffer,
    env: VectorEnv | None = None,
    *,
    until: int,
    hooks: Iterable[Hook] = (),
    carried: Mapping[str, Any] | None = None,
) -> Status:
    """Drives `agent` until its clock reaches `until`: environment steps with an environment, updates without.

    All state is in the agent, the buffer and the environment, so that a run that stops between two rounds and goes on
    from a checkpoint is the same run. Hooks are called when the clock passes a multiple of their `every`. `carried` is
    what `Status.state` gave when the run was saved: only logs depend on it.
    """
    keep_freed()
    status = Status(agent, buffer, env, until)
    if carried is not None:
        status.load_state(carried)
    hooks = tuple(hooks)
    calls = [(status.clock // hook.every + 1) * hook.every for hook in hooks]
    if env is not None:
        env.non_finite = agent.config.non_finite
        obs = env.reset(derive(agent.seed, "environment", agent.steps)) if env.obs is None else env.obs
        if (buffer.current_obs() != obs).any() or not buffer.written:  # not the buffer that it has filled so far
            buffer.begin(obs)
    overlap = env is not None and getattr(agent.config, "overlap", False)
    with ThreadPoolExecutor(1) as thread:
        while status.clock < until and not status.stop:
            agent.progress = min(status.clock / until, 1.0)
            if env is None:
                update(agent, agent.sample(buffer), status)
            else:
                assert env.obs is not None
                action = agent.explore(env.obs)
                status.lap("acting")
                if overlap:
                    step = thread.submit(env.step, action)
                    update(agent, agent.batches(buffer), status)
                    take(agent, buffer, env, action, step.result(), status)
                else:
                    take(agent, buffer, env, action, env.step(action), status)
                    update(agent, agent.batches(buffer), status)
            clock = status.clock
            for i, hook in enumerate(hooks):
                if clock >= calls[i]:
                    calls[i] = (clock // hook.every + 1) * hook.every
                    hook(status)
            status.lap("hooks")
    status.require_finite()
    return status


def update(agent: Agent, batches: Iterable[Any], status: Status) -> None:
    """One update on each batch."""
    for batch in batches:
        status.lap("buffer")
        status.record(agent.step(batch))
        status.lap("update")
    status.lap("buffer")


def take(agent: Agent, buffer: Buffer, env: VectorEnv, action: np.ndarray, step: Step, status: Status) -> None:
    """One step of all environments, which followed `action`, into the buffer."""
    status.lap("environment")
    if getattr(agent.config, "clip_reward", False):
        step = step._replace(reward=np.sign(step.reward))
    buffer.add(action, step)
    new = int(np.count_nonzero(step.valid))
    agent.steps += new
    start = getattr(agent.config, "start", 0)
    # a buffer with less than what was seen is another than was learnt from: one with more began with data
    enough = buffer.transitions > agent.steps or buffer.transitions >= start or buffer.written == buffer.rows
    if enough and (agent.updates or agent.steps >= start):
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
    carried: Mapping[str, Any] | None = None,
) -> Status:
    """Trains online for `total_timesteps` transitions more, on `env` (an id, a VectorEnv) or the agent's own.

    Called again, it goes on where it was. After `fit` the replay buffer starts with the data.
    """
    if env is not None:
        from ...envs import make

        agent.env = make(env) if not hasattr(env, "pop_episodes") else env
    agent.require("online")
    if agent.env is None:
        raise InvalidSetting("this agent has no environment to learn in: pass env=, an id such as 'HalfCheetah-v5'")
    if agent.env.spec != agent.spec:
        raise InvalidSetting(f"the environment has {agent.env.spec}, the agent was made for {agent.spec}")
    buffer = online_buffer(agent, agent.env.num_envs)
    return run(
        agent,
        buffer,
        agent.env,
        until=agent.steps + total_timesteps,
        hooks=with_bar(hooks, progress_bar),
        carried=carried,
    )


def with_bar(hooks: Iterable[Hook], progress_bar: bool) -> Iterable[Hook]:
    """The hooks, and a progress bar if one is asked for."""
    if not progress_bar:
        return hooks
    from ...scripts.progress import ProgressBar

    return (*hooks, ProgressBar())


def online_buffer(agent: Agent, columns: int) -> Buffer:
    """The agent's buffer. After `fit` it starts with the data and has room for as much again as it would without."""
    old = agent.buffer
    if old is None or old.recorded or old.columns != columns:
        fresh = agent.make_buffer(columns)
        agent.buffer = fresh if old is None else old.spread(fresh.rows - 1, columns)
    assert agent.buffer is not None
    return agent.buffer


def fit(
    agent: Agent,
    data: Any,
    updates: int,
    *,
    hooks: Iterable[Hook] = (),
    progress_bar: bool = False,
    carried: Mapping[str, Any] | None = None,
) -> Status:
    """Trains offline for `updates` updates more on `data`, a Dataset or a Buffer."""
    buffer: Buffer = getattr(data, "buffer", data)
    shape = lambda spec: (spec.obs_shape, spec.actions, spec.discrete)  # noqa: E731
    if shape(buffer.spec) != shape(agent.spec):
        raise InvalidSetting(f"the data has {buffer.spec}, the agent was made for {agent.spec}")
    if buffer.device.type != agent.device.type:
        raise InvalidSetting(
            f"the data are on '{buffer.device}', the agent on '{agent.device}': load them by device='{agent.device}'"
        )
    if data is not buffer:
        identity = {"id": data.id, "sha256": data.sha256, "options": dataclasses.asdict(data.options)}
        agent.learnt_from += () if identity in agent.learnt_from else (identity,)
    own = agent.buffer
    if own is None or own.obs is not buffer.obs or own.valid is not buffer.valid:
        own = agent.buffer = agent.view(buffer)  # else it goes on with what it knows of the rows
    return run(agent, own, until=agent.updates + updates, hooks=with_bar(hooks, progress_bar), carried=carried)
