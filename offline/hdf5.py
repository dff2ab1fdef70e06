"""Reads arrays of an HDF5 file in a process of its own.

HDF5's C library crashes or never returns on about one in a thousand files with a few damaged bytes (counted by
tests/reliability/test_fuzz_readers.py). So a child process opens the file, with limits on memory and time, able to
write to no file and to load no plugin. It sends plain arrays; whatever else happens to it becomes InvalidData.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..agents.core import memory
from ..agents.core.errors import InvalidData

SIGNATURE = b"\x89HDF\r\n\x1a\n"
SECONDS, BYTES_PER_SECOND = 30.0, 2e6
"""Processor time that a child may use: so much, and for each so many bytes of the file one second more."""
FILTERS = {1: "gzip", 2: "shuffle", 3: "checksum", 4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf"}
"""Filters that HDF5 and h5py bring themselves. Any other is a shared library that the file names."""
LIBRARY = 2**30
"""Bytes of memory that a child may use beside the file and its arrays."""
RATIO = 1100
"""Arrays larger than so many times what the file holds of them are refused; gzip reaches 1032."""
TEXT, ENTRIES = 10_000, 1000
"""Longest text and greatest number of values that are taken over from `metadata/`."""
BLOCK = 2**26
"""Bytes of an array that are read at a time."""

Metadata = dict[str, str | int | float]
Message = tuple[dict[str, Any], np.ndarray | None]
Allocate = Callable[[str, tuple[int, ...], np.dtype], np.ndarray]
"""Gives the array for a column, from its name, shape and type."""


class Contents(NamedTuple):
    """What was read."""

    columns: dict[str, np.ndarray]
    """The arrays that are there; floating point numbers as float32, everything else as it is."""
    metadata: Metadata
    """The single values under `metadata/`: texts and numbers, not the weights of policies that some files carry."""
    names: list[str]
    """What the file holds at its top, the first hundred."""


def in_memory(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """A new array, not filled."""
    return np.empty(shape, dtype)


def read(
    path: str | os.PathLike[str],
    names: Sequence[str],
    load: bool = True,
    allocate: Allocate = in_memory,
    reader: str = __name__,
) -> Contents:
    """The arrays called `names`, as far as the file has them; zeros that take no memory, if not `load`.

    They are put into what `allocate` gives. `reader` is the module that the child runs.
    Raises InvalidData if the file is truncated or foreign, if an array is no array of numbers in this very file, and
    for anything on which HDF5's library fails, crashes or uses more time or memory than such a file needs.
    """
    try:
        seconds = math.ceil(SECONDS + file_size(path) / BYTES_PER_SECOND)
    except OSError as error:
        raise InvalidData(f"{path} cannot be read: {error.strerror}") from error
    job = json.dumps([os.fspath(path), list(names), load, allocate is in_memory, seconds])
    columns: dict[str, np.ndarray] = {}
    with subprocess.Popen(
        [sys.executable, "-B", "-P", "-m", reader, job],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HDF5_PLUGIN_PRELOAD": "::", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    ) as child:
        assert child.stdout is not None
        while line := child.stdout.readline():
            message = json.loads(line)
            if "error" in message:
                raise InvalidData(message["error"])
            if "names" in message:
                return Contents(columns, message["metadata"], message["names"])
            if "block" in message:
                rows = columns[message["block"]][message["first"] :][: message["rows"]]
                child.stdout.readinto(rows.reshape(-1).view(np.uint8))  # type: ignore[attr-defined]
                continue
            name, shape, dtype = message["column"], tuple(message["shape"]), np.dtype(message["dtype"])
            columns[name] = allocate(name, shape, dtype) if load else np.broadcast_to(np.zeros((), dtype), shape)
    end = child.returncode
    reason = signal.strsignal(-end) if end < 0 else f"exit status {end}"
    raise InvalidData(
        f"{path} is damaged so that HDF5's library cannot read it ({reason}): remove it and download or copy it again"
    )


def file_size(path: str | os.PathLike[str]) -> int:
    """Bytes of a file that can be read, or of all files in a folder."""
    files = [file for file in Path(path).rglob("*") if file.is_file()] if Path(path).is_dir() else [Path(path)]
    for file in files:
        with file.open("rb") as opened:
            opened.read(1)
    return sum(file.stat().st_size for file in files)


def answer(path: str, names: Sequence[str], load: bool, whole: bool = True) -> Iterator[Message]:
    """What the child finds: the size of all arrays, each one's description and content, metadata; or an error.

    The content of an array comes in blocks. `whole` if it will be held in memory.
    """
    import h5py

    try:
        with open(path, "rb") as start:
            head = start.read(len(SIGNATURE))
        if head != SIGNATURE and not h5py.is_hdf5(path):
            raise InvalidData(f"{path} is not an HDF5 file: give a file of D4RL's schema, or a D4RL id")
        with h5py.File(path, "r") as file:
            columns = {name: column for name in names if isinstance(column := own(file, name, path), h5py.Dataset)}
            for name, column in columns.items():
                if reason := obstacle(column):
                    raise InvalidData(f"{path}: '{name}' {reason}")
            size = sum(column.size * max(column.dtype.itemsize, 4) for column in columns.values())
            if whole:
                require_memory(size, path)
            chunks = max(
                (math.prod(column.chunks or ()) * column.dtype.itemsize for column in columns.values()), default=0
            )
            yield {"size": min(size, BLOCK + 2 * chunks)}, None
            for name, column in columns.items():
                dtype = np.dtype(np.float32) if column.dtype.kind == "f" else column.dtype
                yield {"column": name, "dtype": dtype.str, "shape": column.shape}, None
                if load:
                    yield from blocks(name, column, dtype)
            group = own(file, "metadata", path)
            found = metadata(group) if isinstance(group, h5py.Group) else {}
            yield {"metadata": found, "names": [str(name) for name in itertools.islice(file, 100)]}, None
    except InvalidData as error:
        yield {"error": str(error)}, None
    except Exception as error:  # h5py and numpy raise almost anything for a damaged file
        text = f"{path} is truncated or damaged ({error}): remove it and download or copy it again"
        yield {"error": text}, None


def require_memory(size: int, path: str) -> None:
    """Raises InvalidData if the machine has not so many bytes."""
    remedy = "cut it into smaller files, take a machine with more, or leave it on the disk (memory_map=True)"
    memory.require(size, f"the arrays of {path}", remedy, error=InvalidData)


def blocks(name: str, column: Any, dtype: np.dtype) -> Iterator[Message]:
    """The rows of an array in order, whole chunks at a time, so that none is unpacked twice."""
    chunk = column.chunks[0] if column.chunks else 1
    row = max(math.prod(column.shape[1:]) * dtype.itemsize, 1)
    step = max(BLOCK // row // chunk, 1) * chunk
    for first in range(0, len(column), step):
        values = np.ascontiguousarray(column.astype(dtype)[first : first + step])
        yield {"block": name, "first": first, "rows": len(values)}, values


def own(group: Any, name: str, path: str) -> Any:
    """What `group` has under `name`, None if nothing. Raises InvalidData for a link, which may lead to another file."""
    import h5py

    link = group.get(name, getlink=True)
    if link is not None and not isinstance(link, h5py.HardLink):
        raise InvalidData(f"{path}: '{name}' is a link, which is not followed: write the array itself into the file")
    return None if link is None else group[name]


def obstacle(column: Any) -> str:
    """Why this array is not read, "" if it is."""
    import h5py

    layout, dtype, shape = column.id.get_create_plist(), column.dtype, column.shape
    if layout.get_layout() == h5py.h5d.VIRTUAL or layout.get_external_count():
        return "lies in other files, which are not opened: write the array itself into the file"
    filters = {layout.get_filter(i)[0] for i in range(layout.get_nfilters())}
    if foreign := filters - FILTERS.keys():
        return (
            f"needs the filter {min(foreign)}, a program that is not part of HDF5 and is not run: rewrite it with gzip"
        )
    if dtype.kind not in "fiub" or not shape:
        return f"must be an array of numbers [transitions, ...], not {dtype} {shape}"
    held = column.id.get_storage_size()
    if column.size * dtype.itemsize > RATIO * held:
        return f"states the shape {shape}, of which the file holds only {held} bytes: record it again"
    return ""


def metadata(group: Any) -> Metadata:
    found: Metadata = {}

    def visit(name: str, item: Any) -> bool | None:
        if getattr(item, "size", 0) != 1 or item.dtype.itemsize > TEXT:
            return None
        layout = item.id.get_create_plist()
        if layout.get_external_count() or layout.get_nfilters():
            return None
        value = np.asarray(item[()]).reshape(-1)[0]
        if isinstance(value, bytes | str):
            text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
            found[name] = text[:TEXT]
        elif isinstance(value, np.floating):
            found[name] = float(value)
        elif isinstance(value, np.integer | np.bool_):
            found[name] = value.item()
        return len(found) >= ENTRIES or None  # anything but None ends the visit

    group.visititems(visit)
    return found


def serve(answer: Callable[..., Iterator[Message]]) -> None:
    """What the child does: it limits itself, and writes the answer to its output."""
    import resource

    path, names, load, whole, seconds = json.loads(sys.argv[1])
    size, machine = file_size(path), memory.available()
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]  # the user's own limit stays, and counts
    machine = machine if hard == resource.RLIM_INFINITY else min(machine, hard)
    resource.setrlimit(resource.RLIMIT_AS, (min(LIBRARY + size, machine), hard))
    out = sys.stdout.buffer
    for message, block in answer(path, names, load, whole):
        if "size" in message:
            resource.setrlimit(resource.RLIMIT_AS, (min(LIBRARY + size + 3 * message["size"], machine), hard))
            continue
        out.write(json.dumps(message).encode() + b"\n")
        if block is not None:
            out.write(block.data)
    out.flush()
    os._exit(0)  # closing the library after a damaged file may not end


if __name__ == "__main__":
    serve(answer)
