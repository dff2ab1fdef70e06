"""`bellmark compare`: what its words mean, what it reads, what it runs and what it says."""

from __future__ import annotations

import json

import numpy as np
import pytest
from bellmark.agents.core.errors import InvalidData, InvalidSetting
from bellmark.agents.core.spec import Spec
from bellmark.scripts.compare import Arguments, gather
from bellmark.scripts.comparison import readers, running
from bellmark.scripts.comparison.console import show
from bellmark.scripts.comparison.contestants import parse, words
from bellmark.scripts.comparison.page import interval
from bellmark.scripts.comparison.runs import Published, Run, named
from bellmark.scripts.comparison.summary import summarize
from bellmark.scripts.comparison.translation import translate
from bellmark.scripts.outcome import UsageError
from bellmark.scripts.run_folder import RunFolder

SMALL = ["--steps", 64, "--eval-episodes", 1, "--seeds", 1]


def run(contestant, seed, mean, env="Env-v0", clock=(10, 20), **more):
    return Run(contestant, env, seed, np.array(clock), np.asarray(mean, float), **more)


def a_run_folder(path, clocks=(50, 100), seed=1, agent="iql", kind="fit", data=None, changes=(), **options):
    """A run folder without a run: each evaluation took 2 seconds, all the rest 1 second per tick."""
    folder, sb3 = RunFolder(path), agent.startswith("sb3:")
    options = {"fit": {"data": "set.hdf5", "updates": 100}, "train": {"env": "Env-v0", "steps": 100}}[kind] | options
    described = {"options": data or {}, "sha256": "", "env_id": "", "protocol": ""} if kind == "fit" else None
    manifest = {"kind": kind, "agent": agent, "seed": seed, "command": [], "options": options, "data": described}
    manifest |= {"settings": {"gamma": 0.99}, "versions": {}, "env": None, "spec": None, "machine": {"code": "abc"}}
    path.mkdir(parents=True)
    folder.write_manifest(manifest | {"changes": [*changes]})
    for count, clock in enumerate(clocks):
        folder.progress.add({"clock": clock, "time/time_elapsed": clock + 2 * (count + sb3)})
        folder.evaluations.add({"clock": clock, "mean": clock, "seconds": 2.0, "episodes": 10})
    return folder


def test_words_of_contestants(here):
    (here / "runs").mkdir()
    assert parse("td3").settings == ()
    found = parse("slow=sb3:td3:actor_delay=3,hidden=[64,32],double=true,schedule=linear")
    assert (found.label, found.library, found.agent) == ("slow", "sb3", "td3")
    options = ["--actor-delay", "3", "--hidden", "64", "32", "--double", "--schedule", "linear"]
    assert list(found.settings) == options
    assert parse("runs").path is not None and parse("old=runs").label == "old"
    assert words("a=false") == ("--no-a",)
    for word, message in {
        "tdd3": "did you mean td3",
        "sb3:iql": "stable-baselines3",
        "td3:actor_delay": "no setting",
    }.items():
        with pytest.raises(UsageError, match=message):
            parse(word)


def test_evaluations_of_stable_baselines3_are_read_without_pickle(here):
    folder = here / "logs" / "td3" / "Hopper-v5_3"
    (folder / "Hopper-v5").mkdir(parents=True)
    (folder / "Hopper-v5" / "args.yml").write_text(
        "!!python/object/apply:x\n- - - algo\n    - td3\n  - - seed\n    - 42\n"
    )
    np.savez(folder / "evaluations.npz", timesteps=[100, 200], results=[[1.0, 3.0], [5.0, 7.0]])
    (found,) = readers.read(here / "logs")[0]
    assert (found.contestant, found.env, found.seed) == ("td3", "Hopper-v5", 42)
    assert found.clock.tolist() == [100, 200] and found.mean.tolist() == [2.0, 6.0]
    np.savez(folder / "evaluations.npz", timesteps=[1], results=np.array([{"a": 1}], object))
    with pytest.raises(InvalidData, match="damaged"):
        readers.read(here / "logs")
    (folder / "evaluations.npz").write_bytes(b"PK nothing")
    with pytest.raises(InvalidData, match="damaged"):
        readers.read(here / "logs")


