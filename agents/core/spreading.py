"""From recorded data to a buffer that goes on with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from .buffer import Buffer


def spread(buffer: Buffer, room: int, columns: int) -> Buffer:
    """A buffer of `columns` columns that starts with these rows and has room for `room` more, to go on with.

    Each column takes an equal stretch of time; a stretch that is cut off keeps its successor, so that no
    transition is lost, and what its first rows need of the rows before. The sampler is of the same kind, and
    takes along what it knows of the rows.
    """
    rows = _chronological(buffer)
    share = -(-(len(rows) - 1) // columns)
    other = type(buffer)(
        buffer.spec, share + buffer.ahead + room + 1, columns, sampler=buffer.sampler.fresh(), device=buffer.device
    )
    other.reward_change = buffer.reward_change
    kept, places = [], []
    for column in range(columns):
        first = max(column * share - buffer.ahead, 0)
        stretch = rows[first : (column + 1) * share + 1]
        if len(rows) < column * share + 2:
            continue
        for name, values in buffer._tensors().items():
            getattr(other, name)[: len(stretch), column] = values.flatten(0, 1)[stretch]
        other.valid[: column * share - first, column] = False
        other.valid[len(stretch) - 1, column] = False
        kept.append(stretch)
        places.append(torch.arange(len(stretch), device=buffer.device) * columns + column)
    other._share_with_host()
    other.head[:] = share + buffer.ahead  # where a stretch was shorter, the rows up to here are simply not valid
    other.written, other.transitions = share + buffer.ahead + 1, int(other._valid.sum())
    if kept:
        other.sampler.inherit(other, buffer.sampler, torch.cat(kept), buffer, torch.cat(places))
    return other


def _chronological(buffer: Buffer) -> Tensor:
    """Flat indices of all columns, one after the other, oldest row first, each ending in its head row."""
    order = [(np.arange(buffer.rows) + head + 1) % buffer.rows for head in buffer.head]
    if buffer.written < buffer.rows:
        order = [np.arange(int(head) + 1) for head in buffer.head]
    flat = [rows * buffer.columns + column for column, rows in enumerate(order)]
    return torch.as_tensor(np.concatenate(flat), device=buffer.device)
