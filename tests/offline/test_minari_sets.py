"""Minari sets: the transitions that the library's own reader gives, and nothing run or opened that a set names."""

from __future__ import annotations

import json
import sys

import h5py
import numpy as np
import pytest
from bellmark.agents.core.errors import InvalidData
from bellmark.offline.dataset import dataset
from gymnasium import spaces

minari = pytest.importorskip("minari", reason="the extra 'minari' is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
LENGTHS = (3, 1, 4)
BOX = spaces.Box(-np.inf, np.inf, (2,), np.float32)


def episodes(discrete=False):
    """Observation (10 e + t, 1); episode 0 terminates, 1 is cut off, 2 is left off."""
    from minari.data_collector import EpisodeBuffer

    made, row = [], 0
    for number, length in enumerate(LENGTHS):
        action = np.arange(row, row + length)
        made.append(
            EpisodeBuffer(
                id=number,
                observations=np.array([(10 * number + t, 1) for t in range(length + 1)], np.float32),
                actions=action % 3 if discrete else (0.1 * action[:, None]).astype(np.float32),
                rewards=np.arange(row + 1.0, row + length + 1),
                terminations=np.arange(length) == (length - 1 if number == 0 else -1),
                truncations=np.arange(length) == (length - 1 if number == 1 else -1),
                infos={"speed": np.zeros(length + 1)},
            )
        )
        row += length
    return made


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A local set `mine/test-v0`, and its folder."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))

    def make(discrete=False, **options):
        action = spaces.Discrete(3) if discrete else spaces.Box(-1, 1, (1,), np.float32)
        given = {"observation_space": BOX, "action_space": action, "data_format": "hdf5"} | options
        minari.create_dataset_from_buffers("mine/test-v0", episodes(discrete), **given)
        return tmp_path / "mine" / "test-v0" / "data"

    return make


@pytest.mark.parametrize("discrete", [True, False])
def test_transitions_are_those_that_were_written(made, discrete):
    folder = made(discrete)
    data = dataset("mine/test-v0")
    assert (data.id, data.path, data.spec.discrete, data.env_id) == ("mine/test-v0", folder, discrete, "")
    batch = data.buffer.gather(data.buffer.valid_index(), 0.5)
    starts = [10 * e + t for e, length in enumerate(LENGTHS) for t in range(length)]
    assert batch.obs[:, 0].tolist() == starts
    assert batch.next_obs[:, 0].tolist() == [start + 1 for start in starts], "the last observation is kept"
    assert batch.discount.tolist() == [0.5, 0.5, 0.0, *[0.5] * 5]
    assert batch.reward.tolist() == [*range(1, 9)]
    theirs = np.concatenate([episode.actions for episode in minari.load_dataset("mine/test-v0")])
    np.testing.assert_allclose(batch.action.numpy(), theirs, atol=1e-6)
    assert data.episode_lengths.tolist() == [*LENGTHS] and data.boundaries == "terminations and truncations"
    assert data.sha256 == dataset(folder).sha256 == dataset(folder.parent).sha256


def test_what_d4rl_files_and_minari_sets_say_is_the_same(made, tmp_path):
    folder = made()
    one = dataset(folder)
    from bellmark.offline import minari_sets, npz

    npz.write(tmp_path / "mine.npz", minari_sets.read(folder))
    other = dataset(tmp_path / "mine.npz")
    for name, values in one.buffer._tensors().items():
        assert values.equal(getattr(other.buffer, name)), name


def test_round_trip_through_our_writer(made, tmp_path):
    from bellmark.offline import minari_sets
    from bellmark.offline.writing import write_minari

    first = minari_sets.read(made())
    obs = np.pad(first.obs, ((0, 0), (0, 1)))
    parts = {"observations": obs, "next_observations": np.pad(first.next_obs, ((0, 0), (0, 1)))}
    parts |= {"actions": first.action, "rewards": first.reward, "terminals": first.terminated}
    write_minari("mine/again-v0", [parts | {"timeouts": first.truncated}], "Pendulum-v1", {"seed": 1})
    again = minari_sets.read(tmp_path / "mine" / "again-v0" / "data")
    for field in ("action", "reward", "terminated", "truncated"):
        assert np.array_equal(getattr(first, field), getattr(again, field)), field
    assert np.array_equal(again.obs, obs) and again.metadata["environment"] == "Pendulum-v1"


def change(folder, **values):
    text = json.loads((folder / "metadata.json").read_text()) | values
    (folder / "metadata.json").write_text(json.dumps({key: value for key, value in text.items() if value is not None}))


def test_a_set_does_not_decide_what_is_imported(made, tmp_path, monkeypatch):
    """Neither the module in the environment's id, nor its entry point, nor a wrapper's."""
    (tmp_path / "planted_set.py").write_text(f"open({str(tmp_path / 'witness')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # the child process would find it, too
    folder = made()
    wrapper = {"name": "W", "entry_point": "planted_set:W", "kwargs": {}}
    stated = {
        "id": "planted_set:Task-v1",
        "entry_point": "planted_set:Task",
        "additional_wrappers": [wrapper],
        "kwargs": {},
    }
    change(folder, env_spec=json.dumps(stated))
    with pytest.warns(
        UserWarning,
        match="planted_set:Task-v1 imports 'planted_set', give env_id='planted_set:Task-v1' to allow",
    ):
        assert dataset(folder).env_id == ""
    change(folder, action_space=None)
    with pytest.raises(InvalidData, match="does not state its spaces, and Minari would run the environment"):
        dataset(folder)
    assert "planted_set" not in sys.modules and not (tmp_path / "witness").exists()


def replaced(name, value):
    def damage(file):
        del file[name]
        file[name] = value

    return damage


HOSTILE = {
    "external link": (
        replaced("episode_0/rewards", h5py.ExternalLink("x.hdf5", "/rewards")),
        "is a link, which is not",
    ),
    "link in infos": (
        replaced("episode_0/infos/speed", h5py.SoftLink("/episode_1/rewards")),
        "is a link, which is not",
    ),
    "unequal": (replaced("episode_1/rewards", np.zeros(7)), "episode 1 has arrays of unequal lengths"),
    "texts": (replaced("episode_2/actions", np.array([b"1"] * 4)), "must be an array of numbers"),
    "missing": (lambda file: file.__delitem__("episode_1"), "is no sound Minari set"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_hostile_is_refused(made, case):
    folder = made()
    damage, message = HOSTILE[case]
    with h5py.File(folder / "main_data.hdf5", "a") as file:
        damage(file)
    with pytest.raises(InvalidData, match=message):
        dataset(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [({"data_format": "arrow"}, "only Minari's 'hdf5'"), ({"total_episodes": 0}, "holds 0 episodes"),
     ({"observation_space": "{"}, "is no sound Minari set")],
)  # fmt: skip
def test_descriptions_that_are_refused(made, values, message):
    folder = made()
    change(folder, **values)
    with pytest.raises(InvalidData, match=message):
        dataset(folder)


def test_a_set_that_is_not_here(made):
    with pytest.raises(InvalidData, match="`minari download mujoco/hopper/expert-v0` fetches one"):
        dataset("mujoco/hopper/expert-v0")
