"""Recordings of real MuJoCo runs, whose figures are known by other means."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from bellmark.offline.dataset import dataset
from bellmark.offline.scores import find

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
REAL = {  # file: recorded, kept, episodes, terminals, mean return and its spread, D4RL score
    "halfcheetah_medium-zoo": (100_000, 100_000, 100, 0, 5247, 1297, 44.5),
    "halfcheetah_expert-zoo": (50_000, 50_000, 50, 0, 8893, 132, 73.9),
    "hopper_medium-zoo": (100_025, 100_025 - 32, 216, 184, 1686, 878, 52.4),
    "hopper_expert-zoo": (50_188, 50_188 - 48, 53, 5, 2404, 465, 74.5),
}


@pytest.mark.parametrize("name", REAL)
def test_recordings_of_real_runs(name):
    path = SHARED / f"{name}.hdf5"
    if not path.exists():
        pytest.skip(f"{path.name} is not in the shared data folder")
    recorded, kept, episodes, terminals, mean, spread, score = REAL[name]
    data = dataset(path)
    assert (data.recorded, data.buffer.transitions, len(data.episode_returns)) == (recorded, kept, episodes)
    assert int(data.buffer.terminated.sum()) == terminals
    assert data.episode_lengths.sum() + data.episodes.unfinished == recorded
    assert data.episode_returns.mean() == pytest.approx(mean, abs=0.5)
    assert data.episode_returns.std() == pytest.approx(spread, abs=0.5)
    assert data.normalized(data.episode_returns).mean() == pytest.approx(score, abs=0.05)
    task = name.partition("_")[0]
    assert data.reference == find(task) and data.env_id == {"halfcheetah": "HalfCheetah-v4"}.get(task, "Hopper-v4")
    assert data.env_kwargs == {"max_episode_steps": 1000}
    low, high = {"halfcheetah": ("-280.18", "12135.00"), "hopper": ("-20.27", "3234.30")}[task]
    assert data.protocol == (
        f"D4RL normalised score, task {task} (0 = {low}, 100 = {high}), evaluation environment {data.env_id}, data "
        f"{name} sha256 {data.sha256[:12]}, not D4RL's own data, reference returns found by the task in the file's name"
    )
    with h5py.File(path) as file:  # whole columns, by other means
        obs, action, reward = (file[key][()] for key in ("observations", "actions", "rewards"))
        ended = file["timeouts"][()] & ~file["terminals"][()]
    rows = np.flatnonzero(~ended) if kept < recorded else np.arange(recorded)
    valid = data.buffer.valid
    assert np.array_equal(data.buffer.obs[valid].numpy(), obs[rows])
    assert np.allclose(data.buffer.action[valid].numpy(), action[rows], atol=2e-7)
    assert np.array_equal(data.buffer.reward[valid].numpy(), reward[rows])
