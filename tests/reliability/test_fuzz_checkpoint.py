"""Damaged checkpoints: our errors come out, and nothing else happens. See mutations.py for the kinds of damage."""

from __future__ import annotations

import functools

import bellmark
import pytest
from bellmark.agents.core import checkpoint, memory
from bellmark.agents.core.errors import BellmarkError
from bellmark.agents.core.loop import online_buffer, run
from bellmark.agents.core.registry import find_agents
from bellmark.envs import remake
from helpers import small, specs_for
from malformed import check
from mutations import KINDS, Parts, giant

MACHINE = 2**28
"""Bytes of memory that the machine is said to have."""
ENVS = {"dqn": "FrozenLake-v1", "td3": "Hopper-v5"}


@pytest.fixture
def sound(tmp_path_factory):
    """A checkpoint of every agent with a buffer and an environment in the middle of an episode."""
    path, found = tmp_path_factory.mktemp("sound") / "agent.bell", []
    kinds = ("prioritized", "reshuffled", "prioritized_reshuffled")
    for name, replay in [*((name, "uniform") for name in sorted(find_agents())), *(("dqn", kind) for kind in kinds)]:
        env_id = ENVS.get(name, "CartPole-v1" if True in specs_for(name) else "Pendulum-v1")
        settings = small(
            find_agents()[name], hidden=(4,), buffer_size=40, batch_size=4, normalize_obs=True, replay=replay
        )
        agent = bellmark.make(name, env_id, num_envs=2, **settings)
        run(agent, online_buffer(agent, 2), agent.env, until=50)
        agent.save(path, buffer=True, env=True, extra={"phase": "learn"})
        take_up(path)
        found.append(path.read_bytes())
    return found


def take_up(path):
    """All that the commands do with a checkpoint before they train."""
    manifest, tensors = checkpoint.read(path)
    agent = checkpoint.restore(manifest, tensors)
    agent.env = remake(manifest["env"], num_envs=2, backend="sync")
    agent.buffer = agent.make_buffer(2)
    checkpoint.resume(agent, manifest, tensors)


def test_nothing_but_our_errors_comes_out(sound, tmp_path, tmp_path_factory, monkeypatch, count, record):
    """No other exception, crash, write, import, process or pickle, no endless message or computation."""
    modules = tmp_path_factory.mktemp("modules")
    (modules / "planted.py").write_text("raise SystemExit('a file had a module imported')")  # mutations name it
    monkeypatch.syspath_prepend(modules)
    monkeypatch.setattr(memory, "available", lambda device="cpu": MACHINE)

    def damaged(kind, rng):
        return kind(Parts(rng.choice(sound)), rng)

    def read(path):
        try:
            take_up(path)
        except BellmarkError as error:
            assert len(str(error)) < 5000
            raise

    kinds = [kind for kind in KINDS if kind is not giant] * 8 + [giant]
    makers = [functools.partial(damaged, kind) for kind in kinds]
    check("checkpoint reader", makers, read, tmp_path, count(300, 100_000), record)
