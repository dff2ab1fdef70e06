"""The grid of contestants, tasks and seeds: what is missing, run in several processes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

import tyro

from ...agents.core.errors import BellmarkError, InvalidSetting
from .. import arguments, fit, grid, train
from ..progress import clock_time
from ..tasks import task_name
from .contestants import SB3, Contestant

POLL = 1.0
"""Seconds between two looks at the running trainings."""


def last_clock(path: Path) -> int:
    """The first column of the last whole row of a CSV file; 0 without one."""
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - 2**16, 0))
        lines = file.read().split(b"\n")[:-1]
    word = lines[-1].partition(b",")[0] if lines else b""
    return int(word) if word.isdigit() else 0


class Planned(NamedTuple):
    """One run of the grid."""

    job: grid.Job
    contestant: str
    task: str
    end: int
    """Clock at which it is finished."""
    module: str
    """Module of `scripts` that takes the words."""

    @property
    def clock(self) -> int:
        """How far its run folder says that it is."""
        return max(last_clock(self.job.folder / name) for name in ("progress.csv", "evaluations.csv"))

    @property
    def done(self) -> bool:
        """Whether its last evaluation is there."""
        return last_clock(self.job.folder / "evaluations.csv") >= self.end


def plan(
    contestants: Iterable[Contestant],
    tasks: Iterable[tuple[str, str]],
    seeds: Sequence[int],
    words: list[str],
    out: Path,
) -> list[Planned]:
    """Every contestant in every task, `(train | fit, name)`, with every seed; the first seed of all comes first.

    The folder's name has a hash of all settings and options, so that only what is the same counts as done. Raises what
    `bellmark train` would raise for unknown agents, settings, options or shipped settings.
    """
    found = []
    for contestant in contestants:
        for kind, task in tasks:
            if contestant.library == "sb3" and (kind == "fit" or contestant.agent not in SB3):
                raise InvalidSetting(
                    f"{contestant.label} cannot learn from {task}: stable-baselines3 needs an environment"
                )
            command = [contestant.agent, "--data" if kind == "fit" else "--env", task, *words, *contestant.settings]
            options, config, data = _resolved(contestant.agent, kind, command[1:])
            end = options.updates + options.learn_steps if kind == "fit" else options.steps
            everything = {"library": contestant.library, "agent": contestant.agent, "settings": config.to_dict()}
            everything |= {"options": {**dataclasses.asdict(options), "run": "", "seed": 0, "tuned": 0, "settings": ""}}
            everything |= {} if data is None else {"data": dataclasses.asdict(data)}
            code = hashlib.sha256(json.dumps(everything, sort_keys=True, default=str).encode()).hexdigest()[:8]
            full = task_name(task, dataclasses.asdict(options))
            sb3 = contestant.library == "sb3"
            name = re.sub(r"[^\w.-]+", "-", f"{'sb3-' * sb3}{contestant.agent}-{Path(task).name}") + f"-{code}"
            for place, seed in enumerate(seeds):
                job = grid.Job(name, seed, command if sb3 else [kind, *command], out / f"{name}-seed{seed}")
                module = "comparison.sb3" if sb3 else "main"
                found.append((place, Planned(job, contestant.label, full, end, module)))
    return [planned for _, planned in sorted(found, key=lambda pair: pair[0])]


def _resolved(agent: str, kind: str, words: list[str]) -> tuple[Any, Any, Any]:
    """Options and settings of the run, and options of its data (None online), as its command will find them."""
    from ...agents.core.registry import agent_class
    from ...offline import Options as DataOptions

    config = agent_class(agent).config
    if kind == "train":
        options, config = arguments.with_settings(agent, "env", train.Options(env=tyro.MISSING), config, words)
        options, config = arguments.parse(f"bellmark train {agent}", words, options, config)
        return options, config, None
    options, config = arguments.with_settings(agent, "data", fit.Options(data=tyro.MISSING), config, words)
    data = arguments.with_data_settings(agent, DataOptions(), words)
    options, data, config = arguments.parse(f"bellmark fit {agent}", words, options, data, config)
    return options, config, data


def run(planned: Planned) -> bool:
    """Trains it to its end. A training that ended by itself is told from one that was interrupted."""
    cost = planned.job.folder.with_name(f"{planned.job.folder.name}.cost.json")
    grid.run(planned.job, (f"{__package__}.measured", str(cost.absolute()), planned.module))
    return planned.done


def run_all(missing: Sequence[Planned], done: int, at_a_time: int, show: bool) -> list[Planned]:
    """Runs them, so many at a time, and shows how far the whole grid is. Returns those that failed."""
    failed: list[Planned] = []
    progress = Progress(missing, done, show)

    def work(planned: Planned) -> None:
        progress.say(f"started   {planned.contestant}, {planned.task}, seed {planned.job.seed}")
        try:
            good = run(planned)
        except BellmarkError as error:
            progress.say(str(error))
            good = False
        progress.count += 1
        if not good:
            failed.append(planned)
        outcome = "finished" if good else "FAILED  "
        see = "" if good else f": see {planned.job.folder}.log"
        progress.say(f"{outcome}  {planned.contestant}, {planned.task}, seed {planned.job.seed}{see}")

    pool = ThreadPoolExecutor(at_a_time)
    futures: list[Future[None]] = [pool.submit(work, planned) for planned in missing]
    try:
        with progress:
            while wait(futures, POLL).not_done:
                progress.refresh()
    finally:
        pool.shutdown(cancel_futures=True)
    for future in futures:
        future.result()
    return failed


class Progress:
    """The whole grid in one bar, or in plain lines where there is no terminal: runs, share of all steps, time left."""

    def __init__(self, missing: Sequence[Planned], done: int, show: bool):
        self.missing, self.before, self.count = missing, done, 0
        self.total = sum(planned.end for planned in missing)
        self.start, self.first = time.perf_counter(), self.steps
        self._bar: Any = None
        if show and sys.stdout.isatty():
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

            self._bar = Progress(TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
            self._task = self._bar.add_task("", total=self.total)
        self.show = show

    @property
    def steps(self) -> int:
        return sum(min(planned.clock, planned.end) for planned in self.missing)

    def state(self) -> str:
        """How far it is, in words."""
        steps, seconds = self.steps, time.perf_counter() - self.start
        rate = (steps - self.first) / seconds if seconds else 0.0
        left = clock_time((self.total - steps) / rate if rate else float("inf"))
        share = f"{100 * steps / max(self.total, 1):.0f}%"
        return f"{self.before + self.count} of {self.before + len(self.missing)} runs, {share} of the rest, {left} left"

    def refresh(self) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=self.steps, description=self.state())

    def say(self, line: str) -> None:
        if self._bar is not None:
            self._bar.console.print(line, highlight=False, markup=False)
        elif self.show:
            print(f"{line}  ({self.state()})", flush=True)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.refresh()
        if self._bar is not None:
            self._bar.stop()
