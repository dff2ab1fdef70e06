"""What happens during a training from the command line: evaluate, save, stop when asked to."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from ..agents.core import checkpoint
from ..agents.core.seeding import derive
from ..envs import evaluate
from ..envs.worker import INTERRUPTIONS
from .disk import Disk
from .log import Log
from .manifest import machine, resume_kind
from .monitor import write_evaluations
from .outcome import discard
from .run_folder import RunFolder

if TYPE_CHECKING:
    from ..agents.core.status import Status
    from ..envs import VectorEnv

AT_ONCE = (signal.SIGINT, signal.SIGTERM)
"""What ends a training at once if it is repeated."""
Scores = Callable[[np.ndarray], np.ndarray]


class Evaluate:
    """Runs whole episodes on an environment and a random stream of its own; keeps the best agent."""

    def __init__(
        self, every: int, folder: RunFolder, env: VectorEnv, episodes: int, log: Log, disk: Disk, scores: Scores | None
    ):
        self.every = every
        self.folder, self.env, self.episodes = folder, env, episodes
        self.log, self.disk, self.scores = log, disk, scores

    def __call__(self, status: Status) -> None:
        agent, clock = status.agent, self.log.offset + status.clock
        seed, began = derive(agent.seed, "evaluation", clock), time.perf_counter()
        found = evaluate(agent, self.env, self.episodes, seed)
        returns, lengths, rate = found.returns, found.lengths, found.success_rate
        mean, std = float(returns.mean()), float(returns.std())
        row: dict[str, Any] = {"clock": clock, "steps": agent.steps, "updates": agent.updates, "mean": mean, "std": std}
        row |= {"episodes": self.episodes, "evaluation_seed": seed, "seconds": round(time.perf_counter() - began, 3)}
        row |= {"returns": words(returns), "lengths": words(lengths)}
        values = {"eval/mean_reward": mean, "eval/mean_ep_length": float(lengths.mean())}
        score = ""
        if self.scores is not None:
            scores = self.scores(returns)
            row |= {"normalized_mean": float(scores.mean()), "normalized_std": float(scores.std())}
            values["eval/normalized_score"] = float(scores.mean())
            score = f", D4RL score {scores.mean():.1f} ± {scores.std():.1f}"
        if rate is not None:
            row["success_rate"] = values["eval/success_rate"] = rate
            score += f", success rate {rate:.2f}"
        improved = mean > max((float(row["mean"]) for row in self.folder.evaluations.rows), default=-np.inf)
        self.disk.attempt(self.folder.evaluations.path, lambda: self.folder.evaluations.add(row))
        arrays = self.folder.evaluations_npz
        self.disk.attempt(arrays, lambda: write_evaluations(arrays, self.folder.evaluations.rows))
        self.log.events.add(values, clock)
        if improved:
            self.disk.attempt(self.folder.best, partial(checkpoint.save, self.folder.best, agent, extra=row))
        print(
            f"evaluation at {clock:,}: return {mean:.1f} ± {std:.1f}{score}{', the best so far' * improved}", flush=True
        )

    def at_end(self, status: Status) -> None:
        """Evaluates unless that has just been done."""
        rows = self.folder.evaluations.rows
        if not rows or int(rows[-1]["clock"]) != self.log.offset + status.clock:
            self(status)


class EarlyEvaluation:
    """Evaluates once, a tenth of an interval after the switch from data to the environment: policies may collapse."""

    def __init__(self, evaluate: Evaluate):
        self.evaluate, self.every = evaluate, max(evaluate.every // 10, 1)

    def __call__(self, status: Status) -> None:
        rows = self.evaluate.folder.evaluations.rows
        if not rows or int(rows[-1]["clock"]) <= self.evaluate.log.offset:
            self.evaluate(status)


class Save:
    """Writes everything that the run needs to go on exactly; the checkpoint before stays as well."""

    def __init__(
        self, every: int, folder: RunFolder, phase: str, log: Log, disk: Disk, saved: int | None, keep: bool = False
    ):
        """`saved` is the clock of the last.bell that is there, if it is good; with `keep` none is removed."""
        self.every, self.keep = every, keep
        self.folder, self.phase, self.log, self.disk, self.saved = folder, phase, log, disk, saved
        self._noted = False

    def __call__(self, status: Status) -> None:
        if status.clock < status.until:  # the end is saved after its last row and evaluation
            self.save(status)

    def save(self, status: Status) -> None:
        agent, online, clock = status.agent, status.env is not None, self.log.offset + status.clock
        extra: dict[str, Any] = {"phase": self.phase, "clock": clock, "until": status.until}
        extra |= {"elapsed": self.log.elapsed, "carried": status.state(), "machine": machine(agent.device)}
        write = partial(checkpoint.save, self.folder.last, agent, buffer=online, env=online, sampler=True, extra=extra)
        keep = self.saved not in (None, clock)
        if self.disk.attempt(self.folder.last, lambda: self.folder.save(write, keep=keep)):
            self.saved = clock
            if self.keep:
                self.folder.keep(clock)
        if online and not self._noted and (kind := resume_kind(agent)) != "exact":
            print(f"note: a resumed run will not be exact here: {kind}", flush=True)
        self._noted = True


class Stop:
    """Ends the training when its clock is at a certain value."""

    def __init__(self, clock: int):
        self.every = 1
        self.clock = clock

    def __call__(self, status: Status) -> None:
        status.stop = status.stop or status.clock >= self.clock


class Interrupt:
    """Ctrl-C, SIGTERM, a terminal or a reader of the output that goes away: the training ends after the round that is
    going on. A second Ctrl-C or SIGTERM ends it at once, not a second hang-up: shells repeat what the terminal said. A
    hang-up that is ignored already, as under nohup, stays so."""

    every = 1

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __call__(self, status: Status) -> None:
        if self.requested:
            status.stop = True

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in INTERRUPTIONS:
                if number in AT_ONCE or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._request)
        self._stdout, sys.stdout = sys.stdout, Output(sys.stdout, self)  # type: ignore[assignment]
        return self

    def __exit__(self, *exception: object) -> None:
        sys.stdout = self._stdout
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number in AT_ONCE:
            raise KeyboardInterrupt
        self.requested = True


class Output:
    """Standard output that asks for the end of the training, instead of failing, when nobody reads it any more."""

    def __init__(self, stream: TextIO, interrupt: Interrupt):
        self.stream, self.interrupt = stream, interrupt

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        self._attempt(lambda: self.stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._attempt(self.stream.flush)

    def _attempt(self, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError:
            discard(self.stream)
            self.interrupt.requested = True


def words(values: np.ndarray) -> str:
    """Numbers in one cell, separated by blanks, exact."""
    return " ".join(repr(value) for value in values.tolist())
