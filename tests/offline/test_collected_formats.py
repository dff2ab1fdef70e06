"""Other libraries read what was collected: minari and d3rlpy."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from bellmark import dataset
from bellmark.agents.core.errors import InvalidSetting
from bellmark.envs import make
from bellmark.offline import sources
from bellmark.offline.behaviour import Uniform
from bellmark.offline.collect import record
from bellmark.offline.writing import write_d4rl, write_minari

COLUMNS = ["observations", "actions", "rewards", "terminals", "timeouts"]


def test_minari_gives_the_same_episodes(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    with make("Pendulum-v1", 2) as env:
        columns = record(Uniform(env.spec), env, 0, transitions=450)
    write_minari("test/pendulum-v0", [columns], "Pendulum-v1", {"agents": "random", "seed": 0})
    found = minari.load_dataset("test/pendulum-v0")
    assert (found.total_episodes, found.total_steps, found.spec.env_spec.id) == (4, 800, "Pendulum-v1")
    episodes = [*found.iterate_episodes()]
    joined = [np.concatenate([getattr(e, name) for e in episodes]) for name in ("actions", "rewards", "truncations")]
    for values, name in zip(joined, ("actions", "rewards", "timeouts"), strict=True):
        np.testing.assert_array_equal(values, columns[name])
    np.testing.assert_array_equal(np.concatenate([e.observations[1:] for e in episodes]), columns["next_observations"])
    np.testing.assert_array_equal(np.concatenate([e.observations[:-1] for e in episodes]), columns["observations"])
    logs = np.concatenate([e.infos["action_log_probs"] for e in episodes])
    np.testing.assert_array_equal(logs, columns["infos/action_log_probs"])
    with pytest.raises(InvalidSetting, match="cannot be written"):
        write_minari("test/pendulum-v0", [columns], "Pendulum-v1", {})


def test_a_minari_set_keeps_the_horizon(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    with make("Pendulum-v1", 2, max_episode_steps=30) as env:
        columns = record(Uniform(env.spec), env, 0, transitions=120)
        facts = {"environment": "Pendulum-v1", "env_settings": json.dumps(env.settings)}
    write_minari("test/short-v0", [columns], "Pendulum-v1", facts)
    assert minari.load_dataset("test/short-v0").spec.env_spec.max_episode_steps == 30
    data = dataset("test/short-v0")
    assert data.episode_lengths.tolist() == [30] * 4 and data.env_kwargs == {"max_episode_steps": 30}
    assert sources.env_keywords(data.metadata, "Other-v0") == (0, []), "it is not another environment's"


def test_d3rlpy_reads_the_file(tmp_path):
    """In this interpreter, or in the one that the variable BELLMARK_D3RLPY names."""
    python = os.environ.get("BELLMARK_D3RLPY", sys.executable)
    if subprocess.run([python, "-c", "import d3rlpy"], capture_output=True).returncode:
        pytest.skip("d3rlpy is not installed: name an interpreter that has it in BELLMARK_D3RLPY")
    with make("CartPole-v1", 2, max_episode_steps=20) as env:
        columns = record(Uniform(env.spec), env, 5, transitions=300)
    assert columns["terminals"].any() and columns["timeouts"].any()
    write_d4rl(tmp_path / "c.hdf5", [columns], {})
    np.savez(tmp_path / "expected.npz", **{name: columns[name] for name in COLUMNS})
    code = """
import d3rlpy, h5py, numpy as np
file, expected = h5py.File("c.hdf5"), np.load("expected.npz")
terminals, timeouts = file["terminals"][()], file["timeouts"][()]
data = d3rlpy.dataset.MDPDataset(
    file["observations"][()], file["actions"][()], file["rewards"][()], terminals, timeouts & ~terminals)
join = lambda name: np.concatenate([getattr(episode, name) for episode in data.episodes])
assert (join("observations") == expected["observations"]).all()
assert (join("actions").squeeze(-1) == expected["actions"]).all()  # choices have an axis of their own there
assert (join("rewards")[:, 0] == expected["rewards"]).all()
ended = expected["terminals"] | expected["timeouts"]
assert len(data.episodes) == ended.sum()
assert [episode.terminated for episode in data.episodes] == expected["terminals"][ended].tolist()
"""
    done = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
