"""Malformed HDF5 files: only our own errors come out, no memory is lost, nothing is written.

HDF5's C library does crash and loop. So cases are read in a process that may die, fast; of whichever it dies, the
reader as users have it, which starts such a process for each file, must refuse it.
"""

from __future__ import annotations

import io
import warnings

import bellmark
import h5py
import malformed
import numpy as np
from bellmark.agents.core.errors import InvalidData
from bellmark.offline import hdf5
from malformed import INTEGERS, case, check, mutated

LAYOUTS = [{}, {"compression": "gzip", "shuffle": True, "fletcher32": True, "chunks": True}, {"compression": "lzf"}]
KINDS = [
    "f4",
    "f8",
    "f2",
    "i8",
    "u1",
    "?",
    "S3",
    "V4",
    "c8",
    ">f4",
    ">i2",
    h5py.ref_dtype,
    h5py.string_dtype(),
    "f4,i4",
]
COLUMNS = {
    "observations": np.random.default_rng(0).random((6, 3), np.float32),
    "actions": np.zeros((6, 1), np.float32),
    "rewards": np.ones(6, np.float32),
    "terminals": np.zeros(6, bool),
    "timeouts": np.arange(6) == 3,
    "next_observations": np.random.default_rng(1).random((6, 3), np.float32),
}


def sound(layout, version):
    file = io.BytesIO()
    with h5py.File(file, "w", libver=version) as h5:
        for name, value in COLUMNS.items():
            h5.create_dataset(name, data=value, **layout)
        h5["metadata/algorithm"], h5["metadata/environment"], h5["metadata/seed"] = "SAC", "", 3
    return file.getvalue()


EARLY = [sound(layout, "earliest") for layout in LAYOUTS]
"""D4RL's format, in which no part but the data of one layout has a checksum."""
LATEST = [sound(layout, "latest") for layout in LAYOUTS]


def odd(rng):
    """A file of the library's own making with a column of a wrong kind, shape, layout, or place."""
    file = io.BytesIO()
    with h5py.File(file, "w", libver=rng.choice(["earliest", "latest"])) as h5:
        name, kind, way = rng.choice([*COLUMNS]), rng.choice(KINDS), rng.randrange(7)
        shape = tuple(rng.randrange(8) for _ in range(rng.randrange(5)))
        if way == 0:
            h5.create_dataset(name, shape, kind)
        elif way == 1:
            rows = rng.choice(INTEGERS[1:11])
            h5.create_dataset(name, (rows, *COLUMNS[name].shape[1:]), "f4", chunks=True)
        elif way == 2:
            links = [h5py.SoftLink("/rewards"), h5py.ExternalLink("x", "/"), h5py.SoftLink(f"/{name}")]
            h5[name] = rng.choice(links)
        elif way == 3:
            h5[name] = h5.create_group("metadata")
            h5["metadata"]["cycle"] = h5["metadata"]
        elif way == 4:
            h5[name] = rng.choices([np.nan, np.inf, 1e300, -1e300, 0, 1e-320], k=6)
        elif way == 5:
            h5[f"metadata/{name}"] = np.zeros(shape, "f4")
        for key, value in COLUMNS.items():
            if key != name:
                h5[key] = value
    return file.getvalue()


def in_this_process(path, names, load=True):
    """`hdf5.read` without the child process."""
    columns, last = {}, {}
    for last, block in hdf5.answer(str(path), names, load):
        if "column" in last:
            columns[last["column"]] = np.empty((0, *last["shape"][1:]), last["dtype"])
        if block is not None:
            columns[last["block"]] = np.concatenate([columns[last["block"]], block])
    if "error" in last:
        raise InvalidData(last["error"])
    return hdf5.Contents(columns, last["metadata"], last["names"])


def read(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of environments that damaged metadata name
        bellmark.dataset(path)


def test_hdf5(tmp_path, monkeypatch, count, record):
    early, any_version = (lambda rng: mutated(rng.choice(EARLY), rng)), (lambda rng: mutated(rng.choice(LATEST), rng))
    makers, whole = [early, early, early, early, any_version, odd], hdf5.read
    monkeypatch.setattr(hdf5, "read", in_this_process)
    monkeypatch.setattr(hdf5, "SECONDS", 2.0)
    monkeypatch.setattr(malformed, "MEMORY", hdf5.LIBRARY)  # what the child process may take

    def is_refused(number):
        path = tmp_path / "case.zip"
        path.write_bytes(case(makers, number))
        try:
            whole(path, [*COLUMNS])
        except InvalidData:
            return True
        return False

    check("D4RL/HDF5 reader", makers, read, tmp_path, count(300, 100_000), record, is_refused)


def test_hdf5_with_a_process_for_each_file(tmp_path, count, record):
    makers = [lambda rng: mutated(EARLY[0], rng), odd]
    check("D4RL/HDF5 reader, a process for each file", makers, read, tmp_path, count(6, 1000), record)
