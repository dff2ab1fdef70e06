"""Zip files of stable-baselines3 become agents that act in the same way."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path

import bellmark
import gymnasium
import numpy as np
import pytest
import torch
from bellmark.envs import make
from gymnasium.spaces import Box, Discrete
from torch import nn

sb3 = pytest.importorskip("stable_baselines3")
sb3_contrib = pytest.importorskip("sb3_contrib")

SHARED = Path(__file__).resolve().parents[3] / "shared" / "agents"
SHARED_SPACES = {  # name: observation size, action space, hidden layers
    "a2c-HalfCheetah-v3": (17, Box(-1, 1, (6,)), [64, 64]),
    "dqn-CartPole-v1": (4, Discrete(2), [256, 256]),
    "ppo-CartPole-v1": (4, Discrete(2), [64, 64]),
    "ppo-LunarLander-v2": (8, Discrete(4), [64, 64]),
    "sac-HalfCheetah-v3": (17, Box(-1, 1, (6,)), [256, 256]),
    "qrdqn-CartPole-v1": (4, Discrete(2), [256, 256]),
    "sac-Hopper-v3": (11, Box(-1, 1, (3,)), [256, 256]),
}
POLICIES = {
    "a2c": ("a2c", sb3.ppo.MlpPolicy),
    "ppo": ("ppo", sb3.ppo.MlpPolicy),
    "dqn": ("dqn", sb3.dqn.MlpPolicy),
    "sac": ("sac", sb3.sac.MlpPolicy),
    "qrdqn": ("qr_dqn", sb3_contrib.qrdqn.MlpPolicy),
}
START = {"learning_starts": 10}
GREEDY = START | {"exploration_final_eps": 0.25}
FRESH = {  # name: algorithm, environment, settings
    "ppo-continuous": ("PPO", "Uneven", {"n_steps": 32, "batch_size": 32}),
    "ppo-discrete": ("PPO", "CartPole-v1", {"n_steps": 32, "batch_size": 32, "policy_kwargs": {"net_arch": [24, 16]}}),
    "ppo-relu": ("PPO", "CartPole-v1", {"n_steps": 32, "batch_size": 32, "policy_kwargs": {"activation_fn": nn.ReLU}}),
    "a2c": ("A2C", "Uneven", {}),
    "qr_dqn": ("QRDQN", "CartPole-v1", GREEDY | {"policy_kwargs": {"net_arch": [24, 16], "n_quantiles": 7}}),
    "tqc": ("TQC", "Uneven", START | {"policy_kwargs": {"net_arch": [24, 16], "n_quantiles": 9, "n_critics": 3}}),
    "tqc-uneven": (
        *("TQC", "Uneven"),
        START | {"policy_kwargs": {"net_arch": {"pi": [24], "qf": [16, 8]}}, "top_quantiles_to_drop_per_net": 3},
    ),
    "sac-uneven": ("SAC", "Uneven", START | {"policy_kwargs": {"net_arch": {"pi": [24], "qf": [16, 8]}}}),
    "dqn": ("DQN", "CartPole-v1", GREEDY),
    "dqn-one-hot": ("DQN", "FrozenLake-v1", START | {"policy_kwargs": {"net_arch": [16]}}),
    "sac": ("SAC", "Uneven", START | {"policy_kwargs": {"net_arch": [16, 8], "n_critics": 3}}),
    "td3": ("TD3", "Uneven", START | {"policy_kwargs": {"net_arch": [24, 16]}}),
    "ddpg": ("DDPG", "Uneven", START | {"policy_kwargs": {"net_arch": [16]}}),
}


class Uneven(gymnasium.Env):
    """Actions with bounds that are neither symmetric nor equal; observations with two axes."""

    observation_space = Box(-3, 3, (2, 2))
    action_space = Box(np.array([-0.4, 0.0, -7.0], np.float32), np.array([0.4, 3.0, 1.0], np.float32))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), float(action.sum()), False, bool(self.np_random.random() < 0.1), {}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Every model of FRESH, trained for a moment, and its file."""
    folder, models = tmp_path_factory.mktemp("zips"), {}
    for name, (algorithm, env, settings) in FRESH.items():
        env = Uneven() if env == "Uneven" else env
        kind = getattr(sb3, algorithm, None) or getattr(sb3_contrib, algorithm)
        model = kind("MlpPolicy", env, seed=1, device="cpu", **settings)
        model.learn(128)
        model.save(folder / name)
        models[name] = (model, folder / f"{name}.zip")
    return models


