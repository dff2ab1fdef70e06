"""`python -m bellmark.scripts.docs`: writes docs/, from code and evidence, and the tables of the README."""

from __future__ import annotations

import functools
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..agents.core.registry import find_agents
from .bench import report
from .grid import FOLDER, read_plan, rows_of
from .pages import ROOT, describe_once, page, prose, table
from .results import evaluations
from .results import page as results
from .statistics import markdown

FAMILIES = {
    "agents/on_policy": "From what the policy has just done",
    "agents/value_based": "From replay, by values of discrete actions",
    "agents/actor_critic": "From replay, by actor and critic",
    "offline": "From recorded data",
}
POINTS = 6
"""Rows in the table of a curve."""
LEGEND = "Lines: the lowest, the mean and the highest over seeds, at each evaluation."
INDEX = """Made by `make docs` from docstrings, settings and recorded evidence; `bellmark explain AGENT` shows a page in
a terminal. How to write an agent of your own: [a variant in 15 lines](write-your-own-variant.md). What all of them
reached, side by side: [results](results.md)."""


class Curve(NamedTuple):
    """Evaluations of one command, the mean over the episodes of each, seed by seed."""

    command: str
    clock: np.ndarray
    """[P] mean over seeds: environment steps, or updates on data."""
    score: np.ndarray
    """[seeds, P]"""
    episodes: int
    """Of each evaluation."""
    normalized: bool
    """Whether the score is D4RL's, 0 = random and 100 = expert, and not the return."""


@functools.cache
def curves() -> dict[str, list[Curve]]:
    """All recorded learning curves by the name of the agent."""
    found = defaultdict(list)
    for plan in sorted(FOLDER.glob("*.toml")):
        results = FOLDER / f"{plan.stem}-curves.csv"
        runs: dict[str, dict[str, list[dict[str, str]]]] = defaultdict(lambda: defaultdict(list))
        if results.exists():
            for row in rows_of(results):
                runs[row["name"]][row["seed"]].append(row)
        for name, command in {job.name: job.command for job in read_plan(plan, Path(), ())}.items():
            if name in runs:
                found[command[1]].append(curve(command, [*runs[name].values()]))
    return dict(found)


def curve(command: list[str], seeds: list[list[dict[str, str]]]) -> Curve:
    """One entry of a plan from its rows, seed by seed."""
    normalized = all(row.get("normalized_mean") for rows in seeds for row in rows)
    column = "normalized_mean" if normalized else "mean"
    clock, score = evaluations(seeds, column)
    return Curve(" ".join(["bellmark", *command]), clock, score, int(seeds[0][0]["episodes"]), normalized)


def measured(found: Curve) -> list[str]:
    """A curve as a chart, and some of its points as a table."""
    phases = {"updates": " fit " in found.command and " --updates 0 " not in found.command}
    phases["environment steps"] = " train " in found.command or " --learn-steps " in found.command
    steps = ", then ".join(phase for phase, there in phases.items() if there)
    score = "D4RL score" if found.normalized else "return"
    lines = found.score.min(0), found.score.mean(0), found.score.max(0)
    chart = [
        "xychart-beta",
        f'  x-axis "{steps}" {found.clock[0]:.0f} --> {found.clock[-1]:.0f}',
        f'  y-axis "{score}"',
    ]
    chart += [f"  line [{', '.join(f'{value:z.1f}' for value in line)}]" for line in lines]
    shown = np.unique(np.linspace(0, len(found.clock) - 1, POINTS).round().astype(int))
    rows = [(f"{found.clock[i]:,.0f}", *(f"{line[i]:z.1f}" for line in lines)) for i in shown]
    text = f"`{found.command}`, {len(found.score)} seeds, {found.episodes} episodes an evaluation. {LEGEND}"
    return [text, "\n".join(["```mermaid", *chart, "```"]), table((steps, "lowest", f"mean {score}", "highest"), rows)]


def pages() -> dict[str, str]:
    """All generated files: path in the repository -> text."""
    found = {}
    lines = ["# Agents", INDEX]
    facts = [describe_once(name) for name in sorted(find_agents())]
    for family, title in FAMILIES.items():
        members = [fact for fact in facts if Path(fact["file"]).parent.as_posix() == family]
        rows = [(f"[{f['name']}](agents/{f['name']}.md)", ", ".join(f["actions"]), prose(f["about"])) for f in members]
        lines += [f"## {title}", f"Files in [{family}](../{family}).", table(("agent", "actions", "what"), rows)]
    found["docs/README.md"] = "\n\n".join(lines) + "\n"
    found["docs/results.md"] = results()
    found["docs/speed.md"] = report.page(*measurements_of_speed())
    found["README.md"] = with_tables((ROOT / "README.md").read_text(encoding="utf-8"))
    for fact in facts:
        parts = [part for entry in curves().get(fact["name"], []) for part in measured(entry)]
        measurements = "\n\n".join(["\n## Measured", *parts, ""]) if parts else ""
        found[f"docs/agents/{fact['name']}.md"] = page(fact["name"], "docs/agents") + measurements
    return found


def measurements_of_speed() -> list[dict[str, Any]]:
    """What `bellmark bench` found with one thread and with two."""
    return [report.read(FOLDER / name) for name in ("bench.json", "bench-two-threads.json")]


def with_tables(text: str) -> str:
    """The README with its tables of evidence, each between `<!-- name -->` and `<!-- /name -->`."""
    faults = rows_of(FOLDER / "reliability.csv")
    tables = {
        "reliability": table(faults[0], (row.values() for row in faults)),
        "bench": report.summary(*measurements_of_speed()),
        "evidence": markdown(rows_of(FOLDER / "foundation.csv")),
        "exploration": markdown(rows_of(FOLDER / "exploration.csv")),
    }
    for name, found in tables.items():
        before, rest = text.split(f"<!-- {name} -->\n", 1)
        text = f"{before}<!-- {name} -->\n{found}\n<!-- /{name} -->" + rest.split(f"<!-- /{name} -->", 1)[1]
    return text


def main() -> int:
    """Writes what there is to write, and removes pages of agents that are no more."""
    (ROOT / "docs" / "agents").mkdir(parents=True, exist_ok=True)
    found = pages()
    for path in sorted((ROOT / "docs" / "agents").glob("*.md")):
        if path.relative_to(ROOT).as_posix() not in found:
            path.unlink()
    for name, text in found.items():
        (ROOT / name).write_text(text, encoding="utf-8")
    print(f"{len(found)} pages in {ROOT / 'docs'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