def test_monitor_files_are_merged_by_time(here):
    (here / "0.monitor.csv").write_text('#{"t_start": 1, "env_id": "CartPole-v1"}\nr,l,t\n1.0,10,0.1\n3.0,10,0.3\n')
    (here / "1.monitor.csv").write_text('#{"t_start": 1, "env_id": "CartPole-v1"}\nr,l,t\n2.0,5,0.2\n')
    (found,) = readers.read(here)[0]
    assert found.env == "CartPole-v1" and "training episodes" in found.protocol
    assert found.clock.tolist() == [10, 15, 25] and found.mean.tolist() == [1.0, 1.5, 2.0]


def test_tables_of_runs_and_of_published_scores(here):
    table = here / "scores.csv"
    table.write_text("algorithm,env,steps,mean,std,seeds,spread\nTD3,Env-v0,10,5.0,2.0,5,std over seeds (population)\n")
    runs, (row,) = readers.read(table)
    assert not runs and (row.contestant, row.mean, row.clock) == ("TD3", 5.0, 10)
    assert row.deviation == pytest.approx(2.0 * (5 / 4) ** 0.5)
    assert np.isnan(row._replace(spread="std over episodes and seeds").deviation)
    assert row._replace(spread="standard error over seeds").deviation == pytest.approx(2.0 * 5**0.5)
    (here / "own.csv").write_text(
        "name,seed,clock,eval_mean,command\na,1,20,4.0,bellmark train x --env Env-v0 --seed 1\n"
    )
    (here / "own-curves.csv").write_text("name,seed,clock,mean\na,1,10,1.0\na,1,20,4.0\nb,1,10,9.0\n")
    (found,) = readers.read(here / "own.csv")[0]
    assert (found.env, found.mean.tolist(), found.clock.tolist()) == ("Env-v0", [1.0, 4.0], [10, 20])
    table.write_text("a,b\n1,2\n")
    with pytest.raises(InvalidData, match="columns"):
        readers.read(table)


def test_runs_of_one_agent_are_told_apart_by_the_settings_that_differ():
    runs = [
        run("td3", seed, [0, 1], settings={"tau": tau, "gamma": 0.99}) for seed, tau in ((1, 0.1), (2, 0.1), (1, 0.2))
    ]
    assert [found.contestant for found in named(runs, [])] == ["td3:tau=0.1", "td3:tau=0.1", "td3:tau=0.2"]
    assert [found.contestant for found in named(runs[:2], ["td3"])] == ["td3 (read)"] * 2


def test_runs_on_data_are_told_apart_by_what_was_done_to_it(here):
    for seed, share in ((1, 1.0), (2, 1.0), (3, 0.1)):
        a_run_folder(here / "runs" / f"{seed}", seed=seed, data={"top_episodes": share, "scale_returns": False})
    found = named(readers.read(here / "runs")[0], [])
    assert [run.contestant for run in found] == ["iql:top_episodes=1.0"] * 2 + ["iql:top_episodes=0.1"]


def test_unfinished_runs_are_left_out_where_others_are_finished(here):
    for seed, clocks in enumerate(((50, 100), (50,), (50, 99))):
        a_run_folder(here / "runs" / f"{seed}", clocks, seed, agent="td3", kind="train")
    a_run_folder(here / "runs" / "extended", seed=5, agent="td3", kind="train", changes=[extension(200)])
    s = summarize(readers.read(here / "runs")[0], [])
    assert s.scores["td3", "Env-v0"].tolist() == [100.0, 99.0, 100.0]
    assert s.curve("td3", "Env-v0")[0].tolist() == [50, 99], "the curves go as far as those that are left"
    text = "; ".join(s.warnings)
    assert "seed 1: left out, for it is unfinished (50 of 100)" in text and f"resume {here}/runs/1`" in text
    assert "td3, Env-v0: 2 of 3 runs are unfinished" in text and "seed 0" not in text
    a_run_folder(here / "runs" / "longer", (50, 200), 6, agent="td3", kind="train", steps=200)
    s = summarize(readers.read(here / "runs")[0], [])
    assert s.scores["td3", "Env-v0"].tolist() == [100.0, 200.0], "what is finished stays"
    assert "td3, Env-v0: lengths of training differ between its runs (100 to 200)" in s.warnings


def extension(steps):
    return {"clock": 100, "steps": steps, "device": ""}


