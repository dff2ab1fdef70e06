"""Whether goals were reached: what environments say of it at the end of an episode, in every mode and process."""

from __future__ import annotations

import math

import gymnasium
import numpy as np
import pytest
from bellmark.envs import evaluate, make
from gymnasium.vector import SyncVectorEnv

MODES = ("next_step", "same_step", "disabled")


class Tries(gymnasium.Env):
    """Episodes of three steps; the first of each environment is lost, then two are won, one is lost, and so on.

    Before the end, and in `reset`, it says the opposite.
    """

    observation_space, action_space = gymnasium.spaces.Box(-1, 1, (2,)), gymnasium.spaces.Discrete(2)
    says = "is_success"

    def __init__(self, kind=bool):
        self.kind, self.tries = kind, -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.tries, self.t = -1 if seed is not None else self.tries, 0
        self.tries += 1
        return np.zeros(2, np.float32), self.info(not self.won)

    @property
    def won(self):
        return self.tries % 3 > 0

    def info(self, won):
        return {self.says: self.kind(won)}

    def step(self, action):
        self.t += 1
        over = self.t == 3
        return np.zeros(2, np.float32), 1.0, over and self.won, over, self.info(self.won == over)


class Maze(Tries):
    """Says it with the word of mazes."""

    says = "success"


class Silent(Tries):
    """Says nothing that is heard."""

    says = "reached"


class Zero:
    """Takes choice 0."""

    def act_on(self, obs, explore):
        return np.zeros(len(obs), np.int64)


def run(env, episodes):
    """What was said of each episode, `[episodes, N]`."""
    env.reset(0)
    said = []
    while len(said) < episodes:
        step = env.step(np.zeros(env.num_envs, np.int64))
        if (step.terminated | step.truncated).all():
            said.append(env.successes.last.tolist())
    return said


@pytest.mark.parametrize("env", [Tries, lambda: Tries(np.float32), Maze], ids=["bool", "float32", "maze"])
@pytest.mark.parametrize("backend", ["sync", "async"])
@pytest.mark.parametrize("mode", MODES)
def test_the_last_word_of_an_episode_counts(mode, backend, env):
    with make(env, 2, autoreset=mode, backend=backend) as env:
        assert env.successes.rate is None
        assert run(env, 4) == [[0.0] * 2, [1.0] * 2, [1.0] * 2, [0.0] * 2]
        assert env.successes.rate == 0.5
        run(env, 60)
        assert (len(env.successes.recent), env.successes.rate) == (100, pytest.approx(2 / 3, abs=0.02))


@pytest.mark.parametrize("heard", [Tries, Maze])
@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_a_given_vector_environment_is_heard(mode, heard):
    vector = SyncVectorEnv([heard, heard, Silent], autoreset_mode=mode)
    with make(vector) as env:
        said = run(env, 3)
        assert [row[:2] for row in said] == [[0.0] * 2, [1.0] * 2, [1.0] * 2]
        assert all(math.isnan(row[2]) for row in said)
        assert env.successes.rate == 2 / 3


@pytest.mark.parametrize("env", [Silent, lambda: Tries(lambda won: None)], ids=["silent", "none"])
@pytest.mark.parametrize("mode", MODES)
def test_what_says_nothing_has_no_rate(env, mode):
    with make(env, 2, autoreset=mode) as vector:
        assert np.isnan(run(vector, 3)).all()
        assert vector.successes.rate is None
        found = evaluate(Zero(), vector, 3, seed=0)
        assert np.isnan(found.successes).all() and found.success_rate is None


@pytest.mark.parametrize("mode", MODES)
def test_an_evaluation_counts_the_episodes_of_its_quotas(mode):
    with make(Tries, 2, autoreset=mode) as env:
        found = evaluate(Zero(), env, 5, seed=0)
    assert found.successes.tolist() == [0, 1, 1, 0, 1], "three of the first environment, two of the second"
    assert (found.success_rate, found.lengths.tolist()) == (0.6, [3] * 5)


def test_a_saved_environment_keeps_its_rate_and_an_older_state_has_none():
    with make(Tries, 2) as env, make(Tries, 2) as other, make(Tries, 2) as older:
        run(env, 5)
        state = env.state()
        other.load_state(state)
        assert list(other.successes.recent) == list(env.successes.recent) == [0] * 2 + [1] * 4 + [0] * 2 + [1] * 2
        older.load_state({name: value for name, value in state.items() if name != "successes"})
        assert older.successes.rate is None
