"""Reads what trainings have left behind: our run folders, stable-baselines3's and RL-Zoo's logs, tables of scores."""

from __future__ import annotations

import csv
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...agents.core.errors import InvalidData
from ..run_folder import RunFolder, read_rows
from ..tasks import task_in, task_name
from .runs import Published, Run

ARRAYS, MONITOR = "evaluations.npz", "monitor.csv"
WINDOW = 100
"""Training episodes that are averaged where there was no evaluation."""
LARGEST = 2**28
"""Most bytes of a file of evaluations."""
NAMES = {
    "contestant": ("contestant", "algorithm", "name"),
    "env": ("env", "dataset", "game"),
    "clock": ("clock", "steps"),
    "mean": ("eval_mean", "mean", "score"),
}
"""What the columns of a table may be called, the first that is there counts."""


def read(path: Path) -> tuple[list[Run], list[Published]]:
    """Everything at a path: a table of scores, or each run in a folder and in the folders below it.

    Raises InvalidData for a path where there is nothing to compare, and InvalidCheckpoint for a damaged run folder.
    """
    if path.is_file() and path.suffix == ".csv":
        return table(path)
    if not path.is_dir():
        raise InvalidData(
            f"{path} is neither a folder nor a CSV file: name an agent, a run folder or a table of scores"
        )
    runs = [run for folder in [path, *sorted(path.rglob("*"))] if folder.is_dir() for run in folder_runs(folder)]
    if not runs:
        raise InvalidData(f"{path} holds no finished evaluation: it needs evaluations.csv, {ARRAYS} or {MONITOR}")
    return runs, []


def folder_runs(folder: Path) -> Iterator[Run]:
    """The run in this very folder, if there is one. A run folder of ours is read as such, whatever else it holds."""
    if (folder / "manifest.json").is_file():
        if (run := ours(RunFolder(folder))) is not None:
            yield run
    elif (folder / ARRAYS).is_file():
        yield arrays(folder)
    elif monitors := sorted(folder.glob(f"*{MONITOR}")):
        yield monitor(folder, monitors)


def ours(folder: RunFolder) -> Run | None:
    """A run folder; None before its first evaluation."""
    manifest = folder.manifest()
    if not folder.evaluations.path.is_file():
        return None
    rows = read_rows(folder.evaluations.path)[1]
    if not rows:
        return None
    offline, data, options = manifest["kind"] == "fit", manifest["data"] or {}, manifest["options"]
    scored = offline and all(row.get("normalized_mean") for row in rows)
    progress = read_rows(folder.progress.path)[1][-1:] if folder.progress.path.is_file() else []
    cost = folder.path.with_name(f"{folder.path.name}.cost.json")
    try:
        clock = np.array([int(row["clock"]) for row in rows])
        mean = np.array([float(row["normalized_mean" if scored else "mean"]) for row in rows])
        seconds = _seconds(progress[0], rows, manifest) if progress else np.nan
        end = _end(options, manifest["changes"] or [])
        memory = float(json.loads(cost.read_text())["peak_bytes"]) if cost.is_file() else np.nan
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidData(f"{folder} is damaged ({error!r}): remove it, and it is run again") from error
    evaluation, code = manifest.get("evaluation") or {}, (manifest["machine"] or {}).get("code")
    protocol = (
        f"{rows[-1]['episodes']} episodes, {'deterministic' if evaluation.get('deterministic') else 'stochastic'}"
    )
    return Run(
        manifest["agent"],
        task_name(options["data"] if offline else options["env"], options),
        manifest["seed"],
        clock,
        mean,
        unit="updates" if offline else "steps",
        seconds=seconds,
        memory=memory,
        scale=(0.0, 100.0) if scored else None,
        source=str(folder),
        protocol=f"{protocol}, {'D4RL score' if scored else 'undiscounted return'}",
        command=shlex.join(manifest["command"]),
        settings=data.get("options", {}) | manifest["settings"],
        versions=manifest["versions"] | ({"Bellmark's code": code} if code else {}),
        data_hash=data.get("sha256", ""),
        untranslated=tuple(manifest.get("untranslated") or ()),
        end=end,
    )


