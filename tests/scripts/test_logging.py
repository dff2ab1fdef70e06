"""What a run folder tells other programs: stable-baselines3's plots, TensorBoard's HPARAMS, Weights & Biases."""

from __future__ import annotations

import sys
import types
from collections import defaultdict

import numpy as np
import pytest
from bellmark.scripts.monitor import Monitor, write_evaluations
from bellmark.scripts.run_folder import RunFolder
from bellmark.scripts.times import breakdown, hint


@pytest.fixture
def finished(bellmark, small_ppo, here):
    status, out, _ = bellmark(*small_ppo, "--run", "run")
    assert status == 0
    return RunFolder(here / "run"), out


def test_stable_baselines3_plots_read_the_folder(finished, rows):
    pytest.importorskip("pandas")
    plotter = pytest.importorskip("stable_baselines3.common.results_plotter")
    folder, _ = finished
    frame = plotter.load_results(str(folder))
    steps, returns = plotter.ts2xy(frame, plotter.X_TIMESTEPS)
    progress = rows(folder.progress.path)
    assert len(returns) == sum(int(row["episodes"]) for row in progress) > 10
    assert np.array_equal(frame.r, frame.l), "an episode of CartPole is worth its length"
    assert 500 < steps[-1] <= 600
    expected = float(progress[-1]["rollout/ep_rew_mean"])
    assert returns[-100:].mean() == pytest.approx(expected, rel=1e-5)
    assert (np.diff(frame.t) >= 0).all()
    plotter.plot_results([str(folder)], None, plotter.X_TIMESTEPS, "CartPole")


def test_evaluations_are_those_of_eval_callback(finished, rows):
    """As RL-Zoo's `all_plots` reads them."""
    folder, _ = finished
    with np.load(folder.evaluations_npz, allow_pickle=False) as found:
        assert set(found) == {"timesteps", "results", "ep_lengths"}
        table = rows(folder.evaluations.path)
        assert found["timesteps"].tolist() == [int(row["clock"]) for row in table]
        assert found["results"].shape == found["ep_lengths"].shape == (3, 3)
        assert found["results"].mean(1).tolist() == pytest.approx([float(row["mean"]) for row in table])
        assert np.array_equal(found["results"], found["ep_lengths"])


def test_a_resumed_run_writes_the_same(finished, bellmark, small_ppo, stopped, here):
    folder, _ = finished
    with stopped(430):
        bellmark(*small_ppo, "--run", "other")
    text = (here / "other" / "monitor.csv").read_bytes()
    (here / "other" / "monitor.csv").write_bytes(text + b"9.0,9,1.0,9999\n7.0,7")  # after the checkpoint, and torn
    assert bellmark("resume", "other")[0] == 0
    but_times = (slice(0, 2), slice(3, 4))
    lines = [
        [[line.split(",")[part] for part in but_times] for line in (path / "monitor.csv").read_text().splitlines()[1:]]
        for path in (folder.path, here / "other")
    ]
    assert lines[0] == lines[1]
    assert folder.evaluations_npz.read_bytes() == (here / "other" / "evaluations.npz").read_bytes()


def test_a_monitor_that_is_damaged(here):
    monitor = Monitor(here / "monitor.csv")
    monitor.go_on(5)
    monitor.add([], 1, 0.5, "A")
    assert not monitor.path.exists(), "a run without episodes has no file"
    monitor.add([(1.5, 3)], 4, 0.5, "A")
    monitor.add([(2.0, 2), (-1e9, 1)], 6, 0.75, "A")
    head, *lines = monitor.path.read_text().splitlines()
    assert head.startswith('#{"t_start": ') and head.endswith('"env_id": "A"}')
    assert lines == ["r,l,t,clock", "1.500000,3,0.500,4", "2.000000,2,0.750,6", "-1000000000.000000,1,0.750,6"]
    monitor.go_on(5)
    assert monitor.path.read_text().splitlines()[1:] == lines[:2]
    monitor.path.write_bytes(b"\xff\n\xff\n1,2,3,4\n")
    monitor.go_on(5)
    assert not monitor.path.exists()


