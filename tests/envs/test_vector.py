"""The vector interface: autoreset modes, units, seeds, statistics."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from bellmark.envs import Episode, make
from bellmark.envs.vector import autoreset_mode
from gymnasium.vector import AutoresetMode, SyncVectorEnv

MODES = ("next_step", "same_step", "disabled")


def by_parity(obs):
    """An action in {0, 1, 2} or {0, 1} that depends on nothing but the observation."""
    return (np.abs(obs).sum(axis=1) * 1000).astype(np.int64) % 2


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_all_autoreset_modes_give_the_same_transitions(scripted, transitions, backend):
    seen = {}
    for mode in MODES:
        with make(scripted, 3, backend=backend, autoreset=mode) as env:
            seen[mode] = transitions(env, 7, 60, by_parity)
    for column in range(3):
        shared = min(len(seen[mode][column]) for mode in MODES)
        assert shared >= 40
        assert sum(terminated or truncated for _, _, _, terminated, truncated, _ in seen["disabled"][column]) >= 10
        for mode in MODES:
            assert seen[mode][column][:shared] == seen["disabled"][column][:shared]


def test_all_autoreset_modes_give_the_same_cartpole(transitions):
    seen = {}
    for mode in MODES:
        with make("CartPole-v1", 2, autoreset=mode) as env:
            seen[mode] = transitions(env, 3, 150, by_parity)
    for column in range(2):
        shared = min(len(seen[mode][column]) for mode in MODES)
        assert sum(row[3] for row in seen["next_step"][column][:shared]) >= 3
        assert seen["next_step"][column][:shared] == seen["same_step"][column][:shared]
        assert seen["next_step"][column][:shared] == seen["disabled"][column][:shared]


@pytest.mark.parametrize("mode", MODES)
def test_the_first_steps_of_a_scripted_episode(scripted, mode):
    with make(scripted, 1, autoreset=mode, fixed_length=2) as env:
        np.testing.assert_array_equal(env.reset(0), [[0, 0]])
        first = env.step(np.array([2]))
        assert (first.next_obs.tolist(), first.obs.tolist(), first.restarted) == ([[0, 1]], [[0, 1]], None)
        assert first.reward == pytest.approx([1.1])
        assert (first.terminated[0], first.truncated[0], first.valid[0]) == (False, False, True)
        second = env.step(np.array([0]))
        assert second.next_obs.tolist() == [[0, 2]]
        assert second.reward == pytest.approx([1.9])
        assert second.terminated[0] != second.truncated[0]
        assert second.valid[0]
        third = env.step(np.array([1]))
        if mode == "next_step":
            assert (second.obs.tolist(), second.restarted) == ([[0, 2]], None)
            assert (third.valid[0], third.reward[0], third.obs.tolist()) == (False, 0.0, [[1, 0]])
            assert not third.terminated[0] and not third.truncated[0]
        else:
            assert (second.obs.tolist(), second.restarted.tolist()) == ([[1, 0]], [True])
            assert (third.valid[0], third.restarted, third.next_obs.tolist()) == (True, None, [[1, 1]])


def test_only_the_finished_column_restarts(scripted):
    vector = SyncVectorEnv([lambda: scripted(2), lambda: scripted(3)], autoreset_mode=AutoresetMode.SAME_STEP)
    with make(vector) as env:
        env.reset(0)
        env.step(np.zeros(2, np.int64))
        step = env.step(np.zeros(2, np.int64))
        assert step.restarted.tolist() == [True, False]
        assert step.next_obs.tolist() == [[0, 2], [0, 2]]
        assert step.obs.tolist() == [[1, 0], [0, 2]]


def test_steps_are_never_written_to_again(scripted):
    for mode in MODES:
        with make(scripted, 2, autoreset=mode) as env:
            env.reset(0)
            steps = [env.step(np.zeros(2, np.int64)) for _ in range(4)]
            copies = [[None if field is None else field.copy() for field in step] for step in steps]
            for _ in range(10):
                env.step(np.ones(2, np.int64))
            for step, copy in zip(steps, copies, strict=True):
                for field, kept in zip(step, copy, strict=True):
                    np.testing.assert_array_equal(field, kept)


def test_the_mode_is_read_from_the_instance(scripted, monkeypatch):
    shared = gymnasium.vector.VectorEnv.metadata
    monkeypatch.setitem(shared, "autoreset_mode", AutoresetMode.SAME_STEP)

    class Silent(gymnasium.vector.VectorEnv):
        """Says nothing of its mode, and so shows the dict that all classes share."""

    class Own(gymnasium.vector.VectorEnv):
        def __init__(self):
            self.autoreset_mode = AutoresetMode.DISABLED

    assert autoreset_mode(Silent()) is AutoresetMode.NEXT_STEP
    assert autoreset_mode(Own()) is AutoresetMode.DISABLED
    vector = SyncVectorEnv([scripted], autoreset_mode=AutoresetMode.DISABLED)
    assert autoreset_mode(gymnasium.wrappers.vector.ClipReward(vector, 0, 1)) is AutoresetMode.DISABLED


def test_termination_wins_where_the_time_limit_falls_on_it(scripted):
    class Terminating(scripted):
        def reset(self, *, seed=None, options=None):
            result = super().reset(seed=seed)
            self.ending = 1
            return result

    with make(lambda: gymnasium.wrappers.TimeLimit(Terminating(3), 3)) as env:
        env.reset(0)
        steps = [env.step(np.zeros(1, np.int64)) for _ in range(3)]
        assert [bool(step.terminated[0]) for step in steps] == [False, False, True]
        assert [bool(step.truncated[0]) for step in steps] == [False, False, False]
    with make(lambda: gymnasium.wrappers.TimeLimit(Terminating(4), 3)) as env:
        env.reset(0)
        step = [env.step(np.zeros(1, np.int64)) for _ in range(3)][-1]
        assert (bool(step.terminated[0]), bool(step.truncated[0])) == (False, True)


class Echo(gymnasium.Env):
    """Shows the last action that it was given."""

    observation_space = gymnasium.spaces.Box(-100, 100, (2, 2), np.float64)

    def __init__(self, dtype=np.float32):
        low = np.array([[-2.0, 0.0], [1.0, -5.0]], dtype)
        self.action_space = gymnasium.spaces.Box(low, low + np.array([[4.0, 1.0], [0.5, 5.0]], dtype), dtype=dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros((2, 2)), {}

    def step(self, action):
        assert action.shape == (2, 2)
        assert self.action_space.contains(action.astype(self.action_space.dtype))
        return np.array(action, np.float64), float(action.sum()), False, False, {}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_actions_are_rescaled_to_the_bounds_and_clipped(dtype):
    with make(Echo, 2, dtype=dtype) as env:
        assert env.reset(0).shape == (2, 4)
        low, high = [-2.0, 0.0, 1.0, -5.0], [2.0, 1.0, 1.5, 0.0]
        for action, expected in ((-1.0, low), (1.0, high), (-3.0, low), (3.0, high), (0.0, [0.0, 0.5, 1.25, -2.5])):
            step = env.step(np.full((2, 4), action, np.float32))
            assert step.next_obs.dtype == step.reward.dtype == np.float32
            np.testing.assert_array_equal(step.next_obs, np.float32([expected, expected]))
            np.testing.assert_allclose(step.reward, np.sum(expected))


def test_discrete_actions_start_where_the_space_does(scripted):
    with make(scripted, 1, fixed_length=4) as env:
        env.reset(0)
        for action in (0, 1, 2):
            env.step(np.array([action]))
        assert env.env.envs[0].actions == [-1, 0, 1]
        assert (env.spec.actions, env.spec.action_start) == (3, -1)


def test_discrete_observations_are_one_hot_from_their_start():
    class Number(gymnasium.Env):
        observation_space = gymnasium.spaces.Discrete(3, start=5)
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            return 5, {}

        def step(self, action):
            return 6 + int(action), 0.0, False, False, {}

    with make(Number, 2) as env:
        np.testing.assert_array_equal(env.reset(0), np.float32([[1, 0, 0], [1, 0, 0]]))
        step = env.step(np.array([0, 1]))
        np.testing.assert_array_equal(step.next_obs, np.float32([[0, 1, 0], [0, 0, 1]]))
        assert step.next_obs.dtype == np.float32


def test_observations_are_float32_and_images_stay_bytes():
    class Picture(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(0, 255, (4, 5, 3), np.uint8)
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            return np.full((4, 5, 3), 200, np.uint8), {}

        def step(self, action):
            return np.full((4, 5, 3), 255, np.uint8), 0.0, False, False, {}

    with make(Picture, 2) as env:
        obs, step = env.reset(0), env.step(np.zeros(2, np.int64))
        assert (obs.shape, obs.dtype, obs.min()) == ((2, 4, 5, 3), np.uint8, 200)
        assert (step.obs.shape, step.obs.dtype, step.obs.min()) == ((2, 4, 5, 3), np.uint8, 255)
    with make("HalfCheetah-v5") as env:
        assert env.env.single_observation_space.dtype == np.float64
        assert env.reset(0).dtype == np.float32


def test_seeds_decide_everything_and_columns_differ(transitions):
    def run(seed):
        with make("CartPole-v1", 3) as env:
            return transitions(env, seed, 60, by_parity)

    first, again, other = run(1), run(1), run(2)
    assert first == again
    starts = [column[0][0] for column in first + other]
    assert len({tuple(start) for start in starts}) == 6, "two columns, or two neighbouring seeds, share a stream"


def test_a_second_reset_starts_over(transitions):
    with make("CartPole-v1", 2) as env:
        first = transitions(env, 5, 33, by_parity)
        finished = env.pop_episodes()
        assert len(finished) >= 3
        assert transitions(env, 5, 33, by_parity) == first
        assert env.pop_episodes() == finished, "an unfinished episode was counted on after the reset"


def test_a_reset_right_after_the_end_leaves_no_reset_row(scripted):
    with make(scripted, 2, fixed_length=1) as env:
        env.reset(0)
        ended = env.step(np.zeros(2, np.int64))
        assert (ended.terminated | ended.truncated).all()
        env.reset(0)
        step = env.step(np.zeros(2, np.int64))
        assert step.valid.tolist() == [True, True]
        assert (step.terminated | step.truncated).all()


@pytest.mark.parametrize("mode", MODES)
def test_episode_statistics_are_kept_for_each_column(scripted, transitions, mode):
    with make(scripted, 3, autoreset=mode) as env:
        columns = transitions(env, 11, 40, by_parity)
        episodes = env.pop_episodes()
        assert env.pop_episodes() == []
    expected = []
    for column in columns:
        reward_sum, length = 0.0, 0
        for _, _, reward, terminated, truncated, _ in column:
            reward_sum, length = reward_sum + reward, length + 1
            if terminated or truncated:
                expected.append((round(reward_sum, 3), length))
                reward_sum, length = 0.0, 0
    assert len(expected) >= 20
    assert sorted((round(episode.reward_sum, 3), episode.length) for episode in episodes) == sorted(expected)
    assert isinstance(episodes[0], Episode)
