"""Files that are no sound recording, and names that do not exist: each error says what is wrong and what to do."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from bellmark.agents.core.errors import InvalidData, InvalidSetting, UnknownName
from bellmark.offline.dataset import dataset

ROWS = 6


def columns(**changes) -> dict[str, np.ndarray]:
    """A sound recording of the task hopper with some columns replaced, or left out where None."""
    obs = np.arange(ROWS * 11, dtype=np.float32).reshape(ROWS, 11)
    sound = {
        "observations": obs,
        "actions": np.zeros((ROWS, 3), np.float32),
        "rewards": np.ones(ROWS, np.float32),
        "terminals": np.zeros(ROWS, bool),
        "timeouts": np.arange(ROWS) == ROWS - 1,
        "next_observations": obs + 11,
    }
    return {key: value for key, value in {**sound, **changes}.items() if value is not None}


def written(path, **changes):
    with h5py.File(path, "w") as file:
        for key, value in columns(**changes).items():
            file[key] = value
    return path


def broken(row: int, value: float, shape: tuple[int, ...]) -> np.ndarray:
    values = np.zeros(shape, np.float32)
    values[row] = value
    return values


def test_the_sound_file_is_accepted(tmp_path):
    assert dataset(written(tmp_path / "hopper.hdf5")).buffer.transitions == ROWS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"terminals": None, "rewards": None},
            "lacks 'rewards', 'terminals': D4RL's schema needs arrays 'observations', 'actions', 'rewards', "
            "'terminals', and the file has 'actions', 'next_observations', 'observations', 'timeouts'; rename or add",
        ),
        (
            {"actions": np.zeros((ROWS - 1, 3), np.float32)},
            "one common length above 0, not observations 6, actions 5, rewards 6, terminals 6, timeouts 6, "
            "next_observations 6: cut or record it again",
        ),
        ({"rewards": broken(4, np.nan, (ROWS,))}, "'rewards' has NaN or infinity, first in row 4: remove that episode"),
        ({"observations": broken(2, np.inf, (ROWS, 11))}, "'observations' has NaN or infinity, first in row 2"),
        ({"next_observations": broken(3, np.nan, (ROWS, 11))}, "'next_observations' has NaN or infinity, first in row"),
        ({"actions": broken(5, np.nan, (ROWS, 3))}, "'actions' has NaN or infinity, first in row 5"),
        ({"rewards": np.ones((ROWS, 2), np.float32)}, "'rewards' must have one value per transition, not the shape (6"),
        ({"actions": np.array([b"left"] * ROWS)}, "'actions' must be an array of numbers [transitions, ...], not |S4"),
        ({"next_observations": np.zeros((ROWS, 4), np.float32)}, "'next_observations' has the shape (6, 4), but 'obs"),
        (
            {"observations": np.zeros((ROWS, 4), np.float32), "next_observations": None},
            "has observations of 4 values, Hopper-v4 has 11: give the environment that the data are from (env_id=...), "
            "or none (env_id='')",
        ),
        ({"actions": np.zeros((ROWS, 2), np.float32)}, "has actions of 2 dimensions, Hopper-v4 has 3 dimensions: give"),
        ({"actions": broken(1, 3.0, (ROWS, 3))}, "outside the bounds [-1, 1] of Hopper-v4, worst in row 1 (3): give"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, changes, message):
    with pytest.raises(InvalidData) as error:
        dataset(written(tmp_path / "hopper.hdf5", **changes))
    assert message in str(error.value) and "hopper.hdf5" in str(error.value)


def test_empty_file(tmp_path):
    with pytest.raises(InvalidData, match="common length above 0, not observations 0"):
        dataset(written(tmp_path / "hopper.hdf5", **{key: value[:0] for key, value in columns().items()}))


def test_file_that_does_not_say_where_episodes_end(tmp_path):
    path = written(tmp_path / "mine.hdf5", timeouts=None, next_observations=None)
    with pytest.raises(InvalidData, match=r"does not say where episodes end.*state the horizon \(max_episode_steps"):
        dataset(path)
    assert dataset(path, max_episode_steps=2).episode_lengths.tolist() == [2, 2, 2]
    known = written(tmp_path / "hopper.hdf5", timeouts=None, next_observations=None)  # D4RL's horizon is 1000
    assert dataset(known).boundaries == "terminals, and every 1000 steps"


def test_truncated_file(tmp_path):
    path = written(tmp_path / "hopper.hdf5")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InvalidData, match=r"hopper.hdf5 is truncated or damaged .*: remove it and download or copy it"):
        dataset(path)


def test_damage_inside_a_compressed_column(tmp_path):
    path = tmp_path / "hopper.hdf5"
    with h5py.File(path, "w") as file:
        for key, value in columns(observations=np.random.default_rng(0).random((ROWS, 11), np.float32)).items():
            file.create_dataset(key, data=value, compression="gzip")
        start = file["observations"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[start + 20 : start + 60] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(InvalidData, match="truncated or damaged"):
        dataset(path)


def test_foreign_file_and_folder(tmp_path):
    path = tmp_path / "hopper.hdf5"
    path.write_text("<html>not found</html>")
    with pytest.raises(InvalidData, match=r"hopper.hdf5 is not an HDF5 file: give a file of D4RL's schema, or a D4RL"):
        dataset(path)
    with pytest.raises(InvalidData, match=r"there is no file .*absent.hdf5: give the path of an HDF5 or npz file"):
        dataset(tmp_path / "absent.hdf5")


def test_names_that_do_not_exist(tmp_path):
    with pytest.raises(
        UnknownName, match=r"there is no HDF5 file or D4RL data set 'hopper-mediun-v2'; did you mean hop"
    ):
        dataset("hopper-mediun-v2")
    with pytest.raises(UnknownName, match=r"known: ant-..., antmaze-"):
        dataset("xyzzy")
    path = written(tmp_path / "hopper.hdf5")
    with pytest.raises(UnknownName, match="no data set option 'reward_scal'; did you mean reward_scale"):
        dataset(path, reward_scal=2.0)
    with pytest.raises(UnknownName, match="there is no D4RL task 'hoper'; did you mean hopper"):
        dataset(path, task="hoper")
    with pytest.raises(InvalidSetting, match="reward_scale = nan must be a finite number"):
        dataset(path, reward_scale=float("nan"))
    with pytest.raises(InvalidSetting, match="the evaluation environment Hoper-v4 cannot be made"):
        dataset(path, env_id="Hoper-v4")
    with pytest.raises(InvalidData, match="D4RL has no file for 'flow-ring-v0'"):
        dataset("flow-ring-v0")
