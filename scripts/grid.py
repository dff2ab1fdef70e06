"""`python -m bellmark.scripts.grid PLAN.toml`: commands over seeds, in processes, into CSV files.

A plan is a list of `[[entry]]` with `name`, `command` (the words after `bellmark`) and `seeds`; where two entries have
the same agent and task, a `label` tells them apart in docs/results.md. What is in the results is not run again; a run
that was interrupted is resumed.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from tyro.conf import Positional

from ..agents.core.errors import BellmarkError, InvalidSetting, UnknownName
from .run_folder import RunFolder, Table

FOLDER = Path(__file__).parent / "evidence"


@dataclass(frozen=True)
class Arguments:
    """Runs what a plan lists and what its results lack."""

    plan: Positional[str]
    """TOML file with [[entry]] tables: name, command (words after `bellmark`), seeds."""
    jobs: int = 2
    """Runs at a time, each with one thread."""
    only: tuple[str, ...] = ()
    """Names of the entries to look at; all, if none is given."""
    out: str = ""
    """Folder of the results; by default scripts/evidence in this package."""
    runs: str = "runs/evidence"
    """Folder of the run folders."""
    table: bool = False
    """Run nothing; print the results as a table in markdown."""


class Job(NamedTuple):
    """One entry with one seed."""

    name: str
    seed: int
    command: list[str]
    folder: Path

    def owns(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of the results is this job's."""
        return (row["name"], str(row["seed"])) == (self.name, str(self.seed))

    @property
    def line(self) -> str:
        """What a user would type."""
        return " ".join(["bellmark", *self.command, "--seed", str(self.seed)])


class Results:
    """`<plan>.csv` with one row per run and `<plan>-curves.csv` with one per evaluation."""

    def __init__(self, folder: Path, plan: str):
        folder.mkdir(parents=True, exist_ok=True)
        self.final, self.curves = Table(folder / f"{plan}.csv"), Table(folder / f"{plan}-curves.csv")
        for table in (self.final, self.curves):
            if table.path.exists():
                table.read(lambda row: True)
        self._lock = Lock()

    def has(self, job: Job) -> bool:
        """Whether this very command has been run: a row that another one made counts no more, and is replaced."""
        return any(job.owns(row) and row["command"] == job.line for row in self.final.rows)

    def add(self, job: Job) -> dict[str, Any]:
        """Reads the run folder of a job that has ended well. The run's row comes last: it says that all is there."""
        folder, identity = RunFolder(job.folder), {"name": job.name, "seed": job.seed}
        evaluations, progress = rows_of(folder.evaluations.path), rows_of(folder.progress.path)
        last, seconds = evaluations[-1], float(progress[-1]["time/time_elapsed"])
        row: dict[str, Any] = identity | {"clock": last["clock"], "eval_mean": last["mean"], "eval_std": last["std"]}
        row |= {"episodes": last["episodes"], "returns": last["returns"], "lengths": last["lengths"]}
        row |= {"normalized_mean": last.get("normalized_mean", ""), "normalized_std": last.get("normalized_std", "")}
        row |= {"seconds": f"{seconds:.1f}", "clock_per_second": f"{int(last['clock']) / seconds:.1f}"}
        row |= {"command": job.line, "code": (folder.manifest()["machine"] or {}).get("code", "")}
        with self._lock:
            others = [row for row in self.curves.rows if not job.owns(row)]
            points = [{**identity, **evaluation, **identity} for evaluation in evaluations]
            self.curves.replace([*others, *points])
            if any(job.owns(row) for row in self.final.rows):
                self.final.replace(row for row in self.final.rows if not job.owns(row))
            self.final.add(row)
        return row


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_plan(path: Path, runs: Path, only: Iterable[str]) -> list[Job]:
    """All jobs of a plan, every entry's first seed first, so that results fill evenly.

    Raises InvalidSetting or UnknownName for a plan that makes no sense.
    """
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))["entry"]
        jobs = [
            Job(entry["name"], seed, [str(word) for word in entry["command"]], runs / f"{entry['name']}-seed{seed}")
            for place in range(max(len(entry["seeds"]) for entry in entries))
            for entry in entries
            for seed in entry["seeds"][place : place + 1]
        ]
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise InvalidSetting(
            f"{path} is no plan: it needs [[entry]] tables with name, command, seeds ({error})"
        ) from error
    names = {job.name for job in jobs}
    for name in only:
        if name not in names:
            raise UnknownName("entry of the plan", name, names)
    return [job for job in jobs if not only or job.name in only]


def refuse_others(jobs: Iterable[Job]) -> None:
    """Raises InvalidSetting where a job's folder holds the run of another command."""
    for job in jobs:
        folder = RunFolder(job.folder)
        if folder.manifest_file.exists():
            begun = " ".join(folder.manifest()["command"]).partition(" --run ")[0]
            if begun != job.line:
                raise InvalidSetting(
                    f"{job.folder} holds a run of another command ({begun}): move it away, or give other --runs"
                )


def run(job: Job, program: Sequence[str] = (f"{__package__}.main",)) -> bool:
    """Runs a job in a process of its own, from its last checkpoint if there is one; what it prints goes to a log.

    `program` is the module that takes the job's words, and words to go before them.
    """
    folder = RunFolder(job.folder)
    words = ["resume", str(folder)] if folder.last.exists() else [*job.command, "--seed", str(job.seed)]
    if words[0] != "resume":
        words += ["--run", str(folder)]
        if folder.manifest_file.exists():  # a run that did not come to its first checkpoint
            folder.lock.refuse()
            shutil.rmtree(folder.path)
    folder.path.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *program, *words]
    with folder.path.with_name(f"{folder.path.name}.log").open("ab") as log:
        return subprocess.run(["nice", "-n", "10", *command], env=environment, stdout=log, stderr=log).returncode == 0


def run_all(jobs: Iterable[Job], results: Results, at_a_time: int) -> list[Job]:
    """Runs what the results lack. Returns the jobs that failed."""
    missing = [job for job in jobs if not results.has(job)]
    refuse_others(missing)
    failed = []

    def work(job: Job) -> None:
        print(f"started   {job.name} seed {job.seed}", flush=True)
        if run(job):
            row = results.add(job)
            print(f"finished  {job.name} seed {job.seed}: {row['eval_mean']} in {row['seconds']} s", flush=True)
        else:
            failed.append(job)
            print(f"FAILED    {job.name} seed {job.seed}: see {job.folder}.log", flush=True)

    pool = ThreadPoolExecutor(at_a_time)
    try:
        list(pool.map(work, missing))
    finally:
        pool.shutdown(cancel_futures=True)
    return failed


def main(argv: list[str] | None = None) -> int:
    import tyro

    from .statistics import markdown

    arguments = tyro.cli(Arguments, args=argv, prog="python -m bellmark.scripts.grid")
    try:
        plan = Path(arguments.plan)
        jobs = read_plan(plan, Path(arguments.runs), arguments.only)
        results = Results(Path(arguments.out) if arguments.out else FOLDER, plan.stem)
        failed = [] if arguments.table else run_all(jobs, results, arguments.jobs)
        names = dict.fromkeys(job.name for job in jobs)
        print(markdown([row for row in results.final.rows if row["name"] in names]))
    except BellmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
