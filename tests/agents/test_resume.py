"""Half a training, a checkpoint, a fresh process and the other half are the whole training, bit for bit."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import bellmark
import pytest
import torch
from bellmark.agents.core import checkpoint
from bellmark.agents.core.agent import Agent
from bellmark.agents.core.errors import InvalidCheckpoint
from bellmark.agents.core.loop import online_buffer, run
from bellmark.agents.core.registry import agent_class
from bellmark.envs import make
from helpers import (
    CASES,
    ENVS,
    build,
    cases_where,
    children,
    every_case,
    every_online_case,
    filled_buffer,
    goes_online,
    has,
    is_offline,
    same,
    small,
    spec_of,
)
from resume_in_child import go_on

UNTIL, HALF = 420, 205
"""Steps in all and before the checkpoint: in the middle of a rollout, of an episode, and between two updates."""

SETTINGS = {"schedule": "linear", "normalize_obs": True, "normalize_reward": True, "train_every": 4, "n_step": 2}


class StopAt:
    def __init__(self, every):
        self.every = every

    def __call__(self, status):
        status.stop = True


def online(name, discrete, hooks=(), env=None, **settings):
    """A short training, in `env` or in two of ENVS."""
    settings = small(agent_class(name), **SETTINGS | {"buffer_size": 150} | settings)
    agent = bellmark.make(name, env or make(ENVS[discrete], 2), seed=3, **settings)
    run(agent, online_buffer(agent, agent.env.num_envs), agent.env, until=UNTIL, hooks=hooks)
    return agent


def offline(name, discrete, hooks=(), **settings):
    agent = build(name, discrete, seed=3, **SETTINGS | settings)
    agent.buffer = agent.view(filled_buffer(spec_of(discrete)))
    run(agent, agent.buffer, until=60, hooks=hooks)
    return agent


def file_of(name, discrete, kind):
    return f"{name}-{'discrete' if discrete else 'continuous'}-{kind}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every agent's training, half of it done here and the other half in another process."""
    folder = tmp_path_factory.mktemp("resume")
    for name, discrete in CASES:
        if goes_online(name):
            agent = online(name, discrete, [StopAt(HALF)])
            assert HALF <= agent.steps < HALF + 2
            extra = {"online": True, "until": UNTIL}
            agent.save(folder / (file_of(name, discrete, "online") + ".bell"), buffer=True, env=True, extra=extra)
        if is_offline(name):
            agent = offline(name, discrete, [StopAt(25)])
            assert agent.updates == 25
            extra = {"online": False, "until": 60}
            agent.save(folder / (file_of(name, discrete, "offline") + ".bell"), buffer=True, extra=extra)
    resume_in_child(folder)
    return folder


def resume_in_child(folder):
    """Goes on with all checkpoints of the folder in one fresh process."""
    child = Path(__file__).with_name("resume_in_child.py")
    subprocess.run([sys.executable, str(child), str(folder)], check=True, timeout=600)


def decisive(value):
    """A manifest without what the test puts in, and without the streams of spaces, from which nobody here draws."""
    if isinstance(value, dict):
        return {k: decisive(v) for k, v in value.items() if k not in ("extra", "spaces", "versions")}
    return [decisive(item) for item in value] if isinstance(value, list) else value


def compare(whole, folder, file):
    """All that the resumed run saved, against the whole run's."""
    if (folder / f"{file}.error").exists():
        raise AssertionError(json.loads((folder / f"{file}.error").read_text()))
    whole.save(folder / f"{file}.whole", buffer=True, env=True)
    manifest, tensors = checkpoint.read(folder / f"{file}.whole")
    resumed_manifest, resumed = checkpoint.read(folder / f"{file}.done")
    assert tensors.keys() == resumed.keys()
    assert not [k for k in tensors if not torch.equal(tensors[k], resumed[k])]
    assert {"random.torch"} < tensors.keys()
    assert any(k.startswith("optimizer.") for k in tensors)
    assert any(k.startswith("buffer.") for k in tensors)
    assert decisive(manifest) == decisive(resumed_manifest)


@every_online_case
def test_online(folder, name, discrete):
    whole = online(name, discrete)
    assert whole.steps >= UNTIL
    assert whole.updates > 50
    compare(whole, folder, file_of(name, discrete, "online"))


@cases_where(is_offline)
def test_offline(folder, name, discrete):
    compare(offline(name, discrete), folder, file_of(name, discrete, "offline"))


def resume_online(folder, **settings):
    agent = online("dqn", True, [StopAt(HALF)], **settings)
    agent.save(folder / "it.bell", buffer=True, env=True, extra={"online": True, "until": UNTIL})
    go_on(folder / "it.bell")
    compare(online("dqn", True, **settings), folder, "it")


