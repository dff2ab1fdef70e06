"""Checkpoints give back every bit, survive a full disk, and never let a broken file through."""

from __future__ import annotations

import copy
import errno
import json
import os

import bellmark
import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from bellmark.agents.core import checkpoint
from bellmark.agents.core.errors import BellmarkError, InvalidCheckpoint, NotFinite
from bellmark.agents.core.registry import find_agents

AGENTS = sorted(find_agents())


def batches_for(agent, scripted, drive):
    """Three batches of what the agent learns from; the agent itself stays as it is."""
    agent = copy.deepcopy(agent)
    buffer = agent.make_buffer(2)
    drive(scripted(2, spec=agent.spec, seed=3), buffer, 16)
    torch.manual_seed(4)
    batches = list(agent.batches(buffer)) or list(agent.sample(buffer, 3))
    return batches[:3]


def assert_same_state(left, right):
    mine, theirs = left.state(), right.state()
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert torch.equal(value, theirs[name]) and value.dtype == theirs[name].dtype, name
    assert left.counters() == right.counters()


def parameters(agent):
    return torch.cat([value.detach().double().flatten() for value in agent.state_dict().values()])


@pytest.mark.parametrize("name", AGENTS)
def test_everything_comes_back_bit_by_bit(name, tmp_path, small_agent, trained, scripted, drive):
    agent = trained(small_agent(name, seed=5, normalize_obs=True))
    assert agent.updates > 5
    assert any(key.startswith("optimizer.") for key in agent.state())
    agent.save(tmp_path / "a.bell", extra={"note": [1, "two"]})
    before = torch.get_rng_state()
    other = bellmark.load(tmp_path / "a.bell")
    assert torch.equal(torch.get_rng_state(), before), "loading draws nothing from the stream"
    assert (type(other), other.config, other.spec, other.seed) == (type(agent), agent.config, agent.spec, 5)
    assert_same_state(agent, other)
    assert [x.requires_grad for x in other.parameters()] == [x.requires_grad for x in agent.parameters()]
    if hasattr(agent, "returns"):  # beside its buffer, which the file does not hold
        other.returns = agent.returns
    for batch in batches_for(agent, scripted, drive):
        for which in (agent, other):
            torch.manual_seed(6)
            which.step(batch)
    assert_same_state(agent, other)
    obs = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    np.testing.assert_array_equal(agent.predict(obs, deterministic=True)[0], other.predict(obs, deterministic=True)[0])


@pytest.mark.parametrize("name", AGENTS)
def test_a_copy_trains_alike_and_alone(name, small_agent, trained, scripted, drive):
    agent = trained(small_agent(name))
    before = torch.get_rng_state()
    twin = copy.deepcopy(agent)
    assert torch.equal(torch.get_rng_state(), before), "copying draws nothing from the stream"
    assert_same_state(agent, twin)
    batches, kept = batches_for(agent, scripted, drive), parameters(agent).clone()
    twin.progress = agent.progress
    for batch in batches:
        torch.manual_seed(1)
        twin.step(batch)
    assert torch.equal(parameters(agent), kept) and not torch.equal(parameters(twin), kept)
    for batch in batches:
        torch.manual_seed(1)
        agent.step(batch)
    assert_same_state(agent, twin)


def test_buffer_and_random_stream_come_back(tmp_path, small_agent, trained):
    agent = trained(small_agent("td3", n_step=2))
    agent.save(tmp_path / "a.bell", buffer=True, env=True)
    expected = (torch.rand(3), agent.buffer.sample(20, 0.9, 2))
    manifest, tensors = checkpoint.read(tmp_path / "a.bell")
    other = checkpoint.restore(manifest, tensors)
    other.buffer = other.make_buffer(2)
    assert checkpoint.resume(other, manifest, tensors) is False, "this environment has no state to go on from"
    assert torch.equal(torch.rand(3), expected[0])
    for mine, theirs in zip(expected[1], other.buffer.sample(20, 0.9, 2), strict=True):
        assert torch.equal(mine, theirs)


