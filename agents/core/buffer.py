"""The one buffer: how rollouts, replay and data sets are read. `rows` says how they are laid out and written."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .batch import Batch, Rollout, Sequence
from .errors import InvalidData
from .rows import Rows
from .spec import Spec

MISS = 1e-15
"""Greatest probability that a uniform draw finds no valid row."""
MANY = 128
"""With more candidates than this (three rows of four invalid), listing the valid rows is cheaper."""


class Buffer(Rows):
    """Rows, and everything that agents read from them. See `Rows` for the size and `add`."""

    def sample(self, size: int, gamma: float, n_step: int = 1) -> Batch:
        """`size` transitions, uniform over valid rows, with replacement."""
        return self.gather(self.draw(size), gamma, n_step)

    def draw(self, size: int) -> Tensor:
        """Flat indices `[size]` of valid rows, uniform, without a look at the device from the host.

        Invalid rows are few (one an episode), so each draw has spare candidates: enough that the probability of
        finding no valid one is below 1e-15, from counts that the host knows.
        """
        self._require_transitions()
        filled = self.written * self.columns
        invalid = 1.0 - self.transitions / filled
        tries = math.ceil(math.log(MISS) / math.log(invalid)) if invalid else 1
        if tries > MANY:
            index = self.valid_index()
            return index[torch.randint(len(index), (size,), device=self.device)]
        candidates = torch.randint(filled, (tries, size), device=self.device)
        first = self.valid.view(-1)[candidates].to(torch.uint8).argmax(0, keepdim=True)
        return candidates.gather(0, first)[0]

    def _require_transitions(self) -> None:
        if not self.transitions:
            raise InvalidData("the buffer has no transition to sample from: collect steps or load data first")

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
        mask, steps = [torch.ones_like(index, dtype=torch.bool)], [index]
        for _ in range(1, length):
            over = (self.terminated | self.truncated).view(-1)[index]
            index = self._next(index)
            mask.append(mask[-1] & ~over & self.valid.view(-1)[index])
            steps.append(index)
        at, real = torch.stack(steps), torch.stack(mask)
        obs = torch.cat([self.obs.flatten(0, 1)[at[:1]], self.obs.flatten(0, 1)[self._next(at)]])
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
        buffer.recorded = True
        buffer.head[0] = buffer.rows - 1
        buffer.written, buffer.transitions = buffer.rows, int(kept.sum())
        return buffer

    def spread(self, room: int, columns: int) -> Buffer:
        """A buffer of `columns` columns that starts with these rows and has room for `room` more, to go on with.

        Each column takes an equal stretch of time; a stretch that is cut off keeps its successor, so that no
        transition is lost.
        """
        source = self._chronological()
        share = -(-(len(source["valid"]) - 1) // columns)
        other = Buffer(self.spec, share + room + 1, columns, device=self.device)
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
