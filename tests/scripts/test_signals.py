"""Ctrl-C, SIGTERM, and a terminal or a reader that goes away: the training saves first, whatever is going on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from bellmark.agents.core import checkpoint
from bellmark.scripts.hooks import Evaluate, Interrupt


def started(here, words) -> subprocess.Popen[str]:
    """A training in a process group of its own, as a terminal starts it, which has written two rows."""
    command = [sys.executable, "-m", "bellmark.scripts.main", *map(str, words), "--run", "run"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # which nohup ignores for all below it
    )
    path, until = here / "run" / "progress.csv", time.monotonic() + 120
    while not (path.exists() and path.read_text().count("\n") > 1):
        assert time.monotonic() < until
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return process


@pytest.mark.parametrize(
    ("number", "tell"), [(signal.SIGINT, os.killpg), (signal.SIGTERM, os.kill), (signal.SIGHUP, os.killpg)]
)
def test_an_interrupt_saves_and_says_how_to_go_on(bellmark, here, number, tell):
    """A terminal's Ctrl-C, or its end, comes to the whole process group: workers must not die before the save."""
    words = ["train", "ppo", "--env", "CartPole-v1", "--backend", "async", "--num-envs", 2, "--steps", 10_000_000]
    process = started(here, [*words, "--log-every", 200, "--hidden", 8])
    for _ in range(2 if number == signal.SIGHUP else 1):  # the shell repeats what the terminal says
        tell(process.pid, number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "go on with: bellmark resume run" in out
    assert err == ""
    assert (here / "run" / "learning_curve.png").exists()
    saved = checkpoint.read(here / "run" / "last.bell")[0]
    assert saved["env_state"]["lost_episodes"] == 0
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # no worker is left
    assert bellmark("resume", "run", "--steps", saved["counters"]["steps"] + 100)[0] == 0


def test_output_that_nobody_reads_any_more_saves_first(bellmark, here):
    """As `| head` leaves it: the status of an interrupt, and no traceback."""
    reader, writer = os.pipe()
    words = ["train", "ppo", "--env", "CartPole-v1", "--steps", "10000000", "--log-every", "200", "--hidden", "8"]
    command = [sys.executable, "-m", "bellmark.scripts.main", *words, "--run", "run"]
    process = subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    os.read(reader, 10)
    os.close(reader)
    err = process.communicate(timeout=120)[1]
    assert (process.returncode, err) == (130, "")
    saved = checkpoint.read(here / "run" / "last.bell")[0]
    assert bellmark("resume", "run", "--steps", saved["counters"]["steps"] + 100)[0] == 0


def test_a_hang_up_that_is_ignored_stays_ignored():
    """nohup ignores it before the program begins."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
        assert not interrupt.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_during_an_evaluation(bellmark, small_ppo, here, monkeypatch):
    real = Evaluate.__call__

    def evaluate(self, status):
        os.kill(os.getpid(), signal.SIGINT)
        real(self, status)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluate, "__call__", evaluate)
        status, out, _ = bellmark(*small_ppo, "--run", "run")
    assert status == 130
    assert "evaluation at 200: return" in out
    assert checkpoint.read(here / "run" / "last.bell")[0]["extra"]["clock"] == 200
    assert bellmark("resume", "run")[0] == 0


@pytest.mark.parametrize("times", [1, 2])
def test_during_a_save(bellmark, small_ppo, here, monkeypatch, times):
    """Once, and the save ends and is the last; twice, and the checkpoint before is intact."""
    real, seen = os.fsync, []

    def fsync(file):
        real(file)
        if ".last.bell" in os.readlink(f"/proc/self/fd/{file}"):
            seen.append(file)
            for _ in range(times if len(seen) == 2 else 0):
                os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        status, out, err = bellmark(*small_ppo, "--run", "run")
    assert status == 130
    assert checkpoint.read(here / "run" / "last.bell")[0]["extra"]["clock"] == (401 if times == 1 else 200)
    assert ("go on with" in out, "interrupted" in err) == (times == 1, times == 2)
    assert not list((here / "run").glob(".*")), "half-written files, or a lock, were left"
    assert bellmark("resume", "run")[0] == 0