def test_tasks_that_differ_are_not_compared_with_each_other(here):
    kinds = [{}, {"env_kwargs": "N = 12"}, {"env_kwargs": "N=16"}, {"env_kwargs": "N=12"}]
    for seed, options in enumerate(kinds):
        a_run_folder(here / "runs" / f"{seed}", seed=seed, agent="ppo", kind="train", **options)
    a_run_folder(here / "runs" / "offline", seed=4)
    a_run_folder(here / "runs" / "online", (50, 110), 5, learn_steps=10)
    tasks = ["Env-v0", "Env-v0 (N=12)", "Env-v0 (N=16)", "Env-v0 (N=12)", "set.hdf5", "set.hdf5, then online"]
    runs = readers.read(here / "runs")[0]
    assert [run.env for run in runs] == tasks
    s = summarize(runs, [], thresholds={"Env-v0": 7.0, "Env-v0 (N=16)": 8.0}, scales={"Env-v0": (0.0, 500.0)})
    assert [s.thresholds[task][0] for task in tasks[:3]] == [7.0, 7.0, 8.0]
    assert s.scales["Env-v0 (N=12)"][:2] == (0.0, 500.0)
    found = gather(Arguments(contestants=("runs",), env=("Env-v0",)), here / "out")[0]
    assert [run.env for run in found] == tasks[:4]
    found = gather(Arguments(contestants=("runs",), env=("Env-v0 (N=16)",)), here / "out")[0]
    assert [run.env for run in found] == tasks[2:3]
    lines = ["fit iql --data set.hdf5 --learn-steps 9 --seed 1", "fit iql --data set.hdf5 --seed 1"]
    (here / "own.csv").write_text(
        "\n".join(["name,seed,clock,eval_mean,command", *(f"a,1,20,4.0,bellmark {line}" for line in lines)]) + "\n"
    )
    assert [run.env for run in readers.read(here / "own.csv")[0]] == ["set.hdf5, then online", "set.hdf5"]


def test_different_code_is_said():
    runs = [
        run(name, seed, [0, 1], versions={"Bellmark's code": code})
        for name, seed, code in (("a", 1, "1f"), ("a", 2, "1f"), ("b", 1, "2f"))
    ]
    assert "versions of Bellmark's code differ: 1f, 2f" in summarize(runs, []).warnings
    assert not any("code" in text for text in summarize(runs[:2], []).warnings)


@pytest.mark.parametrize("agent", ["td3", "sb3:td3"])
def test_only_evaluations_that_the_last_row_counts_are_no_training(here, agent):
    folder = a_run_folder(here / "run", agent=agent, kind="train")
    found = readers.ours(folder)
    assert found.seconds == 100.0 and found.versions == {"Bellmark's code": "abc"}
    folder.evaluations.add({"clock": 120, "mean": 1.0, "seconds": 2.0, "episodes": 10})
    assert readers.ours(folder).seconds == 100.0, "an evaluation after the last row"


def test_the_summary_counts_what_it_is_given():
    runs = [run("a", seed, [0, end]) for seed, end in enumerate((10, 20, 30))]
    runs += [run("b", seed, [0, end], clock=(10, 40)) for seed, end in enumerate((0, 5))]
    s = summarize(runs, [Published("c", "Elsewhere-v0", 0, 1.0, 1.0, 3, "", "")], thresholds={"Env-v0": 20.0})
    assert s.means["a", "Env-v0"].value == 20.0 and s.reached["a", "Env-v0"].tolist() == [np.inf, 20.0, 20.0]
    assert s.scales["Env-v0"][:2] == (0.0, 30.0)
    assert s.aggregates["a", "mean"].value == pytest.approx(20 / 30)
    assert s.improvements["a", "b"].value == 1.0 and s.improvements["a", "b"].low < 0.8
    assert not s.published
    text = " ".join(s.warnings)
    assert "a: 3 runs" in text and "b: 2 runs" in text and "lengths of training differ" in text
    clock, mean, half = s.curve("a", "Env-v0")
    assert clock.tolist() == [10, 20] and mean.tolist() == [0.0, 20.0]
    assert half[1] == pytest.approx(4.30265 * 10 / 3**0.5, rel=1e-5)
    best = summarize([run("a", 1, [5, 1])], [], which="best", scales={"Env-v0": (0.0, 10.0)})
    assert best.aggregates["a", "mean"].value == 0.5 and "flatter" in best.warnings[0]


