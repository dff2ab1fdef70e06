"""`bellmark compare CONTESTANT ...`: agents, libraries and recorded runs beside each other, with honest intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from ..agents.core.errors import InvalidData, InvalidSetting
from .outcome import FAILED, UsageError

if TYPE_CHECKING:
    from .comparison.contestants import Contestant
    from .comparison.runs import Published, Run
    from .comparison.summary import Summary


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Runs what is missing of every contestant in every environment with every seed, and compares.

    A contestant is `td3`, `td3:actor_delay=1,hidden=[64,64]`, `sb3:td3` (stable-baselines3 with our settings), a run
    folder, a folder of runs, a log folder of stable-baselines3 or RL-Zoo, or a CSV file of scores (columns algorithm,
    env, mean, std, seeds; or seed instead of std and seeds). `name=` before it names it.
    """

    contestants: Positional[tuple[str, ...]] = ()
    """Who is compared."""
    env: tuple[str, ...] = ()
    """Environments; of recorded runs, those to look at (all, if none is given)."""
    data: tuple[str, ...] = ()
    """Data sets to learn from, as `bellmark fit` takes them."""
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    """Seeds of the runs."""
    steps: int = 0
    """Environment steps of each run; 0 = the tuned settings' or 100,000."""
    updates: int = 0
    """Updates on data of each run; 0 = the tuned settings' or 1,000,000."""
    tuned: bool = False
    """Start from the settings that Bellmark ships for each task, for stable-baselines3 as well."""
    num_envs: int = 0
    """Environments side by side in each run; 0 = the tuned settings' or 1."""
    eval_every: int = 0
    """Clock ticks between two evaluations; 0 = a tenth of the run."""
    eval_episodes: int = 10
    """Whole episodes per evaluation."""
    which: Literal["last", "best"] = "last"
    """Which evaluation is a run's score; the best flatters."""
    threshold: tuple[str, ...] = ()
    """`env=value`: the return that counts as solved; by default gymnasium's."""
    scale: tuple[str, ...] = ()
    """`env=low:high`: the returns that are normalised scores 0 and 1."""
    out: str = "runs/compare"
    """Folder for the report, its tables, and the runs."""
    jobs: int = 2
    """Runs at a time, each with one thread."""
    read_only: bool = False
    """Run nothing: compare what is there."""
    progress: bool = True
    """Show how far the whole grid is."""


def main(argv: list[str]) -> int:
    import tyro

    from .comparison.console import show
    from .comparison.page import page
    from .comparison.summary import rows, summarize
    from .run_folder import Table

    arguments = tyro.cli(Arguments, args=argv[1:], prog="bellmark compare")
    out = Path(arguments.out)
    thresholds, scales = pairs(arguments.threshold, 1), pairs(arguments.scale, 2)
    runs, published, failed = gather(arguments, out)
    if failed and not runs:
        raise InvalidData(f"no run came to its end: see {failed[0].job.folder}.log for the reason")
    if not (runs or published):
        raise InvalidData("there is nothing to compare: leave --read-only out, or name other environments with --env")
    summary = summarize(
        runs,
        published,
        which=arguments.which,
        thresholds={env: values[0] for env, values in thresholds.items()},
        scales={env: (values[0], values[1]) for env, values in scales.items()},
    )
    for planned in failed:
        what = f"{planned.contestant}, {planned.task}, seed {planned.job.seed}"
        summary.warnings.append(f"{what} could not be run: see {planned.job.folder}.log")
    show(summary)
    out.mkdir(parents=True, exist_ok=True)
    report = out / "compare.html"
    report.write_text(page(summary, ["bellmark", *argv]), encoding="utf-8")
    Table(out / "compare.csv").replace(rows(summary))
    Table(out / "runs.csv").replace(points(summary))
    print(f"\nreport {report}\nnumbers {out / 'compare.csv'}, every evaluation {out / 'runs.csv'}")
    return FAILED if failed else 0


