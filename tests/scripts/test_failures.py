"""What can go wrong during a training loses nothing."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import time

import gymnasium
import numpy as np
import pytest
from bellmark.agents.core import checkpoint
from bellmark.scripts.hooks import Evaluate
from bellmark.scripts.run_folder import Table


def test_a_full_disk_is_a_warning_then_and_an_error_at_the_end(bellmark, small_ppo, here, monkeypatch):
    good: list[bytes] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        last = here / "run" / "last.bell"
        if last.exists():
            good[:] = good or [last.read_bytes()]
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        status, out, err = bellmark(*small_ppo, "--run", "run")
    assert status == 1
    assert err.count("warning: cannot write run/last.bell (No space left on device)") == 1
    assert err.splitlines()[-1].startswith("error: could not write ")
    assert "run/last.bell" in err.splitlines()[-1]
    assert "final evaluation" in out, "the training went on to its end"
    assert (here / "run" / "last.bell").read_bytes() == good[0]
    assert not list((here / "run").glob(".*")), "half-written files were left"
    assert bellmark("resume", "run")[0] == 0, "from the checkpoint that is intact"
    assert checkpoint.read(here / "run" / "last.bell")[0]["counters"]["steps"] >= 600


class Spoilt(gymnasium.Env):
    """Gives a NaN reward at its 350th step."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))
    action_space = gymnasium.spaces.Discrete(2)
    count = 0

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        Spoilt.count += 1
        return np.zeros(2, np.float32), float("nan") if Spoilt.count >= 350 else 1.0, False, Spoilt.count % 50 == 0, {}


def test_nan_names_the_last_good_checkpoint(bellmark, small_ppo, here):
    gymnasium.register("Spoilt-v0", entry_point=lambda: Spoilt())
    Spoilt.count = 0
    words = ["Spoilt-v0" if word == "CartPole-v1" else word for word in small_ppo]
    try:
        status, _, err = bellmark(*words, "--run", "run", "--eval-episodes", 0)
    finally:
        del gymnasium.registry["Spoilt-v0"]
    assert status == 1
    assert "the reward of environment" in err
    assert "the last good checkpoint is run/last.bell" in err
    saved, tensors = checkpoint.read(here / "run" / "last.bell")
    assert 200 <= saved["counters"]["steps"] < 350
    assert all(bool(value.isfinite().all()) for name, value in tensors.items() if name.startswith("net."))


@pytest.mark.parametrize(
    ("place", "reason"), [("file/run", "Not a directory"), ("/proc/run", "No such file"), ("/proc/self", "not empty")]
)
def test_a_folder_that_cannot_be_made(bellmark, small_ppo, here, place, reason):
    (here / "file").write_text("")
    status, _, err = bellmark(*small_ppo, "--run", place)
    assert (status, err.count("\n")) == (1, 1)
    assert err.startswith(
        f"error: cannot make the run folder {place} ({reason}" if "empty" not in reason else "error: "
    )
    assert reason in err
    assert [path.name for path in here.iterdir()] == ["file"]


@pytest.mark.parametrize("refused", [".lock", "manifest.json"])
def test_a_folder_that_cannot_be_written(bellmark, small_ppo, here, monkeypatch, refused):
    """Permission is denied, as it is not to root: first when the run begins, then when it is resumed."""
    assert bellmark(*small_ppo, "--run", "good")[0] == 0
    real = {"open": os.open, "fsync": os.fsync}

    def refuse(name):
        def call(what, *rest, **keywords):
            path = os.fspath(what) if name == "open" else os.readlink(f"/proc/self/fd/{what}")
            if f"/{refused}" in path or f"/.{refused}" in path:
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return real[name](what, *rest, **keywords)

        return call

    for name in real:
        monkeypatch.setattr(os, name, refuse(name))
    status, out, err = bellmark(*small_ppo, "--run", "run")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "Permission denied" in err
    assert not (here / "run").exists()
    before = {path: path.read_bytes() for path in (here / "good").iterdir()}
    status, _, err = bellmark("resume", "good", "--steps", 700)
    assert (status, err.count("\n")) == (1, 1)
    assert "Permission denied" in err
    assert {path: path.read_bytes() for path in (here / "good").iterdir()} == before


def test_the_folder_is_removed_during_the_run(bellmark, small_ppo, here, monkeypatch):
    real = Evaluate.__call__

    def evaluate(self, status):
        if status.clock >= 400:
            shutil.rmtree(here / "runs", ignore_errors=True)
        real(self, status)

    monkeypatch.setattr(Evaluate, "__call__", evaluate)
    status, out, err = bellmark(*small_ppo, "--run", "runs/run")
    assert status == 1
    assert "warning: cannot write runs/run/last.bell (No such file or directory)" in err
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("error: could not write runs/run/")
    assert "final evaluation" in out


def test_the_disk_is_full_at_any_byte(here, monkeypatch):
    """An append that the disk takes half of leaves the file as it was, and the next one writes both rows."""
    table = Table(here / "t.csv", ["clock"])
    table.add({"clock": 1})
    table.add({"clock": 2})
    size = (here / "t.csv").stat().st_size
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 2, limit[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            table.add({"clock": 345678})
        assert (here / "t.csv").read_text() == "clock\n1\n2\n"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    table.add({"clock": 4})
    assert (here / "t.csv").read_text() == "clock\n1\n2\n345678\n4\n"


def test_the_clock_of_the_machine_jumps_back(bellmark, small_ppo, here, monkeypatch, rows):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    real, reads = time.time, []

    def jumping():
        reads.append(real() - 3600 * (len(reads) > 8))
        return reads[-1]

    with monkeypatch.context() as patch:
        patch.setattr(time, "time", jumping)
        assert bellmark(*small_ppo, "--run", "run")[0] == 0
    assert reads[-1] < reads[0]
    table = rows(here / "run" / "progress.csv")
    assert [int(row["clock"]) // 50 for row in table] == list(range(1, 13))
    elapsed = [float(row["time/time_elapsed"]) for row in table]
    assert elapsed == sorted(elapsed)
    assert all(float(row["time/fps"]) > 0 for row in table)
    events = EventAccumulator(str(here / "run")).Reload()
    steps = [event.step for event in events.Scalars("time/fps")]
    assert steps == [int(row["clock"]) for row in table]
    assert bellmark("resume", "run", "--steps", 700)[0] == 0
