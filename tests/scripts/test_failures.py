"""What can go wrong during a training loses nothing."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from bellmark.agents.core import checkpoint


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_and_says_how_to_go_on(fresh, bellmark, here, number):
    process = fresh("train", "ppo", "--env", "CartPole-v1", "--steps", 10_000_000, "--run", "run", "--log-every", 200)
    wait_for(here / "run" / "progress.csv")
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "go on with: bellmark resume run" in out
    assert "Traceback" not in err
    assert (here / "run" / "learning_curve.png").exists()
    done = checkpoint.read(here / "run" / "last.bell")[0]["counters"]["steps"]
    assert 0 < done < 10_000_000
    assert bellmark("resume", "run", "--steps", done + 300)[0] == 0


def wait_for(path: Path) -> None:
    until = time.monotonic() + 120
    while not (path.exists() and path.read_text().count("\n") > 1):
        assert time.monotonic() < until
        time.sleep(0.05)


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
