"""How far a training is: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import atexit
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..agents.core.status import Status

REFRESH = 0.25
"""Seconds between two pictures of the bar."""


PAUSE = 1.0
"""Seconds between two plain lines, at least."""


class ProgressBar:
    """A hook: steps, steps/s, the last training return, time left. Plain lines, one per 5%, where there is no terminal.

    It starts at its first call and ends when the clock reaches the end, or when a hook before it stopped the training.
    """

    def __init__(self, title: str = ""):
        self.every = 1
        self.title = title
        self._next = 0.0
        self._bar: Any = None
        self._task: Any = None
        self._lines: PlainLines | None = None

    def __call__(self, status: Status) -> None:
        now, over = time.perf_counter(), status.clock >= status.until or status.stop
        if now < self._next and not over:
            return
        self._next = now + REFRESH
        if self._bar is None and self._lines is None:
            self._start(status)
        if self._lines is not None:
            self._lines.at_shares(status)
        else:
            self._bar.update(
                self._task,
                completed=status.clock,
                rate=f"{status.rate:,.0f} {status.unit}/s",
                score=f"return {status.episodes[-1][0]:.1f}" if status.episodes else "",
                left=clock_time((status.until - status.clock) / status.rate if status.rate else float("inf")),
            )
            self._bar.refresh()
        if over:
            self.close()

    def close(self) -> None:
        """Leaves the terminal as it was; a call later on starts anew."""
        if self._bar is not None:
            self._bar.stop()
            atexit.unregister(self.close)
        self._bar, self._lines, self._next = None, None, 0.0

    def _start(self, status: Status) -> None:
        if not sys.stdout.isatty():
            self._lines = PlainLines()
            return
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        layout = "{task.description}", "{task.fields[rate]}", "{task.fields[score]}", "{task.fields[left]} left"
        title, *rest = (TextColumn(text) for text in layout)
        self._bar = Progress(title, BarColumn(), TaskProgressColumn(), *rest, auto_refresh=False)
        self._task = self._bar.add_task(
            self.title or status.agent.name, total=status.until, completed=status.clock, rate="", score="", left=""
        )
        self._bar.start()
        atexit.register(self.close)


class PlainLines:
    """A hook that prints one line per call: for log files."""

    def __init__(self, every: int = 1):
        self.every = every
        self._next_share = 0.0
        self._next = 0.0

    def __call__(self, status: Status) -> None:
        now = time.perf_counter()
        if now < self._next and status.clock < status.until:
            return
        self._next = now + PAUSE
        score = f"  return {status.episodes[-1][0]:.1f}" if status.episodes else ""
        left = clock_time((status.until - status.clock) / status.rate if status.rate else float("inf"))
        print(
            f"{status.clock:>9,} of {status.until:,} {status.unit}{score}  {status.rate:,.0f}/s  {left} left",
            flush=True,
        )

    def at_shares(self, status: Status) -> None:
        """A line whenever another twentieth is done."""
        share = (status.clock - status.first_tick) / max(status.until - status.first_tick, 1)
        if share >= self._next_share:
            self._next_share = share + 0.05
            self(status)


def clock_time(seconds: float) -> str:
    """90 -> "1:30", 4000 -> "1:06:40"."""
    if seconds == float("inf"):
        return "-"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
