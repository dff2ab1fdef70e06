"""A long training needs no more memory, descriptors or threads than a short one, and its files grow as stated.

Stated: progress.csv has one row per log interval, evaluations.csv one per evaluation, TensorBoard's file the same
numbers, and everything else keeps its size.
"""

from __future__ import annotations

import csv
import os
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import processes

RUNS: dict[str, list[Any]] = {
    "PPO CartPole": ["ppo", "--env", "CartPole-v1", "--num-envs", 2, "--rollout-length", 32],
    "SAC Pendulum": ["sac", "--env", "Pendulum-v1", "--buffer-size", 500, "--start", 100, "--hidden", 64],
}
EVERY = {"PPO CartPole": (200, 100, 400), "SAC Pendulum": (10, 20, 40)}
"""Steps from log to log, checkpoint to checkpoint, evaluation to evaluation; ten times as many with --full."""

WARM_UP, BLOCKS, STUDENT = 0.2, 10, 2.306
"""Share of the time that is left out; groups of samples in the fit; 97.5 % quantile of t with BLOCKS - 2 degrees."""

MOST_PER_HOUR, MOST_AT_ALL = 10.0, 50.0
"""MB of memory. A hundred bytes that PPO keeps of each of its 300 steps a second or more would be 100 MB in an hour."""

MOST_BYTES = {"progress.csv": 250, "events": 3000}
"""Per row of progress.csv."""


class Sample(NamedTuple):
    """A process at a moment."""

    hours: float
    megabytes: float
    """Resident memory of its own, without files such as libraries, which the system takes away as it likes."""
    resident: float
    """All resident memory in MB."""
    threads: int
    descriptors: int
    sizes: dict[str, int]
    """Bytes of each file of the run folder that is not temporary."""


def test_soak(tmp_path, monkeypatch, count, record):
    """Both runs at the same time. The clock starts when each has been evaluated twice."""
    monkeypatch.chdir(tmp_path)
    seconds, every, scale = count(3, 1860), count(1, 20) / 4, count(1, 10)
    children, logs = {}, {name: tmp_path / f"{folder_of(name)}.log" for name in RUNS}
    samples: dict[str, list[Sample]] = {name: [] for name in RUNS}
    for name, words in RUNS.items():
        log, save, evaluate = (scale * every for every in EVERY[name])
        command = ["train", *words, "--steps", 10**9, "--no-progress", "--run", folder_of(name), "--eval-episodes", 2]
        command += ["--log-every", log, "--checkpoint-every", save, "--eval-every", evaluate]
        children[name] = processes.start(command, logs[name], processes.give_way)
    began = time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds:
        time.sleep(every)
        for name, child in children.items():
            assert child.is_alive(), logs[name].read_text()
            samples[name].append(sample(child.pid, Path(folder_of(name)), elapsed / 3600))
        if not all(
            logs[name].read_text().count("evaluation at") >= 2 and Path(folder_of(name), "monitor.csv").exists()
            for name in RUNS
        ):
            began = max(began, time.perf_counter() - every)
            samples = {name: [] for name in RUNS}
        if int(elapsed / 60) > int((elapsed - every) / 60):
            print(f"{elapsed / 60:.0f} min:", {name: f"{of[-1].megabytes:.1f} MB" for name, of in samples.items()})
    for child in children.values():
        child.terminate()
    broken = []
    for name, child in children.items():
        child.join(60)
        assert child.exitcode == 130, logs[name].read_text()
        wrong, note = look_at(samples[name], Path(folder_of(name)), [scale * every for every in EVERY[name]])
        record("soak, minutes", name, round(seconds / 60), round(seconds / 60) * (not wrong), len(wrong), note)
        broken += [f"{name}: {text}" for text in wrong]
    assert broken == []


def folder_of(name: str) -> str:
    return name.replace(" ", "-")


