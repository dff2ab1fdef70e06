"""MinAtar's games are the package's, frame by frame, and go on from a saved state."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from bellmark.envs import make, minatar, remake
from going_on import assert_goes_on

logging.disable(logging.WARNING)
package = pytest.importorskip("minatar")
logging.disable(logging.NOTSET)
GAMES = list(minatar.GAMES)


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("version", [0, 1])
def test_the_episodes_are_those_of_the_package(game, version):
    reference = package.Environment(minatar.GAMES[game])
    choices = reference.minimal_action_set() if version else range(reference.num_actions())
    with make(f"MinAtar/{game}-v{version}") as env:
        single = env.env.envs[0]
        obs, _ = single.reset(seed=7)
        reference.seed(7)
        reference.reset()
        rng, ends = np.random.default_rng(0), 0
        for _ in range(3000):
            np.testing.assert_array_equal(obs, 255 * reference.state().transpose(2, 0, 1))
            action = rng.integers(len(choices))
            obs, reward, terminated, truncated, _ = single.step(action)
            assert (reward, terminated, truncated) == (*reference.act(choices[action]), False)
            if terminated:
                ends += 1
                obs, _ = single.reset()
                reference.reset()
    assert ends > 0


def test_images_are_channels_first_and_full_range():
    with make("MinAtar/Seaquest-v1", 2) as env:
        obs = env.reset(0)
        assert (env.spec.obs_shape, env.spec.obs_dtype, env.spec.actions) == ((10, 10, 10), "uint8", 6)
        assert set(np.unique(obs)) == {0, 255} and env.spec.is_image and env.spec.frame_stack == 1
    with make("MinAtar/Breakout-v1") as small, make("MinAtar/Breakout-v0") as full:
        assert (small.spec.actions, full.spec.actions) == (3, 6)


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("backend", ["sync", "async"])
def test_a_fresh_game_goes_on_bit_for_bit(game, backend):
    with make(f"MinAtar/{game}-v1", 2, backend=backend) as env, make(f"MinAtar/{game}-v1", 2) as fresh:
        assert_goes_on(env, fresh, 41, 150)


def test_columns_and_seeds_have_their_own_random_streams():
    with make("MinAtar/Asterix-v1", 3) as env:
        runs = []
        for seed in (0, 0, 1):
            env.reset(seed)
            runs.append([env.step(np.zeros(3, np.int64)).obs for _ in range(60)])
    first, again, other = (np.array(run) for run in runs)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and (first[:, 0] != first[:, 1]).any()


def test_a_seed_forgets_the_action_before():
    """Half of the first steps repeat an action: that of the game itself, none, and not that of the episode before."""
    with make("MinAtar/Freeway-v0", sticky_actions=0.5) as env:
        game, first = env.env.envs[0].unwrapped, []
        for seed in [*range(20), *range(20)]:
            env.reset(seed)
            env.step(np.array([4]))
            first.append(game.last_action)
            for action in (1, 3, 1, 3):
                env.step(np.array([action]))
    assert first[:20] == first[20:] and set(first) == {0, 4}


def test_the_protocol_is_in_the_settings():
    with make("MinAtar/Breakout-v1") as env, make("MinAtar/Breakout-v1", sticky_actions=0.0) as plain:
        assert env.settings["kwargs"] == {"sticky_actions": 0.1, "difficulty_ramping": True}
        with remake(plain.settings) as again:
            assert again.env.envs[0].unwrapped.sticky_actions == 0.0


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5])
def test_actions_stick_with_their_probability(probability):
    """Two actions in turn: the wrong one is executed with s = p (1 - s), for after a wrong one the same is right."""
    with make("MinAtar/Freeway-v0", sticky_actions=probability) as env:
        env.reset(0)
        game, stuck = env.env.envs[0].unwrapped, 0
        for t in range(4000):
            env.step(np.array([1 + t % 2]))
            stuck += game.last_action != 1 + t % 2
    assert stuck / 4000 == pytest.approx(probability / (1 + probability), abs=0.03)


def test_freeway_ends_after_2500_frames_and_calls_it_terminal():
    with make("MinAtar/Freeway-v1") as env:
        env.reset(0)
        steps = [env.step(np.zeros(1, np.int64)) for _ in range(2501)]
        assert [bool(step.terminated[0]) for step in steps] == [False] * 2500 + [True]
        assert not any(step.truncated[0] for step in steps)


def test_a_game_that_does_not_end_is_cut_off(monkeypatch):
    """Seaquest with one action held, and its dangers left out."""
    with make("MinAtar/Seaquest-v0") as env:
        env.reset(0)
        game = env.env.envs[0].unwrapped.env
        monkeypatch.setattr(game, "act", lambda action: (0.0, False))
        steps = [env.step(np.zeros(1, np.int64)) for _ in range(minatar.LONGEST)]
        assert [(s.terminated[0], s.truncated[0]) for s in steps[-2:]] == [(False, False), (False, True)]
        assert env.pop_episodes()[0].length == minatar.LONGEST