def _seconds(last: Mapping[str, str], rows: list[dict[str, str]], manifest: Mapping[str, Any]) -> float:
    """Training time in the last row of progress.csv, without the evaluations that it counts.

    Our rows are written before the evaluation at the same clock, those of stable-baselines3 after it.
    """
    clock = int(last["clock"]) + manifest["agent"].startswith("sb3:")
    return float(last["time/time_elapsed"]) - sum(float(row["seconds"]) for row in rows if int(row["clock"]) < clock)


def _end(options: Mapping[str, Any], changes: list[dict[str, Any]]) -> int:
    """The clock at which a run is finished, as it was planned or later extended."""
    planned = options.get("steps", options.get("learn_steps", 0))
    steps = [planned, *(change["steps"] for change in changes if change["steps"])]
    return int(options.get("updates", 0)) + int(steps[-1])


def arrays(folder: Path) -> Run:
    """`evaluations.npz` of stable-baselines3's EvalCallback; nothing in it is unpickled."""
    path = folder / ARRAYS
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it is larger than {LARGEST:,} bytes")
        with np.load(path, allow_pickle=False) as file:
            clock, results = np.asarray(file["timesteps"], np.int64), np.asarray(file["results"], np.float64)
        if clock.ndim != 1 or results.ndim != 2 or len(clock) != len(results) or not results.size:
            raise ValueError(f"timesteps {clock.shape} and results {results.shape} do not belong together")
        if (np.diff(clock) <= 0).any() or not np.isfinite(results).all():
            raise ValueError("timesteps must increase, and results be finite")
    except (ValueError, KeyError, OSError, EOFError) as error:
        raise InvalidData(f"{path} is damaged or no file of evaluations: {error}") from error
    protocol = f"{results.shape[1]} episodes, as its EvalCallback was told, undiscounted return"
    return _foreign(folder, clock, results.mean(1), protocol)


def monitor(folder: Path, paths: list[Path]) -> Run:
    """`monitor.csv` of stable-baselines3, one file per environment: returns of training episodes, smoothed."""
    rows = []
    for path in paths:
        try:
            with path.open(newline="", encoding="utf-8") as file:
                file.readline()  # the header, in JSON
                rows += [(float(row["t"]), float(row["r"]), int(row["l"])) for row in csv.DictReader(file)]
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            raise InvalidData(f"{path} is damaged or no log of a Monitor: {error!r}") from error
    if not rows:
        raise InvalidData(f"{folder} holds no finished episode: remove it from the comparison")
    _, returns, lengths = (np.array(column) for column in zip(*sorted(rows), strict=True))
    ends = np.unique(np.linspace(0, len(returns), 21).astype(int)[1:])
    ends = ends[ends > 0]
    sums = np.concatenate([[0.0], np.cumsum(returns)])
    begins = np.maximum(ends - WINDOW, 0)
    mean = (sums[ends] - sums[begins]) / (ends - begins)
    protocol = f"training episodes with exploration, mean of the last {WINDOW}, undiscounted return"
    return _foreign(folder, np.cumsum(lengths)[ends - 1], mean, protocol)


def _foreign(folder: Path, clock: np.ndarray, mean: np.ndarray, protocol: str) -> Run:
    """A run of stable-baselines3: environment, algorithm and seed as far as its folder says them."""
    match = re.fullmatch(r"(.+-v\d+)_(\d+)", folder.resolve().name)  # RL-Zoo: logs/<algorithm>/<env>_<number>
    env, number = (match[1].replace("__", "/"), int(match[2])) if match else (folder.resolve().name, 0)
    for path in sorted(folder.glob(f"*{MONITOR}"))[:1]:
        try:
            with path.open(encoding="utf-8") as file:
                env = json.loads(file.readline(10_000).removeprefix("#")).get("env_id") or env
        except (ValueError, AttributeError) as error:
            raise InvalidData(f"{path} is damaged: its first line is no JSON ({error})") from error
    arguments = "".join(path.read_text(encoding="utf-8")[:100_000] for path in sorted(folder.glob("*/args.yml"))[:1])
    seed = re.search(r"^-? *- - seed\n +- (\d+)$", arguments, re.MULTILINE)
    agent = folder.resolve().parent.name if match else "sb3"
    return Run(agent, env, int(seed[1]) if seed else number, clock, mean, source=str(folder), protocol=protocol)


