"""`bellmark plot`: curves of runs, joined over seeds, with smoothing that is stated."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from bellmark.scripts import plot
from bellmark.scripts.plot import joined, smoothed
from bellmark.scripts.plots import Curve, panels
from bellmark.scripts.run_folder import RunFolder


def a_run(path, agent="td3", seed=0, slope=1.0, settings=None, clocks=range(0, 50, 10), env="Hopper-v5"):
    """A run folder without a run: `loss` is slope * clock."""
    folder = RunFolder(path)
    manifest = {"kind": "train", "agent": agent, "seed": seed, "command": [], "options": {"env": env}, "data": None}
    manifest |= {"settings": settings or {"gamma": 0.99}, "env": {"env_id": env}, "versions": {}}
    path.mkdir(parents=True)
    folder.write_manifest(manifest)
    for clock in clocks:
        folder.progress.add({"clock": clock, "steps": clock, "train/loss": slope * clock})
        folder.evaluations.add({"clock": clock, "mean": seed})
    return folder


@pytest.fixture
def drawn(monkeypatch, bellmark):
    """Runs the command and gives what is drawn instead of drawing it."""

    def run(*words):
        found = []
        with monkeypatch.context() as patch:
            patch.setattr(plot, "panels", lambda path, curves, unit: found.append((path, curves, unit)))
            assert bellmark("plot", *words)[0] == 0
        return found[0]

    return run


def test_seeds_are_joined_and_settings_told_apart(here, drawn):
    a_run(here / "a" / "0", slope=1.0)
    a_run(here / "a" / "1", seed=1, slope=3.0, clocks=range(5, 40, 5))
    a_run(here / "b", seed=2, slope=5.0, settings={"gamma": 0.9})
    a_run(here / "c", agent="ppo")
    path, found, unit = drawn("a", "b", "c", "--metric", "train/loss", "eval/mean_reward")
    assert (str(path), unit, [*found]) == ("plot.png", "clock", ["train/loss", "eval/mean_reward"])
    both, other, ppo = found["train/loss"]
    assert both.name == "td3 on Hopper-v5 gamma=0.99 (2 runs: mean, least to greatest)"
    assert (other.name, ppo.name) == ("td3 on Hopper-v5 gamma=0.9", "ppo on Hopper-v5")
    assert both.x.tolist() == [5, 10, 15, 20, 25, 30, 35], "only where both have values"
    np.testing.assert_allclose([both.low, both.y, both.high], np.outer([1, 2, 3], both.x))
    assert [curve.y[0] for curve in found["eval/mean_reward"]] == [0.5, 2.0, 0.0]
    _, found, _ = drawn("a", "--metric", "train/loss", "--each", "--x", "steps")
    assert [curve.name for curve in found["train/loss"]] == ["a/0", "a/1"]


def test_tasks_and_options_of_data_are_told_apart():
    def named(**manifest):
        base = {"agent": "iql", "settings": {}, "env": None, "data": {"options": {}}, "options": {"data": "a/set.hdf5"}}
        return plot.Run(path=None, manifest=base | manifest, tables={})

    online = {"data": None, "env": {"env_id": "Env-v0"}}
    runs = [
        named(),
        named(options={"data": "set.hdf5", "learn_steps": 9}),
        named(**online, options={"env_kwargs": "N = 12"}),
        named(**online, options={"env_kwargs": "N = 16"}),
    ]
    tasks = ["set.hdf5", "set.hdf5, then online", "Env-v0 (N=12)", "Env-v0 (N=16)"]
    assert plot.labels(runs, False) == [f"iql on {task}" for task in tasks]
    shares = [named(data={"options": {"top_episodes": share, "task": ""}}) for share in (0.1, 1.0)]
    assert plot.labels(shares, False) == [f"iql on set.hdf5 top_episodes={share}" for share in (0.1, 1.0)]


def test_smoothing_is_stated(here, drawn):
    a_run(here / "a")
    _, found, _ = drawn("a", "--metric", "train/loss", "--smooth", 3)
    ((name, (curve,)),) = found.items()
    assert name == "train/loss\n(mean of 3 rows)"
    assert curve.y.tolist() == [0.0, 5.0, 10.0, 20.0, 30.0]
    assert curve.x.tolist() == [0, 10, 20, 30, 40]


def test_smoothing_is_a_running_mean():
    y = np.random.default_rng(0).normal(size=50)
    expected = [y[max(i - 6, 0) : i + 1].mean() for i in range(50)]
    np.testing.assert_allclose(smoothed(np.stack([np.arange(50.0), y]), 7)[1], expected)
    assert joined("a", [np.array([[0.0, 1.0], [2.0, 4.0]])]).name == "a"


def test_a_curve_looks_the_same_in_all_axes_and_unlike_others_without_colour(here, monkeypatch):
    from matplotlib.figure import Figure

    figures, x = [], np.arange(2.0)
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: figures.append(self))
    curves = [Curve(name, x, x, x, x) for name in ("a", "b", "c", "d", "e")]
    panels(here / "a.png", {"first": curves, "second": curves[1:3]}, "clock")
    first, second = (
        {line.get_label(): (line.get_color(), line.get_linestyle(), line.get_marker()) for line in axes.lines}
        for axes in figures[0].axes
    )
    assert second == {name: first[name] for name in "bc"}
    assert len({look[1:] for look in first.values()}) == 5


def test_a_picture_of_a_run(bellmark, small_ppo, here):
    assert bellmark(*small_ppo, "--run", "run", "--steps", 300, "--no-progress")[0] == 0
    metrics = ("--metric", "rollout/ep_rew_mean", "train/value_loss")
    for out in ("p.svg", "again.svg", "p.png", "p.pdf"):
        assert bellmark("plot", "run", *metrics, "--smooth", 2, "--out", out)[0] == 0
    texts = {text for element in ElementTree.parse(here / "p.svg").iter() for text in [(element.text or "").strip()]}
    assert {"rollout/ep_rew_mean", "train/value_loss", "(mean of 2 rows)", "clock", "ppo on CartPole-v1"} <= texts
    assert (here / "p.svg").read_bytes() == (here / "again.svg").read_bytes()
    assert (here / "p.png").read_bytes().startswith(b"\x89PNG")
    assert (here / "p.pdf").read_bytes().startswith(b"%PDF")


def test_what_cannot_be_drawn(here, bellmark):
    a_run(here / "a")
    cases = {
        ("a", "--metric", "train/los"): "did you mean train/loss",
        ("nowhere",): "nowhere holds no run",
        ("a", "--out", "p.jpeg"): "must end in .png, .svg or .pdf",
        ("a", "--smooth", "0"): "must be at least 1 row",
    }
    for words, message in cases.items():
        status, _, err = bellmark("plot", *words)
        assert status == 1
        assert message in err
    (here / "a" / "manifest.json").write_text(json.dumps({"format": 1}))
    assert "is damaged" in bellmark("plot", "a")[2]
