"""Replay of stacked frames that keeps each frame once: a stack of k is read from k rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .batch import Rollout, Step
from .buffer import Buffer
from .errors import InvalidData
from .spec import Spec
from .tensors import rows_at


class FrameBuffer(Buffer):
    """A buffer for observations of `spec.frame_stack` frames, oldest first, whose rows hold the newest frame alone.

        row t   obs[-c:] of the observation there, c channels a frame;   observation t = rows t - k + 1, ..., t

    Where a new episode begins, its first stack is written as k rows: k - 1 that are no transition, one for each older
    frame, and the row itself. So whatever the environment pads with (copies of the first frame, zeros, frames from
    before) is given back to the bit, and no stack reaches into another episode. The k - 1 rows after the head lose
    the frames before them, and are lost with them. (Agents that learn from rollouts keep whole stacks in a `Buffer`:
    a rollout is short, and its length counts rows.)

    Raises InvalidData where an observation does not go on from the one before: the environment does not stack.
    """

    def __init__(self, spec: Spec, rows: int, columns: int = 1, **options: Any):
        self.ahead = spec.frame_stack - 1
        self.channels = spec.obs_shape[0] // spec.frame_stack
        self._latest: np.ndarray | None = None
        super().__init__(spec, max(rows, self.ahead + 2), columns, **options)
        self._back = torch.arange(-self.ahead, 1, device=self.device) * columns

    def _layout(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        layout = super()._layout()
        shape, kind = layout["obs"]
        return layout | {"obs": ((self.channels, *shape[1:]), kind)}

    def observations(self, index: Tensor) -> Tensor:
        rows = (index.unsqueeze(-1) + self._back) % (self.rows * self.columns)
        return rows_at(self._flat_obs, rows).flatten(index.ndim, index.ndim + 1)

    def rollout(self, gamma: float) -> Rollout:
        rollout = super().rollout(gamma)
        index = torch.arange(len(rollout.obs) * self.columns, device=self.device)
        return rollout._replace(obs=self.observations(index.view(-1, self.columns)))

    def current_obs(self) -> np.ndarray:
        if self._latest is None:
            heads = torch.as_tensor(self.head * self.columns + self._columns, device=self.device)
            self._latest = self.observations(heads).cpu().numpy()
        return self._latest

    def clear(self) -> None:
        super().clear()
        self._latest = None

    def add(self, action: np.ndarray, step: Step) -> None:
        goes_on = step.next_obs[:, : -self.channels] == self.current_obs()[:, self.channels :]
        if not goes_on.all() and not goes_on.all(axis=(1, 2, 3))[step.valid].all():
            stack = self.spec.frame_stack
            raise InvalidData(f"an observation is not the one before and a new frame: frame_stack = {stack} is wrong")
        super().add(action, step)

    def _write_obs(self, obs: np.ndarray, begins: np.ndarray) -> None:
        if begins.any():
            moved = None if begins.all() else begins
            for frame in np.split(obs[:, : -self.channels], self.ahead, axis=1):
                self._write("obs", self.head, frame)
                self._move_head(moved)
        self._write("obs", self.head, obs[:, -self.channels :])
        self._latest = obs
