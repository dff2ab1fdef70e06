"""Reads files of D4RL's schema (Fu et al. 2020), without d4rl.

Needed: `observations` [M, ...], `actions` [M, A], `rewards` [M], `terminals` [M]. Used if there: `timeouts` [M],
`next_observations` [M, ...], and what is short in `metadata/`; `infos/` is left where it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from ..agents.core.errors import InvalidData
from . import hdf5
from .recording import Recording, blocks, require_finite

NEEDED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations")
TOLERANCE = 1e-5
"""Two observations this near, absolutely or relatively, are the same one after rounding to float32."""
CHOICES = 1_000_000
"""More than an agent can choose among."""


def read(
    path: str | os.PathLike[str],
    max_episode_steps: int = 0,
    *,
    allocate: hdf5.Allocate = hdf5.in_memory,
    reader: Callable[..., hdf5.Contents] | None = None,
) -> Recording:
    """The transitions in the file at `path`; `max_episode_steps` is the horizon, 0 if not known (see `boundaries`).

    The columns are put into what `allocate` gives. `reader` is like `hdf5.read`, for another format of the same schema.
    Raises InvalidData if the file is truncated, foreign, incomplete, inconsistent or not finite.
    """
    names, reader = (*NEEDED, *OPTIONAL), reader or hdf5.read
    contents = reader(path, names) if allocate is hdf5.in_memory else reader(path, names, allocate=allocate)
    raw = _columns(contents, path)
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
    if choices and action.max() >= CHOICES:
        raise InvalidData(f"{path} has the action {action.max()}: record what is no choice as fractions in [-1, 1]")
    return Recording(
        obs=obs,
        action=action.reshape(-1).astype(np.int64) if choices else action.reshape(len(action), -1),
        reward=raw["rewards"].reshape(-1).astype(np.float32, copy=False),
        terminated=flags["terminals"],
        truncated=truncated,
        next_obs=next_obs,
        metadata=contents.metadata,
        boundaries=how,
    )


def check(path: str | os.PathLike[str]) -> None:
    """Raises InvalidData unless the file opens and its columns are there with equal lengths. Loads none of them."""
    _columns(hdf5.read(path, (*NEEDED, *OPTIONAL), load=False), path)


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
    parts = [np.flatnonzero((one[rows] != other[rows]).any(inner)) + rows.start for rows in blocks(one)]
    unequal = np.concatenate([np.zeros(0, np.int64), *parts])
    differ = np.zeros(len(one), bool)
    near = np.isclose(one[unequal], other[unequal], rtol=TOLERANCE, atol=TOLERANCE)
    differ[unequal] = ~near.all(inner)
    return differ


def _columns(contents: hdf5.Contents, path: Any) -> dict[str, np.ndarray]:
    """The columns of transitions, checked for presence, kind, shape and length."""
    columns = contents.columns
    missing = [key for key in NEEDED if key not in columns]
    if missing:
        raise InvalidData(
            f"{path} lacks {_quoted(missing)}: D4RL's schema needs arrays {_quoted(NEEDED)}, and the file has "
            f"{_quoted(sorted(contents.names)) or 'nothing'}; rename or add what is missing"
        )
    for key, column in columns.items():
        if 0 in column.shape[1:]:
            raise InvalidData(f"{path}: '{key}' has the shape {column.shape}, so no values: record it again")
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


def _quoted(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in names)