def test_rows_with_fewer_episodes_are_left_out(here):
    rows = [
        {"clock": "1", "returns": "1.5 2.0", "lengths": "3 4"},
        {"clock": "2", "returns": "1.5", "lengths": "3"},
        {"clock": "3"},
        {"clock": "4", "returns": "-1.0 0.25", "lengths": "1 2"},
    ]
    write_evaluations(here / "e.npz", rows)
    with np.load(here / "e.npz", allow_pickle=False) as found:
        assert found["timesteps"].tolist() == [1, 4]
        assert found["results"].tolist() == [[1.5, 2.0], [-1.0, 0.25]]


def test_tensorboard_has_the_settings(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    events = EventAccumulator(str(finished[0]))
    events.Reload()
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    found = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert found["agent"].string_value == "ppo"
    assert found["env"].string_value == "CartPole-v1"
    assert (found["rollout_length"].number_value, found["gamma"].number_value) == (32, 0.99)
    assert found["hidden"].string_value == "[8]"
    assert found["normalize_obs"].bool_value is False


class FakeRun:
    def __init__(self):
        self.rows, self.metrics, self.finished = [], {}, 0

    def define_metric(self, name, step_metric=None):
        self.metrics[name] = step_metric

    def log(self, values):
        self.rows.append(values)

    def finish(self):
        self.finished += 1


def test_weights_and_biases_gets_every_number(bellmark, small_ppo, stopped, rows, here, monkeypatch):
    runs, asked = defaultdict(FakeRun), []
    fake = types.ModuleType("wandb")
    fake.init = lambda **options: asked.append(options) or runs[options["id"]]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    with stopped(430):
        bellmark(*small_ppo, "--run", "run", "--wandb", "cart")
    assert bellmark("resume", "run")[0] == 0
    assert [options["project"] for options in asked] == ["cart", "cart"]
    assert len(runs) == 1, "the resumed run is another one"
    assert asked[0]["config"]["settings"]["rollout_length"] == 32
    (run,) = runs.values()
    assert run.finished == 2
    assert run.metrics == {"clock": None, "*": "clock"}
    logged = {row["clock"]: row for row in run.rows if "train/value_loss" in row}
    for row in rows(here / "run" / "progress.csv"):
        if row["train/value_loss"]:
            expected = float(row["train/value_loss"])
            assert logged[int(row["clock"])]["train/value_loss"] == pytest.approx(expected, rel=1e-5)
    means = {row["clock"]: row["eval/mean_reward"] for row in run.rows if "eval/mean_reward" in row}
    table = rows(here / "run" / "evaluations.csv")
    assert means == {int(row["clock"]): float(row["mean"]) for row in table}
    assert bellmark("rerun", "run")[0] == 0
    assert len(asked) == 2, "a repetition is no new experiment"


def test_without_the_package_the_remedy_is_named(bellmark, small_ppo, here, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    status, _, err = bellmark(*small_ppo, "--run", "run", "--wandb", "cart")
    assert status == 1
    assert "pip install 'bellmark[wandb]'" in err
    assert not (here / "run").exists()


def spent(backend="sync", **seconds):
    return types.SimpleNamespace(seconds=seconds, env=backend and types.SimpleNamespace(backend=backend))


def test_the_time_of_a_run(finished):
    _, out = finished
    line = next(line for line in out.splitlines() if line.startswith("  time "))
    assert "updates " in line and "environment " in line and "evaluation, saving and logging " in line
    slow = spent(acting=1.0, environment=6.0, update=3.0, hooks=10.0)
    assert breakdown(slow) == "evaluation, saving and logging 50%, environment 30%, updates 15%, acting 5%"
    assert hint(slow).startswith("the environment, not the learner, takes 60% of the training: try --backend async")
    assert "--backend" not in hint(spent("async", environment=6.0, update=3.0))
    assert hint(spent(environment=4.0, update=6.0)) == ""
    assert hint(spent(None, update=6.0)) == ""


def test_no_row_is_written_twice(bellmark, rows, here):
    """Three environments step over the planned end, which is a row."""
    words = ["--env", "CartPole-v1", "--num-envs", 3, "--steps", 100, "--log-every", 20, "--hidden", "8"]
    assert bellmark("train", "dqn", *words, "--start", 30, "--run", "run")[0] == 0
    clocks = [int(row["clock"]) for row in rows(here / "run" / "progress.csv")]
    assert clocks == sorted(set(clocks)) and clocks[-1] >= 100
