"""stable-baselines3's own tools run on these agents, and environments that it approves of run in them."""

from __future__ import annotations

import bellmark
import gymnasium
import numpy as np
import pytest
from bellmark.agents.core.registry import agent_class
from bellmark.envs import evaluate, make
from helpers import build, every_case, every_online_case, has_replay, small

pytest.importorskip("stable_baselines3")

from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

EPISODES = 5


class Numbered(gymnasium.Wrapper):
    """Its k-th episode has the seed 1000 + k, whatever it is told: both evaluations see the same episodes."""

    episode = 0

    def reset(self, *, seed=None, options=None):
        self.episode += 1
        return self.env.reset(seed=1000 + self.episode, options=options)


class Corridor(gymnasium.Env):
    """Walk to the right end of a corridor of five places; observations are not in any usual range or type."""

    def __init__(self, continuous=False):
        self.action_space = (
            gymnasium.spaces.Box(-5.0, 5.0, (1,), np.float32) if continuous else gymnasium.spaces.Discrete(2)
        )
        self.observation_space = gymnasium.spaces.Box(0.0, 4.0, (2, 1), np.float32)
        self.place, self.seen = 0, []

    def observe(self):
        return np.array([[self.place], [4 - self.place]], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.clock = 0, 0
        return self.observe(), {}

    def step(self, action):
        right = float(np.asarray(action).item()) > 0
        self.seen.append(float(np.asarray(action).item()))
        self.clock += 1
        self.place = min(max(self.place + (1 if right else -1), 0), 4)
        return self.observe(), -1.0, self.place == 4, self.clock >= 30, {}


@pytest.mark.parametrize(("name", "env_id"), [("ppo", "CartPole-v1"), ("td3", "Pendulum-v1")])
def test_evaluate_policy_agrees_with_evaluate(name, env_id):
    """Mean and spread over the same episodes, for a trained agent."""
    agent = bellmark.make(name, env_id, seed=2, **small(agent_class(name), rollout_length=64, start=100))
    agent.learn(400)
    ours = evaluate(agent, make(lambda: Numbered(gymnasium.make(env_id))), EPISODES, seed=0)
    vector = DummyVecEnv([lambda: Monitor(Numbered(gymnasium.make(env_id)))])
    mean, spread = evaluate_policy(agent, vector, n_eval_episodes=EPISODES, deterministic=True)
    np.testing.assert_allclose([mean, spread], [ours.returns.mean(), ours.returns.std()], rtol=1e-4)
    assert ours.returns.std() > 0.0, "the episodes do not differ: that would be a comparison of one number"


@every_case
def test_evaluate_policy_runs_on_every_agent(name, discrete):
    env_id = "CartPole-v1" if discrete else "Pendulum-v1"
    spec = make(env_id).spec
    agent = build(name, discrete, spec=spec)
    for deterministic in (True, False):
        env = Monitor(gymnasium.make(env_id, max_episode_steps=20))
        returns, lengths = evaluate_policy(
            agent, env, n_eval_episodes=2, deterministic=deterministic, return_episode_rewards=True
        )
        assert len(returns) == 2
        assert np.isfinite(returns).all()
        assert all(8 <= length <= 20 for length in lengths)


@pytest.mark.filterwarnings("ignore:.*unconventional shape", "ignore:.*symmetric and normalized")
@every_online_case
def test_a_checked_environment_trains(name, discrete):
    check_env(Corridor(continuous=not discrete))
    env = make(Corridor, 2, continuous=not discrete)
    agent = bellmark.make(name, env, seed=1, **small(agent_class(name)))
    agent.learn(300)
    assert 300 <= agent.steps <= 301
    assert agent.updates >= 20
    assert agent.spec.obs_shape == (2,)
    actions = np.array(env.env.envs[0].seen)
    if discrete:
        assert set(actions) == {0.0, 1.0}
    else:
        assert -5.0 <= actions.min() < -1.0
        assert 1.0 < actions.max() <= 5.0, "actions were not scaled to the environment's bounds"
    if has_replay(name):
        rows = agent.buffer.obs[: agent.buffer.written].reshape(-1, 2)
        np.testing.assert_allclose(rows.sum(1).numpy(), 4.0)
    action, _ = agent.predict(np.array([[[0.0], [4.0]]], np.float32), deterministic=True)
    assert np.shape(action) == ((1,) if discrete else (1, 1))
