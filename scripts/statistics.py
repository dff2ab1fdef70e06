"""Statistics over runs (Agarwal et al. 2021, arXiv 2108.13264), with intervals that hold for few of them.

`scores` are one array `[runs]` per task (environment or data set); tasks may have different numbers of runs.

Intervals. Aggregates have a stratified percentile bootstrap, as in the paper, whose ends are moved away from the
estimate by the factor `widening`: that factor makes the interval of a mean of normal scores Student's. Without it the
percentile bootstrap is far too narrow for few runs: of 95% intervals of a mean over 3, 5 and 10 normal scores it covers
the truth in 74, 83 and 91 of 100 cases, with it in 95. Nothing repairs what few runs cannot show: with two outcomes far
apart, 3 runs give 75 of 100, and the mean of exponential scores 88. Proportions have score intervals, which keep a
width when all runs agree: Wilson's for profiles, Newcombe's (2006, method 5) for the probability of improvement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

RESAMPLES = 2000
FEW, TOO_FEW = 10, 5
"""Runs per task below which there is a warning, and a stronger one."""
Scores = Sequence[np.ndarray]
"""`[..., runs]` for each task."""


class Estimate(NamedTuple):
    """A number and the ends of its interval, NaN where there is none."""

    value: float
    low: float
    high: float


# ---- aggregates: from `[..., runs]` of each task to `[...]` --------------------------------------------------------


def task_means(scores: Scores) -> np.ndarray:
    """`[..., tasks]`."""
    return np.stack([task.mean(-1) for task in scores], -1)


def mean(scores: Scores) -> np.ndarray:
    """The mean over tasks of their means."""
    return task_means(scores).mean(-1)


def median(scores: Scores) -> np.ndarray:
    """The median over tasks of their means."""
    return np.median(task_means(scores), -1)


def iqm(scores: Scores) -> np.ndarray:
    """Interquartile mean: of all runs of all tasks without the lowest and the highest quarter, rounded down."""
    runs = np.sort(np.concatenate(list(scores), -1), -1)
    cut = runs.shape[-1] // 4
    return runs[..., cut : runs.shape[-1] - cut].mean(-1)


def optimality_gap(scores: Scores, goal: float = 1.0) -> np.ndarray:
    """How far the runs' scores, clipped to `goal`, fall short of it on average."""
    return goal - np.minimum(np.concatenate(list(scores), -1), goal).mean(-1)


AGGREGATES: dict[str, Callable[[Scores], np.ndarray]] = {
    "IQM": iqm,
    "median": median,
    "mean": mean,
    "optimality gap": optimality_gap,
}


# ---- intervals -----------------------------------------------------------------------------------------------------


def resample(scores: Scores, count: int = RESAMPLES, seed: int = 0) -> list[np.ndarray]:
    """`[count, runs]` for each task: runs drawn with replacement within it."""
    rng = np.random.default_rng(seed)
    return [task[rng.integers(len(task), size=(count, len(task)))] for task in scores]


def bootstrap(scores: Scores, aggregate: Callable[[Scores], np.ndarray], level: float = 0.95) -> Estimate:
    """An aggregate with its widened stratified bootstrap interval. Without two runs of some task there is none."""
    value = float(aggregate(scores))
    if min(len(task) for task in scores) < 2:
        return Estimate(value, np.nan, np.nan)
    ends = np.quantile(aggregate(resample(scores)), [(1 - level) / 2, (1 + level) / 2])
    low, high = value + (ends - value) * widening(scores, aggregate, level)
    return Estimate(value, float(low), float(high))


def widening(scores: Scores, aggregate: Callable[[Scores], np.ndarray], level: float = 0.95) -> float:
    """sqrt(V / V*) t / z: V is the aggregate's estimated variance, V* the bootstrap's, which has the divisor n instead
    of n - 1; t has the degrees of freedom of Welch and Satterthwaite. What each task has to do with V is found by
    resampling it alone: a task whose runs an IQM leaves out has no part in it."""
    runs = np.array([len(task) for task in scores])
    variances = np.array([one_task_variance(scores, task, aggregate) for task in range(len(scores))])
    variances *= runs / (runs - 1)
    if not variances.any():
        return 1.0
    share = variances / variances.sum()
    freedom = 1.0 / (share**2 / (runs - 1)).sum()
    ratio = 1.0 / (share * (runs - 1) / runs).sum()
    return float(np.sqrt(ratio) * student(round(freedom, 1), level) / normal(level))


def one_task_variance(scores: Scores, which: int, aggregate: Callable[[Scores], np.ndarray]) -> float:
    """The bootstrap's variance of an aggregate if the other tasks' runs stay as they are."""
    drawn = [np.broadcast_to(task, (RESAMPLES, len(task))) for task in scores]
    (drawn[which],) = resample([scores[which]])
    return float(aggregate(drawn).var())


def student_interval(values: Sequence[float] | np.ndarray, level: float = 0.95) -> Estimate:
    """The mean of some runs of one task, with Student's interval."""
    runs = np.asarray(values, np.float64)
    deviation = runs.std(ddof=1) if len(runs) > 1 else np.nan
    return student_from(float(runs.mean()), float(deviation), len(runs), level)


