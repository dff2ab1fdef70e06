"""What the runs say: every number of the report, with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import numpy as np

from .. import statistics
from ..statistics import Estimate
from ..tasks import without_changes
from .runs import SHORT, Published, Run, of, whole

POINTS = 101
"""Thresholds of a performance profile."""


@dataclass
class Summary:
    """Filled by `summarize`; keys are (contestant, task) where not said."""

    contestants: list[str]
    tasks: list[str]
    runs: list[Run]
    published: list[Published]
    which: str
    """last or best: the evaluation that is a run's score."""
    thresholds: dict[str, tuple[float, str]]
    """By task: what a run has to reach, and where that comes from."""
    scales: dict[str, tuple[float, float, str]]
    """By task: the values that are scores 0 and 1, and where they come from."""
    scores: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    """[runs], as evaluated."""
    means: dict[tuple[str, str], Estimate] = field(default_factory=dict)
    iqms: dict[tuple[str, str], Estimate] = field(default_factory=dict)
    reached: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    """[runs]: steps to the threshold, infinite where it was not reached."""
    common: list[str] = field(default_factory=list)
    """Tasks over which scores are aggregated."""
    ranked: list[str] = field(default_factory=list)
    """Contestants that have runs in all of those."""
    aggregates: dict[tuple[str, str], Estimate] = field(default_factory=dict)
    """By (contestant, aggregate), of normalised scores."""
    improvements: dict[tuple[str, str], Estimate] = field(default_factory=dict)
    """By (contestant, another)."""
    levels: np.ndarray = field(default_factory=lambda: np.zeros(0))
    profiles: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=dict)
    """By contestant: share of runs above each level, low, high."""
    warnings: list[str] = field(default_factory=list)

    def pairs(self) -> list[tuple[str, str]]:
        """(contestant, task) where there are runs, by task."""
        return [(c, task) for task in self.tasks for c in self.contestants if (c, task) in self.scores]

    def curve(self, contestant: str, task: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Clock `[E]`, mean over runs `[E]` and half of Student's interval `[E]` (NaN for one run).

        Runs are evaluated at slightly different clocks: they are read at those of the first, between straight lines,
        as far as all have come.
        """
        runs = of(self.runs, contestant, task)
        first, last = max(run.clock[0] for run in runs), min(run.clock[-1] for run in runs)
        clock = np.unique(np.clip(runs[0].clock, first, max(first, last)))
        values = np.stack([np.interp(clock, run.clock, run.mean) for run in runs])
        half = np.full(len(clock), np.nan)
        if len(runs) > 1:
            half = statistics.student(len(runs) - 1, 0.95) * values.std(0, ddof=1) / len(runs) ** 0.5
        return clock, values.mean(0), half


def summarize(
    runs: Sequence[Run],
    published: Sequence[Published],
    *,
    which: str = "last",
    thresholds: Mapping[str, float] = {},
    scales: Mapping[str, tuple[float, float]] = {},
) -> Summary:
    """All statistics. There must be runs, or published scores."""
    runs, left_out = whole(runs)
    tasks = list(dict.fromkeys(run.env for run in runs)) or list(dict.fromkeys(row.env for row in published))
    contestants = list(dict.fromkeys(run.contestant for run in runs))
    published = [row for row in published if row.env in tasks]
    s = Summary(contestants, tasks, list(runs), published, which, {}, {})
    for task in tasks if runs else []:
        for contestant in contestants:
            if own := of(runs, contestant, task):
                scores = s.scores[contestant, task] = np.array([run.score(which) for run in own])
                s.means[contestant, task] = statistics.student_interval(scores)
                s.iqms[contestant, task] = statistics.bootstrap([scores], statistics.iqm)
        s.scales[task] = scale(task, s, scales)
        s.thresholds[task] = threshold(task, s, thresholds)
        for contestant in contestants:
            if own := of(runs, contestant, task):
                steps = [statistics.steps_to(s.thresholds[task][0], run.clock, run.mean) for run in own]
                s.reached[contestant, task] = np.array(steps)
    _across_tasks(s)
    s.warnings = left_out + _warnings(s)
    return s


def scale(task: str, s: Summary, given: Mapping[str, tuple[float, float]]) -> tuple[float, float, str]:
    """The values that are scores 0 and 1."""
    from ...envs.atari_scores import references

    runs = [run for run in s.runs if run.env == task]
    game = without_changes(task).removeprefix("ALE/").rpartition("-v")[0]
    if name := next((name for name in (task, without_changes(task)) if name in given), ""):
        return (*given[name], "as given")
    if runs[0].scale:
        return (*runs[0].scale, "D4RL's references: 0 a random policy, 1 an expert")
    if task.startswith("ALE/") and game in references():
        return (*references()[game], "0 a random policy, 1 a person")
    scores = [run.score(s.which) for run in runs]
    low, high = min(scores), max(scores)
    return low, high if high > low else low + 1.0, "0 the worst run, 1 the best run of this comparison"


def threshold(task: str, s: Summary, given: Mapping[str, float]) -> tuple[float, str]:
    """What a run has to reach for its steps to be counted."""
    import gymnasium

    if name := next((name for name in (task, without_changes(task)) if name in given), ""):
        return given[name], "as given"
    registered = gymnasium.registry.get(task)
    if registered is not None and registered.reward_threshold is not None:
        return float(registered.reward_threshold), "gymnasium's reward_threshold"
    start = min(run.mean[0] for run in s.runs if run.env == task)
    best = max(s.means[c, t].value for c, t in s.means if t == task)
    return float(start + 0.9 * (best - start)), "90% of the way from the lowest first evaluation to the best mean"


def _across_tasks(s: Summary) -> None:
    """Aggregates over the tasks that most contestants have, of the contestants that have them all."""
    if not s.scores:
        return
    full = [c for c in s.contestants if all((c, task) in s.scores for task in s.tasks)]
    s.common = s.tasks if full else [t for t in s.tasks if all((c, t) in s.scores for c in s.contestants)]
    s.ranked = full or (s.contestants if s.common else [])
    scores = {c: [_normalized(s.scores[c, task], s.scales[task]) for task in s.common] for c in s.ranked}
    if not scores:
        return
    everything = np.concatenate([task for own in scores.values() for task in own])
    s.levels = np.linspace(min(everything.min(), 0.0), max(everything.max(), 1.0), POINTS)
    for contestant, own in scores.items():
        s.profiles[contestant] = statistics.profile(own, s.levels)
        for name, aggregate in statistics.AGGREGATES.items():
            s.aggregates[contestant, name] = statistics.bootstrap(own, aggregate)
        gap = s.aggregates[contestant, "optimality gap"]
        s.aggregates[contestant, "optimality gap"] = gap._replace(low=max(gap.low, 0.0))  # it is never negative
    for one, other in permutations(s.ranked, 2):
        s.improvements[one, other] = statistics.improvement(scores[one], scores[other])


def _normalized(values: np.ndarray, scale: tuple[float, float, str]) -> np.ndarray:
    return (values - scale[0]) / (scale[1] - scale[0])


def _warnings(s: Summary) -> list[str]:
    """What a reader has to know before the numbers."""
    found = []
    if s.which == "best" and s.scores:
        found.append("the best evaluation of each run was chosen by its score: such scores flatter")
    counts = {pair: len(scores) for pair, scores in s.scores.items()}
    for count in sorted(set(counts.values())):
        if text := statistics.warning(count):
            who = ", ".join(dict.fromkeys(c for (c, _), runs in counts.items() if runs == count))
            found.append(f"{who}: {text}")
    for c, task in s.pairs():
        own = of(s.runs, c, task)
        if len(own) > 1 and np.ptp(s.scores[c, task]) == 0:
            found.append(f"{c}, {task}: all runs score the same; the empty interval is no certainty")
        if len({run.seed for run in own}) < len(own):
            found.append(f"{c}, {task}: a seed occurs twice, so that runs may not be independent")
        if len({tuple(sorted((k, str(v)) for k, v in run.settings.items())) for run in own}) > 1:
            found.append(f"{c}, {task}: settings differ between its runs")
        if short := [run for run in own if not run.finished]:
            found.append(f"{c}, {task}: {len(short)} of {len(own)} runs are unfinished; `bellmark resume RUN` goes on")
        if (first := min(int(run.clock[-1]) for run in own)) < SHORT * (last := max(int(run.clock[-1]) for run in own)):
            found.append(f"{c}, {task}: lengths of training differ between its runs ({first:,} to {last:,})")
        if len({run.data_hash for run in own}) > 1:
            found.append(f"{c}, {task}: its runs learnt from different data")
        for text in dict.fromkeys(text for run in own for text in run.untranslated):
            found.append(f"{c}, {task}: not the same as ours: {text}")
    for row in s.published:
        if row.deviation == 0:
            found.append(f"{row.contestant}, {row.env}, published: no spread; the empty interval is no certainty")
    for task in s.tasks if s.runs else []:
        own = [run for run in s.runs if run.env == task]
        ends = {
            c: max(int(run.clock[-1]) for run in own if run.contestant == c) for c in {run.contestant for run in own}
        }
        if max(ends.values()) > 1.02 * min(ends.values()):
            words = ", ".join(f"{c} {end:,}" for c, end in sorted(ends.items()))
            found.append(f"{task}: lengths of training differ ({words})")
        if len(protocols := list(dict.fromkeys(run.protocol for run in own))) > 1:
            found.append(f"{task}: evaluations differ: {'; '.join(protocols)}")
        if len({run.unit for run in own}) > 1:
            found.append(f"{task}: some learn from data and some online, whose clocks are not comparable")
    versions: dict[str, set[str]] = {}
    for run in s.runs:
        for name, version in run.versions.items():
            versions.setdefault(name, set()).add(version)
    found += [f"versions of {n} differ: {', '.join(sorted(v))}" for n, v in versions.items() if len(v) > 1]
    if left := [c for c in s.contestants if c not in s.ranked and s.scores]:
        found.append(f"not in the aggregates, for want of runs in some task: {', '.join(left)}")
    return found


def rows(s: Summary) -> list[dict[str, Any]]:
    """Every number as a row of a CSV file."""
    found: list[dict[str, Any]] = []

    def add(table: str, contestant: str, task: str, metric: str, e: Estimate, runs: int) -> None:
        interval = {"low": "" if np.isnan(e.low) else e.low, "high": "" if np.isnan(e.high) else e.high}
        cells = {"table": table, "contestant": contestant, "task": task, "metric": metric, "value": e.value}
        found.append(cells | interval | {"runs": runs})

    for c, task in s.pairs():
        count, steps = len(s.scores[c, task]), s.reached[c, task]
        add("task", c, task, "mean", s.means[c, task], count)
        add("task", c, task, "IQM", s.iqms[c, task], count)
        add("steps to threshold", c, task, "median and range", Estimate(float(np.median(steps)), *span(steps)), count)
    for (c, name), estimate in s.aggregates.items():
        add("aggregate", c, "", name, estimate, sum(len(s.scores[c, task]) for task in s.common))
    for (c, other), estimate in s.improvements.items():
        add("improvement", c, "", f"over {other}", estimate, sum(len(s.scores[c, task]) for task in s.common))
    return found


def span(values: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest."""
    return float(values.min()), float(values.max())
