"""Agents learn real tasks. Thresholds are far below what the settings reach, so that only a broken build misses them.

Not run by default: `pytest -m learn tests/learn`.
"""

from __future__ import annotations

import os
from pathlib import Path

import bellmark
import numpy as np
import pytest
from bellmark.envs import evaluate, make

pytestmark = pytest.mark.learn

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
DATA = Path(os.environ.get("BELLMARK_TEST_DATA", SHARED)) / "halfcheetah_medium-zoo.hdf5"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the recorded data sets are not here: set BELLMARK_TEST_DATA")


def mean_return(agent, env_id, episodes=10):
    """Over episodes of an environment and a stream of their own, without exploration."""
    return evaluate(agent, make(env_id, 5), episodes, seed=12345).returns.mean()


@pytest.mark.parametrize("seed", [1, 2])
def test_ppo_balances_the_pole(seed):
    agent = bellmark.make(
        "ppo",
        "CartPole-v1",
        seed=seed,
        num_envs=8,
        rollout_length=32,
        batch_size=256,
        epochs=20,
        learning_rate=1e-3,
        schedule="linear",
        clip_schedule="linear",
        gamma=0.98,
        gae_lambda=0.8,
    )
    agent.learn(60_000)
    assert mean_return(agent, "CartPole-v1") >= 450


def test_dqn_balances_the_pole():
    agent = bellmark.make(
        "dqn",
        "CartPole-v1",
        seed=1,
        learning_rate=2.3e-3,
        batch_size=64,
        buffer_size=100_000,
        start=1000,
        gamma=0.99,
        train_every=256,
        update_ratio=0.5,
        target_every=256,
        exploration_fraction=0.16,
        exploration_end=0.04,
        hidden=(256, 256),
    )
    agent.learn(50_000)
    assert mean_return(agent, "CartPole-v1") >= 150


@pytest.mark.parametrize("name", ["td3", "sac"])
def test_actor_critics_swing_up(name):
    """Both reach about -150 here; a random policy about -1200."""
    agent = bellmark.make(name, "Pendulum-v1", seed=1, start=1000, learning_rate=1e-3)
    agent.learn(10_000)
    assert mean_return(agent, "Pendulum-v1") >= -250


@needs_data
@pytest.mark.parametrize(("name", "share"), [("td3_bc", 0.3), ("iql", 0.3)])
def test_offline_agents_learn_from_data(name, share):
    """After 5000 updates, a share of the mean return of the data; random actions reach about -280."""
    data = bellmark.dataset(DATA)
    agent = bellmark.make(name, data, seed=1)
    agent.fit(data, updates=5000)
    assert data.episode_returns.mean() > 1000
    returns = evaluate(agent, make(data.env_id, 5), 5, seed=12345).returns
    assert np.mean(returns) >= share * data.episode_returns.mean()
