"""Agents become models of stable-baselines3 that act in the same way."""

from __future__ import annotations

import bellmark
import gymnasium
import numpy as np
import pytest
import torch
from bellmark.agents.core.errors import InvalidSetting
from bellmark.agents.core.spec import Spec
from gymnasium.spaces import Box
from helpers import build, every_case

pytest.importorskip("stable_baselines3")
pytest.importorskip("sb3_contrib")

CASES = {  # name: discrete, settings
    "ppo": (True, {"activation": "relu"}),
    "ppo-continuous": (False, {"hidden": (24, 16), "log_std": -1.0}),
    "a2c": (False, {}),
    "dqn": (True, {"hidden": (24, 16)}),
    "double_dqn": (True, {}),
    "qr_dqn": (True, {"quantiles": 5}),
    "sac": (False, {"critics": 3, "critic_hidden": (8, 12), "temperature": 0.3}),
    "sac-fixed": (False, {"learn_temperature": False, "temperature": 0.3}),
    "tqc": (False, {"atoms": 7, "drop": 3, "critics": 4}),
    "td3": (False, {}),
    "td3_bc": (False, {"normalize_obs": False}),
    "ddpg": (False, {}),
}
SPECS = {
    True: Spec((3,), 6, True, obs_axes=1),
    False: Spec((3,), 2, False, obs_axes=1, action_shape=(2,), action_low=(-0.5, 0.0), action_high=(0.5, 7.0)),
}


def shaken(name, **settings):
    """An agent whose parameters are all random, targets and biases as well, so that actions differ."""
    discrete, options = CASES[name]
    agent = build(name.partition("-")[0], discrete, spec=SPECS[discrete], **options, **settings)
    agent.config = agent.config.override(options)
    with torch.no_grad():
        for network, parameter in agent.named_parameters():
            parameter.add_((0.1 if network.endswith("bias") else 0.5) * torch.randn_like(parameter))
    if agent.obs_normalizer is not None:
        agent.obs_normalizer.update(torch.randn(100, 3) * torch.tensor([3.0, 0.1, 1.0]) + 2.0)
    agent.steps, agent.updates = 700, 30
    return agent


def assert_alike(agent, model, scale=2.0):
    obs = (scale * np.random.default_rng(0).normal(size=(300, *model.observation_space.shape))).astype(np.float32)
    expected, _ = agent.predict(obs, deterministic=True)
    found, _ = model.predict(obs, deterministic=True)
    assert found.shape == expected.shape
    assert len(np.unique(np.asarray(expected).round(3))) > 1, "actions that say nothing"
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=3e-5)


@pytest.mark.parametrize("name", CASES)
def test_a_model_acts_as_the_agent(name):
    agent = shaken(name)
    model = bellmark.to_stable_baselines3(agent)
    kind = {"double_dqn": "dqn", "td3_bc": "td3"}.get(agent.name, agent.name)
    assert type(model).__name__.lower() == kind.replace("_", "")
    assert_alike(agent, model)
    assert (model.gamma, model.num_timesteps, model._n_updates) == (agent.config.gamma, 700, 30)
    if name == "sac":
        assert model.log_ent_coef.exp().item() == pytest.approx(agent.temperature().item())
    if name == "sac-fixed":
        assert model.ent_coef_tensor.item() == pytest.approx(0.3)
    if hasattr(agent, "epsilon"):
        assert model.exploration_rate == agent.epsilon


@pytest.mark.parametrize("name", CASES)
def test_there_and_back(name, tmp_path):
    """Every parameter of every network, through a zip file."""
    agent = shaken(name)
    bellmark.to_stable_baselines3(agent).save(tmp_path / "model")
    again = bellmark.load(tmp_path / "model.zip")
    assert again.name == {"double_dqn": "dqn", "td3_bc": "td3"}.get(agent.name, agent.name)
    parameters = dict(again.named_parameters())
    compared = 0
    for path, value in agent.named_parameters():
        if not path.startswith("temperature"):
            np.testing.assert_allclose(parameters[path].detach(), value.detach(), rtol=2e-5, atol=1e-5, err_msg=path)
            compared += 1
    assert compared >= 8
    assert again.config.hidden == agent.config.hidden
    assert again.spec == agent.spec


@pytest.mark.parametrize(("name", "clip"), [("ppo", 10.0), ("ppo-continuous", 10.0), ("sac", np.inf), ("dqn", np.inf)])
def test_a_normaliser_goes_with_it(name, clip, tmp_path):
    agent = shaken(name, normalize_obs=True)
    agent.config = agent.config.override({"normalize_obs": True})
    assert agent.obs_normalizer.clip == clip
    model = bellmark.to_stable_baselines3(agent)
    assert_alike(agent, model)
    assert_alike(agent, model, scale=30.0)  # beyond the clipping
    model.save(tmp_path / "model")
    assert_alike(agent, type(model).load(tmp_path / "model"))
    with pytest.raises(bellmark.agents.core.errors.InvalidCheckpoint, match="cannot be loaded"):
        bellmark.load(tmp_path / "model.zip")


def test_a_model_goes_on_learning(tmp_path):
    agent = bellmark.make("sac", "Pendulum-v1", seed=1, hidden=(16,), start=10, batch_size=8, buffer_size=100)
    agent.learn(30)
    model = bellmark.to_stable_baselines3(agent, gymnasium.make("Pendulum-v1"))
    assert isinstance(model.observation_space, Box) and np.isfinite(model.observation_space.high).all()
    assert_alike(agent, model)
    before = model.policy.state_dict()["actor.mu.weight"].clone()
    model.learn(200, reset_num_timesteps=False)
    assert model.num_timesteps == 230
    assert not torch.equal(model.policy.state_dict()["actor.mu.weight"], before)


REFUSED = {
    "iql": (False, {}, "stable-baselines3 has no algorithm like 'iql'"),
    "dqn": (True, {"dueling": True}, "dueling streams"),
    "c51": (True, {}, "layers such as Categorical"),
    "td3": (False, {"layer_norm": True}, "layers such as LayerNorm"),
    "sac": (False, {"critic_head": "quantile"}, "do not fit into a SAC"),
    "crossq": (False, {}, "has no critic_target"),
    "recurrent_ppo": (True, {}, "a memory"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_has_not_is_refused(name):
    discrete, settings, message = REFUSED[name]
    with pytest.raises(InvalidSetting, match=message):
        bellmark.to_stable_baselines3(build(name, discrete, **settings))


@every_case
def test_every_agent_is_a_model_or_refused(name, discrete):
    agent = build(name, discrete)
    try:
        model = bellmark.to_stable_baselines3(agent)
    except InvalidSetting:
        return
    obs = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    expected, found = agent.predict(obs, deterministic=True)[0], model.predict(obs, deterministic=True)[0]
    np.testing.assert_allclose(found, expected, atol=3e-5)
