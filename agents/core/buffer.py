"""The one buffer: rollouts, replay and data sets in one layout.

Rows are time-major `[T, N, ...]` in next-step-autoreset order, a ring in T. The successor of row t is row t + 1:

    row t   obs  action  reward  terminated  truncated  valid
     ...                            1 or      1          1     last transition of an episode
            final obs   (ignored)   0         0          0     reset row: it holds the final observation
            first obs ...

So there is no second array of observations, and a cut-off episode bootstraps from its true successor. The row at the
head of each column holds the observation that is being acted on; it becomes valid when its transition is complete.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .batch import Batch, Rollout, Sequence, Step
from .errors import InvalidData, InvalidSetting
from .spec import Spec

FIELDS = ("obs", "action", "reward", "terminated", "truncated", "valid")
MISS = 1e-15
"""Greatest probability that a uniform draw finds no valid row."""


class Buffer:
    """`rows` x `columns` rows of time; column i belongs to environment i.

    A column of R rows holds R - 1 transitions at most: the last row is the observation at the head.
    """

    def __init__(self, spec: Spec, rows: int, columns: int = 1, *, device: str | torch.device = "cpu"):
        if rows < 2 or columns < 1:
            raise InvalidSetting(f"a buffer of {rows} rows x {columns} columns holds no transition: give it 2 rows")
        self.spec, self.rows, self.columns = spec, rows, columns
        self.device = torch.device(device)
        shape, flag = (rows, columns), torch.bool
        action = {"dtype": torch.int64} if spec.discrete else {"dtype": torch.float32}
        self.obs = torch.zeros(*shape, *spec.obs_shape, dtype=getattr(torch, spec.obs_dtype), device=self.device)
        self.action = torch.zeros(*shape, *(() if spec.discrete else (spec.actions,)), **action, device=self.device)
        self.reward = torch.zeros(shape, device=self.device)
        self.terminated, self.truncated, self.valid = (
            torch.zeros(shape, dtype=flag, device=self.device) for _ in range(3)
        )
        self._columns = np.arange(columns)
        self._on_host = self.device.type == "cpu"
        self._share_with_host()
        self._ones = torch.ones(1, device=self.device)
        self.clear()

    def _share_with_host(self) -> None:
        """Views through which rows are written: numpy's are several times cheaper than torch's for one row."""
        self._store: dict[str, Any] = {k: v.numpy() if self._on_host else v for k, v in self._tensors().items()}
        self._valid = self.valid.numpy() if self._on_host else self.valid.cpu().numpy()

    def _tensors(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in FIELDS}

    # ---- writing -----------------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Forgets every transition."""
        self.head = np.zeros(self.columns, np.int64)
        self.written = 0
        """Rows that hold something, per column, at most `rows`."""
        self.transitions = 0
        """Valid rows now in the buffer."""
        self._lockstep: bool = True
        self.valid.zero_()
        self._valid[...] = False

    def restart(self) -> None:
        """Forgets every transition but keeps the observation that is being acted on: a rollout has been used."""
        obs = self.current_obs().copy()
        self.clear()
        self.begin(obs)

    def begin(self, obs: np.ndarray) -> None:
        """Puts the observations `[N, ...]` to act on at the head. What was there before ends without a successor."""
        if self.written and (ended := self._valid[self.head - 1, self._columns]).any():
            self._move_head(
                None if ended.all() else ended
            )  # that row keeps the final observation of the episode that nobody finished
        self._write("obs", self.head, obs)
        self.written = max(self.written, 1)

    def add(self, action: np.ndarray, step: Step) -> None:
        """Completes the head rows with `action` and what followed, and moves the head on."""
        head, valid = self.head, step.valid
        self.transitions += int(np.count_nonzero(valid))
        for name, value in (("action", action), *zip(FIELDS[2:], step[1:5], strict=True)):
            self._write(name, head, value)
        if not self._on_host:
            self._valid[head, self._columns] = valid
        self._move_head(None)
        self._write("obs", self.head, step.next_obs)
        if step.restarted is not None and step.restarted.any():
            self._move_head(step.restarted)
            self._write("obs", self.head, step.obs)

    def _move_head(self, moved: np.ndarray | None) -> None:
        """Moves the head of all columns, or of the `moved` ones, on by a row, which stops being a transition."""
        self._lockstep = self._lockstep and moved is None
        self.head = (self.head + (1 if moved is None else moved)) % self.rows
        self.written = max(self.written, int(self.head[0] if self._lockstep else self.head.max()) + 1)
        self.transitions -= int(np.count_nonzero(self._valid[self.head, self._columns]))
        self._write("valid", self.head, False)
        if not self._on_host:
            self._valid[self.head, self._columns] = False

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

    # ---- reading -----------------------------------------------------------------------------------------------

    def sample(self, size: int, gamma: float, n_step: int = 1) -> Batch:
        """`size` transitions, uniform over valid rows, with replacement."""
        return self.gather(self.draw(size), gamma, n_step)

    def draw(self, size: int) -> Tensor:
        """Flat indices `[size]` of valid rows, uniform, without a look at the device from the host.

        Invalid rows are few (one an episode), so each draw has spare candidates: enough that the probability of
        finding no valid one is below 1e-15, from counts that the host knows.
        """
        if not self.transitions:
            raise InvalidData("the buffer has no transition to sample from: collect steps or load data first")
        filled = self.written * self.columns
        invalid = 1.0 - self.transitions / filled
        tries = math.ceil(math.log(MISS) / math.log(invalid)) if invalid else 1
        candidates = torch.randint(filled, (tries, size), device=self.device)
        first = self.valid.view(-1)[candidates].to(torch.uint8).argmax(0, keepdim=True)
        return candidates.gather(0, first)[0]

    def gather(self, index: Tensor, gamma: float, n_step: int = 1) -> Batch:
        """The transitions at flat indices `[B]`, each summed over up to `n_step` rows of its own episode.

        A window that meets the end of the episode or the head is shorter and keeps its own gamma^k.
        """
        obs, reward, terminated = self.obs.flatten(0, 1), self.reward.view(-1), self.terminated.view(-1)
        total, last, after = reward[index], index, self._next(index)
        discount = torch.full_like(total, gamma)
        for _ in range(1, n_step):
            alive = self.valid.view(-1)[after] & ~terminated[last] & ~self.truncated.view(-1)[last]
            total = total + torch.where(alive, discount * reward[after], 0.0)
            last = torch.where(alive, after, last)
            discount = torch.where(alive, discount * gamma, discount)
            after = self._next(last)
        return Batch(
            obs=obs[index],
            action=self.action.flatten(0, 1)[index],
            reward=total,
            discount=discount.masked_fill_(terminated[last], 0.0),
            next_obs=obs[after],
            weight=self._ones.expand(index.shape[0]),
            row=index,
        )

    def _next(self, index: Tensor) -> Tensor:
        """Flat index of the row after."""
        return (index + self.columns) % (self.rows * self.columns)

    def sequences(self, size: int, length: int, gamma: float) -> Sequence:
        """`size` stretches of up to `length` consecutive transitions of one episode, starting anywhere."""
        index = self.draw(size)
        start, obs = index, [self.obs.flatten(0, 1)[index]]
        mask, steps = [torch.ones_like(index, dtype=torch.bool)], [index]
        for _ in range(1, length):
            over = (self.terminated | self.truncated).view(-1)[index]
            index = self._next(index)
            mask.append(mask[-1] & ~over & self.valid.view(-1)[index])
            steps.append(index)
        at, real = torch.stack(steps), torch.stack(mask)
        obs = torch.cat([self.obs.flatten(0, 1)[start][None], self.obs.flatten(0, 1)[self._next(at)]])
        kept = torch.cat([real[:1], real])

        def masked(values: Tensor, where: Tensor) -> Tensor:
            return values.masked_fill(~where.view(*where.shape, *(1,) * (values.ndim - 2)), 0)

        discount = gamma * (~self.terminated.view(-1)[at]).float()
        return Sequence(
            obs=masked(obs, kept),
            action=masked(self.action.flatten(0, 1)[at], real),
            reward=masked(self.reward.view(-1)[at], real),
            discount=masked(discount, real),
            mask=real.float(),
        )

    def rollout(self, gamma: float) -> Rollout:
        """Everything since the last `restart`, up to the head, in the order in which it happened."""
        if self.head.max() + 1 != self.written:
            raise InvalidData("a rollout has wrapped around its buffer: give the buffer more rows")
        length = self.written - 1
        valid, following = self.valid[:length], self.valid[1 : length + 1]
        ended = self.terminated[:length] | self.truncated[:length]
        return Rollout(
            obs=self.obs[: length + 1],
            action=self.action[:length],
            reward=self.reward[:length].masked_fill(~valid, 0.0),
            discount=gamma * (valid & ~self.terminated[:length]).float(),
            trace=(valid & ~ended & following).float(),
            valid=valid,
        )

    def valid_index(self) -> Tensor:
        """Flat indices of all transitions, in memory order."""
        return torch.as_tensor(np.flatnonzero(self._valid), device=self.device)

    # ---- data sets ---------------------------------------------------------------------------------------------

    @classmethod
    def from_transitions(
        cls,
        spec: Spec,
        *,
        obs: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        next_obs: np.ndarray | None = None,
        device: str | torch.device = "cpu",
    ) -> Buffer:
        """One column that holds recorded transitions: arrays `[M, ...]` in time order, actions in the agent's units.

        An episode ends where `terminated` or `truncated` says so, and with the data. Its end is followed by a reset
        row with its final observation. Where `next_obs` is not known, a terminated transition is kept (its successor
        has no value), any other last transition is dropped: its observation becomes the final one.
        """
        count = len(reward)
        sizes = {len(values) for values in (obs, action, reward, terminated, truncated)}
        if sizes != {count} or count == 0:
            raise InvalidData(f"the arrays of transitions must have one common length above 0, not {sorted(sizes)}")
        terminated = np.asarray(terminated, bool)
        truncated = np.asarray(truncated, bool) & ~terminated
        truncated[-1] = not terminated[-1]
        ended = terminated | truncated
        kept = np.ones(count, bool) if next_obs is not None else ~truncated
        extra = ended if next_obs is not None else terminated  # a dropped transition turns into its own reset row
        row = np.arange(count) + np.concatenate(([0], np.cumsum(extra)[:-1]))
        buffer = cls(spec, count + int(extra.sum()) + 1, device=device)
        fields = {"obs": obs, "action": action, "reward": reward, "terminated": terminated, "valid": kept}
        fields["truncated"] = truncated & kept
        for name, values in fields.items():
            column = np.zeros((buffer.rows, *values.shape[1:]), buffer._store[name].dtype if buffer._on_host else None)
            column[row] = values if name in ("obs", "action", "valid") else np.where(kept, values, 0)
            if name == "obs":
                column[row[extra] + 1] = (obs if next_obs is None else next_obs)[extra]
            getattr(buffer, name)[:, 0] = torch.as_tensor(column, device=buffer.device)
        if next_obs is None:  # the successor of a transition whose follower was dropped is that follower's observation
            buffer.truncated[:-1, 0] |= buffer.valid[:-1, 0] & ~buffer.terminated[:-1, 0] & ~buffer.valid[1:, 0]
        buffer._share_with_host()
        buffer.head[0] = buffer.rows - 1
        buffer.written, buffer.transitions = buffer.rows, int(kept.sum())
        return buffer

    def spread(self, rows: int, columns: int) -> Buffer:
        """A larger buffer of `columns` columns that starts with this buffer's rows, to go on with online.

        Each column takes an equal stretch of time; a stretch that is cut off keeps its successor, so that no
        transition is lost. Raises InvalidSetting where the new buffer is too small.
        """
        source = self._chronological()
        share = -(-(len(source["valid"]) - 1) // columns)
        if share + 2 > rows:
            raise InvalidSetting(
                f"a buffer of {rows} x {columns} rows cannot hold the {self.transitions} transitions of the data and "
                "new ones: set buffer_size higher"
            )
        other = Buffer(self.spec, rows, columns, device=self.device)
        for column in range(columns):
            stretch = slice(column * share, min((column + 1) * share + 1, len(source["valid"])))
            length = stretch.stop - stretch.start
            if length < 2:
                continue
            for name, values in source.items():
                getattr(other, name)[:length, column] = values[stretch]
            other.valid[length - 1, column] = False
        other._share_with_host()
        other.head[:] = share  # where a stretch was shorter, the rows up to here are simply not valid
        other.written, other.transitions = share + 1, int(other._valid.sum())
        return other

    def _chronological(self) -> dict[str, Tensor]:
        """All columns one after the other, oldest row first, each ending in its head row."""
        order = [(np.arange(self.rows) + head + 1) % self.rows for head in self.head]
        if self.written < self.rows:
            order = [np.arange(int(head) + 1) for head in self.head]
        return {
            name: torch.cat([values[torch.as_tensor(rows), column] for column, rows in enumerate(order)])
            for name, values in self._tensors().items()
        }

    # ---- state -------------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors (rows that hold something) and plain values, enough for `load_state` to go on exactly."""
        tensors = {name: values[: self.written] for name, values in self._tensors().items()}
        values = {"rows": self.rows, "columns": self.columns, "written": self.written, "head": self.head.tolist()}
        return tensors, {**values, "lockstep": self._lockstep}

    def load_state(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Takes over what `state` gave. Raises InvalidData if it belongs to a buffer of another size."""
        if (values["rows"], values["columns"]) != (self.rows, self.columns):
            raise InvalidData(
                f"the saved buffer has {values['rows']} x {values['columns']} rows, this one {self.rows} x "
                f"{self.columns}: keep buffer_size and num_envs when resuming"
            )
        self.clear()
        self.written = int(values["written"])
        for name, stored in self._tensors().items():
            stored[: self.written] = tensors[name].to(self.device)
        self._share_with_host()
        self.head = np.array(values["head"], np.int64)
        self._lockstep = bool(values["lockstep"])
        self.transitions = int(self._valid.sum())
