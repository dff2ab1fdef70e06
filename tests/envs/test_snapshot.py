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


def obstacle_of(**held):
    with make(lambda: Holding(**held)) as env:
        env.reset(0)
        assert (env.state() is None) == bool(env.obstacle())
        return env.obstacle()


def test_the_obstacle_names_the_attribute_and_what_it_holds():
    shared, counter = np.zeros(3), [0]
    assert obstacle_of(plain=1.0, rows=[(1, 2), {"a": {3}}], shared=shared, none=None, function=lambda: 1) == ""
    for held, what in [
        ({"thing": object()}, "thing' of Holding holds a value of type object, which cannot be saved"),
        (
            {"inner": [gymnasium.make("CartPole-v1")]},
            "inner' of Holding holds a value of type TimeLimit, which cannot be saved",
        ),
        (
            {"one": shared, "other": shared},
            "other' of Holding holds a value of type ndarray that something else holds as well",
        ),
        (
            {"whole": shared, "part": shared[1:]},
            "part' of Holding holds a value of type ndarray that something else holds as well",
        ),
        (
            {"foreign": np.frombuffer(bytearray(8))},
            "foreign' of Holding holds an array in the memory of something else",
        ),
        ({"function": lambda: counter}, "function' of Holding holds a value of type function, which cannot be saved"),
    ]:
        assert obstacle_of(**held) == f"the attribute '{what} ('<lambda>')"


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_the_world_of_box2d_is_an_obstacle(backend):
    pytest.importorskip("Box2D")
    with make("LunarLander-v3", 2, backend=backend) as env:
        env.reset(0)
        assert env.state() is None
        assert env.obstacle() == (
            "the attribute 'world' of LunarLander holds a value of type b2World, which cannot be saved "
            "('LunarLander-v3')"
        )
        assert env.step(np.zeros(2, np.int64)).valid.all()


def test_vector_environments_that_cannot_give_their_state_say_so():
    with make(gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="vector_entry_point")) as env:
        env.reset(0)
        assert env.state() is None
        assert env.obstacle() == "CartPoleVectorEnv cannot give the state of its environments ('CartPole-v1')"
    pytest.importorskip("envpool")
    with make("CartPole-v1", 2, backend="envpool") as env:
        env.reset(0)
        assert env.state() is None
        assert env.obstacle() == "envpool cannot give the state of its environments ('CartPole-v1')"


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
    pytest.importorskip("envpool")
    with make("Hopper-v4", 1, backend="envpool") as pool, pytest.raises(InvalidCheckpoint, match="backend='sync'"):
        pool.load_state(state)


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
