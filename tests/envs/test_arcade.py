"""Atari goes on bit for bit from a state that went through a file, sticky actions and all."""

from __future__ import annotations

import gymnasium
import pytest
from bellmark.agents.core.errors import InvalidCheckpoint
from bellmark.envs import make
from going_on import assert_goes_on, play

ale_py = pytest.importorskip("ale_py")


def raw(game="Pong", repeat_action_probability=0.0, **kwargs):
    gymnasium.register_envs(ale_py)
    kwargs["repeat_action_probability"] = repeat_action_probability
    return gymnasium.make(f"ALE/{game}-v5", disable_env_checker=True, **kwargs)


def stacked(**kwargs):
    game = gymnasium.wrappers.AtariPreprocessing(raw("Breakout", frameskip=1), noop_max=5)
    return gymnasium.wrappers.FrameStackObservation(game, 3, **kwargs)


@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [
        (raw, {"frameskip": (2, 6)}),
        (raw, {"game": "Breakout", "obs_type": "ram", "max_num_frames_per_episode": 400}),
        (stacked, {"padding_type": "reset"}),
        ("ALE/Pong-v5", {"noops": 9, "max_frames": 300}),
        ("ALE/Breakout-v5", {"life_loss": True}),
    ],
)
@pytest.mark.parametrize("backend", ["sync", "async"])
def test_a_fresh_environment_goes_on_with_the_same_sticky_actions(env_id, kwargs, backend):
    with make(env_id, 2, backend=backend, **kwargs) as env, make(env_id, 2, **kwargs) as fresh:
        then = assert_goes_on(env, fresh, 40, 120)
        assert len({step.obs.tobytes() for step in then}) > 80, "the screen moves"


@pytest.mark.parametrize("sticky", [0.25, 0.5])
def test_any_step_can_be_followed_from_a_saved_state(sticky):
    """Also by the first frames, which may repeat the action before the save."""
    same = 0
    with make("ALE/Breakout-v5", sticky_actions=sticky) as env, make("ALE/Breakout-v5", sticky_actions=sticky) as fresh:
        env.reset(0)
        for point in range(25):
            play(env, 2, point)
            fresh.load_state(env.state())
            (step,), (other,) = play(env, 1, point + 100), play(fresh, 1, point + 100)
            same += step.obs.tobytes() == other.obs.tobytes()
    assert same == 25


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_the_emulators_own_sticky_actions_cannot_be_saved(backend):
    with make(raw, backend=backend, repeat_action_probability=0.25) as env:
        env.reset(0)
        assert env.state() is None
        assert "sticky actions may repeat: take an id such as ALE/Pong-v5" in env.obstacle()


def test_a_state_of_another_game_or_a_damaged_one_is_refused():
    with make(raw, obs_type="ram") as pong, make(raw, game="Breakout", obs_type="ram") as breakout:
        pong.reset(0)
        state = pong.state()
        with pytest.raises(InvalidCheckpoint, match="the emulator is damaged, or of another game"):
            breakout.load_state(state)
        emulator = state["environments"]["columns"][0][-1]["arcade"]
        emulator["state"] = emulator["state"][:5000]
        with pytest.raises(InvalidCheckpoint, match="the emulator is damaged, or of another game"):
            pong.load_state(state)


def test_ales_own_vector_environment_cannot_give_its_state():
    with make(ale_py.vector_env.AtariVectorEnv("pong", 2)) as env:
        env.reset(0)
        assert env.state() is None
        assert env.obstacle().startswith("AtariVectorEnv cannot give the state of its environments")
