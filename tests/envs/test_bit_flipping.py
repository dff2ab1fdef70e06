"""Bit flipping judges goals as it pays rewards, ends at the goal, and is cut off where it says."""

import gymnasium
import numpy as np
import pytest
from bellmark.envs import make
from bellmark.envs.bit_flipping import BitFlipping


def test_it_is_registered_and_valid():
    from gymnasium.utils.env_checker import check_env

    check_env(gymnasium.make("bellmark/BitFlipping-v0", size=4).unwrapped, skip_render_check=True)
    with make("bellmark/BitFlipping-v0", 2, size=4) as env:
        assert (env.spec.obs_shape, env.spec.actions) == ((12,), 4)


@pytest.mark.parametrize("seed", range(5))
def test_flipping_what_differs_ends_it_with_one_free_step(seed):
    env = BitFlipping(9)
    obs, _ = env.reset(seed=seed)
    differing = np.flatnonzero(obs["observation"] != obs["desired_goal"])
    goal, rewards, over = obs["desired_goal"], [], False
    for bit in differing:
        assert not over
        before = obs["observation"]
        obs, reward, over, truncated, _ = env.step(bit)
        rewards.append(reward)
        assert np.flatnonzero(obs["observation"] != before).tolist() == [bit] and not truncated
        assert reward == env.compute_reward(obs["achieved_goal"], goal, {})
    assert over and rewards == [-1.0] * (len(differing) - 1) + [0.0]


def test_an_episode_is_cut_off_after_as_many_steps_as_bits():
    env = BitFlipping(6)
    obs, _ = env.reset(seed=3)
    env.goal = 1 - obs["observation"]
    results = [env.step(0) for _ in range(6)]
    assert [r[3] for r in results] == [False] * 5 + [True] and not any(r[2] for r in results)
    assert sum(r[1] for r in results) == -6.0


def test_goals_are_judged_many_at_a_time():
    env, rng = BitFlipping(3), np.random.default_rng(0)
    achieved, desired = rng.integers(2, size=(2, 50, 3), dtype=np.int8)
    same = [tuple(a) == tuple(b) for a, b in zip(achieved, desired, strict=True)]
    assert env.compute_terminated(achieved, desired, {}).tolist() == same and 0 < sum(same) < 50
    assert env.compute_reward(achieved, desired, {}).tolist() == [x - 1.0 for x in same]
