"""The command line, in this process and in a fresh one, in an empty folder."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from bellmark.agents.core.status import Status
from bellmark.scripts.hooks import Interrupt
from bellmark.scripts.main import main

SMALL_PPO = ["train", "ppo", "--env", "CartPole-v1", "--steps", "600", "--num-envs", "2", "--rollout-length", "32"]
SMALL_PPO += ["--epochs", "2", "--hidden", "8", "--eval-episodes", "3", "--eval-every", "200", "--log-every", "50"]
SMALL_PPO += ["--checkpoint-every", "200", "--seed", "3"]

SHORT = ["--hidden", "8", "--batch-size", "16", "--start", "50", "--buffer-size", "200", "--eval-episodes", "2"]
PPO = ["--num-envs", "2", "--rollout-length", "32", "--hidden", "8", "--normalize-obs", "--normalize-reward"]
RUNS = {
    "ppo": ["train", "ppo", "--env", "CartPole-v1", "--steps", 600, *PPO, "--schedule", "linear", "--eval-episodes", 2],
    "dqn": ["train", "dqn", "--env", "CartPole-v1", "--num-envs", 2, "--steps", 400, *SHORT],
    "sac": ["train", "sac", "--env", "Pendulum-v1", "--steps", 300, *SHORT],
    "td3": ["train", "td3", "--env", "HalfCheetah-v5", "--steps", 200, *SHORT, "--eval-episodes", 0],
    "iql": [
        *("fit", "iql", "--data", "pendulum.hdf5", "--env-id", "Pendulum-v1", "--updates", 150, "--learn-steps", 150),
        *(*SHORT, "--buffer-size", 1000),
    ],
}
"""Short runs of every kind."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def bellmark(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in this process: exit status, stdout, stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(word) for word in words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def start(*words: object) -> subprocess.Popen[str]:
    """Starts a command in a fresh process, in the working folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "bellmark.scripts.main", *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def fresh() -> Callable[..., subprocess.Popen[str]]:
    return start


@pytest.fixture
def small_ppo() -> list[str]:
    return [*SMALL_PPO]


@pytest.fixture
def rows() -> Callable[[Path], list[dict[str, str]]]:
    """Reads a CSV file."""

    def read(path: Path) -> list[dict[str, str]]:
        with path.open(newline="") as file:
            return list(csv.DictReader(file))

    return read


@pytest.fixture
def runs() -> dict[str, list[Any]]:
    return RUNS


@pytest.fixture
def recording(here: Path) -> Path:
    """The data of the run "iql"."""
    rng, count, path = np.random.default_rng(0), 400, here / "pendulum.hdf5"
    with h5py.File(path, "w") as file:
        file["observations"] = rng.normal(size=(count, 3)).astype(np.float32)
        file["actions"] = rng.uniform(-2, 2, (count, 1)).astype(np.float32)
        file["rewards"] = rng.normal(size=count).astype(np.float32)
        file["terminals"] = np.zeros(count, bool)
        file["timeouts"] = np.arange(1, count + 1) % 200 == 0
    return path


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AbstractContextManager[None]]:
    """Within it every training ends, as by Ctrl-C, when its clock is there: environment steps, or updates on data."""

    @contextmanager
    def stop(steps: int, updates: int | None = None) -> Iterator[None]:
        def call(self: Interrupt, status: Status) -> None:
            at = steps if status.env is not None or updates is None else updates
            status.stop = status.stop or status.clock >= at

        with monkeypatch.context() as patch:
            patch.setattr(Interrupt, "__call__", call)
            yield

    return stop
