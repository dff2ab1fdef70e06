"""`bellmark collect` and `bellmark ope`, from a run to a ranking of its checkpoints."""

from __future__ import annotations

import json

import gymnasium
import h5py
import numpy as np
import pytest
from bellmark.agents.core.buffer import Buffer
from bellmark.offline.card import card, problems
from bellmark.offline.dataset import dataset

TRAIN = ["train", "dqn", "--env", "CartPole-v1", "--num-envs", 2, "--steps", 300, "--hidden", 8, "--start", 50]
TRAIN += ["--checkpoint-every", 100, "--keep-checkpoints", "--eval-episodes", 0, "--no-progress", "--run", "run"]
TRAIN += ["--learning-rate", 0.01, "--update-ratio", 1, "--target-every", 50]
SMALL = ["--env", "CartPole-v1", "--num-envs", 2, "--steps", 120, "--part", 60]


def column(path, name):
    with h5py.File(path) as file:
        return file[name][()]


@pytest.fixture
def run(bellmark, here):
    assert bellmark(*TRAIN)[0] == 0
    return here / "run"


def test_every_checkpoint_is_kept_with_its_buffer(run, bellmark, here):
    kept = sorted(path.name for path in run.glob("step-*.bell"))
    assert len(kept) == 3 and kept[0] == "step-000000000100.bell"
    assert (run / kept[-1]).read_bytes() == (run / "last.bell").read_bytes()
    for steps, name in zip((100, 200, 300), kept, strict=True):
        status, _, errors = bellmark("collect", "medium-replay", run / name, "--out", f"{steps}.hdf5")
        assert status == 0, errors
        assert len(column(here / f"{steps}.hdf5", "rewards")) == pytest.approx(steps, abs=2)
    first, last = column(here / "100.hdf5", "rewards"), column(here / "300.hdf5", "rewards")
    assert len(last) > len(first)


def test_recipes(run, bellmark, here):
    checkpoints = sorted(run.glob("step-*.bell"))
    for words in (
        ["random", *SMALL],
        ["mix", checkpoints[0], checkpoints[-1], "--shares", 1, 3, *SMALL, "--out", "mix.hdf5"],
        ["expert", run, "--steps", 60, "--num-envs", 2, "--deterministic", "--out", "expert.hdf5"],
    ):
        status, out, errors = bellmark("collect", *words)
        assert status == 0, errors
        assert "episodes" in out
    data = dataset("CartPole-v1-random.hdf5")
    assert data.env_id == "CartPole-v1" and data.metadata["recipe"] == "random" and data.recorded >= 120
    assert isinstance(data.buffer, Buffer) and data.metadata["seed"] == 0
    logs = column("CartPole-v1-random.hdf5", "infos/action_log_probs")
    np.testing.assert_allclose(logs, np.log(0.5), atol=1e-6)
    with h5py.File("expert.hdf5") as file:
        assert "infos" not in file and file["metadata/deterministic"][()]
        assert file["metadata/agents"][()] == b"dqn"
    assert dataset("mix.hdf5").recorded >= 120


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["random", "agent.bell"], "takes no agents"),
        (["expert"], "needs agents"),
        (["medium", "agent.bell"], "--expert"),
        (["mix", "a", "b", "--shares", "1"], "one non-negative number for each"),
        (["random", "--steps", "0"], "must be at least 1"),
        (["random"], "--env"),
        (["expert", "nowhere.bell", "--env", "CartPole-v1"], "neither a checkpoint nor a run folder"),
    ],
)
def test_refusals(words, message, bellmark):
    status, _, errors = bellmark("collect", *words)
    assert status in (1, 2) and message in " ".join(errors.replace("│", " ").split())  # tyro draws a box


def test_an_agent_of_another_environment_is_refused(run, bellmark):
    status, _, errors = bellmark("collect", "expert", run, "--env", "Pendulum-v1")
    assert status == 1 and "choose another" in errors


def test_checkpoints_are_judged_and_ranked(run, bellmark, rows, here):
    assert bellmark("collect", "expert", run, *SMALL, "--out", "data.hdf5")[0] == 0
    words = ["--data", "data.hdf5", "--updates", 20, "--hidden", 8, "--episodes", 2, "--stochastic"]
    status, out, errors = bellmark("ope", run, *words)
    assert status == 0, errors
    estimates, selected = rows(here / "ope" / "estimates.csv"), rows(here / "ope" / "selection.csv")
    assert len(estimates) == 3 and "rank correlation" in out
    last = estimates[-1]  # the policy of the data: every ratio is 1
    baseline = json.loads((here / "ope" / "protocol.json").read_text())["behaviour_value"]
    for name in ("is", "wis", "pdis", "wpdis"):
        assert float(last[name]) == pytest.approx(baseline, rel=1e-3)
    assert {row["k"] for row in selected} == {"1", "2", "3"}
    truth = np.array([float(row["true"]) for row in estimates])
    best = [row for row in selected if row["estimator"] == "fqe" and row["k"] == "3"]
    assert float(best[0]["best_at_k"]) == truth.max() and float(best[0]["regret_at_k"]) == 0.0
    assert (here / "ope" / "calibration.png").read_bytes()[:4] == b"\x89PNG"


