"""Reads HDF5 files of D4RL's schema (Fu et al. 2020), without d4rl.

Needed: `observations` [M, ...], `actions` [M, A], `rewards` [M], `terminals` [M]. Used if there: `timeouts` [M],
`next_observations` [M, ...], and what is short in `metadata/`; `infos/` is left where it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..agents.core.errors import InvalidData
from .recording import Recording, require_finite

if TYPE_CHECKING:
    import h5py

NEEDED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations")
SIGNATURE = b"\x89HDF\r\n\x1a\n"
TOLERANCE = 1e-5
"""Two observations this near, absolutely or relatively, are the same one after rounding to float32."""


def read(path: str | os.PathLike[str], max_episode_steps: int = 0) -> Recording:
    """The transitions in the file at `path`; `max_episode_steps` is the horizon, 0 if not known (see `boundaries`).

    Raises InvalidData if the file is truncated, foreign, incomplete, inconsistent or not finite.
    """
    with _opened(path) as file:
        columns = _columns(file, path)
        raw = {key: _load(column) for key, column in columns.items()}
        metadata = _metadata(file)
    require_finite(str(path), raw)
    obs, next_obs, action = raw["observations"], raw.get("next_observations"), raw["actions"]
    flags = {key: raw[key].reshape(-1).astype(bool) for key in ("terminals", "timeouts") if key in raw}
    truncated, how = boundaries(flags["terminals"], flags.get("timeouts"), obs, next_obs, max_episode_steps)
    if how is None:
        raise InvalidData(
            f"{path} does not say where episodes end: it has no 'timeouts', no 'next_observations' and no terminal "
            "row; state the horizon (max_episode_steps=...)"
        )
    choices = np.issubdtype(action.dtype, np.integer) and action.size == len(action)
    return Recording(
        obs=obs,
        action=action.reshape(-1).astype(np.int64) if choices else action.reshape(len(action), -1),
        reward=raw["rewards"].reshape(-1).astype(np.float32, copy=False),
        terminated=flags["terminals"],
        truncated=truncated,
        next_obs=next_obs,
        metadata=metadata,
        boundaries=how,
    )


def check(path: str | os.PathLike[str]) -> None:
    """Raises InvalidData unless the file opens and its columns are there with equal lengths. Loads none of them."""
    with _opened(path) as file:
        _columns(file, path)


def boundaries(
    terminated: np.ndarray,
    timeouts: np.ndarray | None,
    obs: np.ndarray,
    next_obs: np.ndarray | None,
    max_episode_steps: int = 0,
) -> tuple[np.ndarray, str | None]:
    """Where episodes were cut off, `[M]` bool, never where `terminated`, and in words how that was found.

    1. Where the file's `timeouts` say so.
    2. And wherever the recorded successor is not the next observation: the file was put together of parts there, and
       the next row would be a wrong successor. This alone where there are no `timeouts`.
    3. Without both, every `max_episode_steps` rows since the last end, if that is known.
    4. Without all of these at the terminals only; where there is not even one, the words are None.
    """
    if timeouts is None and next_obs is None:
        if max_episode_steps:
            since = _rows_since_end(terminated)
            cut = (since + 1) % max_episode_steps == 0
            return cut & ~terminated, f"terminals, and every {max_episode_steps} steps"
        return np.zeros_like(terminated), "terminals only" if terminated.any() else None
    cut = np.zeros_like(terminated) if timeouts is None else timeouts & ~terminated
    if next_obs is None:
        return cut, "terminals and timeouts"
    jump = np.zeros_like(terminated)
    jump[:-1] = _differ(next_obs[:-1], obs[1:])
    found = int((jump & ~cut & ~terminated).sum())
    how = "terminals" if timeouts is None else "terminals and timeouts"
    return cut | (jump & ~terminated), f"{how}, and jumps of the observation ({found})" if found else how


def _rows_since_end(terminated: np.ndarray) -> np.ndarray:
    """For each row the number of rows since the last terminal one, `[M]`: 0 in the row after it."""
    row = np.arange(len(terminated))
    start = np.zeros(len(terminated), np.int64)
    start[1:] = np.where(terminated[:-1], row[1:], 0)
    return row - np.maximum.accumulate(start)


def _differ(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Rows `[M]` bool in which two arrays `[M, ...]` are not the same up to rounding."""
    inner = tuple(range(1, one.ndim))
    unequal = np.flatnonzero((one != other).any(inner))
    differ = np.zeros(len(one), bool)
    near = np.isclose(one[unequal], other[unequal], rtol=TOLERANCE, atol=TOLERANCE)
    differ[unequal] = ~near.all(inner)
    return differ


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """The open file; every failure to open or read it becomes InvalidData."""
    import h5py

    try:
        with Path(path).open("rb") as start:
            head = start.read(len(SIGNATURE))
        if head != SIGNATURE and not h5py.is_hdf5(path):
            raise InvalidData(f"{path} is not an HDF5 file: give a file of D4RL's schema, or a D4RL id")
        with h5py.File(path, "r") as file:
            yield file
    except OSError as error:
        if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
            raise InvalidData(f"{path} cannot be read: {error.strerror}") from error
        raise InvalidData(
            f"{path} is truncated or damaged ({error}): remove it and download or copy it again"
        ) from error


