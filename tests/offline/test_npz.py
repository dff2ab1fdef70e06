"""npz files: the transitions of HDF5, a round trip, and nothing that is no array of numbers of its stated size."""

from __future__ import annotations

import io
import pickle
import zipfile

import h5py
import numpy as np
import pytest
from bellmark.agents.core.errors import InvalidData
from bellmark.offline import d4rl, npz
from bellmark.offline.dataset import dataset

ROWS = 9


def columns(**changes):
    rng = np.random.default_rng(0)
    obs = rng.standard_normal((ROWS + 1, 3)).astype(np.float32)
    made = {
        "observations": obs[:-1],
        "actions": rng.uniform(-1, 1, (ROWS, 2)).astype(np.float32),
        "rewards": rng.standard_normal(ROWS),
        "terminals": np.arange(ROWS) == 3,
        "timeouts": np.arange(ROWS) == 6,
        "next_observations": obs[1:],
    }
    return {name: value for name, value in (made | changes).items() if value is not None}


def same(one, other):
    for field in ("obs", "action", "reward", "terminated", "truncated", "next_obs"):
        a, b = getattr(one, field), getattr(other, field)
        assert (a is None and b is None) or (a.dtype == b.dtype and np.array_equal(a, b)), field
    assert one.metadata == other.metadata


@pytest.mark.parametrize("successors", [True, False])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_is_read_as_hdf5_is(tmp_path, save, successors):
    made = columns() if successors else columns(next_observations=None)
    save(tmp_path / "mine.npz", **made, **{"metadata/algorithm": "SAC", "metadata/seed": 3, "other": np.ones(4)})
    with h5py.File(tmp_path / "mine.hdf5", "w") as file:
        for name, values in (made | {"metadata/algorithm": "SAC", "metadata/seed": 3}).items():
            file[name] = values
    same(d4rl.read(tmp_path / "mine.npz", reader=npz.read), d4rl.read(tmp_path / "mine.hdf5"))
    one, other = dataset(tmp_path / "mine.npz"), dataset(tmp_path / "mine.hdf5")
    assert one.describe()["transitions"] == other.describe()["transitions"] == (ROWS if successors else ROWS - 2)
    assert one.sha256 != other.sha256 and one.id == "mine"


@pytest.mark.parametrize("discrete", [True, False])
def test_round_trip(tmp_path, discrete):
    changes = {"actions": np.arange(ROWS) % 3} if discrete else {}
    np.savez(tmp_path / "one.npz", **columns(**changes), **{"metadata/seed": 3, "metadata/noise": 0.5})
    first = d4rl.read(tmp_path / "one.npz", reader=npz.read)
    npz.write(tmp_path / "two.npz", first)
    same(d4rl.read(tmp_path / "two.npz", reader=npz.read), first)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one.npz", "two.npz"]


class Witness:
    def __reduce__(self):
        return (open, ("witness", "w"))


def raw(shape, content, descr="<f4", order=False):
    """A .npy member that states `shape` and holds `content`."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": order, "shape": shape})
    return file.getvalue() + content


HOSTILE = {
    "pickled": (raw((1,), pickle.dumps(Witness()), "|O"), "must be an array of numbers"),
    "a million million rows": (raw((10**12, 3), bytes(12)), r"states the shape \(1000000000000, 3\), of which"),
    "overflow": (raw((2**62, 4), bytes(12)), "states the shape"),
    "too short": (raw((ROWS, 3), bytes(12)), "states the shape"),
    "by columns": (raw((ROWS, 3), bytes(ROWS * 12), order=True), "is stored by columns"),
    "one number": (raw((), bytes(4)), "must be an array of numbers"),
    "texts": (raw((ROWS,), bytes(4 * ROWS), "<U1"), "must be an array of numbers"),
    "no array": (b"hello", "truncated or damaged"),
    "odd header": (b"\x93NUMPY\x01\x00\x20\x00{'descr': __import__('os')}       ", "truncated or damaged"),
    "negative": (raw((-ROWS, -3), bytes(ROWS * 12)), "states the shape|truncated or damaged"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_hostile_is_refused(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    content, message = HOSTILE[case]
    np.savez("mine.npz", **columns(observations=None, next_observations=None))
    with zipfile.ZipFile("mine.npz", "a") as file:
        file.writestr("observations.npy", content)
    with pytest.raises(InvalidData, match=message):
        dataset("mine.npz")
    assert not (tmp_path / "witness").exists()


def test_a_bomb_and_damage(tmp_path):
    """A member that unpacks to far more than the machine has is refused before; a flipped bit is found."""
    np.savez_compressed(tmp_path / "mine.npz", **columns())
    content = bytearray((tmp_path / "mine.npz").read_bytes())
    content[content.index(b"observations") + 60] ^= 255
    (tmp_path / "mine.npz").write_bytes(content)
    with pytest.raises(InvalidData, match="truncated or damaged"):
        dataset(tmp_path / "mine.npz")
    (tmp_path / "mine.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(InvalidData, match="truncated or damaged"):
        dataset(tmp_path / "mine.npz")


def test_arrays_beyond_the_memory_are_refused_before_they_are_allocated(tmp_path, monkeypatch):
    from bellmark.agents.core import memory

    np.savez(tmp_path / "mine.npz", **columns())
    monkeypatch.setattr(memory, "available", lambda device="cpu": 100)
    with pytest.raises(InvalidData, match="memory_map=True"):
        npz.read(tmp_path / "mine.npz", d4rl.NEEDED)


def test_what_is_missing_is_said(tmp_path):
    np.savez(tmp_path / "mine.npz", **columns(rewards=None))
    with pytest.raises(InvalidData, match="lacks 'rewards'"):
        dataset(tmp_path / "mine.npz")