def test_without_log_probabilities_or_environment_there_is_fitted_evaluation_alone(run, bellmark, rows, here):
    assert bellmark("collect", "expert", run, *SMALL, "--deterministic", "--out", "data.hdf5")[0] == 0
    words = ["--data", "data.hdf5", "--updates", 5, "--hidden", 8, "--episodes", 0, "--out", "o"]
    status, out, _ = bellmark("ope", run / "last.bell", *words)
    assert status == 0
    (row,) = rows(here / "o" / "estimates.csv")
    assert "fqe" in row and "is" not in row and "true" not in row
    assert out.count("importance sampling is left out: the data have no infos/action_log_probs: name the policy") == 1
    assert not (here / "o" / "calibration.png").exists()


def test_estimates_without_support_are_left_out_with_the_reason(run, bellmark, rows, here):
    """No greedy policy takes the actions of a random one for long."""
    assert bellmark("collect", "random", *SMALL, "--out", "data.hdf5")[0] == 0
    words = ["--data", "data.hdf5", "--updates", 5, "--hidden", 8, "--episodes", 2]
    status, out, errors = bellmark("ope", run, *words)
    assert status == 0, errors
    assert {row["wis"] for row in rows(here / "ope" / "estimates.csv")} == {"nan"}
    assert out.count("no estimate, so no ranking, by wis, wpdis, wdr: no episode of the data could be its own") == 3
    ranked = {row["estimator"] for row in rows(here / "ope" / "selection.csv")}
    assert "fqe" in ranked and not ranked & {"wis", "wpdis", "wdr"}


def test_a_deterministic_policy_of_continuous_actions_is_judged_without_importance_sampling(bellmark, here):
    train = ["train", "td3", "--env", "Pendulum-v1", "--steps", 60, "--start", 30, "--batch-size", 8, "--hidden", 8]
    assert bellmark(*train, "--eval-episodes", 0, "--no-progress", "--run", "run")[0] == 0
    small = ["--env", "Pendulum-v1", "--env-kwargs", "max_episode_steps = 30", "--num-envs", 1, "--steps", 90]
    assert bellmark("collect", "random", *small, "--out", "data.hdf5")[0] == 0
    words = ["--data", "data.hdf5", "--updates", 5, "--hidden", 8, "--episodes", 0]
    for more, why in {(): "a deterministic policy", ("--stochastic",): "the policy of 'td3'"}.items():
        status, out, errors = bellmark("ope", "run", *words, *more)
        assert status == 0 and f"importance sampling is left out: {why} has no density" in out, errors


def test_data_are_judged_in_the_environment_that_they_are_from(run, bellmark, rows, here):
    """The horizon of the collection is taken over; what else shaped its environment is named."""
    small = [*SMALL, "--env-kwargs", "max_episode_steps = 7, sutton_barto_reward = true"]
    assert bellmark("collect", "expert", run, *small, "--out", "data.hdf5")[0] == 0
    with pytest.warns(UserWarning, match="recorded in CartPole-v1 with sutton_barto_reward, which"):
        data = dataset("data.hdf5")
    assert data.env_kwargs == {"max_episode_steps": 7} and data.missing_keywords == ["sutton_barto_reward"]
    assert any("with sutton_barto_reward" in problem for problem in problems(data, card(data)))
    words = ["--data", "data.hdf5", "--updates", 5, "--hidden", 8, "--episodes", 5, "--gamma", 1]
    with pytest.warns(UserWarning, match="sutton_barto_reward"):
        assert bellmark("ope", run / "last.bell", *words)[0] == 0
    (row,) = rows(here / "ope" / "estimates.csv")
    assert float(row["true"]) == 7.0


def test_a_zip_without_its_statistics_is_refused_unless_it_is_allowed(bellmark, here):
    sb3 = pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    env = VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]))
    sb3.PPO("MlpPolicy", env, n_steps=8, batch_size=8, device="cpu").learn(8).save("normalized.zip")
    sb3.PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu").learn(8).save("plain.zip")
    collect = ["collect", "expert", *SMALL, "--out"]
    status, _, errors = bellmark(*collect, "refused.hdf5", "normalized.zip")
    assert status == 1 and "--allow-unnormalized" in errors and not (here / "refused.hdf5").exists()
    with pytest.warns(UserWarning, match="VecNormalize"):
        assert bellmark(*collect, "allowed.hdf5", "normalized.zip", "--allow-unnormalized")[0] == 0
    assert bellmark(*collect, "plain.hdf5", "plain.zip")[0] == 0
    words = ["--data", "plain.hdf5", "--updates", 5, "--hidden", 8, "--episodes", 0]
    status, _, errors = bellmark("ope", "normalized.zip", *words)
    assert status == 1 and "normalized.zip was trained on what VecNormalize made of observations" in errors
    status, _, errors = bellmark("ope", "plain.zip", "--behaviour", "normalized.zip", *words)
    assert status == 1 and "--allow-unnormalized" in errors
