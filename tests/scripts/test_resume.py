"""A run that was stopped anywhere and resumed in a fresh process is the run that was never stopped."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from bellmark.agents.core import checkpoint
from bellmark.scripts.hooks import Interrupt

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
STOPS = {"ppo": [333], "dqn": [213], "sac": [187], "td3": [123], "iql": [71, 77]}

FRESH = ("ppo", "sac", "td3")
"""Resumed in a process of their own, one for CartPole, Pendulum and MuJoCo each."""


def write_data(path: Path) -> None:
    rng, count = np.random.default_rng(0), 400
    with h5py.File(path, "w") as file:
        file["observations"] = rng.normal(size=(count, 3)).astype(np.float32)
        file["actions"] = rng.uniform(-2, 2, (count, 1)).astype(np.float32)
        file["rewards"] = rng.normal(size=count).astype(np.float32)
        file["terminals"] = np.zeros(count, bool)
        file["timeouts"] = np.arange(1, count + 1) % 200 == 0


@pytest.mark.parametrize("name", RUNS)
def test_resume_is_exact(bellmark, fresh, rows, here, monkeypatch, name):
    words, options = RUNS[name], ["--log-every", 40, "--checkpoint-every", 100, "--eval-every", 100]
    write_data(here / "pendulum.hdf5")
    assert bellmark(*words, *options, "--run", "whole")[0] == 0
    for index, stop in enumerate(STOPS[name]):
        with monkeypatch.context() as patch:
            patch.setattr(Interrupt, "__call__", lambda self, status, at=stop: stop_at(status, at))
            first = [*words, *options, "--run", "parts"]
            status, out, _ = bellmark(*(["resume", "parts"] if index else first))
        assert status == 130
        assert "bellmark resume parts" in out
    if name in FRESH:
        process = fresh("resume", "parts")
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    else:
        assert bellmark("resume", "parts")[0] == 0

    whole, parts = (checkpoint.read(here / folder / "last.bell") for folder in ("whole", "parts"))
    assert whole[0]["counters"] == parts[0]["counters"]
    assert whole[1].keys() == parts[1].keys()
    different = [key for key, value in whole[1].items() if not value.equal(parts[1][key])]
    assert different == []
    for file in ("progress.csv", "evaluations.csv"):
        if file == "evaluations.csv" and name == "td3":
            continue  # it is not evaluated
        assert learning(rows(here / "whole" / file)) == learning(rows(here / "parts" / file))


def stop_at(status, at: int) -> None:
    status.stop = status.stop or status.clock >= at


def learning(table: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows without what depends on the speed of the machine."""
    return [{k: v for k, v in row.items() if not k.startswith("time/") and k != "seconds"} for row in table]


def test_rows_after_the_checkpoint_are_dropped(bellmark, rows, here, small_ppo):
    assert bellmark(*small_ppo, "--run", "run")[0] == 0
    for file in ("progress.csv", "evaluations.csv"):
        path = here / "run" / file
        line = path.read_text().splitlines()[-1].split(",")
        path.write_text(path.read_text() + ",".join(["9999", *line[1:]]) + "\n123,4")
    assert bellmark("resume", "run", "--steps", 700)[0] == 0
    for file in ("progress.csv", "evaluations.csv"):
        clocks = [int(row["clock"]) for row in rows(here / "run" / file)]
        assert clocks == sorted(clocks)
        assert 700 <= clocks[-1] < 720


def test_a_finished_run_says_so_and_can_be_extended(bellmark, here, small_ppo):
    bellmark(*small_ppo, "--run", "run")
    before = (here / "run" / "last.bell").read_bytes()
    status, out, _ = bellmark("resume", "run")
    assert status == 0
    assert "is finished" in out
    assert "--steps" in out
    assert (here / "run" / "last.bell").read_bytes() == before
    assert bellmark("resume", "run", "--steps", 100)[0] == 1
    assert bellmark("resume", "run", "--steps", 640)[0] == 0
    assert checkpoint.read(here / "run" / "last.bell")[0]["counters"]["steps"] >= 640
    assert "is finished" in bellmark("resume", "run")[1]


def test_it_says_when_episodes_cannot_be_put_back(bellmark, here, small_ppo, monkeypatch):
    from bellmark.envs import VectorEnv

    monkeypatch.setattr(VectorEnv, "state", lambda self: None)
    bellmark(*small_ppo, "--run", "run")
    status, out, _ = bellmark("resume", "run", "--steps", 700)
    assert status == 0
    assert "cannot be put back" in out


def test_changed_data_is_refused(bellmark, here):
    write_data(here / "pendulum.hdf5")
    assert bellmark(*RUNS["iql"], "--run", "run")[0] == 0
    with h5py.File(here / "pendulum.hdf5", "a") as file:
        file["rewards"][0] = 7.0
    status, _, err = bellmark("resume", "run", "--steps", 200)
    assert status == 1
    assert "is not the file that the run began with" in err
