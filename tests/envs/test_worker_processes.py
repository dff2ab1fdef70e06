"""The processes of workers: what they give is what one process gives, they go on from its state, and none is left."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from bellmark.agents.core.errors import EnvironmentFailed, InvalidSetting
from bellmark.envs import make, remake

MODES = ("next_step", "same_step", "disabled")


def play(env, steps, seed=1):
    """Steps with random actions."""
    rng, shape = np.random.default_rng(seed), (steps, env.num_envs)
    discrete = env.spec.discrete
    actions = rng.integers(env.spec.actions, size=shape) if discrete else rng.uniform(-1, 1, (*shape, env.spec.actions))
    return [env.step(action if discrete else action.astype(np.float32)) for action in actions]


def rows(steps, column):
    return [[np.asarray(field)[column].tolist() for field in step[:6]] for step in steps]


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, seconds=15.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Hopper-v5"])
@pytest.mark.parametrize("mode", MODES)
def test_workers_give_what_one_process_gives(env_id, mode):
    with make(env_id, 3, autoreset=mode) as sync, make(env_id, 3, backend="async", autoreset=mode) as env:
        np.testing.assert_array_equal(env.reset(5), sync.reset(5))
        steps, same = play(env, 80), play(sync, 80)
        assert [rows(steps, column) for column in range(3)] == [rows(same, column) for column in range(3)]
        assert env.pop_episodes() == sync.pop_episodes() != []


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Hopper-v5"])
@pytest.mark.parametrize("backends", [("async", "async"), ("async", "sync"), ("sync", "async")])
def test_the_state_goes_on_bit_for_bit_in_workers_or_without(env_id, backends):
    with make(env_id, 2, backend=backends[0]) as env, make(env_id, 2, backend=backends[1]) as fresh:
        env.reset(3)
        current = play(env, 25)[-1].obs
        assert env.obstacle() == ""
        state = env.state()
        then = play(env, 60, seed=2)
        np.testing.assert_array_equal(fresh.load_state(state), current)
        again = play(fresh, 60, seed=2)
        assert [rows(then, column) for column in (0, 1)] == [rows(again, column) for column in (0, 1)]
        assert fresh.pop_episodes() == env.pop_episodes()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("steps", [4, 5, 6])
def test_every_autoreset_mode_goes_on_around_the_end_of_an_episode(scripted, mode, steps):
    with (
        make(scripted, 2, backend="async", autoreset=mode) as env,
        make(scripted, 2, backend="async", autoreset=mode) as two,
    ):
        env.reset(0)
        play(env, steps)
        two.load_state(env.state())
        assert rows(play(env, 9), 1) == rows(play(two, 9), 1)


def test_settings_of_workers():
    with make("CartPole-v1", 1, backend="async", worker_timeout=7, worker_restarts=3) as env:
        assert (env.settings["worker_timeout"], env.settings["worker_restarts"]) == (7, 3)
        with remake(env.settings) as again:
            assert (again.env.timeout, again.env.restarts) == (7, 3)
    for wrong in ({"worker_timeout": 0}, {"worker_restarts": -1}):
        with pytest.raises(InvalidSetting, match="worker_timeout"):
            make("CartPole-v1", 1, backend="async", **wrong)


def test_a_failure_while_it_is_made_is_an_error_with_its_traceback():
    def broken():
        if multiprocessing.parent_process() is not None:
            raise OSError("no display")
        return gymnasium.make("CartPole-v1")

    with pytest.raises(EnvironmentFailed, match=r"(?s)environment 0 could not be made: Traceback.*OSError: no display"):
        make(broken, 2, backend="async")


class Keeping(gymnasium.Env):
    """Shows the action before the last, which it keeps as it was given."""

    observation_space = action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    kept = np.zeros(1, np.float32)

    def reset(self, *, seed=None, options=None):
        return self.kept.copy(), {}

    def step(self, action):
        kept, self.kept = self.kept, action
        return kept.copy(), 0.0, False, False, {}


def test_an_environment_may_keep_its_action():
    with make(Keeping, 2) as sync, make(Keeping, 2, backend="async") as env:
        env.reset(0)
        sync.reset(0)
        assert rows(play(env, 6), 1) == rows(play(sync, 6), 1)


def test_workers_leave_signals_to_their_parent():
    with make("CartPole-v1", 2, backend="async") as env, warnings.catch_warnings():
        warnings.simplefilter("error")
        env.reset(0)
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGINT)
            os.kill(child.pid, signal.SIGTERM)
        assert all(step.valid.all() for step in play(env, 4))


def test_an_answer_that_nobody_waited_for_is_passed_over():
    with make("CartPole-v1", 2, backend="async") as env, make("CartPole-v1", 2) as sync:
        env.reset(0)
        sync.reset(0)
        env.env._send([0, 1], "step")  # as if Ctrl-C had come right after
        assert all(pipe.poll(10.0) for _, pipe, _ in env.env._workers.values())
        sync.step(np.zeros(2, np.int64))
        assert rows(play(env, 8), 1) == rows(play(sync, 8), 1)


PROGRAM = """
import multiprocessing, os, sys, time, gymnasium, numpy as np
from bellmark.envs import make
class Slow(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}
    def step(self, action):
        time.sleep(1000 * int(action))
        return np.zeros(1, np.float32), 0.0, False, False, {}
env = make(Slow, 3, backend="async")
env.reset(0)
print(*[child.pid for child in multiprocessing.active_children()], flush=True)
"""


@pytest.mark.parametrize("at", ["idle", "a hanging step"])
def test_workers_end_with_a_parent_that_is_killed(at):
    last = "time.sleep(1000)" if at == "idle" else "env.step(np.array([1, 0, 1]))"
    process = subprocess.Popen([sys.executable, "-c", PROGRAM + last], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 3
    time.sleep(0.3)
    process.kill()
    process.wait()
    process.stdout.close()
    wait_until(lambda: not any(map(is_alive, pids)))


@pytest.mark.parametrize(("last", "code"), [("", 0), ("sys.exit(4)", 4), ("raise KeyError", 1), ("env.close()", 0)])
def test_a_program_that_does_not_close_them_ends_all_the_same(last, code):
    done = subprocess.run([sys.executable, "-c", PROGRAM + last], capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert not any(is_alive(int(pid)) for pid in done.stdout.split())
