"""`resume --verify` and `rerun`: the same bits again, and a word where they are not."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import gymnasium
import pytest
import torch
from bellmark.agents.core import checkpoint, parameters
from bellmark.envs import VectorEnv

OFTEN = ["--log-every", 40, "--checkpoint-every", 100, "--eval-every", 100]


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def clocks(folder: Path) -> list[int]:
    return [checkpoint.read(folder / f"{name}.bell")[0]["extra"]["clock"] for name in ("previous", "last")]


@pytest.fixture
def faster(monkeypatch):
    """From now on every step of an optimiser is a thousandth longer."""
    real = parameters.FlatParameters.descend

    def plant() -> None:
        monkeypatch.setattr(
            parameters.FlatParameters, "descend", lambda self, loss, rate, *rest: real(self, loss, rate * 1.001, *rest)
        )

    return plant


@pytest.mark.parametrize("name", ["ppo", "sac", "td3"])
def test_verify_repeats_the_last_part(bellmark, here, runs, name):
    assert bellmark(*runs[name], *OFTEN, "--run", "run")[0] == 0
    before, (first, end) = contents(here / "run"), clocks(here / "run")
    assert 90 <= end - first <= 110
    status, out, _ = bellmark("resume", "run", "--verify")
    count = len(checkpoint.read(here / "run" / "last.bell")[1])
    assert out == f"the same bits: {end - first} steps from {first} to {end}, {count} tensors\n"
    assert status == 0
    assert contents(here / "run") == before


@pytest.mark.parametrize(
    ("every", "steps", "updates", "expected"),
    [(100, 120, 1000, [250, 270]), (50, 0, 100, [50, 100]), (1000, 20, 1000, [150, 170])],
    ids=["online", "on data", "across the end of the data"],
)
def test_verify_of_a_run_on_data(bellmark, here, runs, recording, stopped, every, steps, updates, expected):
    with stopped(steps, updates):
        assert bellmark(*runs["iql"], *OFTEN, "--checkpoint-every", every, "--run", "run")[0] == 130
    assert clocks(here / "run") == expected
    status, out, _ = bellmark("resume", "run", "--verify")
    assert f"the same bits: {expected[1] - expected[0]} steps from {expected[0]} to {expected[1]}, " in out
    assert status == 0
    if every == 1000:  # a run that was killed at the end of the data
        (here / "run" / "previous.bell").rename(here / "run" / "last.bell")
        status, out, _ = bellmark("rerun", "run")
        assert "the same bits: run-rerun, up to 150: " in out
        assert status == 0


def test_verify_names_what_differs(bellmark, here, small_ppo, faster):
    assert bellmark(*small_ppo, "--run", "run")[0] == 0
    faster()
    status, out, _ = bellmark("resume", "run", "--verify")
    assert status == 1
    assert re.match(r"not the same \(\d+ differences\): 199 steps from 401 to 600, \d+ tensors\n", out)
    assert 0 < float(re.findall(r"^  net\S* differs by up to (\S+)$", out, re.MULTILINE)[0]) < 0.1


def test_verify_says_when_it_cannot_be_exact(bellmark, small_ppo, monkeypatch):
    monkeypatch.setattr(VectorEnv, "state", lambda self: None)
    monkeypatch.setattr(VectorEnv, "obstacle", lambda self: "it is a cloud")
    status, out, _ = bellmark(*small_ppo, "--run", "run")
    assert status == 0
    assert out.count("note: a resumed run will not be exact here: new episodes: it is a cloud\n") == 1
    assert json.loads(Path("run/manifest.json").read_text())["resume"] == "new episodes: it is a cloud"
    status, _, err = bellmark("resume", "run", "--verify")
    assert status == 1
    assert "error: run cannot be repeated exactly, since a resumed run begins new episodes: it is a cloud\n" in err


def test_verify_follows_the_plan_of_its_time(bellmark, here, runs, stopped):
    """The step size falls with the share that is done of what was planned, and the plan has changed since."""
    assert bellmark(*runs["ppo"], *OFTEN, "--run", "run")[0] == 0
    manifest = json.loads((here / "run" / "manifest.json").read_text())
    manifest["changes"] = [{"clock": 600, "steps": 9999, "device": ""}]
    (here / "run" / "manifest.json").write_text(json.dumps(manifest))
    assert bellmark("resume", "run", "--verify")[0] == 0


def test_verify_needs_two_checkpoints(bellmark, here, small_ppo):
    assert bellmark(*small_ppo, "--run", "run", "--checkpoint-every", 10_000)[0] == 0
    status, _, err = bellmark("resume", "run", "--verify")
    assert (status, err) == (1, "error: there is no checkpoint run/previous.bell\n")


@pytest.mark.parametrize("name", ["ppo", "iql"])
def test_rerun_repeats_a_run(bellmark, here, runs, recording, name):
    assert bellmark(*runs[name], *OFTEN, "--run", "run")[0] == 0
    before = contents(here / "run")
    torch.manual_seed(5)
    status, out, _ = bellmark("rerun", "run")
    assert status == 0
    end, count = clocks(here / "run")[1], len(checkpoint.read(here / "run" / "last.bell")[1])
    rows = [(here / "run" / f"{table}.csv").read_text().count("\n") - 1 for table in ("progress", "evaluations")]
    what = f"{rows[0]} rows of progress.csv, {rows[1]} rows of evaluations.csv, {count} tensors of last.bell"
    assert out.splitlines()[-1] == f"the same bits: run-rerun, up to {end}: {what}"
    assert contents(here / "run") == before


def test_rerun_names_what_differs(bellmark, here, small_ppo, faster):
    assert bellmark(*small_ppo, "--run", "run")[0] == 0
    manifest = json.loads((here / "run" / "manifest.json").read_text())
    manifest["versions"]["torch"] = "1.0"
    (here / "run" / "manifest.json").write_text(json.dumps(manifest))
    faster()
    status, out, _ = bellmark("rerun", "run", "--into", "again")
    assert status == 1
    assert "not the same (" in out
    assert re.search(r"^  progress.csv, clock \d+: train/\w+ is \S+, not \S+$", out, re.MULTILINE)
    assert f"  torch: 1.0 then, {manifest['machine']['torch_build'].split()[0]} now" in out


def test_rerun_goes_as_far_as_an_unfinished_run(bellmark, here, small_ppo, stopped):
    with stopped(333):
        assert bellmark(*small_ppo, "--run", "run")[0] == 130
    with stopped(480):
        assert bellmark("resume", "run")[0] == 130
    with (here / "run" / "progress.csv").open("a") as file:
        file.write("900,900,1,1,1,1,1,1,1\n")  # after the last checkpoint: a kill would lose it
    status, out, _ = bellmark("rerun", "run")
    assert f"the same bits: run-rerun, up to {clocks(here / 'run')[1]}: 9 rows of progress.csv" in out
    assert status == 0


@pytest.mark.parametrize("exact", [True, False])
def test_rerun_follows_what_was_changed_on_the_way(bellmark, here, runs, stopped, monkeypatch, exact):
    """The plan was longer after the first part, and where episodes begin anew, that is repeated too."""
    if not exact:
        monkeypatch.setattr(VectorEnv, "state", lambda self: None)
        monkeypatch.setattr(VectorEnv, "obstacle", lambda self: "it is a cloud")
    with stopped(250):
        assert bellmark(*runs["ppo"], *OFTEN, "--run", "run")[0] == 130
    with stopped(430):
        assert bellmark("resume", "run", "--steps", 700)[0] == 130
    assert bellmark("resume", "run")[0] == 0
    changes = json.loads((here / "run" / "manifest.json").read_text())["changes"]
    expected = [(25, 700, ""), (43, 0, "")]
    assert [(change["clock"] // 10, change["steps"], change["device"]) for change in changes] == expected[: 2 - exact]
    status, out, _ = bellmark("rerun", "run")
    assert "the same bits: run-rerun, up to 70" in out
    assert status == 0


def test_rerun_refuses_changed_data_and_a_folder_that_holds_a_run(bellmark, here, runs, recording, small_ppo):
    assert bellmark(*runs["iql"], "--run", "run")[0] == 0
    recording.write_bytes(recording.read_bytes() + b"x")
    status, _, err = bellmark("rerun", "run")
    assert status == 1
    assert "is not the file that the run began with" in err
    assert not (here / "run-rerun").exists()
    status, _, err = bellmark("rerun", "run", "--into", "run")
    assert status == 1
    assert "the run folder run is not empty" in err
    manifest = json.loads((here / "run" / "manifest.json").read_text())
    (here / "run" / "manifest.json").write_text(json.dumps(manifest | {"data": None}))
    assert bellmark("rerun", "run")[2] == "error: manifest.json is damaged: it names no data\n"


def test_an_environment_of_a_module_needs_to_be_named(bellmark, here, small_ppo, monkeypatch, request):
    """A run folder may come from anywhere: what it names is imported only if the user names it too."""
    monkeypatch.syspath_prepend(here)
    cart_pole = "gymnasium.envs.classic_control.cartpole:CartPoleEnv"
    (here / "mine.py").write_text(
        f"import gymnasium; gymnasium.register('Mine-v0', {cart_pole!r}, max_episode_steps=9)"
    )
    words = ["mine:Mine-v0" if word == "CartPole-v1" else word for word in small_ppo]
    assert bellmark(*words, "--run", "run")[0] == 0

    def forget():
        sys.modules.pop("mine", None)
        gymnasium.registry.pop("Mine-v0", None)

    def forgotten(*command):
        forget()
        status, _, err = bellmark(*command)
        return status, "mine" in sys.modules, err

    request.addfinalizer(forget)
    for command in (
        ["resume", "run", "--steps", 700],
        ["resume", "run", "--verify"],
        ["evaluate", "run"],
        ["rerun", "run"],
    ):
        status, imported, err = forgotten(*command)
        assert (status, imported) == (1, False)
        assert "name it with --env" in err
        assert forgotten(*command, "--env", "mine:Mine-v0") == (0, True, "")
    assert (
        "is 'mine:Mine-v0', not 'mine:Other-v0'" in forgotten("resume", "run", "--verify", "--env", "mine:Other-v0")[2]
    )