def table(path: Path) -> tuple[list[Run], list[Published]]:
    """A CSV file with a row per run (column `seed`) or per published score (columns `mean`, `std`, `seeds`).

    Columns are the contestant (contestant, algorithm or name), the environment (env, dataset or game; or the column
    `command` names it), clock or steps, and eval_mean, mean or score. Rows of a run with different clocks are its
    curve. `X-curves.csv` beside `X.csv` gives the curves of its runs.
    """
    columns, rows = read_rows(path)
    where = {name: next((column for column in known if column in columns), "") for name, known in NAMES.items()}
    if not where["contestant"] or not where["mean"] or not (where["env"] or "command" in columns):
        raise InvalidData(f"{path} is no table of scores: it needs the columns algorithm, env, mean (see --help)")
    try:
        if "seed" not in columns:
            return [], [_published(row, where, path) for row in rows if row[where["mean"]]]
        return _table_runs(path, rows, where), []
    except ValueError as error:
        raise InvalidData(f"{path} has a cell that is no number where one is needed: {error}") from error


def _table_runs(path: Path, rows: list[dict[str, str]], where: Mapping[str, str]) -> list[Run]:
    points: dict[tuple[str, str, int], list[dict[str, str]]] = {}
    for row in rows:
        env = row[where["env"]] if where["env"] else task_in(row["command"])
        points.setdefault((row[where["contestant"]], env, int(row["seed"])), []).append(row)
    beside = path.with_name(f"{path.stem}-curves.csv")
    curves = read_rows(beside)[1] if beside.is_file() else []
    return [_table_run(key, own, curves, where, path) for key, own in points.items()]


def _table_run(
    key: tuple[str, str, int],
    rows: list[dict[str, str]],
    curves: list[dict[str, str]],
    where: Mapping[str, str],
    path: Path,
) -> Run:
    """One run from its rows, and its curve from the table beside, where that has it."""
    name, env, seed = key
    curve = [row for row in curves if (row.get("name"), row.get("seed")) == (name, str(seed))] or rows
    clock = where["clock"] if where["clock"] in curve[0] else "clock"
    curve = sorted(curve, key=lambda row: int(row.get(clock) or 0))
    scored = all(row.get("normalized_mean") for row in curve)
    mean = "normalized_mean" if scored else where["mean"] if where["mean"] in curve[0] else "mean"
    last = rows[-1]
    return Run(
        name,
        env,
        seed,
        np.array([int(row.get(clock) or 0) for row in curve]),
        np.array([float(row[mean]) for row in curve]),
        seconds=float(last.get("train_seconds") or last.get("seconds") or "nan"),
        memory=float(last.get("peak_bytes") or "nan"),
        scale=(0.0, 100.0) if scored else None,
        source=str(path),
        protocol=last.get("protocol") or (f"{last['episodes']} episodes" if last.get("episodes") else "not stated"),
        command=last.get("command", ""),
    )


def _published(row: Mapping[str, str], where: Mapping[str, str], path: Path) -> Published:
    spread = row.get("spread") or ("std over seeds" if row.get("protocol") else "")
    env, clock = row[where["env"]], row.get(where["clock"]) if where["clock"] else ""
    return Published(
        row[where["contestant"]],
        env,
        int(float(clock or 0)),
        float(row[where["mean"]]),
        float(row.get("std") or "nan"),
        int(row.get("seeds") or 0),
        spread,
        row.get("source") or str(path),
    )
