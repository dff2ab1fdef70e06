"""Reads and writes plain `.npz` files with the arrays of D4RL's schema. Nothing in them is unpickled."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ..agents.core.errors import InvalidData
from . import hdf5
from .recording import Recording

HEADER = 10_000
"""Bytes of an array's description that are read."""
SIGNATURE = b"PK"


class Member(NamedTuple):
    """An array in the file, as its header describes it."""

    shape: tuple[int, ...]
    dtype: np.dtype
    data: int
    """Where the numbers begin, in bytes from the beginning of the unpacked member."""


def read(
    path: str | os.PathLike[str], names: Sequence[str], load: bool = True, allocate: hdf5.Allocate = hdf5.in_memory
) -> hdf5.Contents:
    """Like `hdf5.read`, from what `numpy.savez` or `savez_compressed` wrote. Single numbers and texts are metadata.

    Shapes, types and sizes are compared with the file before anything is allocated. Raises InvalidData.
    """
    columns: dict[str, np.ndarray] = {}
    metadata: hdf5.Metadata = {}
    try:
        with zipfile.ZipFile(path) as file:
            stored = {info.filename.removesuffix(".npy"): info for info in file.infolist()}
            if len(stored) < len(file.infolist()):
                raise InvalidData(f"{path} has two arrays of one name: write it again")
            found = {name: _member(file, stored[name], f"{path}: '{name}'") for name in names if name in stored}
            size = sum(stored[name].file_size for name in found)
            if allocate is hdf5.in_memory:
                hdf5.require_memory(size, os.fspath(path))
            for name, member in found.items():
                dtype = np.dtype(np.float32) if member.dtype.kind == "f" else member.dtype.newbyteorder("=")
                if not load:
                    columns[name] = np.broadcast_to(np.zeros((), dtype), member.shape)
                    continue
                columns[name] = allocate(name, member.shape, dtype)
                with file.open(stored[name]) as opened:
                    _fill(columns[name], member, opened)
            for name in list(stored)[: hdf5.ENTRIES]:
                if name not in names and stored[name].file_size <= hdf5.TEXT:
                    value = _single(file, stored[name])
                    if value is not None:
                        metadata[name.removeprefix("metadata/")] = value
            return hdf5.Contents(columns, metadata, list(stored)[:100])
    except OSError as error:
        raise InvalidData(f"{path} cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, RuntimeError, NotImplementedError) as error:
        if isinstance(error, InvalidData):
            raise
        raise InvalidData(
            f"{path} is truncated or damaged ({error}): remove it and download or copy it again"
        ) from error


def _header(opened: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(opened)
    form = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in form:
        raise ValueError(f"arrays of version {version}")
    return form[version](opened, max_header_size=HEADER)


def _member(file: zipfile.ZipFile, info: zipfile.ZipInfo, what: str) -> Member:
    """Raises InvalidData unless this is an array of numbers of the size that it states."""
    with file.open(info) as opened:
        shape, column_major, dtype = _header(opened)
        data = opened.tell()
    if dtype.kind not in "fiub" or not shape:
        raise InvalidData(f"{what} must be an array of numbers [transitions, ...], not {dtype} {shape}")
    if column_major and len(shape) > 1:
        raise InvalidData(f"{what} is stored by columns: write it with numpy.ascontiguousarray")
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if min(shape) < 0 or size != info.file_size - data or size > hdf5.RATIO * max(info.compress_size, 1):
        raise InvalidData(
            f"{what} states the shape {shape}, of which the file holds only {info.file_size - data} bytes"
        )
    return Member(shape, dtype, data)


def _fill(column: np.ndarray, member: Member, opened: BinaryIO | Any) -> None:
    """Reads the rows of a member in blocks."""
    opened.read(member.data)
    row = max(int(np.prod(member.shape[1:])) * member.dtype.itemsize, 1)
    step = max(hdf5.BLOCK // row, 1)
    for first in range(0, len(column), step):
        rows = column[first : first + step]
        content = opened.read(len(rows) * row)
        if len(content) < len(rows) * row:
            raise EOFError("an array ends early")
        rows[...] = np.frombuffer(content, member.dtype).reshape(rows.shape)
    opened.read(1)  # so that the checksum of the whole is compared


def _single(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> str | int | float | None:
    """The one number or text in an array, None if it is something else."""
    with file.open(info) as opened:
        try:
            shape, _, dtype = _header(opened)
        except ValueError:
            return None
        if int(np.prod(shape, dtype=object)) != 1 or dtype.kind not in "fiubU":
            return None
        value = np.frombuffer(opened.read(), dtype, count=1)[0].item()
    return int(value) if isinstance(value, bool) else value


def write(path: str | os.PathLike[str], recording: Recording, *, compress: bool = True) -> None:
    """Writes a recording, whole or not at all; timeouts are its truncations."""
    columns: dict[str, Any] = {
        "observations": recording.obs,
        "actions": recording.action,
        "rewards": recording.reward,
        "terminals": recording.terminated,
        "timeouts": recording.truncated,
    }
    if recording.next_obs is not None:
        columns["next_observations"] = recording.next_obs
    columns |= {f"metadata/{name}": np.array(value) for name, value in recording.metadata.items()}
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            (np.savez_compressed if compress else np.savez)(file, **columns)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
