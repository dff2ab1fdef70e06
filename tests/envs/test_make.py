"""From names to environments, and what is said where that fails."""

from __future__ import annotations

import json
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from bellmark.agents.core.errors import InvalidSetting, MissingExtra, UnknownName, UnsupportedSpace
from bellmark.envs import VectorEnv, make, remake
from bellmark.envs.flat import flattened
from bellmark.envs.workers import Workers
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv


def run(env: VectorEnv, seed: int, steps: int) -> list[np.ndarray]:
    """Observations under random actions, the same for the same seed."""
    rng = np.random.default_rng(seed)
    seen = [env.reset(seed)]
    for _ in range(steps):
        if env.spec.discrete:
            action = rng.integers(env.spec.actions, size=env.num_envs)
        else:
            action = rng.uniform(-1, 1, (env.num_envs, env.spec.actions)).astype(np.float32)
        seen.append(env.step(action).obs)
    return seen


def test_the_vector_class_is_named_and_never_gymnasiums_own():
    with make("CartPole-v1", 2) as env:
        assert isinstance(env.env, SyncVectorEnv)
    with make("CartPole-v1", 2, backend="async") as env:
        assert isinstance(env.env, Workers)


def test_settings_are_plain_and_make_it_again():
    with make("HalfCheetah-v5", 2, autoreset="same_step", forward_reward_weight=2.0) as env:
        settings = json.loads(json.dumps(env.settings))
        assert settings == {
            "env_id": "HalfCheetah-v5",
            "num_envs": 2,
            "backend": "sync",
            "autoreset": "same_step",
            "kwargs": {"forward_reward_weight": 2.0},
        }
        with remake(settings) as again, remake(settings, num_envs=1) as one:
            np.testing.assert_array_equal(run(env, 1, 5), run(again, 1, 5))
            assert again.env.envs[0].unwrapped._forward_reward_weight == 2.0
            assert (one.num_envs, one.autoreset) == (1, env.autoreset)


def test_an_object_can_be_wrapped_but_not_made_again():
    with make(lambda: gymnasium.make("CartPole-v1"), 2) as env:
        assert (env.num_envs, env.env_id, env.settings) == (2, "<lambda>", {})
        with pytest.raises(InvalidSetting, match="from an object"):
            remake(env.settings)
    with make(gymnasium.make_vec("CartPole-v1", 3)) as env:
        assert (env.num_envs, env.backend, env.env_id) == (3, "given", "CartPole-v1")
        assert len(run(env, 0, 10)) == 11
        with pytest.raises(InvalidSetting, match="taken as it is"):
            make(env.env, 2)


@pytest.mark.parametrize("vector", [SyncVectorEnv, AsyncVectorEnv])
def test_a_vector_environment_with_masks_is_not_taken_without_them(vector):
    given = vector([lambda: gymnasium.make("Taxi-v4")] * 2)
    with pytest.raises(
        InvalidSetting, match="says which actions are allowed, which a vector environment does not pass on"
    ):
        make(given)
    given.close()
    with make(vector([lambda: flattened(gymnasium.make("Taxi-v4"))])) as env:
        assert env.spec.masked