def student_from(mean: float, deviation: float, runs: int, level: float = 0.95) -> Estimate:
    """The same from a standard deviation with divisor `runs - 1`."""
    half = student(runs - 1, level) * deviation / np.sqrt(runs) if runs > 1 else np.nan
    return Estimate(mean, mean - half, mean + half)


def difference(x: np.ndarray, y: np.ndarray, level: float = 0.95) -> Estimate:
    """mean(x) - mean(y) of independent runs with different variances, with Welch's interval (1947)."""
    value, runs = float(x.mean() - y.mean()), np.array([len(x), len(y)])
    if runs.min() < 2:
        return Estimate(value, np.nan, np.nan)
    parts = np.array([x.var(ddof=1), y.var(ddof=1)]) / runs
    if not parts.any():
        return Estimate(value, value, value)
    freedom = parts.sum() ** 2 / (parts**2 / (runs - 1)).sum()
    half = student(round(freedom, 1), level) * float(np.sqrt(parts.sum()))
    return Estimate(value, value - half, value + half)


def normal(level: float) -> float:
    """Half the width of a central interval of the standard normal law."""
    return NormalDist().inv_cdf((1 + level) / 2)


@cache
def student(freedom: float, level: float) -> float:
    """The same of Student's law: sqrt(freedom) tan(a), where the density of a is proportional to cos(a)^(freedom-1)."""
    angle = np.linspace(0.0, np.pi / 2, 100_001)
    density = np.cos(angle) ** (freedom - 1)
    area = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return float(np.sqrt(freedom) * np.tan(np.interp(level * area[-1], area, angle)))


# ---- proportions ---------------------------------------------------------------------------------------------------


def profile(scores: Scores, thresholds: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Performance profile `[thresholds]`: the share of runs above each, averaged over tasks, and Wilson's interval."""
    share = np.stack([(task[:, None] > thresholds).mean(0) for task in scores]).mean(0)
    runs, z = len(scores) ** 2 / sum(1 / len(task) for task in scores), normal(level)
    centre = (share + z**2 / (2 * runs)) / (1 + z**2 / runs)
    half = z * np.sqrt(share * (1 - share) / runs + z**2 / (4 * runs**2)) / (1 + z**2 / runs)
    return share, centre - half, centre + half


def improvement(x: Scores, y: Scores, level: float = 0.95) -> Estimate:
    """P(X > Y) + P(X = Y) / 2 for a run of each, averaged over tasks (eq. 2), and Newcombe's interval.

    That is all p with |p - estimate| <= z sqrt(V(p)), where V is the variance that the estimate would have.
    """
    pairs = [np.sign(a[:, None] - b[None, :]).mean() for a, b in zip(x, y, strict=True)]
    value = float((np.mean(pairs) + 1) / 2)
    p = np.linspace(0.0, 1.0, 10_001)
    variance = np.zeros_like(p)
    for a, b in zip(x, y, strict=True):
        extra = (len(a) + len(b)) / 2 - 1
        variance += p * (1 - p) * (1 + extra * (1 - p) / (2 - p) + extra * p / (1 + p)) / (len(a) * len(b))
    inside = p[np.abs(p - value) <= normal(level) * np.sqrt(variance) / len(x) + 1e-12]
    return Estimate(value, float(inside.min(initial=value)), float(inside.max(initial=value)))


def steps_to(threshold: float, clock: np.ndarray, mean: np.ndarray) -> float:
    """The first clock at which an evaluation reached the threshold; infinity if none did."""
    reached = np.flatnonzero(mean >= threshold)
    return float(clock[reached[0]]) if len(reached) else np.inf


def warning(runs: int) -> str:
    """What to say about intervals from so few runs per task; "" from FEW on."""
    if runs < 2:
        return "one run has no interval: nothing is known about the spread over seeds"
    if runs < TOO_FEW:
        return f"{runs} runs per task: intervals are wide, and too narrow where scores are skewed or have two modes"
    return f"{runs} runs per task: few; where scores are skewed or have two modes, intervals are too narrow" * (
        runs < FEW
    )


# ---- the table of the evidence -------------------------------------------------------------------------------------


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per entry: the last evaluations' mean over seeds, range of the seeds, interval, number of seeds."""
    lines = [
        "| command (and `--seed`) | clock | return: mean over seeds | seeds' range | 95% interval | n | D4RL score |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name]
        means = [float(row["eval_mean"]) for row in own]
        value, low, high = student_interval(means)
        scores = [float(row["normalized_mean"]) for row in own if row.get("normalized_mean") not in ("", None)]
        score = f"{np.mean(scores):z.1f} ({min(scores):z.1f} to {max(scores):z.1f})" if scores else ""
        clocks = sorted({int(row["clock"]) for row in own})
        command = str(own[0]["command"]).partition(" --seed ")[0]
        cells = [f"`{command}`", f"{clocks[0]:,}", f"{value:z.1f}", f"{min(means):z.1f} to {max(means):z.1f}"]
        cells += [f"[{low:z.1f}, {high:z.1f}]" if len(own) > 1 else "", str(len(own)), score]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
