"""The one buffer: how rollouts, replay and data sets are read. `rows` says how they are laid out and written."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .batch import Batch, Rollout, Sequence
from .errors import InvalidData
from .rows import Rows
from .sampling import Sampler
from .spec import Spec
from .spreading import spread
from .tensors import check_tensors, rows_at

PART = 2**14
"""Rows that are looked at at a time."""


class Buffer(Rows):
    """Rows, and everything that agents read from them. See `Rows` for the size and `add`."""

    def __init__(
        self,
        spec: Spec,
        rows: int,
        columns: int = 1,
        *,
        sampler: Sampler | None = None,
        device: str | torch.device = "cpu",
    ):
        self.sampler = sampler or Sampler()
        """How rows are drawn: uniformly, unless another is given."""
        super().__init__(spec, rows, columns, device=device)

    def view(self, sampler: Sampler) -> Buffer:
        """The same rows, not copied, but drawn in another way."""
        other = copy.copy(self)
        other.sampler = sampler
        return other

    @property
    def beside(self) -> int:  # type: ignore[override]
        return self.sampler.beside

    def sample(self, size: int, gamma: float, n_step: int = 1) -> Batch:
        """`size` transitions, drawn by the sampler."""
        return self.gather(self.draw(size), gamma, n_step)

    def draw(self, size: int) -> Tensor:
        """Flat indices `[size]` of valid rows, as the sampler chooses them."""
        self._require_transitions()
        return self.sampler.draw(self, size)

    def _require_transitions(self) -> None:
        if not self.transitions:
            raise InvalidData("the buffer has no transition to sample from: collect steps or load data first")

    def gather(self, index: Tensor, gamma: float, n_step: int = 1) -> Batch:
        """The transitions at flat indices `[B]`, each summed over up to `n_step` rows of its own episode.

        A window that meets the end of the episode or the head is shorter and keeps its own gamma^k.
        """
        reward, terminated = self.reward.view(-1), self.terminated.view(-1)
        total, last, after = rows_at(reward, index), index, self._next(index)
        discount = torch.full_like(total, gamma)
        for _ in range(1, n_step):
            alive = self._goes_on(last, after)
            total = total + torch.where(alive, discount * rows_at(reward, after), 0.0)
            last = torch.where(alive, after, last)
            discount = torch.where(alive, discount * gamma, discount)
            after = self._next(last)
        return Batch(
            obs=self.observations(index),
            action=rows_at(self.action.flatten(0, 1), index),
            reward=total,
            discount=discount.masked_fill_(rows_at(terminated, last), 0.0),
            next_obs=self.observations(after),
            weight=self.sampler.weight(self, index),
            row=index,
        )

    def observations(self, index: Tensor) -> Tensor:
        """Those of the rows at flat indices `[...]`."""
        return rows_at(self._flat_obs, index)

    def next_action(self, index: Tensor, n_step: int = 1) -> tuple[Tensor, Tensor]:
        """The actions at `next_obs` of what `gather` gives, and 1 where there is one, 0 where the episode was over."""
        for _ in range(1, n_step):
            after = self._next(index)
            index = torch.where(self._goes_on(index, after), after, index)
        after = self._next(index)
        return rows_at(self.action.flatten(0, 1), after), self._goes_on(index, after).float()

    def _goes_on(self, index: Tensor, after: Tensor) -> Tensor:
        """Whether the rows `after` those at `index` are the next transitions of the same episodes: bool `[B]`."""
        terminated, truncated, valid = (x.view(-1) for x in (self.terminated, self.truncated, self.valid))
        return rows_at(valid, after) & ~rows_at(terminated, index) & ~rows_at(truncated, index)

    def _next(self, index: Tensor) -> Tensor:
        """Flat index of the row after."""
        return (index + self.columns).remainder_(self.rows * self.columns)

    def sequences(self, size: int, length: int, gamma: float) -> Sequence:
        """`size` stretches of up to `length` consecutive transitions of one episode, starting anywhere."""
        index = self.draw(size)
        mask, steps = [torch.ones_like(index, dtype=torch.bool)], [index]
        for _ in range(1, length):
            after = self._next(index)
            mask.append(mask[-1] & self._goes_on(index, after))
            steps.append(index := after)
        at, real = torch.stack(steps), torch.stack(mask)
        obs = self.observations(torch.cat([at[:1], self._next(at)]))
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
            head=torch.as_tensor(self.head, device=self.device),
        )

    def valid_index(self) -> Tensor:
        """Flat indices of all transitions, in memory order."""
        return torch.as_tensor(np.flatnonzero(self._valid), device=self.device)

    def parts(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Observations and actions of all transitions, a few at a time: what is on the disk is never all in memory."""
        for index in self.valid_index().split(PART):
            yield self.observations(index), self.action.flatten(0, 1)[index]

    def valid_on_host(self) -> np.ndarray:
        """Whether each flat index is a transition, as the host knows."""
        return self._valid.reshape(-1)

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
        allocate: Callable[[str, tuple[int, ...], np.dtype], np.ndarray] | None = None,
    ) -> Buffer:
        """One column that holds recorded transitions: arrays `[M, ...]` in time order, actions in the agent's units.

        An episode ends where `terminated` or `truncated` says so; the last one may be left off. Each is followed by
        a reset row with its final observation. Where `next_obs` is not known, a terminated transition is kept (its
        successor has no value), any other last transition is dropped: its observation becomes the final one.

        `allocate` gives arrays of zeros for the rows, from the name, shape and type of a field; by default in memory.
        """
        count = len(reward)
        sizes = {len(values) for values in (obs, action, reward, terminated, truncated)}
        if sizes != {count} or count == 0:
            raise InvalidData(f"the arrays of transitions must have one common length above 0, not {sorted(sizes)}")
        terminated = np.asarray(terminated, bool)
        truncated = np.asarray(truncated, bool) & ~terminated
        left_off = not (terminated[-1] or truncated[-1])
        truncated[-1] |= left_off  # laid out like one that was cut off
        ended = terminated | truncated
        kept = np.ones(count, bool) if next_obs is not None else ~truncated
        extra = ended if next_obs is not None else terminated  # a dropped transition turns into its own reset row
        row = np.arange(count) + np.concatenate(([0], np.cumsum(extra)[:-1]))
        buffer, rows = cls(spec, 2, device=device), count + int(extra.sum()) + 1
        if allocate is None:
            buffer._require_memory(rows)
        given = {"obs": obs, "action": action, "reward": reward, "terminated": terminated, "valid": kept}
        given["truncated"] = truncated & kept
        fields: dict[str, np.ndarray] = {}
        for name, (shape, kind) in buffer._layout().items():
            form = (rows, 1, *shape), np.dtype(str(kind).removeprefix("torch."))
            column = fields[name] = np.zeros(*form) if allocate is None else allocate(name, *form)
            column[row, 0] = given[name] if name in ("obs", "action", "valid") else np.where(kept, given[name], 0)
        fields["obs"][row[extra] + 1, 0] = (obs if next_obs is None else next_obs)[extra]
        if next_obs is None:  # the successor of a transition whose follower was dropped is that follower's observation
            over = fields["terminated"] | ~fields["valid"]
            fields["truncated"][:-1] |= ~over[:-1] & ~fields["valid"][1:]
        if left_off:
            fields["truncated"][row[-1] - (next_obs is None)] = False
        buffer.adopt({name: torch.from_numpy(column) for name, column in fields.items()})
        return buffer

    def adopt(self, fields: Mapping[str, Tensor]) -> None:
        """Takes the rows of a data set, `[T, 1, ...]` by the name of the field, in place of its own; not copied."""
        for name, values in fields.items():
            setattr(self, name, values.to(self.device))
        self.rows = self.written = len(fields["obs"])
        self._share_with_host()
        self.recorded = True
        self.head[0] = self.rows - 1
        self.transitions = int(self._valid.sum())

    spread = spread

    # ---- state -------------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, values = super().state()
        return tensors | self.sampler.state(self), values

    def _state_layout(self, rows: int, written: int) -> dict[str, Tensor]:
        own = self.sampler.layout(rows * self.columns, written * self.columns)
        return super()._state_layout(rows, written) | own

    def load_state(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        super().load_state(tensors, values)
        self.sampler.load_state(self, tensors)

    def load_sampler(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over the state of the sampler of another view of the same data. Raises InvalidCheckpoint."""
        check_tensors(self.sampler.layout(self.rows * self.columns, self.written * self.columns), tensors)
        self.sampler.load_state(self, tensors)
