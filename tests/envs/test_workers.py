"""Workers that crash or hang are reported and replaced, their episodes marked; the rest is as in one process."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import re
import signal
import time

import bellmark
import gymnasium
import numpy as np
import pytest
from bellmark.agents.core.buffer import Buffer
from bellmark.agents.core.errors import EnvironmentFailed, InvalidCheckpoint
from bellmark.envs import evaluate, make

MODES = ("next_step", "same_step", "disabled")
FAIL = 2
CAUSES = {
    "exception": "RuntimeError: planted",
    "exit": "ended with exit status 3",
    "kill": "ended with signal SIGKILL",
    "segfault": "ended with signal SIGSEGV",
    "hang": "gave no answer within 2 seconds",
}


def fail(how):
    if how == "exception":
        raise RuntimeError("planted")
    if how == "exit":
        os._exit(3)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "segfault":
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)  # pytest's handler would print
        ctypes.string_at(0)
    time.sleep(1000)


class Failing(gymnasium.Env):
    """Observation [number of the episode's own, step]; five steps long. Action 2 makes it fail in the way given."""

    observation_space = gymnasium.spaces.Box(0.0, 1e6, (2,), np.float64)
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, how="exception", resets=1000, chance=0.0):
        self.how, self.resets, self.chance = how, resets, chance
        self.episode, self.time = 0, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.resets -= 1
        if self.resets < 0:
            fail(self.how)
        self.episode, self.time = int(self.np_random.integers(1, 10**6)), 0
        return np.array([self.episode, 0.0]), {}

    def step(self, action):
        if action == FAIL or (self.chance and self.np_random.random() < self.chance):
            fail(self.how)
        self.time += 1
        return np.array([self.episode, self.time], np.float64), float(self.time), self.time == 5, False, {}


class Unlucky(Failing):
    """Ends its process by chance, whatever the action."""

    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, chance):
        super().__init__("exit", chance=chance)


def plan(steps, failures=()):
    """Actions [steps, 2]: zeros, but in column 1 FAIL at the steps given."""
    actions = np.zeros((steps, 2), np.int64)
    actions[list(failures), 1] = FAIL
    return actions


def play(env, actions):
    return [env.step(action) for action in actions]


def rows(steps, column):
    return [[np.asarray(field)[column].tolist() for field in step[:6]] for step in steps]


@pytest.mark.parametrize(
    ("how", "mode"), [*((how, "next_step") for how in CAUSES), ("exit", MODES[1]), ("exit", MODES[2])]
)
def test_a_failed_worker_is_reported_and_replaced_and_its_episode_marked(how, mode):
    timeout = {"worker_timeout": 2.0} if how == "hang" else {}
    with make(Failing, 2, how=how, autoreset=mode) as sync:
        sync.reset(0)
        untouched = rows(play(sync, plan(12)), 0)
    with make(Failing, 2, backend="async", how=how, autoreset=mode, **timeout) as env:
        first = env.reset(0)
        before = play(env, plan(3))
        with pytest.warns(
            RuntimeWarning, match=rf"(?s)environment 1 failed .*9 restarts left.*{CAUSES[how]}"
        ) as caught:
            lost = env.step(plan(1, [0])[0])
        assert len(caught) == 1
        assert lost.valid.tolist() == [True, False]
        assert (lost.reward[1], lost.terminated[1], lost.truncated[1], lost.restarted) == (0.0, False, False, None)
        assert lost.obs[1, 1] == 0.0 and lost.obs[1, 0] != first[1, 0], "a new episode has begun"
        np.testing.assert_array_equal(lost.next_obs, lost.obs)
        after = play(env, plan(8))
        assert [step.obs[1].tolist() for step in after[:4]] == [[lost.obs[1, 0], time] for time in (1.0, 2.0, 3.0, 4.0)]
        assert all(step.valid[1] for step in after[:4])
        assert rows([*before, lost, *after], 0) == untouched, "the other column does not notice"
        assert env.lost_episodes == 1
        assert env.pop_episodes() == [(15.0, 5)] * 3
        assert len(multiprocessing.active_children()) == 2


def test_the_new_episode_follows_from_the_seed():
    def new_episodes(seed):
        with make(Failing, 2, backend="async") as env, pytest.warns(RuntimeWarning):
            env.reset(seed)
            return [step.obs[1, 0] for step in play(env, plan(4, [1, 3]))]

    first, again, other = new_episodes(1), new_episodes(1), new_episodes(2)
    assert first == again
    assert len({*first, *other}) == 6, "the episodes before and after each failure, for both seeds, all differ"


@pytest.mark.parametrize("mode", MODES)
def test_no_sampled_transition_crosses_a_loss(mode):
    with make(Failing, 2, backend="async", autoreset=mode) as env, pytest.warns(RuntimeWarning):
        buffer, valid = Buffer(env.spec, 40, 2), 0
        buffer.begin(env.reset(3))
        for action in plan(30, [3, 4, 11, 20]):
            step = env.step(action)
            buffer.add(action, step)
            valid += int(step.valid.sum())
    assert env.lost_episodes == 4
    index = buffer.valid_index()
    assert len(index) == valid == buffer.transitions
    batch = buffer.gather(index, 0.5, 3)
    assert (batch.obs[:, 0] == batch.next_obs[:, 0]).all(), "both ends are in one episode"
    length = (batch.next_obs - batch.obs)[:, 1]
    assert ((batch.discount == 0.5**length) | ((batch.discount == 0.0) & (batch.next_obs[:, 1] == 5.0))).all()
    assert {*length.tolist()} == {1.0, 2.0, 3.0}
    assert (buffer.action.flatten()[index] != FAIL).all()


