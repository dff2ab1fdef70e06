"""docs/results.md: what every plan in scripts/evidence has shown so far, beside published figures."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .grid import FOLDER, rows_of
from .pages import table
from .statistics import Estimate, bootstrap, difference, iqm, steps_to, student_interval
from .switch import switch
from .tasks import task_of

INTRO = """Made by `make docs` from the raw results in [scripts/evidence](../scripts/evidence): for each plan
`PLAN.toml`, `PLAN.csv` has a row for each seed, with every episode's return, and `PLAN-curves.csv` every evaluation. To
repeat what is missing: `python -m bellmark.scripts.grid scripts/evidence/PLAN.toml`.

A cell is the mean over seeds of the last evaluation (the last checkpoint, deterministic actions), Student's 95%
interval over seeds, and the number of seeds. Over a column, or in the cell where they differ, is when the evaluation
was made: in environment steps, or in updates where an agent learns from data. Seconds are those of the fastest seed,
evaluations included, on a machine shared with other work: more than an update needs (see [speed.md](speed.md)).
Published figures differ in protocol, as their notes say."""
SWITCHES = """From data to the environment: the last evaluation before the switch, the first after it, what was lost
between the two, the lowest after it (of several, so lower by chance alone), and the last (mean over seeds, Student's
95% interval, number of seeds)."""
EFFICIENCY = """Sample efficiency: the mean of all evaluations, which is the area under the learning curve (mean over
seeds, Student's 95% interval, number of seeds), by how much that exceeds the first agent's (Welch's 95% interval), and
the clock at which an evaluation first reached what the first agent had on average at the end, seed by seed. Evaluations
at a clock at which not all agents of a table were evaluated are left out."""
AGGREGATE = "Interquartile mean over all runs of these tasks, with a stratified bootstrap interval over runs."


class Entry(NamedTuple):
    """One agent on one task."""

    agent: str
    """See `agent_of`."""
    task: str
    clock: int
    """When it was evaluated: environment steps, or updates on data, to the nearest thousand."""
    scores: np.ndarray
    """[seeds]: returns, or D4RL scores where the environment has them."""
    seconds: float
    """The fastest seed's for 1,000 ticks of the clock; NaN for an agent that does not only learn from data."""


def agent_of(entry: Mapping[str, Any]) -> str:
    """An entry's agent with what its `label` adds, as a link."""
    name = entry["command"][1]
    return f"[{name}](agents/{name}.md)" + (f", {entry['label']}" if "label" in entry else "")


def measured(planned: Iterable[Mapping[str, Any]], rows: Sequence[Mapping[str, str]]) -> list[Entry]:
    """What a plan's results hold, in the order of the plan's entries."""
    found = []
    for entry in planned:
        command, own = entry["command"], [row for row in rows if row["name"] == entry["name"]]
        if not own:
            continue
        normalized = all(row.get("normalized_mean") for row in own)
        scores = np.array([float(row["normalized_mean" if normalized else "eval_mean"]) for row in own])
        offline = command[0] == "fit" and "--learn-steps" not in command
        seconds = min(1e3 * float(row["seconds"]) / int(row["clock"]) for row in own) if offline else np.nan
        clock = round(int(own[0]["clock"]), -3)
        found.append(Entry(agent_of(entry), task_of(command, normalized), clock, scores, float(seconds)))
    return found


def cell(estimate: Estimate, runs: int) -> str:
    value, low, high = estimate
    digits = 1 if abs(value) >= 10 else 2
    interval = f" [{low:z.{digits}f}, {high:z.{digits}f}]" if runs > 1 else ""
    return f"{value:z.{digits}f}{interval} ({runs})"


def matrix(entries: Sequence[Entry]) -> str:
    """Agents against tasks; where agents learn from data, also how long an update takes."""
    clocks: dict[str, set[int]] = {}
    for entry in entries:
        clocks.setdefault(entry.task, set()).add(entry.clock)
    same = {task: min(found) for task, found in clocks.items() if len(found) == 1}
    timed = any(np.isfinite(entry.seconds) for entry in entries)
    rows = []
    for agent in dict.fromkeys(entry.agent for entry in entries):
        cells = dict.fromkeys(clocks, "")
        own = [entry for entry in entries if entry.agent == agent]
        for entry in own:
            text = cell(student_interval(entry.scores), len(entry.scores))
            text += "" if entry.task in same else f" at {entry.clock:,}"
            cells[entry.task] += ("; " if cells[entry.task] else "") + text
        seconds = [entry.seconds for entry in own if np.isfinite(entry.seconds)]
        times = [f"{np.median(seconds):.1f}" if seconds else ""] if timed else []
        rows.append((agent, *cells.values(), *times))
    heads = [f"{task}, {same[task]:,}" if task in same else task for task in clocks]
    return table(("agent", *heads, *(["seconds for 1,000 updates"] if timed else [])), rows)


def switches(planned: Iterable[Mapping[str, Any]], curves: Sequence[Mapping[str, str]]) -> str:
    """What entries that go on online after learning from data lose at the switch; "" where there is none."""
    rows = []
    for entry in planned:
        found = [around for around in map(switch, by_seed(entry["name"], curves)) if around is not None]
        if "--learn-steps" not in entry["command"] or not found:
            continue
        normalized = all(row.get("normalized_mean") for around in found for row in around)
        name = "normalized_mean" if normalized else "mean"
        before, first, lowest, last = np.array([[float(row[name]) for row in around] for around in found]).T
        cells = [cell(student_interval(scores), len(found)) for scores in (before, first, before - first, lowest, last)]
        rows.append((agent_of(entry), task_of(entry["command"], normalized), *cells))
    return (
        table(("agent", "task", "before the switch", "first online", "drop", "lowest online", "last"), rows)
        if rows
        else ""
    )


def by_seed(name: str, curves: Sequence[Mapping[str, str]]) -> list[list[Mapping[str, str]]]:
    """The evaluations of one entry, seed by seed."""
    own = [row for row in curves if row["name"] == name]
    return [[row for row in own if row["seed"] == seed] for seed in dict.fromkeys(row["seed"] for row in own)]


def evaluations(seeds: Sequence[Sequence[Mapping[str, str]]], column: str) -> tuple[np.ndarray, np.ndarray]:
    """The clock `[P]` and that column `[seeds, P]` of one entry's evaluations, as far as all seeds have come."""
    points = min(map(len, seeds))
    clock, found = np.array(
        [[[float(row[name]) for row in rows[:points]] for rows in seeds] for name in ("clock", column)]
    )
    return clock.mean(0), found


def efficiency(names: Sequence[str], planned: Iterable[Mapping[str, Any]], curves: Sequence[Mapping[str, str]]) -> str:
    """How soon entries learn, against the first of them, by what all were evaluated at; "" without curves of two."""
    agents = {entry["name"]: agent_of(entry) for entry in planned}
    found = {name: evaluations(seeds, "mean") for name in names if (seeds := by_seed(name, curves))}
    if len(found) < 2 or names[0] not in found:
        return ""
    common = reduce(np.intersect1d, (clock for clock, _ in found.values()))
    if not len(common):
        return ""
    shared = {name: mean[:, np.isin(clock, common)] for name, (clock, mean) in found.items()}
    first, goal = shared[names[0]].mean(1), float(shared[names[0]][:, -1].mean())
    rows = []
    for name, mean in shared.items():
        area = mean.mean(1)
        more = "" if name == names[0] else cell(difference(area, first), min(len(area), len(first)))
        reached = [steps_to(goal, common, run) for run in mean]
        when = ", ".join(f"{step:,.0f}" if np.isfinite(step) else "never" for step in reached)
        rows.append((agents[name], cell(student_interval(area), len(area)), more, when))
    return table(("agent", f"mean of evaluations up to {common[-1]:,.0f}", "more", f"reached {goal:z.0f} at"), rows)


def efficiencies(plan: Path, wanted: Iterable[Mapping[str, Any]]) -> list[str]:
    """The comparisons of sample efficiency that a plan wants, of its entries and those of `plans` beside it."""
    parts = []
    for comparison in wanted:
        plans = [plan, *(plan.with_name(f"{name}.toml") for name in comparison.get("plans", []))]
        planned = [entry for each in plans for entry in tomllib.loads(each.read_text(encoding="utf-8"))["entry"]]
        files = [each.with_name(f"{each.stem}-curves.csv") for each in plans]
        curves = [row for file in files if file.exists() for row in rows_of(file)]
        if found := efficiency(comparison["entries"], planned, curves):
            parts += [comparison["title"], found]
    return [EFFICIENCY, *parts] if parts else []


def aggregate(entries: Iterable[Entry], tasks: Mapping[str, Sequence[float]]) -> list[tuple[str, str]]:
    """For each agent with runs of all tasks: IQM of the scores, scaled so that those given for a task are 0 and 1."""
    scaled: dict[str, dict[str, np.ndarray]] = {}
    for entry in entries:
        if entry.task in tasks:
            zero, one = tasks[entry.task]
            scaled.setdefault(entry.agent, {})[entry.task] = (entry.scores - zero) / (one - zero)
    complete = {agent: list(found.values()) for agent, found in scaled.items() if found.keys() == tasks.keys()}
    return [(agent, cell(bootstrap(scores, iqm), min(map(len, scores)))) for agent, scores in complete.items()]


def published(plan: str) -> list[tuple[str, ...]]:
    """Rows of published.csv for a plan."""
    rows = [row for row in rows_of(FOLDER / "published.csv") if row["plan"] == plan]
    return [
        (
            row["task"],
            row["who"],
            f"{int(row['at']):,}" if row["at"] else "",
            row["mean"] + (f" ± {row['spread']}" if row["spread"] else ""),
            row["seeds"],
            "; ".join(filter(None, (row["source"], row["note"]))),
        )
        for row in rows
    ]


def section(plan: Path) -> list[str]:
    """A plan: what it says of itself, its table, its aggregates, `remarks` on them, and what others published."""
    results, text = plan.with_suffix(".csv"), plan.read_text(encoding="utf-8")
    if not results.exists():
        return []
    contents = tomllib.loads(text)
    entries = measured(contents["entry"], rows_of(results))
    if not entries:
        return []
    head = [line[1:].strip() for line in text.split("\n\n")[0].splitlines() if line.startswith("#")]
    parts = [f"## {plan.stem}", " ".join(head), matrix(entries)]
    curves = plan.with_name(f"{plan.stem}-curves.csv")
    if curves.exists() and (lost := switches(contents["entry"], rows_of(curves))):
        parts += [SWITCHES, lost]
    for wanted in contents.get("aggregate", []):
        if rows := aggregate(entries, wanted["tasks"]):
            parts += [f"{wanted['title']} {AGGREGATE}", table(("agent", "IQM (seeds of each task)"), rows)]
    parts += efficiencies(plan, contents.get("efficiency", []))
    if remarks := contents.get("remarks", "").strip():
        parts.append(remarks)
    if others := published(plan.stem):
        parts.append(table(("published for", "who", "at", "score", "seeds", "source and what differs"), others))
    return parts


def page() -> str:
    parts = [part for plan in sorted(FOLDER.glob("*.toml")) for part in section(plan)]
    return "\n\n".join(["# Results", INTRO, *parts]) + "\n"