REPLAY = pytest.mark.parametrize("replay", ["prioritized", "reshuffled", "prioritized_reshuffled"])


@REPLAY
def test_every_kind_of_replay(tmp_path, replay):
    resume_online(tmp_path, replay=replay)


def test_environments_that_step_while_updates_run(tmp_path):
    resume_online(tmp_path, overlap=True, train_every=1)


@REPLAY
@pytest.mark.parametrize("rows", [True, False])
def test_every_kind_of_replay_on_data(tmp_path, replay, rows):
    """With its rows in the checkpoint, and with data that are kept elsewhere."""
    whole, data = offline("iql", False, replay=replay), filled_buffer(spec_of(False))
    agent = offline("iql", False, [StopAt(25)], replay=replay)
    agent.save(tmp_path / "it.bell", buffer=rows, sampler=True, extra={"online": False, "until": 60})
    if rows:
        go_on(tmp_path / "it.bell")
        compare(whole, tmp_path, "it")
        return
    manifest, tensors = checkpoint.read(tmp_path / "it.bell")
    other = checkpoint.restore(manifest, tensors)
    other.buffer = other.view(data)
    checkpoint.resume(other, manifest, tensors)
    other.fit(data, updates=35)
    assert other.buffer.obs is data.obs, "no second copy of the rows"
    assert same(other.state(), whole.state())


@pytest.mark.parametrize("saved", [True, False])
def test_a_forgotten_piece_of_state_is_found(tmp_path, monkeypatch, saved):
    """A variant that counts something that its loss depends on passes only if the count is in its checkpoints."""
    monkeypatch.setattr(Agent, "registry", dict(Agent.registry))

    class Counting(agent_class("td3"), name="counting"):
        seen = 0

        def critic_loss(self, batch):
            self.seen += 1
            return super().critic_loss(batch) * (1.0 + self.seen % 7)

        def counters(self):
            return super().counters() | ({"seen": self.seen} if saved else {})

    agent = online("counting", False, [StopAt(HALF)])
    assert agent.seen % 7
    agent.save(tmp_path / "it.bell", buffer=True, env=True, extra={"online": True, "until": UNTIL})
    go_on(tmp_path / "it.bell")
    whole = online("counting", False)
    with contextlib.nullcontext() if saved else pytest.raises(AssertionError, match=r"assert not \[.buffer\.action"):
        compare(whole, tmp_path, "it")


@every_online_case
def test_half_is_not_the_whole(folder, name, discrete):
    """Otherwise the comparison would show nothing."""
    file = file_of(name, discrete, "online")
    half, done = checkpoint.read(folder / f"{file}.bell")[1], checkpoint.read(folder / f"{file}.done")[1]
    agent = build(name, discrete)
    fixed = [f"net.{k}." for k in children(agent) if not (agent._flat[k].trainable or k.endswith("_target"))]
    fixed += ["net.predictor."] if has(name, "predictor_updates") else []  # which is learnt first
    weights = [k for k in half if k.startswith("net.") and half[k].ndim >= 2 and not k.startswith(tuple(fixed))]
    assert weights
    assert not [k for k in weights if torch.equal(half[k], done[k])]


@every_case
def test_a_checkpoint_is_the_agent(tmp_path, name, discrete):
    agent = build(name, discrete)
    agent.steps, agent.owed = 17, 0.25
    before = torch.get_rng_state()
    agent.save(tmp_path / "agent.bell")
    other = bellmark.load(tmp_path / "agent.bell")
    assert torch.equal(before, torch.get_rng_state()), "saving or loading drew random numbers"
    assert same(agent.state(), other.state())
    assert (other.config, other.spec, other.seed) == (agent.config, agent.spec, agent.seed)
    assert (other.steps, other.owed) == (17, 0.25)


@every_case
def test_a_checkpoint_of_another_shape_is_refused(tmp_path, name, discrete):
    agent = build(name, discrete)
    agent.save(tmp_path / "agent.bell")
    manifest, tensors = checkpoint.read(tmp_path / "agent.bell")
    manifest["settings"]["hidden"] = [17]
    with pytest.raises(InvalidCheckpoint, match="shape"):
        checkpoint.restore(manifest, tensors)


def test_without_its_buffer_an_agent_collects_before_it_learns_on(tmp_path):
    """Else thousands of updates would see a handful of transitions; after `fit` the data are there."""
    agent = bellmark.make("td3", "Pendulum-v1", hidden=(8,), start=100, batch_size=8).learn(150)
    assert agent.updates == 51
    agent.save(tmp_path / "agent.bell")
    other = bellmark.load(tmp_path / "agent.bell").learn(99, env="Pendulum-v1")
    assert other.updates == 51
    assert other.learn(1).updates == 52
