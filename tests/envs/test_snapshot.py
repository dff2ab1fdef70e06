"""A restored environment goes on bit for bit, in the middle of an episode."""

from __future__ import annotations

import json
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from bellmark.agents.core.errors import InvalidCheckpoint
from bellmark.envs import make
from bellmark.envs.snapshot import decode, encode

MUJOCO = ["HalfCheetah-v5", "Hopper-v5", "Ant-v5", "Humanoid-v5"]
SMALL = ["CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCarContinuous-v0", "FrozenLake-v1", "CliffWalking-v1"]
PROBES = ["bellmark/TruncatedForever-v0", "bellmark/DelayedReward-v0", "bellmark/ChooseSign-v0", "bellmark/TwoStep-v0"]


def advance(env, steps, seed):
    """Every array of every step, under random actions."""
    rng = np.random.default_rng(seed)
    seen = []
    for _ in range(steps):
        if env.spec.discrete:
            action = rng.integers(env.spec.actions, size=env.num_envs)
        else:
            action = rng.uniform(-1, 1, (env.num_envs, env.spec.actions)).astype(np.float32)
        seen.append(env.step(action))
    return seen


def assert_same(first, second):
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        for field, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(field, same)


def through_a_file(state):
    """The state as a checkpoint keeps it: JSON, and arrays aside."""
    arrays = []

    def put(array):
        assert array.dtype.kind in "biuf"
        arrays.append(array)
        return {"array": len(arrays) - 1}

    def take(item):
        return arrays[item["array"]] if set(item) == {"array"} else item

    return json.loads(json.dumps(state, default=put), object_hook=take)


@pytest.mark.parametrize("env_id", MUJOCO + SMALL + PROBES)
def test_a_fresh_environment_goes_on_bit_for_bit(env_id):
    with make(env_id, 2) as env, make(env_id, 2) as fresh:
        env.reset(3)
        current = advance(env, 41, 0)[-1].obs
        state = through_a_file(env.state())
        then = advance(env, 120, 1)
        np.testing.assert_array_equal(fresh.load_state(state), current)
        assert_same(advance(fresh, 120, 1), then)
        assert fresh.steps == env.steps == 161
        assert fresh.pop_episodes() == env.pop_episodes()


@pytest.mark.parametrize("mode", ["next_step", "same_step", "disabled"])
@pytest.mark.parametrize("steps", range(1, 9))
def test_every_autoreset_mode_at_every_phase(scripted, mode, steps):
    with make(scripted, 2, autoreset=mode) as env, make(scripted, 2, autoreset=mode) as fresh:
        env.reset(0)
        advance(env, steps, 0)
        fresh.load_state(through_a_file(env.state()))
        assert_same(advance(env, 20, 1), advance(fresh, 20, 1))
        assert fresh.pop_episodes() == env.pop_episodes()


def test_the_time_limit_goes_on():
    with make("Pendulum-v1", 1) as env, make("Pendulum-v1", 1) as fresh:
        env.reset(0)
        advance(env, 150, 0)
        fresh.load_state(env.state())
        assert [bool(step.truncated[0]) for step in advance(fresh, 50, 1)] == [False] * 49 + [True]
        assert fresh.pop_episodes()[0].length == 200


def test_a_state_is_a_copy():
    with make("HalfCheetah-v5", 1) as env:
        env.reset(0)
        state = env.state()
        then = advance(env, 30, 0)
        for _ in range(2):
            env.load_state(state)
            assert_same(advance(env, 30, 0), then)