@pytest.fixture
def saved(tmp_path, small_agent, trained):
    agent = trained(small_agent("td3"))
    agent.save(tmp_path / "a.bell", extra={"score": 3.5})
    return agent, tmp_path / "a.bell"


def test_the_manifest_says_what_it_is(saved):
    agent, path = saved
    with safetensors.safe_open(path, "pt") as file:
        manifest = json.loads(file.metadata()["bellmark"])
    assert (manifest["format"], manifest["agent"], manifest["seed"]) == (1, "td3", 0)
    assert manifest["settings"] == agent.config.to_dict()
    assert manifest["counters"] == agent.counters()
    assert manifest["spec"]["obs_shape"] == [3] and manifest["spec"]["actions"] == 2
    assert manifest["env"] == agent.env.settings
    assert manifest["extra"] == {"score": 3.5}
    assert {"python", "bellmark", "torch", "numpy", "gymnasium"} <= manifest["versions"].keys()
    assert agent.steps >= 60 and agent.updates > 5


def test_safetensors_itself_reads_it(saved):
    agent, path = saved
    tensors = safetensors.torch.load_file(path)
    for name, value in agent.state().items():
        assert torch.equal(tensors[name], value)
    assert set(tensors) - set(agent.state()) == {"random.torch"}
    step = tensors["optimizer.critic.step"]
    assert step.item() == agent.updates


def rewritten(path, **changes):
    manifest, tensors = checkpoint.read(path)
    manifest = {key: value for key, value in (manifest | changes).items() if value is not None}
    path.write_bytes(safetensors.torch.save(tensors, {"bellmark": json.dumps(manifest)}))


def test_older_files_know_of_no_data(saved):
    _, path = saved
    assert checkpoint.read(path)[0]["data"] == []
    rewritten(path, data=None)
    assert bellmark.load(path).learnt_from == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "has format 99, this version reads up to 1: pip install -U"),
        ({"format": "1"}, "not written by Bellmark"),
        ({"format": None}, "not written by Bellmark"),
        ({"agent": "td9"}, "no agent 'td9'; did you mean"),
        ({"agent": "sac"}, "no setting 'exploration_noise'"),
        ({"settings": {"gama": 1.0}}, "no setting 'gama'"),
        ({"settings": {"gamma": 7.0}}, "gamma = 7.0"),
        ({"settings": {"gamma": 10**400}}, "gamma must be of type float"),
        ({"settings": {"hidden": [10**9]}}, "GB, and the machine has"),
        ({"settings": {"hidden": [2**62, 2**62]}}, "does not fit"),
        ({"settings": {"hidden": [16] * 1_000_000}}, "at most 100 positive numbers"),
        ({"settings": {"hidden": [16]}}, "differs from this agent in"),
        ({"settings": {"hidden": [17, 16]}}, r"shape \[.*, this agent's \[.*"),
        ({"seed": "x"}, "its seed is damaged"),
        ({"seed": 2**63}, "its seed is"),
        ({"counters": {}}, "its counter .* is None"),
        ({"counters": {"steps": 5, "updates": 5, "owed": float("nan"), "progress": 0.0}}, "its counter owed is nan"),
        ({"counters": {"steps": 5.0, "updates": 5, "owed": 0.0, "progress": 0.0}}, "its counter steps is 5.0"),
        ({"spec": {}}, "a spec has the fields"),
        ({"spec": {"obs_shape": [10**12], "actions": 2, "discrete": False}}, "with action_shape = "),
        ({"spec": {"obs_shape": [0], "actions": 2, "discrete": True}}, "with obs_shape = "),
        ({"agent": "x" * 10_000_000}, "no agent 'xxx"),
        ({"env": 5}, "its env is damaged"),
        ({"data": {}}, "its data is damaged"),
        ({"data": [5]}, "its data is damaged"),
        ({"data": [{"id": "a", "sha256": "b"}]}, "its data is damaged"),
        ({"data": [{"id": "a", "sha256": 3, "options": {}}]}, "its data is damaged"),
    ],
)
def test_what_does_not_fit_is_refused(saved, changes, message):
    _, path = saved
    rewritten(path, **changes)
    with pytest.raises(InvalidCheckpoint, match=message):
        bellmark.load(path)


