"""The runner of plans: what is done is not done again, and the numbers are those of the run folders."""

from __future__ import annotations

import json

import pytest
from bellmark.scripts import grid
from bellmark.scripts.statistics import markdown, student_interval

PLAN = """
[[entry]]
name = "small"
command = ["train", "ppo", "--env", "CartPole-v1", "--steps", 300, "--hidden", "8", "--rollout-length", 32,
           "--eval-episodes", 2, "--checkpoint-every", 100]
seeds = [1, 2]

[[entry]]
name = "unused"
command = ["train", "nothing"]
seeds = [1]
"""


def test_a_plan_is_run_once(here, capsys, rows, monkeypatch):
    (here / "plan.toml").write_text(PLAN)
    words = ["plan.toml", "--out", "out", "--only", "small"]
    assert grid.main(words) == 0
    final, curves = rows(here / "out" / "plan.csv"), rows(here / "out" / "plan-curves.csv")
    assert sorted((row["name"], row["seed"]) for row in final) == [("small", "1"), ("small", "2")]
    for row in final:
        own = [point for point in curves if point["seed"] == row["seed"]]
        assert len(own) == 10
        assert (own[-1]["mean"], own[-1]["clock"]) == (row["eval_mean"], row["clock"])
        folder = here / "runs" / "evidence" / f"small-seed{row['seed']}"
        assert rows(folder / "evaluations.csv")[-1]["mean"] == row["eval_mean"]
        assert row["command"].startswith("bellmark train ppo --env CartPole-v1")
        assert row["command"].endswith(f"--seed {row['seed']}")
        assert row["code"] == json.loads((folder / "manifest.json").read_text())["machine"]["code"] != ""
    capsys.readouterr()
    monkeypatch.setattr(grid.subprocess, "run", lambda *a, **k: pytest.fail("ran again"))
    assert grid.main(words) == 0
    assert "--checkpoint-every 100` | 300 |" in capsys.readouterr().out
    assert grid.main(["plan.toml", "--out", "out", "--table"]) == 0
    (here / "plan.toml").write_text(PLAN.replace("300", "400"))
    assert grid.main(words) == 1
    assert "small-seed1 holds a run of another command (bellmark train ppo" in capsys.readouterr().err


def test_what_another_command_has_made_counts_no_more(here, rows, monkeypatch):
    """Its row is replaced by the new command's, once that has run; other rows stay."""
    (here / "plan.toml").write_text(PLAN)
    one = grid.read_plan(here / "plan.toml", here / "runs", ())[0]
    done = {"name": "small", "clock": "300", "eval_mean": "1.0"}
    results = grid.Results(here / "out", "plan")
    for seed, command in ((1, "bellmark train ppo --old --seed 1"), (2, one._replace(seed=2).line)):
        results.final.add({**done, "seed": str(seed), "command": command})
    assert not results.has(one) and results.has(one._replace(seed=2))
    folder = grid.RunFolder(one.folder)
    folder.path.mkdir(parents=True)
    monkeypatch.setattr(grid.RunFolder, "manifest", lambda self: {"machine": {"code": "abc"}})
    folder.evaluations.add({"clock": 300, "mean": 2.0, "std": 0.0, "episodes": 1, "returns": "2.0", "lengths": "1"})
    folder.progress.add({"time/time_elapsed": 3.0})
    results.add(one)
    found = rows(here / "out" / "plan.csv")
    assert [(row["seed"], row["eval_mean"], row["code"]) for row in found] == [("2", "1.0", ""), ("1", "2.0", "abc")]
    assert results.has(one)


def test_a_failed_run_is_reported_and_leaves_no_row(here, capsys, rows):
    (here / "plan.toml").write_text(PLAN)
    assert grid.main(["plan.toml", "--out", "out", "--only", "unused"]) == 1
    assert "FAILED    unused seed 1" in capsys.readouterr().out
    assert "no agent 'nothing'" in (here / "runs" / "evidence" / "unused-seed1.log").read_text()
    assert not (here / "out" / "plan.csv").exists()
    assert grid.main(["plan.toml", "--only", "smal"]) == 1
    assert "did you mean small?" in capsys.readouterr().err


def test_an_interrupted_run_is_resumed(here, rows, bellmark):
    (here / "plan.toml").write_text(PLAN.replace("[1, 2]", "[1]"))
    job = grid.read_plan(here / "plan.toml", here / "runs", ["small"])[0]
    shorter = ["200" if word == "300" else word for word in job.command]
    assert bellmark(*shorter, "--seed", 1, "--run", job.folder)[0] == 0
    assert bellmark("resume", job.folder, "--steps", 250)[0] == 0
    assert grid.run(job)
    assert "is finished" in (here / "runs" / "small-seed1.log").read_text()


def test_the_table_states_range_interval_and_n():
    rows = [
        {"name": "a", "clock": 10, "eval_mean": mean, "normalized_mean": "", "command": f"bellmark train x --seed {i}"}
        for i, mean in enumerate((1.0, 2.0, 6.0))
    ]
    line = markdown(rows).splitlines()[2]
    _, low, high = student_interval([1.0, 2.0, 6.0])
    assert line == f"| `bellmark train x` | 10 | 3.0 | 1.0 to 6.0 | [{low:.1f}, {high:.1f}] | 3 |  |"
    half = 4.30265 * 7**0.5 / 3**0.5  # Student's quantile for two degrees of freedom; the variance is 7
    assert (low, high) == pytest.approx((3.0 - half, 3.0 + half), rel=1e-5)


def test_every_job_has_a_log_of_its_own(here):
    """Also those whose names have dots, as files of data do."""
    for name in ("a.hdf5-1", "a.hdf5-2"):
        grid.run(grid.Job(name, 1, ["train", "nothing", "--env", "CartPole-v1"], here / name))
        assert "no agent 'nothing'" in (here / f"{name}.log").read_text()
