"""Two processes never work in one run folder, and a dead one never keeps it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from bellmark.agents.core.errors import RunInUse
from bellmark.scripts.lock import Lock
from bellmark.scripts.run_folder import RunFolder

HOLDER = """
import os, sys, time
from pathlib import Path
from bellmark.scripts.lock import Lock
lock = Lock(Path(sys.argv[1])).acquire()
child = os.fork()
if child:
    print(child, flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(here):
    """A process that holds the lock of the folder `run`, and the id of its child, which outlives it."""
    (here / "run").mkdir()
    command = [sys.executable, "-c", HOLDER, str(here / "run" / ".lock")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    yield process
    process.kill()
    process.wait()
    os.kill(child, signal.SIGKILL)


def test_a_second_process_is_refused_by_the_id_of_the_first(holder, bellmark, here, small_ppo):
    status, out, err = bellmark(*small_ppo, "--run", "run")
    assert (status, out) == (1, "")
    assert f"the run folder run is in use by the process {holder.pid}:" in err
    assert [path.name for path in (here / "run").iterdir()] == [".lock"]
    holder.kill()
    holder.wait()
    assert bellmark(*small_ppo, "--run", "run")[0] == 0, "a killed process left its lock, although its child lives"
    assert not (here / "run" / ".lock").exists()


def test_every_command_that_writes_holds_the_lock(bellmark, here, small_ppo, monkeypatch):
    assert bellmark(*small_ppo, "--run", "run")[0] == 0
    with RunFolder("run").lock.acquire():
        before = {path: path.read_bytes() for path in (here / "run").iterdir()}
        for words in (["resume", "run"], ["resume", "run", "--verify"], ["rerun", "run"], [*small_ppo, "--run", "run"]):
            status, _, err = bellmark(*words)
            assert status == 1
            assert f"in use by the process {os.getpid()}" in err
        assert bellmark("evaluate", "run", "--episodes", 1)[0] == 0, "which only reads"
        assert {path: path.read_bytes() for path in (here / "run").iterdir()} == before
        assert not (here / "run-rerun").exists()
    assert bellmark("resume", "run", "--steps", 700)[0] == 0


def test_two_that_start_at_once(here):
    """Both have seen an empty folder; one of them gets it."""
    first, second = RunFolder("run"), RunFolder("run")
    with first.create({"kind": "first"}):
        for other in (second, RunFolder("run")):
            with pytest.raises(RunInUse):
                other.create({"kind": "second"})
        assert '"first"' in first.manifest_file.read_text()
    assert not first.lock.path.exists()


def test_a_lock_on_a_file_that_was_removed_is_none(here, monkeypatch):
    """The holder goes between the moments in which the next one opens and locks the file."""
    path, real, opened = Path(".lock"), os.open, []

    def opening(*arguments):
        file = real(*arguments)
        if not opened:
            opened.append(file)
            path.unlink()
        return file

    monkeypatch.setattr(os, "open", opening)
    with Lock(path).acquire(), pytest.raises(RunInUse):
        Lock(path).acquire()


def test_where_nothing_can_be_locked_it_says_so(here, monkeypatch, capsys):
    from bellmark.scripts import lock

    def flock(file, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with Lock(Path(".lock")).acquire():
        assert "note: .lock cannot be locked (Operation not supported)" in capsys.readouterr().err
    monkeypatch.setattr(lock, "fcntl", None)
    with Lock(Path(".lock")).acquire():
        assert not Path(".lock").exists()
