"""`bellmark plot RUN ...`: learning curves and other metrics of runs, as a picture."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tyro.conf import Positional

from ..agents.core.errors import InvalidCheckpoint, InvalidSetting, UnknownName
from .plots import Curve, columns, panels
from .run_folder import RunFolder, read_rows
from .tasks import task_name

EVALUATIONS = {"eval/mean_reward": "mean", "eval/normalized_score": "normalized_mean"}
"""Metrics that are columns of evaluations.csv; all others are columns of progress.csv."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Draws metrics of runs over their clock. Runs that differ in their seed alone become one curve with a band."""

    runs: Positional[tuple[str, ...]]
    """Run folders, or folders that hold some, at any depth."""
    metric: tuple[str, ...] = ("eval/mean_reward",)
    """Columns of progress.csv, eval/mean_reward or eval/normalized_score; each gets axes of its own."""
    x: str = "clock"
    """Horizontal axis: clock (steps online, updates on data), steps, updates, or time/time_elapsed (seconds)."""
    smooth: int = 1
    """Each point is the mean of so many rows, itself and those before; the axis says so."""
    each: bool = False
    """A curve for every run."""
    out: str = "plot.png"
    """File of the picture: .png, .svg or .pdf."""


class Run(NamedTuple):
    """A run folder as far as it matters here."""

    path: Path
    manifest: dict[str, Any]
    tables: dict[str, list[dict[str, str]]]
    """The rows of `progress` and of `evaluations`."""


def main(argv: list[str]) -> int:
    import tyro

    arguments = tyro.cli(Arguments, args=argv[1:], prog="bellmark plot")
    plot(arguments)
    print(f"{arguments.out}: {', '.join(arguments.metric)}")
    return 0


def plot(arguments: Arguments) -> None:
    """Raises InvalidCheckpoint where there is no run, UnknownName for a metric that none has, InvalidSetting."""
    if Path(arguments.out).suffix not in (".png", ".svg", ".pdf"):
        raise InvalidSetting(f"--out {arguments.out} must end in .png, .svg or .pdf")
    if arguments.smooth < 1:
        raise InvalidSetting(f"--smooth {arguments.smooth} must be at least 1 row")
    runs = find(arguments.runs)
    names = labels(runs, arguments.each)
    stated = f"\n(mean of {arguments.smooth} rows)" if arguments.smooth > 1 else ""
    drawn = {}
    for metric in arguments.metric:
        series = [smoothed(values(run, arguments.x, metric), arguments.smooth) for run in runs]
        if not any(points.size for points in series):
            known = {name for run in runs for row in run.tables["progress"] for name in row} | {*EVALUATIONS}
            raise UnknownName("metric in these runs", metric, known)
        together: dict[str, list[np.ndarray]] = {}
        for name, points in zip(names, series, strict=True):
            together.setdefault(name, []).extend([points] if points.size else [])
        drawn[metric + stated] = [joined(name, found) for name, found in together.items() if found]
    panels(Path(arguments.out), drawn, arguments.x)


def find(paths: Sequence[str]) -> list[Run]:
    """The runs in these folders. Raises InvalidCheckpoint where one holds none."""
    runs = []
    for path in map(Path, paths):
        found = sorted({file.parent for file in path.rglob("manifest.json") if (file.parent / "progress.csv").exists()})
        if not found:
            raise InvalidCheckpoint(f"{path} holds no run: give a run folder, or a folder with some in it")
        for folder in map(RunFolder, found):
            tables = {
                table.path.stem: read_rows(table.path)[1] if table.path.exists() else []
                for table in (folder.progress, folder.evaluations)
            }
            runs.append(Run(folder.path, folder.manifest(), tables))
    return runs


def labels(runs: Sequence[Run], each: bool) -> list[str]:
    """A name for the curve of each run; runs with the same name are drawn together."""
    if each:
        return [str(run.path) for run in runs]
    words = [f"{run.manifest['agent']} on {task(run.manifest)}" for run in runs]
    settings = [run.manifest["settings"] | (run.manifest["data"] or {}).get("options", {}) for run in runs]
    found = []
    for word, own in zip(words, settings, strict=True):
        rivals = [other for name, other in zip(words, settings, strict=True) if name == word]
        differ = sorted(key for key in own if any(other.get(key) != own[key] for other in rivals))
        found.append(" ".join([word, *(f"{key}={json.dumps(own[key])}" for key in differ)]))
    return found


def task(manifest: dict[str, Any]) -> str:
    """The data set or the environment of a run, with what makes it another task than that alone."""
    options = manifest["options"]
    if manifest["data"]:
        return task_name(Path(str(options.get("data", "data"))).name, options)
    return task_name(str((manifest["env"] or options).get("env_id", options.get("env", "?"))), options)


def values(run: Run, x: str, metric: str) -> np.ndarray:
    """`[2, R]`: the metric over x, where a row has both."""
    if metric in EVALUATIONS:
        return columns(run.tables["evaluations"], x, EVALUATIONS[metric])
    return columns(run.tables["progress"], x, metric)


def smoothed(points: np.ndarray, window: int) -> np.ndarray:
    """Each value of `[2, R]` as the mean of itself and of those before it, `window` in all; fewer at the beginning."""
    if not points.size:
        return points
    sums = np.cumsum(np.concatenate([[0.0], points[1]]))
    last = np.arange(1, len(points[1]) + 1)
    first = np.maximum(last - window, 0)
    return np.stack([points[0], (sums[last] - sums[first]) / (last - first)])


def joined(name: str, series: Sequence[np.ndarray]) -> Curve:
    """Mean, least and greatest of several runs where all of them have values, with straight lines between points."""
    low, high = max(points[0][0] for points in series), min(points[0][-1] for points in series)
    x = np.unique(list(itertools.chain(*(points[0] for points in series))))
    x = x[(x >= low) & (x <= high)]
    y = np.stack([np.interp(x, *points) for points in series])
    if len(series) > 1:
        name += f" ({len(series)} runs: mean, least to greatest)"
    return Curve(name, x, y.mean(0), y.min(0), y.max(0))
