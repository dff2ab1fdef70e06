"""One protocol for Atari: the same frames, rewards and ends through gymnasium and through ALE's vector environment."""

from __future__ import annotations

import json
import math

import gymnasium
import numpy as np
import pytest
from bellmark.agents.core.errors import InvalidSetting, UnknownName
from bellmark.envs import for_evaluation, human_normalized, make, remake
from bellmark.envs.atari import AtariSettings, Noops
from bellmark.envs.atari_scores import references

ale_py = pytest.importorskip("ale_py")
pytest.importorskip("cv2")


def both(env_id, num_envs=2, **kwargs):
    return make(env_id, num_envs, backend="ale", **kwargs), make(env_id, num_envs, autoreset="same_step", **kwargs)


@pytest.mark.parametrize(
    ("env_id", "steps", "kwargs", "ends"),
    [
        ("ALE/Breakout-v5", 200, {}, 1),
        ("ALE/Breakout-v5", 200, {"life_loss": True}, 5),
        ("ALE/SpaceInvaders-v5", 250, {"life_loss": True}, 1),
        ("ALE/Pong-v5", 100, {"max_frames": 133}, 4),
        ("ALE/Breakout-v5", 200, {"frame_skip": 1, "max_frames": 150}, 2),
        ("ALE/Breakout-v5", 100, {"frame_skip": 3, "frame_stack": 2, "screen_size": 60, "full_action_space": True}, 0),
        ("ALE/Breakout-v5", 250, {"life_loss": True, "max_frames": 250}, 8),
    ],
)
def test_the_same_settings_mean_the_same_through_both(env_id, steps, kwargs, ends):
    threads, single = both(env_id, sticky_actions=0.0, **kwargs)
    rng, found = np.random.default_rng(0), 0
    with threads, single:
        assert threads.spec == single.spec
        assert threads.spec.frame_stack == kwargs.get("frame_stack", 4)
        np.testing.assert_array_equal(threads.reset(5), single.reset(5))
        for _ in range(steps):
            action = rng.integers(single.spec.actions, size=2)
            one, other = threads.step(action), single.step(action)
            for name, a, b in zip(one._fields, one, other, strict=True):
                np.testing.assert_array_equal(a, b, err_msg=name)
            found += int((one.terminated | one.truncated).sum())
        assert threads.pop_episodes() == single.pop_episodes()
    assert found >= ends


def moves(env, rest, blocks=25):
    """After how many of as many short pushes of the paddle, each after a rest, it is somewhere else; and their number.

    Never at a wall: from the middle, pushes to and fro are a random walk of 4 frames (one standard deviation) of 16.
    """
    moved = 0
    for seed in range(2):
        obs = env.reset(seed)
        for block in range(blocks):
            before = obs[:, -1, 70:]
            for action in [2 + block % 2] + [0] * rest:
                obs = env.step(np.full(8, action)).obs
            moved += int((before != obs[:, -1, 70:]).reshape(8, -1).any(1).sum())
    return moved, 2 * blocks * 8


@pytest.mark.parametrize("backend", ["ale", "sync"])
def test_each_frame_repeats_the_action_before_with_that_probability(backend):
    """A push is lost if its frame repeats the rest. In 1 of 1000 runs, chance alone fails one of the two."""
    with make("ALE/Breakout-v5", 8, backend=backend, sticky_actions=0.25, frame_skip=1) as env:
        moved, count = moves(env, rest=8)
    share = 0.75
    chances = [math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(count + 1)]
    assert min(sum(chances[: moved + 1]), sum(chances[moved:])) > 1e-3 / 4


def test_numbers_of_noops_are_uniform_from_0_to_the_most():
    from ale_py.vector_env import AtariVectorEnv

    threads = make("ALE/Pong-v5", 32, backend="ale", noops=3)
    assert isinstance(threads.env, AtariVectorEnv)
    counts = np.concatenate([threads.env.reset(seed=100 * i)[1]["episode_frame_number"] for i in range(3)])
    threads.close()
    with make("ALE/Pong-v5", noops=3) as single:
        env = single.env.envs[0]
        assert isinstance(env.env.env, Noops)
        own = [env.reset(seed=i)[1]["episode_frame_number"] for i in range(40)]
    for found in (counts, own):
        shares = np.bincount(found, minlength=4) / len(found)
        assert shares == pytest.approx([0.25] * 4, abs=0.2)


def test_a_lost_life_ends_the_episode_but_not_the_game():
    with make("ALE/Breakout-v5", life_loss=True, sticky_actions=0.0) as env:
        env.reset(0)
        emulator, lives, lost = env.env.envs[0].unwrapped.ale, 5, 0
        for t in range(200):
            step = env.step(np.array([t % 2]))
            if step.terminated[0]:
                lost, lives = lost + 1, lives - 1
                assert emulator.lives() == lives
                after = env.step(np.array([0]))
                assert not after.valid[0]
                if lives:
                    np.testing.assert_array_equal(after.obs, step.obs)
                    assert emulator.getEpisodeFrameNumber() > 0
                else:
                    assert (emulator.lives(), emulator.getEpisodeFrameNumber()) == (5, 0)
                    assert not after.obs[0, :3].any(), "the stack starts with zeros"
                    break
        assert lost == 5


def test_the_protocol_is_in_the_settings_and_evaluation_plays_whole_games():
    with make("ALE/Pong-v5", 2, life_loss=True, sticky_actions=0.0) as env:
        settings = json.loads(json.dumps(env.settings))
        assert settings["kwargs"] == AtariSettings(life_loss=True, sticky_actions=0.0).to_dict()
    with remake(settings, num_envs=1) as again, remake(for_evaluation(settings), backend="ale") as whole:
        assert again.settings["kwargs"]["life_loss"] is True
        assert whole.settings["kwargs"] == settings["kwargs"] | {"life_loss": False}
    assert for_evaluation({"env_id": "Hopper-v5", "kwargs": {}}) == {"env_id": "Hopper-v5", "kwargs": {}}


def test_errors():
    with pytest.raises(UnknownName, match="no setting 'stickiness'; did you mean sticky_actions"):
        make("ALE/Pong-v5", stickiness=0.1)
    with pytest.raises(InvalidSetting, match=r"sticky_actions = 1.5 must be in \[0, 1\]"):
        make("ALE/Pong-v5", sticky_actions=1.5)
    for backend in ("sync", "ale"):
        with pytest.raises(UnknownName, match="no environment 'ALE/Pogn-v5'; did you mean ALE/Pong-v5"):
            make("ALE/Pogn-v5", backend=backend)
    with pytest.raises(InvalidSetting, match="'ale' has Atari's games, as ALE/Pong-v5, not 'CartPole-v1'"):
        make("CartPole-v1", backend="ale")
    with pytest.raises(InvalidSetting, match="ale resets in the same step only"):
        make("ALE/Pong-v5", backend="ale", autoreset="next_step")


def test_human_normalised_scores():
    assert len(references()) == 57
    for game, (random, human) in references().items():
        np.testing.assert_allclose(human_normalized(f"ALE/{game}-v5", [random, human]), [0.0, 1.0], atol=1e-12)
    assert human_normalized("ALE/Pong-v5", [18.0])[0] == pytest.approx((18.0 + 20.7) / (14.6 + 20.7))
    assert human_normalized("ALE/Tetris-v5", [1.0]) is None
    assert human_normalized("Hopper-v5", [1.0]) is None


def test_the_games_of_the_references_exist():
    gymnasium.register_envs(ale_py)
    assert {f"ALE/{game}-v5" for game in references()} <= gymnasium.registry.keys()