def sample(process: int, folder: Path, hours: float) -> Sample:
    status = dict(line.split(":") for line in Path(f"/proc/{process}/status").read_text().splitlines())
    sizes = {}
    for path in folder.glob("[!.]*"):
        try:
            sizes[path.name.partition(".out.")[0]] = path.stat().st_size
        except FileNotFoundError:  # it was temporary
            continue
    own, resident = (int(status[name].split()[0]) / 1024 for name in ("RssAnon", "VmRSS"))
    return Sample(hours, own, resident, int(status["Threads"]), len(os.listdir(f"/proc/{process}/fd")), sizes)


def look_at(samples: list[Sample], folder: Path, every: list[int]) -> tuple[list[str], str]:
    """What is wrong, and what was measured. `every` is as in EVERY."""
    steady = samples[int(WARM_UP * len(samples)) :]
    early, late = steady[: len(steady) // 2], steady[len(steady) // 2 :]
    rows = {path.name: list(csv.DictReader(path.open())) for path in folder.glob("*.csv")}
    last, full = rows["progress.csv"][-1], steady[-1].hours > 0.25
    due = {"progress.csv": int(last["clock"]) // every[0], "evaluations.csv": int(last["clock"]) // every[2]}
    slope, low, high = trend([one.hours for one in steady], [one.megabytes for one in steady])
    growth = steady[-1].megabytes - steady[0].megabytes
    lines = due["progress.csv"] + 2  # the columns' names take as much as two rows
    bytes_per_row = {name: steady[-1].sizes[name] / lines for name in MOST_BYTES}
    constant = [name for name in steady[0].sizes if not name.endswith((".csv", ".npz")) and name != "events"]

    wrong = [f"{name} has {len(rows[name])} rows, {due[name]} are due" for name in due if len(rows[name]) != due[name]]
    wrong += [f"{name}: {size:.0f} bytes per row" for name, size in bytes_per_row.items() if size > MOST_BYTES[name]]
    for name in constant:
        if full and median(one.sizes[name] for one in late) > 1.05 * median(one.sizes[name] for one in early):
            wrong.append(f"{name} grows")
    if steady[0].sizes.keys() != steady[-1].sizes.keys():
        wrong.append(f"files came or went: {sorted(steady[0].sizes.keys() ^ steady[-1].sizes.keys())}")
    for what in ("threads", "descriptors"):
        before, after = ([getattr(one, what) for one in half] for half in (early, late))
        if min(after) > max(before) or (full and median(after) > median(before)):
            wrong.append(f"more and more {what}")
    if growth > MOST_AT_ALL or (full and low > MOST_PER_HOUR):
        wrong.append(f"memory grew by {growth:.1f} MB, {slope:.1f} MB/h")
    note = (
        f"{int(last['steps']):,} steps; {steady[-1].resident:.0f} MB resident; slope {slope:+.1f} MB/h, 95% interval "
    )
    note += f"[{low:+.1f}, {high:+.1f}]; {due['progress.csv']:,} rows; bytes per row: "
    note += ", ".join(f"{name} {size:.0f}" for name, size in bytes_per_row.items())
    return wrong, note + f"; {steady[-1].threads} threads, {median(one.descriptors for one in late):.0f} descriptors"


def trend(hours: list[float], megabytes: list[float]) -> tuple[float, float, float]:
    """Slope and its interval, by least squares over means of blocks, which depend on each other less than samples."""
    x, y = (np.array([block.mean() for block in np.array_split(values, BLOCKS)]) for values in (hours, megabytes))
    x -= x.mean()
    slope = float(x @ y / (x @ x))
    rest = y - y.mean() - slope * x
    error = STUDENT * float(np.sqrt(rest @ rest / (BLOCKS - 2) / (x @ x)))
    return slope, slope - error, slope + error


def test_the_trend_finds_a_leak():
    hours = np.linspace(0.1, 0.5, 300)
    noise = np.random.default_rng(0).normal(0, 0.5, 300)
    slope, low, high = trend([*hours], [*(400 + 20 * hours + noise)])
    assert low > MOST_PER_HOUR
    assert low < 20 < high
    assert abs(slope - 20) < 3
    _, low, high = trend([*hours], [*(400 + noise)])
    assert low < 0 < high
