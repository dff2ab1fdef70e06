"""What a run leaves behind."""

from __future__ import annotations

import json

import numpy as np
import pytest
from bellmark.agents.core import checkpoint
from bellmark.agents.core.errors import InvalidCheckpoint, RunExists
from bellmark.scripts.run_folder import RunFolder, Table


@pytest.fixture
def finished(bellmark, small_ppo, here):
    """A short run of PPO, with what it said."""
    status, out, _ = bellmark(*small_ppo)
    assert status == 0
    return RunFolder(here / "runs" / "CartPole-v1-ppo-seed3"), out


def test_a_run_folder_holds_everything(finished, rows, small_ppo):
    folder, out = finished
    names = {path.name.partition(".out.")[0] for path in folder.path.iterdir()}
    assert names == {
        *("manifest.json", "progress.csv", "evaluations.csv", "learning_curve.png", "events"),
        *("monitor.csv", "evaluations.npz"),
        *("last.bell", "previous.bell", "best.bell"),
    }
    manifest = folder.manifest()
    assert manifest["command"] == ["bellmark", *small_ppo]
    assert (manifest["agent"], manifest["seed"], manifest["kind"]) == ("ppo", 3, "train")
    assert manifest["settings"] == manifest["settings"] | {"rollout_length": 32, "epochs": 2, "hidden": [8]}
    assert manifest["env"] == manifest["env"] | {"env_id": "CartPole-v1", "num_envs": 2}
    assert manifest["evaluation"] == manifest["evaluation"] | {"episodes": 3, "deterministic": True}
    assert {"torch", "gymnasium", "mujoco", "numpy"} <= set(manifest["versions"])
    assert folder.curve.read_bytes().startswith(b"\x89PNG")

    progress = rows(folder.progress.path)
    assert [int(row["clock"]) // 50 for row in progress] == list(range(1, 13)), "a row whenever 50 more steps are done"
    last = progress[-1]
    assert list(last)[:4] == ["clock", "steps", "updates", "episodes"]
    assert 1 <= float(last["rollout/ep_rew_mean"]) == float(last["rollout/ep_len_mean"]) <= 500
    assert float(last["train/learning_rate"]) == 3e-4
    losses = [row["train/value_loss"] for row in progress]
    assert losses[0] == "", "no update has happened by then"
    assert len([loss for loss in losses if loss and np.isfinite(float(loss))]) >= 6

    evaluations = rows(folder.evaluations.path)
    assert [int(row["clock"]) // 200 for row in evaluations] == [1, 2, 3]
    for row in evaluations:
        returns = np.array([float(word) for word in row["returns"].split()])
        assert len(returns) == 3
        assert float(row["mean"]) == returns.mean()
        assert float(row["std"]) == returns.std()
    for text in (str(folder.curve.relative_to(folder.path.parents[1])), "tensorboard --logdir", "bellmark evaluate"):
        assert text in out
    best = max(evaluations, key=lambda row: float(row["mean"]))
    assert checkpoint.read(folder.best)[0]["extra"]["clock"] == int(best["clock"])
    assert "buffer" not in checkpoint.read(folder.best)[0]


def test_the_protocol_of_evaluations_is_that_of_their_environment(bellmark, here):
    """Lives are lost within an episode of an evaluation, whatever ends one in training."""
    pytest.importorskip("ale_py")
    words = ["train", "ppo", "--env", "ALE/Pong-v5", "--env-kwargs", "life_loss = true, max_frames = 40", "--steps", 16]
    words += ["--rollout-length", 8, "--batch-size", 8, "--epochs", 1, "--eval-episodes", 1, "--run", "pong"]
    assert bellmark(*words)[0] == 0
    manifest = RunFolder(here / "pong").manifest()
    assert bellmark("evaluate", "pong", "--episodes", 1, "--json", "score.json")[0] == 0
    score = json.loads((here / "score.json").read_text())
    assert manifest["env"]["kwargs"]["life_loss"] is True
    assert manifest["evaluation"]["env"]["kwargs"] == manifest["env"]["kwargs"] | {"life_loss": False}
    assert manifest["evaluation"]["env"] == {name: score["env_settings"][name] for name in ("env_id", "kwargs")}


def test_tensorboard_has_the_names_of_stable_baselines3(finished, rows):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _ = finished
    events = EventAccumulator(str(folder))
    events.Reload()
    assert {
        *("rollout/ep_rew_mean", "rollout/ep_len_mean", "time/fps", "time/total_timesteps", "train/value_loss"),
        *("train/n_updates", "train/learning_rate", "eval/mean_reward", "eval/mean_ep_length"),
    } <= set(events.Tags()["scalars"])
    found = {event.step: event.value for event in events.Scalars("eval/mean_reward")}
    assert found == pytest.approx({int(row["clock"]): float(row["mean"]) for row in rows(folder.evaluations.path)})
    assert events.Scalars("time/total_timesteps")[-1].value == int(rows(folder.progress.path)[-1]["steps"])


def test_where_there_is_no_terminal_progress_is_plain_lines(finished):
    _, out = finished
    assert "\x1b[" not in out
    assert "of 600 steps" in out
    assert "evaluation at " in out


def test_evaluate_gives_the_numbers_of_the_run_for_the_same_seed(finished, rows, bellmark, here):
    folder, _ = finished
    row = rows(folder.evaluations.path)[-1]
    before = {path: path.stat().st_mtime_ns for path in folder.path.iterdir()}
    status, out, _ = bellmark(
        *("evaluate", folder, "--episodes", 3, "--seed", row["evaluation_seed"], "--json", here / "result.json")
    )
    assert status == 0
    result = json.loads((here / "result.json").read_text())
    assert " ".join(map(str, result["returns"])) == row["returns"]
    assert f"{float(row['mean']):.2f} ± {float(row['std']):.2f}" in out
    assert "3 episodes" in out
    assert "deterministic" in out
    assert {path: path.stat().st_mtime_ns for path in folder.path.iterdir()} == before
    stochastic = bellmark("evaluate", folder.best, "--episodes", 3, "--stochastic")
    assert stochastic[0] == 0
    assert "stochastic" in stochastic[1]


def test_evaluation_does_not_change_the_training(finished, bellmark, small_ppo, here):
    folder, _ = finished
    assert bellmark(*small_ppo, "--eval-episodes", 0, "--run", here / "quiet")[0] == 0
    _, with_evaluation = checkpoint.read(folder.last)
    _, without = checkpoint.read(here / "quiet" / "last.bell")
    assert with_evaluation.keys() == without.keys()
    assert all(value.equal(without[name]) for name, value in with_evaluation.items())
    assert not (here / "quiet" / "best.bell").exists()


def test_a_folder_that_holds_a_run_is_left_alone(finished, bellmark, small_ppo):
    folder, _ = finished
    before = folder.last.read_bytes()
    status, _, err = bellmark(*small_ppo)
    assert status == 1
    assert "bellmark resume" in err
    assert "--run" in err
    assert folder.last.read_bytes() == before
    with pytest.raises(RunExists):
        folder.create({})


def test_a_table_stays_whole(here):
    table = Table(here / "t.csv", ["clock"])
    table.add({"clock": 1})
    table.add({"clock": 2, "loss": 0.5})
    table.add({"clock": 3})
    assert table.path.read_text() == "clock,loss\n1,\n2,0.5\n3,\n"
    with table.path.open("a") as file:
        file.write("4")  # what a crash may leave
    again = Table(table.path)
    again.read(lambda row: int(row["clock"]) <= 2)
    again.add({"clock": 5, "loss": 1})
    assert table.path.read_text() == "clock,loss\n1,\n2,0.5\n5,1\n"


def test_rows_that_are_damaged_are_dropped(here):
    folder = RunFolder(here)
    lines = ["clock,mean,returns", "1,2.5,1 2", "2,x,1", "x,1,1", ",1,1", "3,,1", "3,1", "3,1,1 y", "4,nan,1", "5,1,1"]
    folder.evaluations.path.write_text("\n".join(lines))
    folder.go_on(4)
    assert folder.evaluations.path.read_text() == "clock,mean,returns\n1,2.5,1 2\n4,nan,1\n"
    folder.evaluations.path.write_bytes(b"clock,mean\n1,\xff\n")
    with pytest.raises(InvalidCheckpoint, match=r"evaluations.csv is damaged .* remove it"):
        folder.go_on(4)