def test_when_no_restart_is_left_the_last_traceback_is_given():
    env = make(Failing, 2, backend="async", worker_restarts=1)
    env.reset(0)
    with pytest.warns(RuntimeWarning, match="0 restarts left"):
        play(env, plan(2, [1]))
    with pytest.raises(EnvironmentFailed, match=r"(?s)environment 1 failed and no restart .*RuntimeError: planted"):
        play(env, plan(2, [1]))
    assert multiprocessing.active_children() == []
    assert (env.state(), env.obstacle()) == (None, "the environments are closed ('Failing')")
    with pytest.raises(EnvironmentFailed, match="are closed"):
        env.reset(0)


@pytest.mark.parametrize(("mode", "lost", "finished"), [("next_step", 0, 2), ("same_step", 2, 0), ("disabled", 0, 2)])
def test_a_failure_in_the_reset_between_two_episodes(mode, lost, finished):  # same-step: the last transition is lost
    with make(Failing, 2, backend="async", autoreset=mode, resets=1) as env, pytest.warns(RuntimeWarning):
        env.reset(0)
        steps = play(env, plan(7))
        assert (env.lost_episodes, len(env.pop_episodes())) == (lost, finished)
        assert [step.obs[:, 1].tolist() for step in steps[-2:]] == (
            [[0, 0], [1, 1]] if mode == "next_step" else [[1, 1], [2, 2]]
        )


def test_a_failure_in_the_first_reset_uses_up_the_restarts():
    with make(Failing, 1, resets=0, backend="async", worker_restarts=3) as env:
        with pytest.warns(RuntimeWarning) as caught, pytest.raises(EnvironmentFailed, match="planted"):
            env.reset(0)
        assert len(caught) == 3


def test_a_restored_run_fails_over_to_the_same_episode():
    with (
        make(Failing, 2, backend="async") as env,
        make(Failing, 2, backend="async") as fresh,
        pytest.warns(RuntimeWarning),
    ):
        env.reset(0)
        play(env, plan(3, [1]))
        state = env.state()
        fresh.load_state(state)
        assert rows(play(env, plan(5, [2])), 1) == rows(play(fresh, plan(5, [2])), 1)
        assert (env.lost_episodes, fresh.lost_episodes) == (2, 2)


def test_a_state_of_other_environments_is_refused_by_workers():
    with make(Failing) as env, make(Unlucky, backend="async", chance=0.0) as other:
        env.reset(0)
        other.reset(0)
        with pytest.raises(InvalidCheckpoint, match=r"the state is of Failing, and the environment is Unlucky"):
            other.load_state(env.state())
        assert other.step(np.zeros(1, np.int64)).valid.all(), "the worker lives on"


def test_a_worker_that_died_between_two_steps_is_an_obstacle_and_then_replaced():
    with make(Failing, 2, backend="async") as env:
        env.reset(0)
        play(env, plan(2))
        victim = multiprocessing.active_children()
        os.kill(max(child.pid for child in victim), signal.SIGKILL)
        while len(multiprocessing.active_children()) == 2:
            time.sleep(0.01)
        assert env.state() is None
        assert re.fullmatch(r"environment 1 failed: .*SIGKILL \('Failing'\)", env.obstacle())
        with pytest.warns(RuntimeWarning, match="SIGKILL"):
            assert env.step(plan(1)[0]).valid.tolist() == [True, False]
        assert env.obstacle() == ""


@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_training_goes_on_over_crashes_and_counts_what_there_was(name):
    env = make(Unlucky, 2, backend="async", chance=0.02, worker_restarts=1000)
    settings = {"ppo": {"rollout_length": 32}, "dqn": {"start": 50}}[name]
    agent = bellmark.make(name, env, seed=1, hidden=(8,), **settings)
    with env, pytest.warns(RuntimeWarning, match="exit status 3"):
        agent.learn(400)
    assert env.lost_episodes >= 2
    assert 400 <= agent.steps <= 401
    if name == "dqn":
        assert agent.buffer.transitions == agent.steps
    assert {episode.length for episode in env.pop_episodes()} <= {5}


def test_an_evaluation_counts_whole_episodes_only():
    class Zero:
        def act_on(self, obs, explore):
            return np.zeros(len(obs), np.int64)

    with make(Unlucky, 2, backend="async", chance=0.1, worker_restarts=1000) as env:
        with pytest.warns(RuntimeWarning):
            found = evaluate(Zero(), env, 12, seed=0)
        assert env.lost_episodes >= 2
    assert found.lengths.tolist() == [5] * 12
    assert found.returns.tolist() == [15.0] * 12
