"""The one layout of rollouts, replay and data sets, and how rows get into it.

Rows are time-major `[T, N, ...]` in next-step-autoreset order, a ring in T. The successor of row t is row t + 1:

    row t   obs  action  reward  terminated  truncated  valid
     ...                            1 or      1          1     last transition of an episode
            final obs   (ignored)   0         0          0     reset row: it holds the final observation
            first obs ...

So there is no second array of observations, and a cut-off episode bootstraps from its true successor. The row at the
head of each column holds the observation that is being acted on; it becomes valid when its transition is complete.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .batch import Step
from .errors import InvalidCheckpoint, InvalidSetting
from .memory import require
from .spec import Spec
from .tensors import check_tensors

LOG = logging.getLogger(__name__)
"""What is planned is said here before it takes memory, as WARNING, which Python prints by itself, if it is LARGE."""
LARGE = 50_000_000
"""In bytes."""
FIELDS = ("obs", "action", "reward", "terminated", "truncated", "valid")


def zeros(shape: tuple[int, ...], kind: torch.dtype, device: torch.device) -> Tensor:
    """Like torch.zeros; on the host the system gives the memory when it is first written to."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=kind, device=device)
    return torch.from_numpy(np.zeros(shape, str(kind).removeprefix("torch.")))


class Rows:
    """`rows` x `columns` rows of time; column i belongs to environment i.

    A column of R rows holds R - 1 transitions at most: the last row is the observation at the head.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    valid: Tensor
    beside = 0
    """Bytes for each row of a column that a subclass needs beside the fields."""
    ahead = 0
    """Rows after the head that are lost as well, since they need rows before them that are lost."""
    moves = 0
    """Times that heads moved on, with a whole ring added where everything was forgotten; never falls."""

    def __init__(self, spec: Spec, rows: int, columns: int = 1, *, device: str | torch.device = "cpu"):
        if rows < 2 or columns < 1:
            raise InvalidSetting(f"a buffer of {rows} rows x {columns} columns holds no transition: give it 2 rows")
        self.spec, self.columns, self.device = spec, columns, torch.device(device)
        self.recorded = False
        """Whether the rows are a data set, to be read but not written."""
        self.reward_change = (1.0, 0.0)
        """What rewards are multiplied by on the way in, and what is then added: as those of the data before were."""
        self._on_host = self.device.type == "cpu"
        self.ones = torch.ones(1, device=self.device)
        self._allocate(rows)
        self._columns = np.arange(columns)
        self.clear()

    def _layout(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Shape and type of each field in one row of one column."""
        spec = self.spec
        action = (spec.action_row, torch.int64 if spec.discrete else torch.float32)
        layout = {
            "obs": (spec.obs_shape, getattr(torch, spec.obs_dtype)),
            "action": action,
            "reward": ((), torch.float32),
        }
        return layout | dict.fromkeys(FIELDS[3:], ((), torch.bool))

    def _require_memory(self, rows: int) -> None:
        size = self.beside + sum(math.prod(shape) * kind.itemsize for shape, kind in self._layout().values())
        planned = f"a buffer of {rows:,} rows x {self.columns:,} columns x {size:,} bytes"
        total = rows * self.columns * size
        require(total, planned, "lower buffer_size or num_envs", self.device)
        LOG.log(logging.WARNING if total >= LARGE else logging.DEBUG, "%s = %.1f GB", planned, total / 1e9)

    def _allocate(self, rows: int) -> None:
        self._require_memory(rows)
        self.rows, self.written = rows, 0
        for name, (shape, kind) in self._layout().items():
            setattr(self, name, zeros((rows, self.columns, *shape), kind, self.device))
        self._share_with_host()

    def _share_with_host(self) -> None:
        """Views through which rows are written: numpy's are several times cheaper than torch's for one row."""
        self._store: dict[str, Any] = {k: v.numpy() if self._on_host else v for k, v in self._tensors().items()}
        self._flat_obs = self.obs.flatten(0, 1)
        self._valid = self.valid.numpy() if self._on_host else self.valid.cpu().numpy()

    def _tensors(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in FIELDS}

    # ---- writing -----------------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Forgets every transition, so that nothing tells this buffer from a new one but old observations."""
        for name in FIELDS[1:]:
            getattr(self, name)[: self.written] = 0
        self._valid[: self.written] = False
        self.head = np.zeros(self.columns, np.int64)
        self.written = 0
        """Rows that hold something, per column, at most `rows`."""
        self.moves += self.rows
        self.transitions = 0
        """Valid rows now in the buffer."""
        self._lockstep: bool = True

    def restart(self) -> None:
        """Forgets every transition but keeps the observation that is being acted on: a rollout has been used."""
        obs = self.current_obs().copy()
        self.clear()
        self.begin(obs)

    def begin(self, obs: np.ndarray) -> None:
        """Puts the observations `[N, ...]` to act on at the head. What was there before ends without a successor."""
        if self.written and (ended := self._valid[self.head - 1, self._columns]).any():
            self._move_head(None if ended.all() else ended)  # the row keeps the old episode's last observation
        self._write_obs(obs, np.ones(self.columns, bool))
        self.written = max(self.written, 1)

    def add(self, action: np.ndarray, step: Step) -> None:
        """Completes the head rows with `action` and what followed, and moves the head on."""
        head, valid = self.head, step.valid
        self.transitions += int(np.count_nonzero(valid))
        if self.reward_change != (1.0, 0.0):
            factor, shift = self.reward_change
            step = step._replace(reward=step.reward * np.float32(factor) + np.float32(shift))
        for name, value in (("action", action), *zip(FIELDS[2:], step[1:5], strict=True)):
            self._write(name, head, value)
        if not self._on_host:
            self._valid[head, self._columns] = valid
        self._move_head(None)
        self._write_obs(step.next_obs, ~valid)
        if step.restarted is not None and step.restarted.any():
            self._move_head(step.restarted)
            self._write_obs(step.obs, step.restarted)

    def _write_obs(self, obs: np.ndarray, begins: np.ndarray) -> None:
        """Puts the observations `[N, ...]` at the heads; an episode begins in the columns `begins` `[N]`."""
        self._write("obs", self.head, obs)

    def _move_head(self, moved: np.ndarray | None) -> None:
        """Moves the head of all columns, or of the `moved` ones, on by a row, which stops being a transition."""
        self._lockstep = self._lockstep and moved is None
        self.head = (self.head + (1 if moved is None else moved)) % self.rows
        self.moves += 1
        self.written = max(self.written, int(self.head[0] if self._lockstep else self.head.max()) + 1)
        lost = (self.head + self.ahead) % self.rows if self.ahead else self.head
        self.transitions -= int(np.count_nonzero(self._valid[lost, self._columns]))
        self._write("valid", lost, False)
        if not self._on_host:
            self._valid[lost, self._columns] = False

    def rows_since(self, head: np.ndarray) -> Tensor:
        """Flat indices of the rows that were written or lost since the head was there, less than a ring ago."""
        passed = (self.head - head) % self.rows + self.ahead
        steps = np.arange(int(passed.max()) + 1)[:, None]
        flat = (head + steps) % self.rows * self.columns + self._columns
        return torch.as_tensor(flat[steps <= passed], device=self.device)

    def _write(self, name: str, rows: np.ndarray, value: Any) -> None:
        if not self._on_host:
            value = torch.as_tensor(value, device=self.device)
        if self._lockstep:
            self._store[name][int(rows[0])] = value
        else:
            self._store[name][rows, self._columns] = value

    def current_obs(self) -> np.ndarray:
        """The observations `[N, ...]` at the head."""
        return (
            np.asarray(self._store["obs"][self.head, self._columns])
            if self._on_host
            else (self.obs[torch.as_tensor(self.head), torch.as_tensor(self._columns)].cpu().numpy())
        )

    # ---- state -------------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors (rows that hold something) and plain values, enough for `load_state` to go on exactly."""
        tensors = {name: values[: self.written] for name, values in self._tensors().items()}
        values = {"rows": self.rows, "columns": self.columns, "written": self.written, "head": self.head.tolist()}
        return tensors, {**values, "lockstep": self._lockstep, "reward_change": list(self.reward_change)}

    def load_state(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Takes over what `state` gave. Raises InvalidCheckpoint for anything that it could not have given."""
        self._check_state(tensors, values)
        if values["rows"] != self.rows:
            self._allocate(values["rows"])
        self.clear()
        self.written = values["written"]
        for name, stored in self._tensors().items():
            stored[: self.written] = tensors[name].to(self.device)
        self._share_with_host()
        self.head = np.array(values["head"], np.int64)
        self._lockstep = values["lockstep"]
        self.reward_change = tuple(values.get("reward_change", (1.0, 0.0)))
        self.transitions = int(self._valid.sum())

    def _check_state(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        found: list[Any] = [values.get(name) for name in ("rows", "columns", "written", "head", "lockstep")]
        rows, columns, written, head, lockstep = found
        if columns != self.columns:
            raise InvalidCheckpoint(
                f"the saved buffer has {columns} columns, this one {self.columns}: keep num_envs to resume"
            )
        sound = [type(value) for value in found] == [int, int, int, list, bool]
        sound = sound and len(head) == columns and 0 <= written <= rows >= 2
        sound = sound and all(type(place) is int and 0 <= place < max(written, 1) for place in head)
        change: Any = values.get("reward_change", [1.0, 0.0])  # older checkpoints have none
        sound = sound and type(change) is list and [*map(type, change)] == [float, float]
        sound = sound and all(map(math.isfinite, change))
        if not sound or (lockstep and len(set(head)) > 1):
            raise InvalidCheckpoint(f"the saved buffer contradicts itself: {dict(values)}")
        self._require_memory(rows)
        check_tensors(self._state_layout(rows, written), tensors)
        action, choices = tensors["action"], self.spec.action_choices or (self.spec.actions,)
        if self.spec.discrete and ((action < 0) | (action >= torch.tensor(choices))).any():
            raise InvalidCheckpoint(f"the saved buffer has actions beyond the {self.spec.actions} choices")

    def _state_layout(self, rows: int, written: int) -> dict[str, Tensor]:
        """What `state` gives after so many of the rows, as tensors on the meta device, which take no memory."""
        return {
            name: torch.empty((written, self.columns, *shape), dtype=kind, device="meta")
            for name, (shape, kind) in self._layout().items()
        }
