"""Hindsight experience replay: transitions are drawn as if a goal that was reached later had been the aim."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .batch import Batch, Step
from .buffer import Buffer
from .errors import InvalidSetting
from .rows import zeros

if TYPE_CHECKING:
    from ...envs.goals import GoalTask
    from .replay import ReplayAgent


class HindsightBuffer(Buffer):
    """HER (Andrychowicz et al. 2017, arXiv 1707.01495), strategy "future", k goals for each transition.

    A transition is drawn with its own goal with probability 1 / (k + 1). Else its goal becomes one that was achieved
    after it in its episode, each with the same probability; reward and end are computed anew. Nothing is stored twice.

    Departures from the paper: goals are replaced when a transition is drawn, not when it is stored, so each draw may
    have another; in an episode that still goes on, the goals achieved so far are taken.
    """

    stop: Tensor
    """`[rows, columns]` row with the last observation of that row's episode; -1 = it goes on, up to the head."""
    stale = True
    """Whether `stop` must be found from the rows, since they were not written one after the other."""

    def __init__(self, *arguments: Any, task: GoalTask | None = None, goals: int = 4, **options: Any):
        self.task, self.goals = task, goals
        super().__init__(*arguments, **options)

    @classmethod
    def of(cls, agent: ReplayAgent, rows: int, columns: int) -> HindsightBuffer:
        """The buffer of an agent in its environment. Raises InvalidSetting and UnsupportedSpace."""
        from ...envs.goals import GoalTask

        c = agent.config
        if agent.env is None or c.n_step != 1:
            raise InvalidSetting(
                "replay='hindsight' asks the environment for rewards, step by step: it needs env= and n_step = 1"
            )
        if c.clip_reward:
            raise InvalidSetting(
                "replay='hindsight' judges goals anew by the environment's own rewards: set clip_reward = False"
            )
        task = GoalTask(agent.env)
        return cls(agent.spec, rows, columns, task=task, goals=c.goals_per_transition, device=agent.device)

    @property
    def beside(self) -> int:  # type: ignore[override]
        return super().beside + 4

    # ---- where episodes end ------------------------------------------------------------------------------------

    def _share_with_host(self) -> None:
        super()._share_with_host()
        self.stop, self.stale = zeros((self.rows, self.columns), torch.int32, self.device), True
        self._stops: Any = self.stop.numpy() if self._on_host else self.stop

    def clear(self) -> None:
        super().clear()
        self.stale = True

    def begin(self, obs: np.ndarray) -> None:
        super().begin(obs)
        self.stale = True

    def add(self, action: np.ndarray, step: Step) -> None:
        head = self.head
        super().add(action, step)
        if self.stale:
            return
        self._running += 1
        over = step.terminated | step.truncated | ~step.valid
        for column in np.flatnonzero(over):
            stop = (head[column] + step.valid[column]) % self.rows
            length = min(self._running[column], self.rows)
            self._stops[(stop - np.arange(1, length)) % self.rows, column] = int(stop)
        self._running[over] = 1
        self._stops[self.head, self._columns] = -1

    def _find_episodes(self) -> None:
        """Finds `stop` from all rows: an episode goes on to the next row unless it ended, or that is no transition."""
        ended, stop = (self.terminated | self.truncated).cpu().numpy(), np.full((self.rows, self.columns), -1, np.int32)
        self._running = np.ones(self.columns, np.int64)
        """Rows of each column's present episode, the head included."""
        for column, head in enumerate(self.head):
            row = (np.arange(self.written) + head + 1) % self.rows if self.written == self.rows else np.arange(head + 1)
            goes_on = self._valid[row, column] & ~ended[row, column]
            goes_on[:-2] &= self._valid[row[1:-1], column]
            place = np.arange(len(row))
            last = np.minimum.accumulate(np.where(goes_on, len(row), place)[::-1])[::-1]
            is_over = last < len(row) - 1
            stop[row[is_over], column] = row[last[is_over] + 1]
            self._running[column] = len(row) - np.count_nonzero(is_over)
        self.stop.copy_(torch.as_tensor(stop))
        self.stale = False

    # ---- drawing -----------------------------------------------------------------------------------------------

    def gather(self, index: Tensor, gamma: float, n_step: int = 1) -> Batch:
        assert self.task is not None and n_step == 1
        batch, task = super().gather(index, gamma), self.task
        goal = self.later(index)[:, task.achieved]
        kept = torch.rand(len(index), device=self.device) * (self.goals + 1) < 1
        judged, ended = task.judge(batch.next_obs[:, task.achieved].cpu().numpy(), goal.cpu().numpy())
        reward = batch.reward.where(kept, torch.as_tensor(judged, device=self.device))
        for obs in (batch.obs, batch.next_obs):
            desired = obs[:, task.desired]
            desired.copy_(torch.where(kept.unsqueeze(1), desired, goal))
        if ended is None:
            return batch._replace(reward=reward)
        goes_on = torch.as_tensor(~ended, device=self.device).float()
        return batch._replace(reward=reward, discount=batch.discount.where(kept, gamma * goes_on))

    def later(self, index: Tensor) -> Tensor:
        """Observations `[B, ...]` that came after those of the rows `[B]` in the same episode, each equally often."""
        if self.stale:
            self._find_episodes()
        row, column = index // self.columns, index % self.columns
        head = torch.as_tensor(self.head, device=self.device)[column]
        stop = self.stop.view(-1)[index]
        length = (torch.where(stop < 0, head, stop) - row) % self.rows
        ahead = (torch.rand(len(index), dtype=torch.float64, device=self.device) * length).long() + 1
        return self.observations((row + ahead) % self.rows * self.columns + column)

    def spread(self, room: int, columns: int) -> Buffer:
        other = super().spread(room, columns)
        assert isinstance(other, HindsightBuffer)
        other.task, other.goals = self.task, self.goals
        return other
