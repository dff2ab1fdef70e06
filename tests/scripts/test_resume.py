"""A run that was stopped anywhere and resumed in a fresh process is the run that was never stopped."""

from __future__ import annotations

import os
from functools import partial

import h5py
import pytest
from bellmark.agents.core import checkpoint
from bellmark.agents.core.files import write_atomically
from bellmark.scripts.run_folder import RunFolder
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

STOPS = {"ppo": [333], "dqn": [213], "sac": [187], "td3": [123], "iql": [71, 77]}

FRESH = ("ppo", "sac", "td3")
"""Resumed in a process of their own, one for CartPole, Pendulum and MuJoCo each."""


@pytest.mark.parametrize(
    ("name", "replay"), [*((name, "") for name in STOPS), ("iql", "prioritized_reshuffled"), ("iql", "reshuffled")]
)
def test_resume_is_exact(bellmark, fresh, rows, here, stopped, runs, recording, name, replay):
    words, options = runs[name], ["--log-every", 40, "--checkpoint-every", 100, "--eval-every", 100]
    options += ["--replay", replay] if replay else []
    assert bellmark(*words, *options, "--run", "whole")[0] == 0
    for index, stop in enumerate(STOPS[name]):
        with stopped(stop):
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


def test_changed_data_is_refused(bellmark, runs, recording):
    assert bellmark(*runs["iql"], "--run", "run")[0] == 0
    with h5py.File(recording, "a") as file:
        file["rewards"][0] = 7.0
    status, _, err = bellmark("resume", "run", "--steps", 200)
    assert status == 1
    assert "is not the file that the run began with" in err


@pytest.mark.parametrize("damage", ["missing", "truncated", "foreign"])
def test_the_checkpoint_before_is_taken_where_the_last_is_bad(bellmark, rows, here, small_ppo, stopped, damage):
    assert bellmark(*small_ppo, "--run", "whole")[0] == 0
    with stopped(500):
        assert bellmark(*small_ppo, "--run", "run")[0] == 130
    last, previous = here / "run" / "last.bell", here / "run" / "previous.bell"
    assert [checkpoint.read(path)[0]["extra"]["clock"] // 100 for path in (previous, last)] == [4, 5]
    content = last.read_bytes()
    last.unlink()
    if damage != "missing":
        last.write_bytes(content[:-100] if damage == "truncated" else (here / "whole" / "best.bell").read_bytes())
    with stopped(530):
        status, out, err = bellmark("resume", "run")
    assert (status, err) == (130, "")
    assert f"going on from {previous.relative_to(here)}, the checkpoint before it" in out
    assert "going on with run at 401 steps" in out
    assert checkpoint.read(previous)[0]["extra"]["clock"] == 401, "a damaged file has taken its place"
    assert bellmark("resume", "run")[0] == 0
    for file in ("progress.csv", "evaluations.csv"):
        assert learning(rows(here / "whole" / file)) == learning(rows(here / "run" / file))
    events = EventAccumulator(str(here / "run")).Reload().Scalars("time/fps")
    assert [str(event.step) for event in events] == [row["clock"] for row in rows(here / "run" / "progress.csv")]
    tensors = [checkpoint.read(here / folder / "last.bell")[1] for folder in ("whole", "run")]
    assert [name for name in tensors[0] if not tensors[0][name].equal(tensors[1][name])] == []


def test_without_any_good_checkpoint_it_says_what_is_wrong_with_the_last(bellmark, here, small_ppo):
    assert bellmark(*small_ppo, "--run", "run")[0] == 0
    for name in ("last", "previous"):
        (here / "run" / f"{name}.bell").write_bytes(b"x" * 100)
    status, _, err = bellmark("resume", "run", "--steps", 700)
    assert (status, err.count("\n")) == (1, 1)
    assert err.startswith("error: run/last.bell is damaged or no checkpoint")


@pytest.mark.parametrize("links", [True, False])
def test_there_is_a_last_checkpoint_at_every_moment(here, monkeypatch, links):
    """Every call of the system that can change a name is looked at, with hard links and without."""
    folder, there = RunFolder(here), []

    def watched(real):
        def call(*arguments, **keywords):
            there.append(folder.last.read_bytes())
            try:
                return real(*arguments, **keywords)
            finally:
                there.append(folder.last.read_bytes())

        return call

    for count, keep in enumerate([False, True, True, False], 1):
        if count == 2:
            for name in ("replace", "rename", "unlink", "link"):
                monkeypatch.setattr(os, name, watched(getattr(os, name)))
            if not links:
                monkeypatch.setattr(os, "link", lambda source, target: (_ for _ in ()).throw(PermissionError(1, "no")))
        folder.save(partial(write_atomically, folder.last, str(count).encode()), keep=keep)
    assert set(there) == {b"1", b"2", b"3", b"4"}
    assert folder.previous.read_bytes() == b"2", "the last save was not to keep what it replaced"
    assert sorted(path.name for path in here.iterdir()) == ["last.bell", "previous.bell"]


def test_a_save_that_fails_keeps_both_checkpoints(here):
    folder = RunFolder(here)
    for count in (1, 2):
        folder.save(partial(write_atomically, folder.last, str(count).encode()), keep=count > 1)
    with pytest.raises(OSError, match="full"):
        folder.save(lambda: (_ for _ in ()).throw(OSError("full")), keep=True)
    assert (folder.previous.read_bytes(), folder.last.read_bytes()) == (b"1", b"2")
    assert len(list(here.iterdir())) == 2


def test_what_a_killed_process_left_is_removed(bellmark, here, small_ppo):
    assert bellmark(*small_ppo, "--run", "run")[0] == 0
    before = {path.name for path in (here / "run").iterdir()}
    for name in (".last.bell.123.tmp", ".previous.bell.tmp", ".progress.csv.123.tmp", ".tmpAb3xYz", ".lock"):
        (here / "run" / name).write_bytes(b"half")
    assert bellmark("resume", "run")[0] == 0
    assert {path.name for path in (here / "run").iterdir()} == before
