"""The probe environments have the values that they state, found here by playing them."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from bellmark.envs import make
from bellmark.envs.probes import PROBES, ChooseSign, DelayedReward, TruncatedForever, TwoStep

GAMMA = 0.9


def action_of(env, choice):
    """The agent's action for choices `[N]`, in whichever action space."""
    choice = np.asarray(choice)
    return choice if env.spec.discrete else np.where(choice[:, None] == 1, 0.7, -0.7).astype(np.float32)


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("env_id", PROBES)
def test_probes_are_registered_and_valid(env_id, continuous):
    from gymnasium.utils.env_checker import check_env

    check_env(gymnasium.make(env_id, continuous=continuous).unwrapped, skip_render_check=True)
    with make(env_id, 2, continuous=continuous) as env:
        assert env.spec.discrete is not continuous
        assert env.spec.actions == (1 if continuous else 2)


@pytest.mark.parametrize("continuous", [False, True])
def test_truncated_forever(continuous):
    with make("bellmark/TruncatedForever-v0", 1, continuous=continuous, limit=5) as env:
        env.reset(0)
        steps = [env.step(action_of(env, [0])) for _ in range(12)]
    assert [bool(step.truncated[0]) for step in steps] == [False] * 4 + [True] + [False] * 5 + [True, False]
    assert not any(step.terminated[0] for step in steps)
    assert all(step.obs.tolist() == [[1.0]] for step in steps)
    assert [float(step.reward[0]) for step in steps] == [1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0]
    value = TruncatedForever.value(GAMMA)
    assert value == pytest.approx(10.0)
    assert value == pytest.approx(1 + GAMMA * value), "the value is its own bootstrap"


@pytest.mark.parametrize("continuous", [False, True])
def test_delayed_reward(continuous):
    with make("bellmark/DelayedReward-v0", 1, continuous=continuous, length=4) as env:
        observations = [env.reset(0)]
        steps = [env.step(action_of(env, [1])) for _ in range(4)]
        observations += [step.obs for step in steps]
    np.testing.assert_array_equal(np.concatenate(observations), np.eye(5, 4))
    assert [bool(step.terminated[0]) for step in steps] == [False, False, False, True]
    rewards = [float(step.reward[0]) for step in steps]
    played = [sum(GAMMA**k * reward for k, reward in enumerate(rewards[t:])) for t in range(4)]
    np.testing.assert_allclose(DelayedReward.value(GAMMA, 4), played)
    np.testing.assert_allclose(played, [0.729, 0.81, 0.9, 1.0])


@pytest.mark.parametrize("continuous", [False, True])
def test_choose_sign(continuous):
    with make("bellmark/ChooseSign-v0", 8, autoreset="same_step", continuous=continuous) as env:
        obs, seen = env.reset(0), []
        rng = np.random.default_rng(0)
        for _ in range(50):
            choice = rng.integers(2, size=8)
            step = env.step(action_of(env, choice))
            np.testing.assert_array_equal(step.reward, ChooseSign.value(obs, choice))
            assert step.terminated.all()
            seen.append(obs)
            obs = step.obs
    assert set(np.unique(seen)) == {-1.0, 1.0}
    assert abs(np.mean(seen)) < 0.2
    np.testing.assert_array_equal(
        ChooseSign.value(np.array([[1.0], [1.0], [-1.0], [-1.0]]), np.array([1, 0, 1, 0])), [1, -1, -1, 1]
    )


@pytest.mark.parametrize("continuous", [False, True])
def test_two_step(continuous):
    with make("bellmark/TwoStep-v0", 2, continuous=continuous) as env:
        np.testing.assert_array_equal(env.reset(0), [[1, 0, 0], [1, 0, 0]])
        first = env.step(action_of(env, [0, 1]))
        second = env.step(action_of(env, [1, 0]))
    np.testing.assert_array_equal(first.obs, [[0, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(second.obs, np.zeros((2, 3)))
    assert (first.terminated.any(), second.terminated.all()) == (False, True)
    np.testing.assert_allclose(first.reward + GAMMA * second.reward, TwoStep.value(GAMMA), rtol=1e-6)