@pytest.mark.parametrize("width", [60, 80])
def test_every_number_stands_whole_in_a_terminal(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    runs = [run(name, seed, [0, -1000.5 * seed]) for name in ("td3:hidden=[64,64]", "sb3:td3") for seed in (1, 2)]
    s = summarize(runs, [Published("c", "Env-v0", 0, 1.0, 0.0, 3, "std over seeds", "")])
    show(s)
    out = capsys.readouterr().out
    whole = interval(s.means["sb3:td3", "Env-v0"])
    assert whole == "-1,501 [-7,857, 4,856]" and (width < 80 or whole in out) and "4,856]" in out
    e = s.aggregates["sb3:td3", "IQM"]
    assert f"[{e.low:.2f}," in out and f" {e.high:.2f}]" in out
    assert "no spread" in out


def test_settings_in_the_words_of_stable_baselines3():
    stable_baselines3 = pytest.importorskip("stable_baselines3")
    from inspect import signature

    from bellmark.agents.core.registry import agent_class

    box = Spec(obs_shape=(3,), actions=1, discrete=False, action_shape=(1,), action_low=(-2.0,), action_high=(2.0,))
    discrete = Spec(obs_shape=(4,), actions=2, discrete=True)

    def of(agent, spec=box, num_envs=1, **changes):
        known = set(signature(getattr(stable_baselines3, agent.upper()).__init__).parameters)
        config = agent_class(agent).config.override(changes).to_dict()
        return translate(agent, config, known, spec, num_envs)

    for agent in ("a2c", "ddpg", "dqn", "ppo", "sac", "td3"):
        assert of(agent, discrete if agent == "dqn" else box).untranslated == []
    td3 = of("td3", actor_delay=3, critics=4, critic_hidden=[7])
    assert (td3.settings["policy_delay"], td3.settings["learning_starts"]) == (3, 10_000)
    assert td3.settings["policy_kwargs"] == {"net_arch": {"pi": [256, 256], "qf": [7]}, "n_critics": 4}
    assert of("td3", layer_norm=True, replay="prioritized").untranslated == [
        "replay = prioritized",
        "layer_norm = True",
    ]
    dqn = of("dqn", discrete, num_envs=4)
    assert (dqn.settings["train_freq"], dqn.settings["gradient_steps"]) == (1, 1)
    assert of("dqn", discrete, double=True).untranslated == ["double = True"]
    assert of("dqn", discrete, update_ratio=0.3).untranslated == ["train_every = 4, update_ratio = 0.3"]
    ppo = of("ppo", log_std=-1.0, normalize_obs=True, schedule="linear", learning_rate=1e-3)
    assert ppo.settings["policy_kwargs"]["log_std_init"] == pytest.approx(-1.0 + np.log(2.0))
    assert ppo.normalize == {"norm_obs": True, "norm_reward": False, "gamma": 0.99}
    assert ppo.settings["learning_rate"](0.25) == pytest.approx(2.5e-4)
    assert of("sac", temperature=0.5).settings["ent_coef"] == "auto_0.5"


def test_actions_of_stable_baselines3_are_rescaled_for_our_environments():
    pytest.importorskip("stable_baselines3")
    from types import SimpleNamespace

    from bellmark.scripts.comparison.sb3 import Actor
    from gymnasium.spaces import Box

    bounds = {"action_low": (-2.0, 0.0), "action_high": (2.0, 1.0)}
    spec = Spec(obs_shape=(3,), actions=2, discrete=False, action_shape=(2,), **bounds)
    action = np.array([[2.0, 0.25], [-1.0, 1.0]], np.float32)
    space = Box(np.array(spec.action_low, np.float32), np.array(spec.action_high, np.float32))
    model = SimpleNamespace(predict=lambda *_, deterministic: (action, None), get_env=lambda: None, action_space=space)
    np.testing.assert_allclose(Actor(model, spec).act_on(np.zeros((2, 3)), explore=False), [[1.0, -0.5], [-0.5, 1.0]])


def test_the_grid_is_run_once_and_compared(bellmark, here, rows, monkeypatch):
    """Trains one run of ours and one of stable-baselines3, in processes of their own."""
    pytest.importorskip("stable_baselines3")
    contestants = [
        "compare",
        "ppo:hidden=[8],rollout_length=32,epochs=1",
        "sb3:ppo:hidden=[8],rollout_length=32,epochs=1",
    ]
    call = [*contestants, "--env", "CartPole-v1", *SMALL, "--out", "out"]
    status, out, err = bellmark(*call)
    assert status == 0, out + err
    assert "2 of 2 runs, 100%" in out and "one run has no interval" in out
    points = rows(here / "out" / "runs.csv")
    ours, theirs = ([row for row in points if row["contestant"].startswith(name)] for name in ("ppo", "sb3"))
    assert len(ours) == len(theirs) == 11
    assert [row["clock"] for row in ours] == [row["clock"] for row in theirs]
    assert all(float(row["peak_bytes"]) > 5e7 and float(row["train_seconds"]) > 0 for row in points)
    seeds = [rows(path)[-1]["evaluation_seed"] for path in (here / "out" / "runs").glob("*/evaluations.csv")]
    assert seeds[0] == seeds[1]
    for path in (here / "out" / "runs").glob("sb3*/manifest.json"):
        assert "stable_baselines3" in json.loads(path.read_text())["versions"]
    monkeypatch.setattr(running.grid, "run", lambda *a, **k: pytest.fail("ran again"))
    assert bellmark(*call)[0] == 0
    status, out, _ = bellmark("compare", "out/runs", "again=out/runs.csv", "--out", "second")
    assert status == 0 and "sb3:ppo" in out and "again" in out
    assert bellmark(*call[:-2], "--out", "third", "--read-only")[0] == 1


def test_the_plan_tells_runs_apart_by_all_that_decides_their_numbers(here):
    def plan(word, kind="train", task="CartPole-v1", options=("--steps", "40"), seeds=(1, 2)):
        return running.plan([parse(word)], [(kind, task)], seeds, list(options), here)

    first, second = plan("ppo")
    assert (first.job.command[:4], first.end, first.module) == (["train", "ppo", "--env", "CartPole-v1"], 40, "main")
    assert (first.job.seed, second.job.seed) == (1, 2) and first.job.folder != second.job.folder
    assert plan("ppo")[0].job.folder == plan("name=ppo:hidden=[64,64]")[0].job.folder == first.job.folder
    others = [plan("ppo:epochs=2"), plan("sb3:ppo"), plan("a2c"), plan("ppo", options=("--steps", "50"))]
    assert len({found[0].job.folder for found in [plan("ppo"), *others]}) == 5
    offline = plan("iql", "fit", "some.hdf5", ("--updates", "30"))[0]
    words = ("iql", "iql:scale_returns=true", "iql:top_episodes=0.5", "iql:reward_shift=-1.0", "iql:learn_steps=9")
    found = [plan(word, "fit", "some.hdf5", ("--updates", "30"))[0] for word in words]
    assert len({planned.job.folder for planned in found}) == len(words), "options of the data"
    assert [planned.task for planned in found[-2:]] == ["some.hdf5", "some.hdf5, then online"]
    assert (offline.job.command[:4], offline.end) == (["fit", "iql", "--data", "some.hdf5"], 30)
    with pytest.raises(InvalidSetting, match="environment"):
        plan("sb3:td3", "fit", "some.hdf5", ())
    first.job.folder.mkdir()
    for text, clock, done in (("clock\n20\n", 20, False), ("clock\n20\n40\n", 40, True), ("clock\n20\n40", 20, False)):
        (first.job.folder / "evaluations.csv").write_text(text)  # a row without its end is not there yet
        assert (first.clock, first.done) == (clock, done)


def test_what_makes_no_sense_is_refused_before_anything_runs(bellmark, here):
    for call, message in {
        (): "say who is compared",
        ("td3",): "--env",
        ("td3", "td3", "--env", "Pendulum-v1"): "named twice",
        ("td3:actor_dely=1", "--env", "Pendulum-v1"): "did you mean",
        ("td3", "--env", "Pendulum-v1", "--seeds", "1", "1"): "different seeds",
        ("td3", "--env", "Pendulum-v1", "--scale", "Pendulum-v1=3"): "env=low:high",
        ("nowhere/runs",): "neither a folder nor a CSV",
    }.items():
        status, _, err = bellmark("compare", *call)
        assert status in (1, 2) and message in err
    assert not (here / "runs").exists()
