"""`bellmark bench`: our speed and memory beside other libraries', on the same work, in turn, on one machine."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...agents.core.errors import BellmarkError, UnknownName
from . import report
from .jobs import JOBS, Job
from .protocol import FULL

HERE = Path(__file__).parent
MODULES = {"ours": "torch", "sb3": "stable_baselines3", "import": "torch"}
"""What a contestant needs, where that is not its own name."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Does the same work with Bellmark and with each peer that is installed, block by block in turn."""

    jobs: tuple[str, ...] = ()
    """Names of the jobs; all, if none is given."""
    pairs: int = 5
    """Blocks of each contestant; a ratio is the median over pairs of neighbouring blocks."""
    threads: int = 1
    """Processor cores that each contestant may use."""
    device: str = "cpu"
    """Where networks and batches live: cpu, cuda, ... On a GPU also without CUDA graphs."""
    python: tuple[str, ...] = ()
    """`peer=path` of a Python interpreter that has a peer (sb3, sbx, d3rlpy) which this one lacks."""
    out: str = "runs/bench.json"
    """File for everything that was measured; what it holds of other jobs is kept."""
    table: bool = False
    """Measure nothing; print that file as a table in markdown."""


class Contestant:
    """A process that does a job's work in blocks, when told to."""

    def __init__(self, name: str, job: Job, python: str, threads: int):
        self.name, self.blocks = name, list[dict[str, Any]]()
        self.warmup: dict[str, Any] = {}
        words = {**job.shared, **job.contestants[name], "threads": threads, "began": time.time()}
        module = ["-m", f"{__name__}.run_ours"] if kind(name) == "ours" else [str(HERE / f"run_{kind(name)}.py")]
        self.process = subprocess.Popen(
            [python, *module, json.dumps(words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        )
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(self.process.pid, sorted(os.sched_getaffinity(0))[:threads])
        self.start = self._answer()

    def block(self, count: int) -> dict[str, Any]:
        """Does `count` units of work."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise BellmarkError(f"the benchmark of {self.name} ended with status {self.process.wait()}: see above")
        return json.loads(line)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()

    def result(self) -> dict[str, Any]:
        rate = statistics.median(block["count"] / block["seconds"] for block in self.blocks)
        return {"start": self.start, "warmup": self.warmup, "rate": rate, "blocks": self.blocks}


def kind(name: str) -> str:
    return name.partition("-")[0]


def main(argv: list[str]) -> int:
    import tyro

    arguments = tyro.cli(Arguments, args=argv[1:], prog="bellmark bench")
    path = Path(arguments.out)
    results = report.read(path)
    interpreters = dict(word.split("=", 1) for word in arguments.python)
    for job in [] if arguments.table else chosen(arguments.jobs):
        job = job.on(arguments.device)
        results[job.name] = measure(job, arguments.pairs, arguments.threads, interpreters)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(report.table(results))
    return 0


def chosen(names: Iterable[str]) -> list[Job]:
    known = {job.name: job for job in JOBS}
    for name in names:
        if name not in known:
            raise UnknownName("job", name, known)
    return [known[name] for name in names] or JOBS


def measure(job: Job, pairs: int, threads: int, interpreters: dict[str, str]) -> dict[str, Any]:
    """All contestants of a job, block by block in turn."""
    import torch

    from ...agents.core.checkpoint import versions
    from ..manifest import machine

    print(f"{job.name}: {job.title}", file=sys.stderr)
    contestants: list[Contestant] = []
    try:
        for name in job.contestants:
            python = interpreters.get(kind(name), sys.executable)
            if has(python, name):
                contestants.append(Contestant(name, job, python, threads))
                contestants[-1].warmup = contestants[-1].block(job.warmup)
        for _ in range(pairs):
            for contestant in contestants:
                contestant.blocks.append(contestant.block(job.block))
        results = {contestant.name: contestant.result() for contestant in contestants}
        for contestant in contestants:
            if job.shared.get("work") == "online":
                results[contestant.name]["full"] = contestant.block(FULL)
            if kind(contestant.name) == "ours" and job.shared["device"] == "cpu":
                results[contestant.name]["limits"] = contestant.block(0)
    finally:
        for contestant in contestants:
            contestant.close()
    first = next(iter(results.values()))
    for name, other in results.items():
        ratios = report.ratios(first, other)
        other["ratios"], other["ratio"] = ratios, statistics.median(ratios)
        print(f"  {name}: {other['rate']:,.1f} {job.unit}/s, ratio {other['ratio']:.2f}", file=sys.stderr)
    return {
        "title": job.title,
        "unit": job.unit,
        "targets": job.targets,
        "threads": threads,
        "machine": machine(torch.device(job.shared.get("device", "cpu"))),
        "versions": versions(),
        "contestants": results,
    }


def has(python: str, name: str) -> bool:
    """Whether that interpreter has what the contestant needs."""
    module = MODULES.get(kind(name), kind(name))
    found = subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0
    if not found:
        print(f"  without {name}: name an interpreter that has it by --python {kind(name)}=PATH", file=sys.stderr)
    return found
