"""Short runs, and what must be true of a run folder when something has happened to its process."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import processes
from bellmark.agents.core import checkpoint
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader

EVERY = 50
"""Clock ticks between two checkpoints."""

# The run ends with a checkpoint that is due anyway, and with a row and an evaluation that are not.
OFTEN = ["--checkpoint-every", EVERY, "--log-every", 6, "--eval-every", 70, "--eval-episodes", 2, "--hidden", 8]
OFTEN += ["--no-progress"]
SHORT = ["--batch-size", 16, "--start", 50, *OFTEN]
PPO = ["--num-envs", 2, "--rollout-length", 32, "--normalize-obs", "--normalize-reward", "--schedule", "linear"]
RUNS: dict[str, list[Any]] = {
    "ppo": ["train", "ppo", "--env", "CartPole-v1", "--steps", 400, *PPO, *OFTEN],
    "sac": ["train", "sac", "--env", "Pendulum-v1", "--steps", 200, "--buffer-size", 150, *SHORT],
    "iql": [
        *("fit", "iql", "--data", "pendulum.hdf5", "--env-id", "Pendulum-v1", "--updates", 100, "--learn-steps", 100),
        *("--buffer-size", 1000, *SHORT),
    ],
}


class Whole(NamedTuple):
    """A run that nobody disturbs, and how long it takes."""

    name: str
    folder: Path
    seconds: float
    changes: dict[str, int]
    """What it does to files, and how often."""


def undisturbed(name: str, here: Path) -> Whole:
    """Does the run in the folder `here`, which is the working folder."""
    write_data(here / "pendulum.hdf5")
    log = here / "whole.log"
    processes.run(["--version"], log)  # the first process takes long to start
    began = time.perf_counter()
    assert processes.run([*RUNS[name], "--run", "whole"], log) == 0, log.read_text()
    return Whole(name, here / "whole", time.perf_counter() - began, json.loads(log.read_text().splitlines()[-1]))


def write_data(path: Path) -> None:
    rng, size = np.random.default_rng(0), 400
    with h5py.File(path, "w") as file:
        file["observations"] = rng.normal(size=(size, 3)).astype(np.float32)
        file["actions"] = rng.uniform(-2, 2, (size, 1)).astype(np.float32)
        file["rewards"] = rng.normal(size=size).astype(np.float32)
        file["terminals"] = np.zeros(size, bool)
        file["timeouts"] = np.arange(1, size + 1) % 200 == 0


def go_on(name: str, folder: Path, fresh: bool = False) -> None:
    """Resumes the run and lets it end. One that has no checkpoint is begun again, which is what `resume` advises."""
    log = folder.with_suffix(".log")
    if fresh:
        command = [sys.executable, "-m", "bellmark.scripts.main", "resume", folder.name]
        with log.open("ab") as output:
            status = subprocess.run(command, timeout=120, stdout=output, stderr=output).returncode
    else:
        status = processes.run(["resume", folder.name], log)
    if status and not (folder / "last.bell").exists():
        assert "no checkpoint yet" in log.read_text() or "no run folder" in log.read_text()
        shutil.rmtree(folder, ignore_errors=True)
        status = processes.run([*RUNS[name], "--run", folder.name], log)
    assert status == 0, log.read_text()


def check_what_is_left(folder: Path) -> int:
    """Every file is whole. Gives the ticks from the last checkpoint to the last row, which will be repeated."""
    clocks = {path.name: checkpoint.read(path)[0]["extra"]["clock"] for path in folder.glob("*.bell")}
    if (folder / "manifest.json").exists():
        assert json.loads((folder / "manifest.json").read_text())["options"]["checkpoint_every"] == EVERY
    reached = saved = clocks.get("last.bell", 0)
    for path in folder.glob("*.csv"):
        assert path.read_bytes().endswith(b"\n")
        with path.open(newline="") as file:
            lines = [line for line in csv.reader(file) if not line[0].startswith("#")]  # the head of monitor.csv
        assert {len(line) for line in lines} == {len(lines[0])}
        reached = max([reached, *(int(line[lines[0].index("clock")]) for line in lines[1:])])
    for path in folder.glob("events*"):
        content, ends = path.read_bytes(), [0]
        while ends[-1] < len(content):  # a record is its length in 8 bytes, 4 of checksum, itself, 4 of checksum
            ends.append(ends[-1] + int.from_bytes(content[ends[-1] : ends[-1] + 8], "little") + 16)
        whole = len(ends) - 1 - (ends[-1] > len(content))  # the kernel may write a part of what it was given
        assert len([*RawEventFileLoader(str(path)).Load()]) == whole, f"TensorBoard cannot read {path}"
    return reached - saved


def compare(whole: Path, folder: Path, lost: Iterable[str] = ()) -> None:
    """Both runs have the same last checkpoint, the same rows but in files that are `lost`, and the same files."""
    (manifest, tensors), (other, others) = (checkpoint.read(path / "last.bell") for path in (whole, folder))
    assert tensors.keys() == others.keys()
    assert [name for name in tensors if not tensors[name].equal(others[name])] == []
    assert decisive(manifest) == decisive(other)
    for file in {"progress.csv", "evaluations.csv"} - {*lost}:
        assert rows(whole / file) == rows(folder / file)
    assert names(whole) - {*lost} == names(folder) - {*lost}


def decisive(value: Any) -> Any:
    """A manifest without times, machine, and streams of spaces, which are not seeded and from which nobody draws."""
    if isinstance(value, dict):
        return {k: decisive(v) for k, v in value.items() if k not in ("elapsed", "machine", "spaces")}
    return [decisive(item) for item in value] if isinstance(value, list) else value


def rows(path: Path, whole_file: bool = True) -> list[dict[str, str]]:
    """The rows of a CSV file without times; if it is not whole, without a line that was not written to its end."""
    text = path.read_text()
    assert not whole_file or (text.endswith("\n") and text.count("\n") > 3)
    table = csv.DictReader(text[: text.rfind("\n") + 1].splitlines())
    return [{k: v for k, v in row.items() if not k.startswith("time/") and k != "seconds"} for row in table]


def names(folder: Path) -> set[str]:
    """The files of a run, hidden ones as well, but the picture that is drawn when all is saved.

    Every process begins a file of events, so these count as one.
    """
    return {path.name.partition(".out.")[0] for path in folder.iterdir()} - {"learning_curve.png"}