def gather(arguments: Arguments, out: Path) -> tuple[list[Run], list[Published], list[Any]]:
    """All runs, all published scores, and what could not be run. Raises UsageError for what makes no sense."""
    from .comparison import readers, running
    from .comparison.contestants import parse
    from .comparison.runs import named
    from .run_folder import RunFolder
    from .tasks import without_changes

    if not arguments.contestants:
        raise UsageError("say who is compared: bellmark compare td3 sb3:td3 --env Pendulum-v1; --help says more")
    contestants = [parse(word) for word in arguments.contestants]
    trained = [contestant for contestant in contestants if contestant.path is None]
    tasks = [("train", env) for env in arguments.env] + [("fit", data) for data in arguments.data]
    check(arguments, trained, tasks)
    plan = []
    for kind in ("train", "fit"):
        own = [task for task in tasks if task[0] == kind]
        plan += running.plan(trained, own, arguments.seeds, words(arguments, kind), out / "runs") if own else []
    missing = [planned for planned in plan if not planned.done]
    failed = []
    if missing and not arguments.read_only:
        failed = running.run_all(missing, len(plan) - len(missing), arguments.jobs, arguments.progress)
    found = []
    for planned in plan:
        folder = RunFolder(planned.job.folder)
        if planned.done and (run := readers.ours(folder)) is not None:
            found.append(run._replace(contestant=planned.contestant))
    read: list[Run] = []
    published: list[Published] = []
    named_tasks = {*arguments.env, *arguments.data}
    wanted = lambda task: not named_tasks or {task, without_changes(task)} & named_tasks  # noqa: E731
    for contestant in (contestant for contestant in contestants if contestant.path is not None):
        runs, scores = readers.read(contestant.path)  # type: ignore[arg-type]
        several = len({run.contestant for run in runs}) > 1
        for run in (run for run in runs if wanted(run.env)):
            label = f"{contestant.label} {run.contestant}" if several else contestant.label
            read.append(run._replace(contestant=label if contestant.label else run.contestant))
        published += [row for row in scores if wanted(row.env)]
    return found + named(read, [contestant.label for contestant in trained]), published, failed


def check(arguments: Arguments, trained: list[Contestant], tasks: list[Any]) -> None:
    """Raises UsageError or InvalidSetting for what makes no sense, before anything is run."""
    labels = [contestant.label for contestant in trained]
    if len(set(labels)) < len(labels):
        raise UsageError("a contestant is named twice: name one of them by `name=` before it")
    if trained and not tasks:
        raise UsageError(f"say in which environment {labels[0]} is to be compared: --env Pendulum-v1")
    if arguments.jobs < 1 or arguments.eval_episodes < 1:
        raise InvalidSetting("the options jobs and eval_episodes must be at least 1")
    if not arguments.seeds or len(set(arguments.seeds)) < len(arguments.seeds):
        raise InvalidSetting("the option seeds must list different seeds, such as --seeds 1 2 3")


def words(arguments: Arguments, kind: str) -> list[str]:
    """What each training is told."""
    found = ["--eval-episodes", str(arguments.eval_episodes), *(["--tuned"] if arguments.tuned else [])]
    length = {"steps": arguments.steps} if kind == "train" else {"updates": arguments.updates}
    length |= {"num_envs": arguments.num_envs} if kind == "train" else {}
    for name, value in {**length, "eval_every": arguments.eval_every}.items():
        found += [f"--{name.replace('_', '-')}", str(value)] if value else []
    return found


def pairs(texts: Iterable[str], count: int) -> dict[str, list[float]]:
    """`env=value` or `env=low:high`. Raises UsageError."""
    found = {}
    for text in texts:
        env, _, values = text.rpartition("=")
        try:
            found[env] = [float(value) for value in values.split(":")]
        except ValueError:
            found[env] = []
        numbers = found[env]
        if not env or len(numbers) != count or not all(map(math.isfinite, numbers)) or len(set(numbers)) < count:
            form = "env=value, such as Pendulum-v1=-200" if count == 1 else "env=low:high, such as CartPole-v1=0:500"
            raise UsageError(f"'{text}' is not of the form {form}")
    return found


def points(summary: Summary) -> list[dict[str, Any]]:
    """Every evaluation of every run, in the form that a contestant may have."""
    return [
        {
            "contestant": run.contestant,
            "env": run.env,
            "seed": run.seed,
            "clock": int(clock),
            "mean": float(mean),
            "protocol": run.protocol,
            "command": run.command,
            "train_seconds": run.seconds,
            "peak_bytes": run.memory,
            "source": run.source,
        }
        for run in summary.runs
        for clock, mean in zip(run.clock, run.mean, strict=True)
    ]