def _columns(file: h5py.File, path: Any) -> dict[str, h5py.Dataset]:
    """The columns of transitions, checked for presence, kind, shape and length, not loaded."""
    import h5py

    missing = [key for key in NEEDED if not isinstance(file.get(key), h5py.Dataset)]
    if missing:
        raise InvalidData(
            f"{path} lacks {_quoted(missing)}: D4RL's schema needs arrays {_quoted(NEEDED)}, and the file has "
            f"{_quoted(sorted(file)) or 'nothing'}; rename or add what is missing"
        )
    columns = {key: file[key] for key in (*NEEDED, *OPTIONAL) if isinstance(file.get(key), h5py.Dataset)}
    for key, column in columns.items():
        if column.dtype.kind not in "fiub" or column.ndim == 0:
            raise InvalidData(
                f"{path}: '{key}' must be an array of numbers [transitions, ...], not {column.dtype} {column.shape}"
            )
        if key in ("rewards", "terminals", "timeouts") and column.size != len(column):
            raise InvalidData(f"{path}: '{key}' must have one value per transition, not the shape {column.shape}")
    lengths = {key: len(column) for key, column in columns.items()}
    if len(set(lengths.values())) > 1 or not lengths["rewards"]:
        listed = ", ".join(f"{key} {length}" for key, length in lengths.items())
        raise InvalidData(
            f"{path}: the arrays must have one common length above 0, not {listed}: cut or record it again"
        )
    successor = columns.get("next_observations")
    if successor is not None and successor.shape != columns["observations"].shape:
        raise InvalidData(
            f"{path}: 'next_observations' has the shape {successor.shape}, but 'observations' "
            f"{columns['observations'].shape}: they must be the same"
        )
    return columns


def _load(column: h5py.Dataset) -> np.ndarray:
    """The column, as float32 if it has fractions, else (images, choices, flags) as it is."""
    return column.astype(np.float32)[()] if column.dtype.kind == "f" and column.dtype != np.float32 else column[()]


def _metadata(file: h5py.File) -> dict[str, str | int | float]:
    """The single values under `metadata/`: texts and numbers, not the weights of policies that some files carry."""
    found: dict[str, str | int | float] = {}

    def visit(name: str, item: Any) -> None:
        if getattr(item, "size", 0) != 1:
            return
        value = np.asarray(item[()]).reshape(-1)[0]
        if isinstance(value, bytes | str):
            found[name] = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        elif isinstance(value, np.number | np.bool_):
            found[name] = value.item()

    if hasattr(file.get("metadata"), "visititems"):
        file["metadata"].visititems(visit)
    return found


def _quoted(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in names)
