"""HDF5 files that are meant to do harm: nothing outside them is opened, nothing is run, no memory is wasted."""

from __future__ import annotations

import os
import sys

import h5py
import numpy as np
import pytest
from bellmark.agents.core.errors import BellmarkError, InvalidData, InvalidSetting
from bellmark.offline import hdf5
from bellmark.offline.dataset import dataset

ROWS = 6
OBS = np.arange(ROWS * 3, dtype=np.float32).reshape(ROWS, 3)


def written(path, make=lambda file: None, **changes):
    """A sound file in which `make` and `changes` replace columns."""
    columns = {"observations": OBS, "actions": np.zeros((ROWS, 1), np.float32), "rewards": np.ones(ROWS, np.float32)}
    columns |= {"terminals": np.arange(ROWS) == ROWS - 1, "timeouts": np.zeros(ROWS, bool)}
    with h5py.File(path, "w") as file:
        make(file)
        for key, value in (columns | changes).items():
            if value is not None and key not in file:
                file[key] = value
    return path


def outside(path):
    """Another file, whose values must not be read."""
    with h5py.File(path.with_name("secret.hdf5"), "w") as file:
        file["rewards"] = np.full(ROWS, 42.0, np.float32)
        file["text"] = "secret"
    path.with_name("secret.bin").write_bytes(np.full(ROWS, 42.0, np.float32).tobytes())


def external_link(file):
    file["rewards"] = h5py.ExternalLink("secret.hdf5", "/rewards")


def soft_link(file):
    file["inner"] = h5py.ExternalLink("secret.hdf5", "/")
    file["rewards"] = h5py.SoftLink("/inner/rewards")


def external_storage(file):
    place = [("secret.bin", 0, 4 * ROWS)]
    file.create_dataset("rewards", (ROWS,), np.float32, external=place)


def virtual(file):
    layout = h5py.VirtualLayout((ROWS,), np.float32)
    layout[:] = h5py.VirtualSource("secret.hdf5", "rewards", (ROWS,))
    file.create_virtual_dataset("rewards", layout)


def never_written(rows):
    return lambda file: file.create_dataset("observations", (rows, 3), np.float32, chunks=(1000, 3))


def bomb(file):
    """100 MB of zeros, packed twice."""
    kept = {"compression": "gzip", "compression_opts": 9, "chunks": (10**6,)}
    for key, kind in (("rewards", np.float32), ("terminals", bool)):
        file.create_dataset(key, (25 * 10**6,), kind, **kept)
        file[key][:1] = 0


HOSTILE = {
    "external link": ({"make": external_link}, "'rewards' is a link, which is not followed"),
    "soft link": ({"make": soft_link}, "'rewards' is a link, which is not followed"),
    "external storage": ({"make": external_storage}, "'rewards' lies in other files, which are not opened"),
    "virtual": ({"make": virtual}, "'rewards' lies in other files, which are not opened"),
    "a million million rows": ({"make": never_written(10**12)}, "states the shape (1000000000000, 3), of which"),
    "never written": ({"make": never_written(10**5)}, "states the shape (100000, 3), of which the file holds only 0"),
    "bomb": ({"make": bomb}, "states the shape (25000000,), of which the file holds only"),
    "compound": ({"rewards": np.zeros(ROWS, [("a", "f4"), ("b", "f4")])}, "'rewards' must be an array of numbers"),
    "texts": ({"rewards": np.array(["1"] * ROWS, object)}, "'rewards' must be an array of numbers"),
    "complex": ({"rewards": np.ones(ROWS, complex)}, "'rewards' must be an array of numbers"),
    "references": ({"make": lambda f: f.create_dataset("rewards", (ROWS,), h5py.ref_dtype)}, "must be an array of num"),
    "opaque": ({"rewards": np.zeros(ROWS, "V8")}, "'rewards' must be an array of numbers"),
    "no shape": ({"rewards": h5py.Empty("f4")}, "'rewards' must be an array of numbers"),
    "one number": ({"rewards": np.float32(1)}, "'rewards' must be an array of numbers"),
    "no width": ({"actions": np.zeros((ROWS, 0), np.float32)}, "'actions' has the shape (6, 0), so no values"),
    "too large for float32": ({"rewards": np.full(ROWS, 1e300)}, "'rewards' has NaN or infinity, first in row 0"),
    "absurd choices": ({"actions": np.full(ROWS, 10**15)}, "has the action 1000000000000000: record what is no choice"),
    "no successor": ({"make": lambda f: one_row(f)}, "holds no transition whose successor"),
}  # fmt: skip