@pytest.mark.parametrize("name", SHARED_SPACES)
def test_shared_agents_act_as_in_stable_baselines3(name):
    """Their own policy class, filled with the tensors of the file; those files themselves are too old for it."""
    path = SHARED / f"{name}.zip"
    if not path.exists():
        pytest.skip(f"{path.name} is not in the shared folder")
    size, action_space, hidden = SHARED_SPACES[name]
    expected_name, policy_class = POLICIES[name.partition("-")[0]]
    space = Box(-np.inf, np.inf, (size,), np.float64)
    options = {"n_quantiles": 10} if name.startswith("qrdqn") else {}
    policy = policy_class(space, action_space, lambda _: 0.0, net_arch=hidden, **options)
    with zipfile.ZipFile(path) as archive:
        policy.load_state_dict(torch.load(io.BytesIO(archive.read("policy.pth")), map_location="cpu"))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        agent = bellmark.load(path)
    assert agent.name == expected_name and agent.env is None
    assert ["VecNormalize" in str(w.message) for w in warned] == [True] * (name == "a2c-HalfCheetah-v3")
    obs = np.random.default_rng(0).normal(size=(200, size))
    same_actions(agent, policy, obs)
    same_actions(agent, policy, obs[0])


def same_actions(agent, model, obs):
    expected, _ = model.predict(obs, deterministic=True)
    found, _ = agent.predict(obs, deterministic=True)
    assert found.shape == expected.shape
    assert len(np.unique(np.asarray(expected).round(4))) > 1 or np.ndim(obs) < 2, "actions that say nothing"
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("name", FRESH)
def test_fresh_agents_act_as_in_stable_baselines3(trained, name):
    model, path = trained[name]
    agent = bellmark.load(path)
    assert agent.name == name.partition("-")[0]
    one_hot = name == "dqn-one-hot"
    obs = np.arange(16) if one_hot else np.random.default_rng(0).normal(size=(100, *model.observation_space.shape))
    same_actions(agent, model, obs)
    same_actions(agent, model, obs[0])
    flat = torch.eye(16) if one_hot else torch.tensor(obs.reshape(100, -1), dtype=torch.float32)
    tensor = torch.tensor(obs, dtype=torch.long if one_hot else torch.float32)
    with torch.no_grad():
        if agent.name in ("ppo", "a2c"):
            law, own = model.policy.get_distribution(tensor).distribution, agent.law(flat)
            values = model.policy.predict_values(tensor)[:, 0]
            np.testing.assert_allclose(agent.actor_critic.critic(flat), values, atol=1e-5)
            if not agent.spec.discrete:  # the whole law is the same, in other units
                half = torch.tensor(model.action_space.high - model.action_space.low) / 2
                middle = torch.tensor(model.action_space.high + model.action_space.low) / 2
                np.testing.assert_allclose(own.mean * half + middle, law.mean, atol=1e-5)
                np.testing.assert_allclose((own.log_std.exp() * half).expand_as(law.stddev), law.stddev, rtol=1e-5)
            else:
                np.testing.assert_allclose(own.log_probs.exp(), law.probs, atol=1e-6)
        elif agent.name == "dqn":
            np.testing.assert_allclose(agent.q(flat), model.q_net(tensor), atol=1e-5)
            np.testing.assert_allclose(agent.q_target(flat), model.q_net_target(tensor), atol=1e-5)
        elif agent.name == "qr_dqn":
            for own, net in ((agent.q, model.quantile_net), (agent.q_target, model.quantile_net_target)):
                np.testing.assert_allclose(own.output(flat).transpose(1, 2), net(tensor), atol=1e-5)
        elif agent.name == "tqc":
            action = torch.rand(100, 3) * 2 - 1
            for critic in ("critic", "critic_target"):
                expected = getattr(model, critic)(tensor, action).transpose(0, 1)
                np.testing.assert_allclose(getattr(agent, critic).output(flat, action), expected, atol=1e-5)
            assert agent.config.drop == model.top_quantiles_to_drop_per_net
        else:
            action = torch.rand(100, 3) * 2 - 1
            for critic in ("critic", "critic_target"):
                expected = torch.stack(getattr(model, critic)(tensor, action)).squeeze(-1)
                assert len(expected) == {"sac": 3, "td3": 2, "ddpg": 1, "sac-uneven": 2}[name]
                np.testing.assert_allclose(getattr(agent, critic)(flat, action), expected, atol=1e-5)
    assert agent.config.gamma == model.gamma
    assert getattr(agent, "epsilon", None) == getattr(model, "exploration_rate", None)


@pytest.mark.parametrize("name", ["dqn", "qrdqn"])
def test_shared_agents_explore_as_in_their_files(name):
    path = SHARED / f"{name}-CartPole-v1.zip"
    if not path.exists():
        pytest.skip(f"{path.name} is not in the shared folder")
    assert bellmark.load(path).epsilon == 0.04


def test_a_loaded_agent_is_saved_and_trained(trained, tmp_path):
    _, path = trained["sac"]
    agent = bellmark.load(path)
    agent.save(tmp_path / "agent.bell")
    obs = np.zeros((1, 2, 2))
    again = bellmark.load(tmp_path / "agent.bell")
    assert np.array_equal(again.predict(obs, deterministic=True)[0], agent.predict(obs, deterministic=True)[0])
    before = agent.actor.net[0].weight.clone()
    agent.config = agent.config.override({"start": 10, "batch_size": 8})
    agent.env = make(Uneven)
    agent.learn(30)
    assert not torch.equal(agent.actor.net[0].weight, before)
