"""The command line, in this process and in a fresh one, in an empty folder."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from bellmark.scripts.main import main

SMALL_PPO = ["train", "ppo", "--env", "CartPole-v1", "--steps", "600", "--num-envs", "2", "--rollout-length", "32"]
SMALL_PPO += ["--epochs", "2", "--hidden", "8", "--eval-episodes", "3", "--eval-every", "200", "--log-every", "50"]
SMALL_PPO += ["--checkpoint-every", "200", "--seed", "3"]


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