def one_row(file):
    shapes = {"observations": (1, 3), "actions": (1, 1), "rewards": (1,), "terminals": (1,), "timeouts": (1,)}
    for key, shape in shapes.items():
        file[key] = np.full(shape, key == "timeouts")


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_hostile_is_refused(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    changes, message = HOSTILE[case]
    path = tmp_path / "mine.hdf5"
    outside(path)
    written(path, **changes)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(InvalidData) as error:
        dataset(path)
    assert message in str(error.value) and "mine.hdf5" in str(error.value)
    assert sorted(os.listdir(tmp_path)) == before


def test_a_filter_that_is_a_plugin_is_not_run(tmp_path):
    """The number of lzf in the file is changed into that of a plugin."""
    packed = {"data": np.ones(ROWS, np.float32), "compression": "lzf"}
    path = written(tmp_path / "mine.hdf5", lambda file: file.create_dataset("rewards", **packed))
    assert dataset(path).buffer.transitions == ROWS
    content = path.read_bytes()
    place = content.index(b"lzf\0") - 8
    assert content[place : place + 2] == (32000).to_bytes(2, "little")
    path.write_bytes(content[:place] + (32015).to_bytes(2, "little") + content[place + 2 :])
    with pytest.raises(InvalidData, match="needs the filter 32015, a program that is not part of HDF5 and is not run"):
        dataset(path)


def test_metadata_take_little_and_stay_in_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make(file):
        group = file.create_group("metadata")
        group["long"] = "x" * 10**6
        group.create_dataset("fixed", (), "S1000000", data=b"y")
        group["outer"] = h5py.ExternalLink("secret.hdf5", "/text")
        group.create_dataset("stored", (1,), "S6", external=[("secret.hdf5", 0, 6)])
        group["cycle"] = group  # a hard link to itself
        group["reference"] = file.ref
        group["complex"] = 1j
        group["wide"] = np.longdouble(2.5)
        group["kept"] = 3
        deep = group
        for _ in range(300):
            deep = deep.create_group("d")
        deep["bottom"] = 1
        for i in range(2000):
            group[f"z{i}"] = i

    outside(tmp_path / "mine.hdf5")
    found = dataset(written(tmp_path / "mine.hdf5", make)).metadata
    assert len(found["long"]) == hdf5.TEXT and found["wide"] == 2.5 and found["kept"] == 3
    assert found.keys().isdisjoint({"fixed", "outer", "stored", "reference", "complex"})
    assert len(found) == hdf5.ENTRIES
    with h5py.File(tmp_path / "mine.hdf5", "a") as file:
        del file["metadata"]
        file["metadata"] = h5py.ExternalLink("secret.hdf5", "/")
    with pytest.raises(InvalidData, match="'metadata' is a link, which is not followed"):
        dataset(tmp_path / "mine.hdf5")


def test_a_file_does_not_decide_what_is_imported(tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'witness')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    path = written(tmp_path / "mine.hdf5", lambda file: file.update({"metadata/environment": "planted:Task-v1"}))
    with pytest.warns(UserWarning, match="planted:Task-v1 imports 'planted', give env_id='planted:Task-v1' to allow"):
        assert dataset(path).env_id == ""
    assert "planted" not in sys.modules and not (tmp_path / "witness").exists()
    with pytest.raises(InvalidSetting, match="cannot be made"):
        dataset(path, env_id="planted:Task-v1")
    assert (tmp_path / "witness").exists(), "the user's own word counts"


def test_the_folder_one_is_in_decides_nothing(tmp_path, monkeypatch):
    """The child process must not import an h5py.py that lies where the user is."""
    (tmp_path / "h5py.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    assert dataset(written(tmp_path / "mine.hdf5")).buffer.transitions == ROWS


@pytest.mark.parametrize("environment", ["FrozenLake-v1", "CarRacing-v3"])
def test_observations_that_no_environment_gives(tmp_path, environment):
    size = {"FrozenLake-v1": 1, "CarRacing-v3": 96 * 96 * 3}[environment]
    obs, action = np.full((ROWS, size), 16.5, np.float32), np.zeros((ROWS, 3), np.float32)
    action = np.zeros(ROWS, np.int64) if size == 1 else action
    path = written(tmp_path / "mine.hdf5", observations=obs, actions=action)
    with pytest.raises(BellmarkError, match=r"none of the 16 states|has images uint8|cannot be made"):
        dataset(path, env_id=environment)


def test_rewards_beyond_all_bounds(tmp_path):
    path = written(tmp_path / "mine.hdf5", rewards=np.full(ROWS, 1e38, np.float32))
    with pytest.raises(InvalidSetting, match="beyond all bounds"):
        dataset(path, reward_scale=1e3)


def child(monkeypatch, code):
    """Puts `code` in the place of what the child process does."""
    monkeypatch.setattr(hdf5.sys, "executable", "/bin/sh")
    original = hdf5.subprocess.Popen
    monkeypatch.setattr(hdf5.subprocess, "Popen", lambda command, **kw: original(["/bin/sh", "-c", code], **kw))


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("kill -SEGV $$", "Segmentation fault"),
        ("kill -XCPU $$", "CPU time limit exceeded"),
        ("exit 3", "exit status 3"),
    ],
)
def test_the_end_of_the_child_is_said(tmp_path, monkeypatch, code, reason):
    path = written(tmp_path / "mine.hdf5")
    child(monkeypatch, code)
    with pytest.raises(InvalidData, match=rf"mine.hdf5 is damaged so that HDF5's library cannot read it \({reason}\)"):
        dataset(path)


def crash(content):
    """The type of a text, with one bit more."""
    content[content.index(bytes.fromhex("1901010010000000")) + 1] |= 4


def loop(content):
    """A text that takes no place."""
    size = content.index(b"GCOL") + 24
    content[size : size + 8] = bytes(8)


def memory(content):
    """A list of free places for names that leads back to itself."""
    heap = content.rindex(b"HEAP")
    free, data = (int.from_bytes(content[heap + place : heap + place + 8], "little") for place in (16, 24))
    content[data + free : data + free + 8] = free.to_bytes(8, "little")


@pytest.mark.parametrize(
    ("damage", "message"),
    [(crash, "Segmentation fault"), (loop, "CPU time limit exceeded"), (memory, "memory allocation failed")],
)
def test_a_file_on_which_the_library_fails_is_refused(tmp_path, monkeypatch, damage, message):
    """Each ends a process in which HDF5 2.0 reads it, or uses it up."""
    path = written(tmp_path / "mine.hdf5", lambda file: file.update({"metadata/algorithm": "SAC"}))
    content = bytearray(path.read_bytes())
    damage(content)
    path.write_bytes(content)
    monkeypatch.setattr(hdf5, "SECONDS", 1.0 if damage is loop else 30.0)
    with pytest.raises(InvalidData, match=message):
        dataset(path)
