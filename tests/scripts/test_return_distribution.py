"""`evaluate --distribution`: what heads say of the return, and that it is what the picture shows."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from bellmark.agents.core.errors import InvalidSetting
from bellmark.agents.core.heads import Categorical, Quantile, Scalar
from bellmark.envs import make
from bellmark.scripts.return_distribution import Forecast, checked, draw, forecast, write
from helpers import build, specs_for

DISTRIBUTIONAL = {
    "c51": {"atoms": 5, "value_low": -1.0, "value_high": 3.0},
    "rainbow": {"atoms": 5},
    "qr_dqn": {"quantiles": 7},
    "discrete_cql_qr": {"quantiles": 7},
    "iqn": {"quantiles": 7, "policy_quantiles": 64},
    "fqf": {"quantiles": 7},
    "td3": {"critic_head": "quantile", "atoms": 7},
    "sac": {"critic_head": "c51", "atoms": 7},
    "tqc": {"atoms": 7, "drop": 1},
    "droq": {"critic_head": "quantile", "atoms": 7},
    "awac": {"critic_head": "quantile", "atoms": 7},
    "crr": {"critic_head": "c51", "atoms": 7},
}


def test_heads_give_values_and_probabilities():
    values, probability = Categorical(0.0, 2.0, 3).distribution(torch.tensor([[0.0, math.log(2.0), 0.0]]))
    assert values.tolist() == [[0.0, 1.0, 2.0]]
    assert torch.allclose(probability, torch.tensor([[0.25, 0.5, 0.25]]))
    values, probability = Quantile(4).distribution(torch.tensor([[3.0, 1.0, 2.0, 7.0]]))
    assert values.tolist() == [[3.0, 1.0, 2.0, 7.0]] and probability.tolist() == [[0.25] * 4]


@pytest.mark.parametrize("head", [Scalar(), Categorical(0, 1, 3, "two_hot"), Categorical(0, 1, 3, "hl_gauss")])
def test_heads_that_know_the_mean_alone_refuse(head):
    with pytest.raises(InvalidSetting, match=r"mean of the returns.* take an agent .* c51"):
        head.distribution(torch.zeros(2, head.outputs))


@pytest.mark.parametrize("name", DISTRIBUTIONAL)
def test_the_mean_of_the_distribution_is_the_value_of_the_chosen_action(name):
    agent = build(name, next(iter(specs_for(name))), **DISTRIBUTIONAL[name])
    obs = torch.randn(6, 3)
    with torch.inference_mode():
        values, probability = agent.return_distribution(obs)
        mean, count = (values * probability).sum(1), values.shape[1]
        if hasattr(agent, "q"):
            expected, networks = agent.noiseless_values(obs).amax(1), 1
        else:
            agent.critic.eval()
            expected, networks = agent.critic(obs, agent.act(obs, explore=False)).mean(0), agent.config.critics
    assert values.shape == probability.shape == (6, count)
    assert count == networks * getattr(agent.config, "quantiles", getattr(agent.config, "atoms", 0))
    assert torch.allclose(probability.sum(1), torch.ones(6))
    # IQN chooses by other fractions than those of its outputs, so that both means are near, not the same
    assert torch.allclose(mean, expected, atol=0.02 if name == "iqn" else 1e-5)


@pytest.mark.parametrize("name", ["noisy_dqn", "qr_dqn", "droq"])
def test_networks_are_in_the_same_mode_afterwards(name):
    agent = build(name, next(iter(specs_for(name))), critic_head="quantile")
    before = [module.training for module in agent.modules()]
    try:
        agent.return_distribution(torch.randn(2, 3))
    except InvalidSetting:
        assert name == "noisy_dqn"
    assert [module.training for module in agent.modules()] == before


def test_an_agent_without_distributions_refuses():
    with pytest.raises(InvalidSetting, match=r"'ppo' knows no distribution of returns: take .* iqn"):
        build("ppo", True).return_distribution(torch.zeros(1, 3))


def known(values, probability, truncated=False):
    values = torch.tensor(values)
    return Forecast(values, torch.tensor(probability), torch.tensor([1.0, 0.0, 4.0]), 0.5, truncated)


QUANTILES = known([[0.0, 4.0], [1.0, 3.0], [2.5, 2.5]], [[0.5, 0.5], [0.25, 0.75], [0.5, 0.5]])
ATOMS = known([[0.0, 1.0, 4.0]] * 3, [[0.0, 0.5, 0.5], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])


def test_the_return_that_came_is_discounted_to_the_end():
    assert QUANTILES.returns.tolist() == [1.0 + 0.25 * 4.0, 2.0, 4.0]


@pytest.mark.parametrize("found", [QUANTILES, ATOMS])
def test_shading_keeps_mass_and_mean(found):
    returns, mass = found.grid()
    assert torch.allclose(mass.sum(1), torch.ones(3))
    assert torch.allclose(mass @ returns, found.mean)


def test_atoms_are_shaded_as_they_are():
    returns, mass = ATOMS.grid()
    assert returns.tolist() == [0.0, 1.0, 4.0]
    assert torch.equal(mass, ATOMS.probability)


def test_one_certain_return_can_be_shaded():
    returns, mass = known([[2.0, 2.0]] * 3, [[0.5, 0.5]] * 3).grid()
    assert torch.allclose(mass @ returns, torch.full((3,), 2.0))


@pytest.mark.parametrize("truncated", [False, True])
def test_what_is_drawn(truncated):
    axes = draw(ATOMS._replace(truncated=truncated), "title").axes[0]
    (mesh,), (mean, came) = axes.collections, axes.lines
    assert np.allclose(mesh.get_array(), ATOMS.probability.T)
    assert np.allclose(mean.get_ydata(), [2.5, 0.0, 2.3]) and np.allclose(came.get_ydata(), [2.0, 2.0, 4.0])
    assert mean.get_xdata().tolist() == [0, 1, 2]
    assert came.get_label() == "what came" + ", until the episode was cut off" * truncated
    assert axes.get_xlabel() == "step of the episode" and axes.get_ylabel() == "discounted return"
    low, high = axes.get_ylim()
    assert -1.0 < low < 0.0 and 4.0 < high < 5.0


def test_a_forecast_is_one_episode_of_the_environment():
    """CartPole with a limit of 7 steps gives 1 at each step, so that what came is known."""
    with make("CartPole-v1", 2, max_episode_steps=7) as env:
        agent = build("c51", True, spec=env.spec, gamma=0.5, normalize_obs=True)
        found = forecast(agent, env, seed=3)
        obs = env.reset(3)
        first = agent.return_distribution(agent.inputs(obs[:1]))
    assert found.truncated and found.gamma == 0.5
    assert found.values.shape == found.probability.shape == (7, 51)
    assert torch.allclose(found.probability[0], first[1][0], atol=1e-6)
    assert torch.allclose(found.returns, torch.tensor([2.0 - 0.5**k for k in range(6, -1, -1)]))


def test_where_an_agent_learns_from_signs_the_returns_are_of_signs():
    with make("Pendulum-v1", 1, max_episode_steps=4) as env:
        agent = build("tqc", False, spec=env.spec, clip_reward=True)
        agent.config = dataclasses.replace(agent.config, gamma=1.0)
        assert forecast(agent, env, seed=0).returns.tolist() == [-4.0, -3.0, -2.0, -1.0]


def test_the_command_writes_both_kinds_of_pictures(bellmark, here):
    short = ["--hidden", 8, "--start", 20, "--eval-episodes", 0, "--log-every", 50]
    assert bellmark("train", "qr_dqn", "--env", "CartPole-v1", "--steps", 60, *short, "--run", "run")[0] == 0
    for name, begin in (("a.png", b"\x89PNG"), ("b.svg", b"<?xml")):
        assert bellmark("evaluate", "run", "--episodes", 1, "--distribution", name)[0] == 0
        assert (here / name).read_bytes().startswith(begin)
    status, _, error = bellmark("evaluate", "run", "--distribution", "c.txt")
    assert status == 1 and "c.txt does not say which kind of picture it is: let it end in .png or .svg" in error


def test_names_of_pictures():
    assert checked("") is None and checked("a/B.PNG").name == "B.PNG"


def test_pictures_are_whole_files(tmp_path):
    write(draw(QUANTILES, "title"), tmp_path / "picture.svg")
    assert (tmp_path / "picture.svg").read_text().rstrip().endswith("</svg>")