@pytest.mark.parametrize("env_id", ["Hopper-v5", "FrozenLake-v1"])
def test_a_fresh_process_goes_on_bit_for_bit(env_id):
    program = (
        "from bellmark.envs import make\nimport numpy as np\n"
        f"env = make({env_id!r}, 1); env.reset(5)\n"
        "zero = np.zeros(1, np.int64) if env.spec.discrete else np.zeros((1, env.spec.actions), np.float32)\n"
        "for _ in range(30): env.step(zero)\n"
        "print(env.step(zero).obs.tobytes().hex())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    with make(env_id) as env, make(env_id) as fresh:
        zero = np.zeros(1, np.int64) if env.spec.discrete else np.zeros((1, env.spec.actions), np.float32)
        env.reset(5)
        for _ in range(17):
            env.step(zero)
        fresh.load_state(env.state())
        for _ in range(13):
            fresh.step(zero)
        assert fresh.step(zero).obs.tobytes().hex() == done.stdout.split()[-1]


class Holding(gymnasium.Env):
    """Holds whatever it is given."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, **held):
        vars(self).update(held)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, False, False, {}


def state_of(**held):
    with make(lambda: Holding(**held)) as env:
        env.reset(0)
        return env.state()


def test_none_where_it_cannot_be_saved():
    shared, counter = np.zeros(3), [0]
    assert state_of(plain=1.0, rows=[(1, 2), {"a": {3}}], shared=shared, none=None) is not None
    assert state_of(thing=object()) is None
    assert state_of(inner=gymnasium.make("CartPole-v1")) is None
    assert state_of(one=shared, other=shared) is None
    assert state_of(whole=shared, part=shared[1:]) is None
    assert state_of(foreign=np.frombuffer(bytearray(8))) is None
    assert state_of(function=lambda: 1) is not None
    assert state_of(function=lambda: counter) is None
    with make("CartPole-v1", 2, backend="async") as env:
        env.reset(0)
        assert env.state() is None
    with make(gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="vector_entry_point")) as env:
        env.reset(0)
        assert env.state() is None


def test_none_for_box2d():
    pytest.importorskip("Box2D")
    with make("LunarLander-v3") as env:
        env.reset(0)
        assert env.state() is None


def test_none_for_envpool():
    pytest.importorskip("envpool")
    with make("CartPole-v1", 2, backend="envpool") as env:
        env.reset(0)
        assert env.state() is None


def test_a_space_that_the_environment_samples_from_goes_on():
    class Sampling(Holding):
        def step(self, action):
            return self.noise.sample(), 0.0, False, False, {}

    def one():
        space = gymnasium.spaces.Box(-1, 1, (1,), np.float32, seed=1)
        return Sampling(noise=space)

    with make(one) as env, make(one) as fresh:
        env.reset(0)
        advance(env, 5, 0)
        fresh.load_state(through_a_file(env.state()))
        then = advance(env, 5, 0)
        assert_same(advance(fresh, 5, 0), then)
        assert len({float(step.obs[0, 0]) for step in then}) == 5


def test_a_state_of_another_environment_is_refused():
    with make("Hopper-v5", 1) as hopper, make("Walker2d-v5", 1) as walker, make("Hopper-v5", 2) as two:
        hopper.reset(0)
        state = hopper.state()
        with pytest.raises(InvalidCheckpoint, match=r"HopperEnv .*Walker2dEnv"):
            walker.load_state(state)
        with pytest.raises(InvalidCheckpoint, match="1 environments, and 'Hopper-v5' has 2"):
            two.load_state(state)
        state["environments"]["columns"][0][-1]["physics"]["state"] = np.zeros(3)
        with pytest.raises(InvalidCheckpoint, match="use the version that wrote it"):
            hopper.load_state(state)
    with make("Hopper-v5", 1, backend="async") as parallel, pytest.raises(InvalidCheckpoint, match="backend='sync'"):
        parallel.load_state(state)


def test_the_code_keeps_types_and_bits():
    generator = np.random.default_rng(5)
    generator.integers(2**31, size=3, dtype=np.uint32)  # leaves half of a 64-bit word behind
    value = {
        "float": 0.1 + 0.2,
        1: (True, None, float("inf"), [np.float32(0.1), np.int64(-(2**62)), np.str_("s")]),
        (2, "k"): {np.bool_(True)},
        "bytes": np.array([[b"S", b"F"]]),
        "empty": np.zeros((0, 3), np.int8),
        "generator": generator,
    }
    copy = decode(through_a_file(encode(value, set())))
    assert repr(copy["float"]) == repr(value["float"])
    assert copy[1] == value[1]
    assert [type(item) for item in copy[1][3]] == [np.float32, np.int64, np.str_]
    assert copy[(2, "k")] == {True}
    assert copy["bytes"].dtype == value["bytes"].dtype
    np.testing.assert_array_equal(copy["bytes"], value["bytes"])
    assert (copy["empty"].shape, copy["empty"].dtype) == ((0, 3), np.int8)
    np.testing.assert_array_equal(
        copy["generator"].integers(2**31, size=9, dtype=np.uint32), generator.integers(2**31, size=9, dtype=np.uint32)
    )
