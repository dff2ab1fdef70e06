"""Deep Sea has the rewards and the best return that it states, found here by trying every choice."""

from __future__ import annotations

import itertools

import gymnasium
import numpy as np
import pytest
from bellmark.envs import make
from bellmark.envs.deep_sea import DeepSea


def play(env, choices):
    """Observations and rewards of an episode; `choices` are 1 for right."""
    observations, rewards = [env.reset()[0]], []
    for choice in choices:
        right = env.right[env.row, env.column]
        obs, reward, terminated, truncated, _ = env.step(right if choice else 1 - right)
        observations.append(obs)
        rewards.append(reward)
        assert not truncated and terminated == (len(rewards) == env.size)
    return np.stack(observations), np.array(rewards)


def test_it_is_registered_and_valid():
    from gymnasium.utils.env_checker import check_env

    check_env(gymnasium.make("bellmark/DeepSea-v0", size=4).unwrapped, skip_render_check=True)
    with make("bellmark/DeepSea-v0", 2, size=4) as env:
        assert (env.spec.obs_shape, env.spec.actions) == ((16,), 2)


def test_every_path_by_brute_force():
    """Of the 2^5 paths one has the reward; each costs 0.01 / 5 for every choice of right."""
    env, returns = DeepSea(5), {}
    for choices in itertools.product((0, 1), repeat=5):
        observations, rewards = play(env, choices)
        returns[choices] = rewards.sum()
        assert rewards.sum() == pytest.approx(all(choices) - 0.002 * sum(choices))
        column = 0
        for row, choice in enumerate(choices):
            assert observations[row].argmax() == 5 * row + column and observations[row].sum() == 1
            column = min(max(column + 2 * choice - 1, 0), 4)
        assert not observations[5].any()
    assert max(returns, key=returns.get) == (1,) * 5
    assert returns[(1,) * 5] == pytest.approx(0.99)


def test_the_mapping_of_actions_is_that_of_bsuite_and_no_seed_changes_it():
    np.testing.assert_array_equal(DeepSea(4).right, [[0, 1, 1, 1], [0, 0, 0, 1], [1, 1, 0, 1], [1, 0, 0, 0]])
    env = DeepSea(8)
    before = env.right.copy()
    episodes = []
    for seed in (0, 1):
        env.reset(seed=seed)
        episodes.append(np.concatenate([env.step(action % 2)[0] for action in range(8)]))
    np.testing.assert_array_equal(*episodes)
    np.testing.assert_array_equal(env.right, before)
    assert not np.array_equal(DeepSea(8, mapping_seed=1).right, before)


def test_random_actions_do_not_find_the_reward():
    """A uniformly random policy finds it in 5000 episodes with a probability of 5000 / 2^20, which is 0.005."""
    with make("bellmark/DeepSea-v0", 100, size=20, autoreset="same_step") as env:
        env.reset(0)
        rng = np.random.default_rng(0)
        best = max(env.step(rng.integers(2, size=100)).reward.max() for _ in range(20 * 50))
    assert best == 0.0
