"""Data that stay on the disk: the same rows as in memory, made once, and more of them than the memory holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from bellmark.agents.core import buffer as core_buffer
from bellmark.agents.core.errors import InvalidData, InvalidSetting
from bellmark.offline import mapping
from bellmark.offline.dataset import dataset
from helpers import build, filled_buffer, spec_of


def write(path, rows=60, obs=3, discrete=False, successors=True, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((rows + 1, obs)).astype(np.float32)
    columns = {
        "observations": values[:-1],
        "actions": rng.integers(3, size=rows) if discrete else rng.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "rewards": rng.standard_normal(rows).astype(np.float32),
        "terminals": np.arange(rows) % 20 == 9,
        "timeouts": np.arange(rows) % 20 == 19,
    } | ({"next_observations": values[1:]} if successors else {})
    if path.suffix == ".npz":
        np.savez(path, **columns)
        return path
    with h5py.File(path, "w") as file:
        for name, column in columns.items():
            file[name] = column
    return path


def equal(one, other):
    assert (one.recorded, one.transitions, one.rows) == (other.recorded, other.transitions, other.rows)
    for name, values in one._tensors().items():
        assert torch.equal(values, getattr(other, name)), name


@pytest.mark.parametrize(("name", "discrete", "successors"), [("a.hdf5", False, True), ("a.npz", True, False)])
def test_the_rows_are_those_in_memory(tmp_path, name, discrete, successors):
    path = write(tmp_path / name, discrete=discrete, successors=successors)
    options = {"reward_scale": 2.0, "reward_shift": -1.0, "validation": 0.4}
    plain, first = dataset(path, **options), dataset(path, **options, memory_map=True)
    again = dataset(path, **options, memory_map=True)
    for data in (first, again):
        equal(plain.buffer, data.buffer)
        equal(plain.validation, data.validation)
        expected = plain.describe() | {"options": data.describe()["options"]}
        assert data.describe() == expected
    torch.manual_seed(0)
    drawn = plain.buffer.sample(30, 0.9, 3)
    torch.manual_seed(0)
    for one, other in zip(drawn, again.buffer.sample(30, 0.9, 3), strict=True):
        assert torch.equal(one, other)


def test_rows_are_made_once_for_a_content_and_its_options(tmp_path, monkeypatch):
    path, made = write(tmp_path / "a.npz"), []
    original = mapping._convert
    monkeypatch.setattr(mapping, "_convert", lambda *given: (made.append(1), original(*given)))
    for options in ({}, {}, {"top_episodes": 0.5}, {"weighting": "return"}, {"validation": 0.5}):
        dataset(path, memory_map=True, **options)
    assert len(made) == 1
    dataset(path, memory_map=True, reward_scale=2.0)
    write(path, seed=1)
    assert dataset(path, memory_map=True).buffer.obs.equal(dataset(path).buffer.obs)
    assert len(made) == 3 and len(list(tmp_path.glob("a.npz.rows-*"))) == 3
    assert not list(tmp_path.glob(".*")), "nothing else is left"


def test_a_file_that_is_refused_leaves_nothing(tmp_path):
    path = write(tmp_path / "a.npz")
    np.savez(path, **(dict(np.load(path)) | {"rewards": np.full(60, np.nan, np.float32)}))
    with pytest.raises(InvalidData, match="'rewards' has NaN"):
        dataset(path, memory_map=True)
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]


def test_rows_that_were_damaged_are_found(tmp_path):
    path = write(tmp_path / "a.npz")
    dataset(path, memory_map=True)
    (folder,) = tmp_path.glob("a.npz.rows-*")
    obs = folder / "obs.npy"
    obs.write_bytes(obs.read_bytes()[:-100])
    with pytest.raises(InvalidData, match=r"is damaged .*: remove it, and it is made anew"):
        dataset(path, memory_map=True)
    np.save(obs, np.zeros((3, 1, 3), np.float32))
    with pytest.raises(InvalidData, match="is damaged"):
        dataset(path, memory_map=True)


def test_another_device_is_refused(tmp_path):
    with pytest.raises(InvalidSetting, match="memory_map leaves the data on the disk, not on cuda"):
        dataset(write(tmp_path / "a.npz"), memory_map=True, device="cuda")


LIMITED = """
import re, resource, sys
import torch
from bellmark.offline.dataset import dataset
from bellmark.offline import hdf5
import bellmark.offline.returns
data = int(re.search(r"VmData:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (data + {room},) * 2)
data = dataset(sys.argv[1], memory_map=sys.argv[2] == "map")
batch = data.buffer.sample(256, 0.99)
print(data.buffer.transitions, int((batch.obs != batch.obs[:, :1]).sum()))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to limit memory")
@pytest.mark.parametrize(("how", "fits"), [("map", True), ("memory", False)])
def test_more_than_the_memory(tmp_path, how, fits):
    """200 MB of observations with 150 MB to put them."""
    rows, size = 4000, 12_500
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        obs = file.create_dataset("observations", (rows, size), np.float32)
        for first in range(0, rows, 500):
            obs[first : first + 500] = np.repeat(np.arange(first, first + 500, dtype=np.float32)[:, None], size, 1) / 8
        file["actions"], file["rewards"] = np.zeros((rows, 1), np.float32), np.ones(rows, np.float32)
        file["terminals"], file["timeouts"] = np.zeros(rows, bool), np.arange(rows) % 100 == 99
    code = LIMITED.format(room=150_000_000)
    command = [sys.executable, "-c", code, str(tmp_path / "a.hdf5"), how]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}  # each thread reserves memory of its own
    done = subprocess.run(command, capture_output=True, text=True, env=alone)
    assert (done.returncode == 0) == fits, done.stderr[-2000:]
    assert done.stdout.split() == ["3960", "0"] if fits else "memory" in done.stderr.lower()


@pytest.mark.parametrize("name", ["td3_bc", "sac_rnd"])
def test_observations_are_normalised_in_blocks(monkeypatch, name):
    """Their statistics are those of all data, though never more than a block of rows is looked at."""
    agent, buffer, most = build(name, False), filled_buffer(spec_of(False)), []
    observations = type(buffer).observations
    monkeypatch.setattr(type(buffer), "observations", lambda b, i: most.append(len(i)) or observations(b, i))
    monkeypatch.setattr(core_buffer, "PART", 64)
    agent.sample(buffer)
    rows = buffer.obs[buffer.valid]
    found = agent.obs_normalizer if name == "td3_bc" else agent.obs_scale
    torch.testing.assert_close(found.mean.float(), rows.mean(0))
    torch.testing.assert_close(found.variance.float(), rows.var(0, correction=0))
    assert max(most) <= 64
