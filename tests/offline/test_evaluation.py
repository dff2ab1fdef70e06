"""What judging by data needs from a file: the log-probabilities of the transitions that are in the buffer."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from bellmark.agents.core.errors import InvalidData
from bellmark.offline.dataset import dataset
from bellmark.offline.evaluation import discounted_returns, recorded_log_probs, trials

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
COUNT = 200
LOGS = "infos/action_log_probs"


def recorded(path, seed, successors):
    """A file in which each reward is the number of its row, and each log-probability its negative."""
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(COUNT + 1, 1)).astype(np.float32)
    ended = rng.random((2, COUNT)) < 0.1
    ended[:, -1] = [seed % 3 == 0, seed % 3 == 1]
    with h5py.File(path, "w") as file:
        file["observations"], file["actions"] = obs[:-1], np.zeros((COUNT, 1), np.float32)
        file["rewards"], file[LOGS] = np.arange(COUNT, dtype=np.float32), -np.arange(COUNT, dtype=np.float64)[:, None]
        file["terminals"], file["timeouts"] = ended
        if successors:
            file["next_observations"] = np.where(ended.any(0)[:, None], 0, obs[1:])
    return path


@pytest.mark.parametrize("options", [{}, {"validation": 0.3}, {"memory_map": True}])
@pytest.mark.parametrize("successors", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_log_probabilities_belong_to_their_transitions(tmp_path, seed, successors, options):
    data = dataset(recorded(tmp_path / "mine.hdf5", seed, successors), **options)
    found = recorded_log_probs(data)
    assert len(found) == data.buffer.transitions
    assert (len(found) == COUNT) == (successors and "validation" not in options)
    assert found.tolist() == (-data.buffer.reward[data.buffer.valid]).tolist()


def test_an_episode_that_was_left_off_counts_for_nothing(tmp_path):
    """Its return is not known; by hand, with the number of its row as each reward."""
    data = dataset(recorded(tmp_path / "mine.hdf5", seed=2, successors=True))
    with h5py.File(tmp_path / "mine.hdf5") as file:
        ends = np.flatnonzero(file["terminals"][()] | file["timeouts"][()])
    assert ends[-1] < COUNT - 1, "the last one is left off"
    parts = np.split(np.arange(COUNT), ends + 1)[:-1]
    expected = [sum(0.9**t * reward for t, reward in enumerate(part)) for part in parts]
    np.testing.assert_allclose(discounted_returns(data.buffer, 0.9), expected)
    found = trials(data.buffer, np.zeros(COUNT), np.arange(COUNT, dtype=np.float64))
    assert [row[: len(part)].tolist() for row, part in zip(found.reward, parts, strict=True)] == [
        part.tolist() for part in parts
    ]
    assert found.log_ratio.sum() == found.reward.sum() == sum(part.sum() for part in parts)


def test_log_probabilities_of_another_number_of_transitions_are_refused(tmp_path):
    path = recorded(tmp_path / "mine.hdf5", 0, False)
    with h5py.File(path, "a") as file:
        del file[LOGS]
        file[LOGS] = np.zeros(COUNT - 1)
    with pytest.raises(InvalidData, match="199 log-probabilities for 200 transitions: record one for each"):
        recorded_log_probs(dataset(path))


@pytest.mark.parametrize("name", ["hopper_expert-zoo", "hopper_medium-zoo", "halfcheetah_expert-zoo"])
def test_log_probabilities_of_real_runs(name):
    path = SHARED / f"{name}.hdf5"
    if not path.exists():
        pytest.skip(f"{path.name} is not in the shared data folder")
    data = dataset(path)
    with h5py.File(path) as file:
        logs, over = file[LOGS][()], file["timeouts"][()] & ~file["terminals"][()]
        known = "next_observations" in file
    np.testing.assert_array_equal(recorded_log_probs(data), logs if known else logs[~over])
