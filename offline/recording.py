"""What a reader of data files returns. A new format is one function that makes a `Recording`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from ..agents.core.errors import InvalidData


class Recording(NamedTuple):
    """Transitions as they were recorded, M of them in time order, in the units of the environment."""

    obs: np.ndarray
    """[M, ...] float32, or uint8 for images."""
    action: np.ndarray
    """[M, A] float32, or int64 [M] for choices."""
    reward: np.ndarray
    """[M] float32."""
    terminated: np.ndarray
    """[M] bool: the task ended here; nothing follows."""
    truncated: np.ndarray
    """[M] bool: the episode was cut off here; never where `terminated` is set."""
    next_obs: np.ndarray | None
    """[M, ...] successors, or None where the file has none: then the last transition of a cut-off episode is lost."""
    metadata: dict[str, str | int | float]
    """What the file says about itself."""
    boundaries: str
    """How the ends of episodes were found, in words."""


class Episodes(NamedTuple):
    """Episodes of a recording, E of them, in time order."""

    returns: np.ndarray
    """[E] float64 undiscounted sums of reward, in the units of the environment."""
    lengths: np.ndarray
    """[E] int64 number of transitions."""
    unfinished: int
    """Transitions after the last end of an episode, which are in no episode above unless all of them are."""


def episodes(reward: np.ndarray, ended: np.ndarray) -> Episodes:
    """The episodes that end in the rows `ended` `[M]` bool; if none does, all rows count as one episode."""
    last = np.flatnonzero(ended)
    unfinished = len(reward) - (int(last[-1]) + 1 if last.size else 0)
    if not last.size:
        last = np.array([len(reward) - 1])
    first = np.concatenate(([0], last[:-1] + 1))
    returns = np.add.reduceat(reward[: last[-1] + 1].astype(np.float64), first)
    return Episodes(returns, last - first + 1, unfinished)


def require_finite(source: str, columns: Mapping[str, np.ndarray]) -> None:
    """Raises InvalidData naming the first row of the first column that has NaN or infinity."""
    for key, values in columns.items():
        for rows in blocks(values) if values.dtype.kind == "f" else ():
            finite = np.isfinite(values[rows])
            if not finite.all():
                row = rows.start + int(np.argmin(finite.reshape(len(finite), -1).all(1)))
                raise InvalidData(
                    f"{source}: '{key}' has NaN or infinity, first in row {row}: remove that episode from the file, or "
                    "record it again"
                )


def blocks(values: np.ndarray, size: int = 2**26) -> Iterator[slice]:
    """Stretches of rows of up to `size` bytes, so that what is worked out from an array needs little memory beside."""
    step = max(size // max(values.nbytes // max(len(values), 1), 1), 1)
    return (slice(first, min(first + step, len(values))) for first in range(0, len(values), step))