def test_the_manifest_says_how_it_will_be_resumed(tmp_path, small_agent, trained):
    agent = trained(small_agent("td3"))
    agent.save(tmp_path / "a.bell", env=True)
    assert checkpoint.read(tmp_path / "a.bell")[0]["resume"] == "new episodes: it is scripted"
    agent.env.state = lambda: {"place": agent.env.place}
    agent.save(tmp_path / "a.bell", env=True)
    assert checkpoint.read(tmp_path / "a.bell")[0]["resume"] == "exact"
    agent.save(tmp_path / "a.bell")
    assert "resume" not in checkpoint.read(tmp_path / "a.bell")[0]


def test_foreign_files_are_refused(saved, tmp_path):
    _, path = saved
    with pytest.raises(InvalidCheckpoint, match="there is no checkpoint"):
        bellmark.load(tmp_path / "none.bell")
    foreign = {
        "empty": b"",
        "text": b"hello, this is a text that is no checkpoint",
        "zeros": bytes(100),
        "pickle": b"\x80\x04\x95" + bytes(50),
    }
    for name, content in foreign.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidCheckpoint, match=r"damaged or no checkpoint.*take an older one"):
            bellmark.load(tmp_path / name)
    safetensors.torch.save_file({"x": torch.zeros(2)}, tmp_path / "other")
    with pytest.raises(InvalidCheckpoint, match="not written by Bellmark"):
        bellmark.load(tmp_path / "other")
    content = path.read_bytes()
    for length in (7, 8, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(InvalidCheckpoint, match="damaged"):
            bellmark.load(path)


def test_a_flipped_bit_in_the_header_never_gives_another_error(saved):
    _, path = saved
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    rng, refused = np.random.default_rng(0), 0
    for place in [*range(8), *rng.integers(8, header, 250).tolist()]:
        broken = bytearray(content)
        broken[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        try:
            bellmark.load(path)
        except BellmarkError as error:
            assert isinstance(error, InvalidCheckpoint), (place, error)
            refused += 1
    assert refused > 100


def test_a_full_disk_leaves_the_old_file_and_nothing_else(saved, monkeypatch):
    agent, path = saved
    before = path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    agent.updates += 1
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            agent.save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]
    agent.save(path)
    assert bellmark.load(path).updates == agent.updates
    assert os.listdir(path.parent) == [path.name]


def test_broken_parameters_are_not_saved(saved):
    agent, path = saved
    before = path.read_bytes()
    with torch.no_grad():
        next(agent.critic.parameters()).view(-1)[0] = float("nan")
    with pytest.raises(NotFinite, match=f"NaN or infinity after update {agent.updates}"):
        agent.save(path)
    assert path.read_bytes() == before


def test_nested_values_survive_flattening():
    value = {
        "array": np.arange(6.0).reshape(2, 3),
        "nested": [{"flags": np.array([True, False]), "n": 3, "none": None}, "text", 2.5],
        "number": np.float64(1.5),
        "big": np.array([2**62], np.int64),
    }
    tensors = {}
    plain = json.loads(json.dumps(checkpoint.flatten(value, "env", tensors)))
    assert set(tensors) == {"env.array", "env.nested.0.flags", "env.big"}
    back = checkpoint.unflatten(plain, tensors)
    np.testing.assert_array_equal(back["array"], value["array"])
    assert back["nested"][0]["flags"].tolist() == [True, False]
    assert back["nested"][0]["n"] == 3 and back["nested"][0]["none"] is None
    assert back["nested"][1:] == ["text", 2.5]
    assert back["number"] == 1.5 and back["big"].tolist() == [2**62]


def test_an_agent_stays_on_its_device(small_agent):
    with pytest.raises(BellmarkError, match="stays on"):
        small_agent("td3").double()