def test_keywords_that_cannot_be_written_are_refused():
    with pytest.raises(InvalidSetting, match="plain values"):
        make("CartPole-v1", render_mode=object())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"env_id": "HalfCheetah-v55"}, "no environment 'HalfCheetah-v55'; did you mean .*HalfCheetah-v5"),
        ({"env_id": "CartPoll-v1"}, "no environment 'CartPoll-v1'; did you mean .*CartPole-v1"),
        ({"env_id": "Taxi-v3"}, "no environment 'Taxi-v3'; did you mean .*Taxi-v4"),
        ({"env_id": "bellmark/TwoSteps-v0"}, "did you mean .*bellmark/TwoStep-v0"),
        ({"env_id": "CartPole-v1", "backend": "asink"}, "no environment backend 'asink'; did you mean async"),
        ({"env_id": "CartPole-v1", "autoreset": "samestep"}, "no autoreset mode 'samestep'; did you mean same_step"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(arguments, message):
    with pytest.raises(UnknownName, match=message):
        make(**arguments)


def test_at_least_one_environment():
    with pytest.raises(InvalidSetting, match="num_envs is 0"):
        make("CartPole-v1", 0)


@pytest.mark.parametrize(
    ("env_id", "backend", "module", "extra"),
    [
        ("LunarLander-v3", "sync", "Box2D", "box2d"),
        ("ALE/Pong-v5", "sync", "ale_py", "atari"),
        ("CartPole-v1", "envpool", "envpool", "envpool"),
        ("FetchReach-v4", "sync", "gymnasium_robotics", "robotics"),
        ("dm_control/cartpole-balance-v0", "sync", "shimmy", "dm_control"),
    ],
)
def test_a_missing_package_is_answered_with_what_to_install(env_id, backend, module, extra):
    program = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from bellmark.agents.core.errors import MissingExtra\nfrom bellmark.envs import make\n"
        f"try: make({env_id!r}, backend={backend!r})\nexcept MissingExtra as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert f"pip install 'bellmark[{extra}]'" in done.stdout
    assert issubclass(MissingExtra, ImportError)


ROBOTICS = """
import gymnasium, numpy as np
from gymnasium import spaces

class Reach(gymnasium.Env):
    action_space = spaces.Box(-1, 1, (2,))
    observation_space = spaces.Dict({key: spaces.Box(-1, 1, (2,)) for key in ("achieved_goal", "desired_goal")})

    def reset(self, *, seed=None, options=None):
        return {key: np.zeros(2, np.float32) for key in self.observation_space}, {}

gymnasium.register("FetchReach-v4", entry_point=Reach)
"""
SHIMMY = ROBOTICS.replace("FetchReach-v4", "dm_control/reach-v0")


@pytest.mark.parametrize("backend", ["sync", "async"])
@pytest.mark.parametrize(
    ("env_id", "module", "code"),
    [("FetchReach-v4", "gymnasium_robotics", ROBOTICS), ("dm_control/reach-v0", "shimmy", SHIMMY)],
)
def test_a_package_registers_its_environments_when_one_is_made(env_id, module, code, backend, tmp_path):
    (tmp_path / f"{module}.py").write_text(code)
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from bellmark.envs import make\nfrom bellmark.agents.core.errors import UnknownName\n"
        f"make('CartPole-v1'); print({module!r} in sys.modules)\n"
        f"with make({env_id!r}, 2, backend={backend!r}) as env: print(env.spec.obs_shape, env.reset(0).shape)\n"
        f"try: make({env_id[:-1] + '9'!r})\nexcept UnknownName as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    first, second, third = done.stdout.splitlines()
    assert (first, second) == ("False", "(4,) (2, 4)") and env_id in third


def test_ids_of_robotics_are_not_taken_from_others(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium_robotics", None)
    gymnasium.register("FetchMine-v0", entry_point="gymnasium.envs.classic_control:CartPoleEnv")
    try:
        with make("FetchMine-v0") as env:
            assert env.spec.obs_shape == (4,)
    finally:
        del gymnasium.registry["FetchMine-v0"]


def test_importing_the_package_imports_no_environments():
    program = "import sys, bellmark.envs as envs; print('gymnasium' in sys.modules, callable(envs.make))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_unsupported_spaces_are_refused_when_it_is_made():
    with pytest.raises(UnsupportedSpace, match="observation space"):
        make("Blackjack-v1")


def test_atari_ids_are_found():
    pytest.importorskip("ale_py")
    with make("ALE/Pong-v5", 2) as env:
        assert (env.spec.obs_shape, env.spec.obs_dtype, env.spec.discrete) == ((4, 84, 84), "uint8", True)
        first = run(env, 0, 3)
        assert [obs.shape for obs in first] == [(2, 4, 84, 84)] * 4


def test_environments_that_stable_baselines3_accepts_run_here():
    pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.env_checker import check_env
    from stable_baselines3.common.envs import FakeImageEnv, IdentityEnv, IdentityEnvBox

    for make_one in (
        lambda: IdentityEnv(dim=3, ep_length=5),
        lambda: IdentityEnvBox(ep_length=5),
        lambda: FakeImageEnv(screen_height=40, screen_width=36),
        lambda: gymnasium.make("Pendulum-v1"),
    ):
        check_env(make_one(), warn=False)
        with make(make_one, 2) as env:
            shapes = {obs.shape for obs in run(env, 0, 25)}
            assert shapes == {(2, *env.spec.obs_shape)}
            assert all(episode.length > 0 for episode in env.pop_episodes())


def envpool_or_skip() -> None:
    pytest.importorskip("envpool")


def test_envpool_seeds_are_honoured_and_columns_differ():
    envpool_or_skip()
    with make("CartPole-v1", 3, backend="envpool") as env:
        first, again, other = run(env, 1, 50), run(env, 1, 50), run(env, 2, 50)
        np.testing.assert_array_equal(first, again)
        starts = {tuple(row) for row in np.concatenate([first[0], other[0]]).tolist()}
        assert len(starts) == 6
    with make("CartPole-v1", 3, backend="envpool") as fresh:
        np.testing.assert_array_equal(first, run(fresh, 1, 50))


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "HalfCheetah-v4", "FrozenLake-v1"])
def test_envpool_has_the_spec_of_gymnasium(env_id):
    envpool_or_skip()
    with make(env_id, 2, backend="envpool") as pool, make(env_id.replace("v4", "v5"), 2) as sync:
        assert pool.spec == sync.spec
        assert {obs.shape for obs in run(pool, 0, 10)} == {(2, *pool.spec.obs_shape)}


def test_envpool_transitions_skip_reset_rows():
    envpool_or_skip()
    with make("CartPole-v1", 4, backend="envpool") as env:
        env.reset(0)
        previous, resets = np.zeros(4, bool), 0
        for _ in range(60):
            step = env.step(np.zeros(4, np.int64))
            np.testing.assert_array_equal(step.valid, ~previous)
            assert (np.abs(step.obs[~step.valid]) <= 0.05).all(), "a reset row holds a first observation"
            np.testing.assert_array_equal(step.reward, step.valid.astype(np.float32))
            previous = step.terminated | step.truncated
            resets += int((~step.valid).sum())
        episodes = env.pop_episodes()
    assert resets >= 16
    assert all(episode.reward_sum == episode.length and 7 <= episode.length <= 11 for episode in episodes)


def test_envpool_errors():
    envpool_or_skip()
    with pytest.raises(UnknownName, match="no envpool environment 'CartPoll-v1'; did you mean CartPole-v1"):
        make("CartPoll-v1", backend="envpool")
    with pytest.raises(InvalidSetting, match="next step only"):
        make("CartPole-v1", backend="envpool", autoreset="same_step")
