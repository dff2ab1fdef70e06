"""`bellmark doctor` on sound environments, and on one with each fault."""

from __future__ import annotations

import re

import pytest

SOURCE = '''
import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete


class Walk(gymnasium.Env):
    """One step left or right, from a random place; over after ten steps."""

    observation_space = Box(-20.0, 20.0, (2,), np.float32)
    action_space = Discrete(2)
    random, limit = True, 10

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.clock = self.np_random.integers(-5, 6) * self.random, 0
        return self.look(), {}

    def look(self):
        return np.array([self.place, self.clock], np.float32)

    def step(self, action):
        self.place, self.clock = self.place + 2 * int(action) - 1, self.clock + 1
        return self.look(), self.pay(), False, self.clock >= self.limit, {}

    def pay(self):
        return float(self.place > 0)


class Float64(Walk):
    def look(self):
        return super().look().astype(float)


class Leaves(Walk):
    observation_space = Box(-1.0, 20.0, (2,), np.float32)


class Wide(Walk):
    def look(self):
        return np.zeros(3, np.float32)


class Broken(Walk):
    def look(self):
        return super().look() * (np.nan if self.clock == 7 else 1)


class Unseeded(Walk):
    def reset(self, **options):
        super().reset(**options)
        self.place = np.random.randint(-5, 6)
        return self.look(), {}


class Same(Walk):
    random = False


class Timer(Walk):
    def step(self, action):
        obs, reward, _, truncated, info = super().step(action)
        return obs, reward, truncated, False, info


class Endless(Walk):
    observation_space = Box(-1e3, 1e3, (2,), np.float32)
    limit = 10**9


class Rich(Walk):
    def pay(self):
        return 1e4 * self.place


class Poor(Walk):
    def pay(self):
        return 0.0


class Pair(Walk):
    def pay(self):
        return np.array([1.0, 2.0])


class Old(Walk):
    def step(self, action):
        obs, reward, _, truncated, info = super().step(action)
        return obs, reward, truncated, info


class Numbers(Walk):
    def step(self, action):
        obs, reward, _, truncated, info = super().step(action)
        return obs, reward, 0, truncated, info


class Fails(Walk):
    def step(self, action):
        if self.clock == 5:
            raise RuntimeError("out of fuel")
        return super().step(action)


class Endpoints(Walk):
    action_space = Box(-np.inf, np.inf, (1,))


class Large(Walk):
    observation_space = Box(-np.inf, np.inf, (3,), np.float32)

    def look(self):
        return np.array([self.place, 1e5 + self.clock, 7.0], np.float32)


def closed():
    raise OSError("no licence")
'''
FAULTS = {
    "Float64": ("wrong", "types", "observations are float64, their space says float32"),
    "Leaves": ("wrong", "bounds", "dimension 0 is -"),
    "Wide": ("wrong", "shape", r"after a reset an observation has the shape \(3,\), its space \(2,\)"),
    "Broken": ("wrong", "NaN", "an observation is not finite"),
    "Unseeded": ("wrong", "seeding", "another stream from observation 0 on: draw from self.np_random"),
    "Pair": ("wrong", "reward", r"a reward is array\(\[1., 2.\]\): it must be one finite number"),
    "Old": ("wrong", "step", "it must give "),
    "Numbers": ("wrong", "terminated", "it is 0, of type int: it must be True or False"),
    "Fails": ("wrong", "running it", r"after 6 steps it raises RuntimeError\('out of fuel'\)"),
    "Endpoints": ("wrong", "spaces", "has no finite bounds"),
    "closed": ("wrong", "making it", r"it raises OSError\('no licence'\)"),
    "Same": ("note", "seeding", "another seed gives the same stream"),
    "Timer": ("note", "truncation", "every episode terminated after exactly 10 steps"),
    "Endless": ("note", "episodes", "none ended within 400 random steps; it has no time limit"),
    "Rich": ("note", "rewards", "large"),
    "Poor": ("note", "rewards", "all are 0 under random actions"),
    "Large": ("note", "observations", "dimension 1 reaches 1e.05: try normalize_obs"),
}


@pytest.fixture
def doctor(bellmark, here):
    (here / "walks.py").write_text(SOURCE)

    def run(name):
        status, out, err = bellmark("doctor", name, "--steps", 400)
        return status, out + err

    return run


def test_a_sound_environment(doctor):
    status, out = doctor("walks:Walk")
    assert status == 0
    assert "wrong" not in out
    for line in (r"ok +actions +Discrete\(2\)", "ok +steps +400 random steps", "ok +seeding", "ok +episodes +40 of 10"):
        assert re.search(line, out), line
    assert re.search(r"0 terminated, 40 were truncated", out)
    assert out.endswith("it can be trained in\n") or "to look at" in out.splitlines()[-1]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(doctor, name):
    grade, what, text = FAULTS[name]
    status, out = doctor(f"walks:{name}")
    assert re.search(rf"^  {grade} +{what} +.*{text}", out, re.MULTILINE), out
    assert status == (grade == "wrong")
    assert ("wrong" in out.splitlines()[-1]) == (grade == "wrong")


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "Taxi-v4"])
def test_environments_of_gymnasium_pass(doctor, name):
    status, out = doctor(name)
    assert status == 0, out
    assert re.search("ok +autoreset", out)


def test_an_unknown_id(doctor):
    status, out = doctor("CartPol-v1")
    assert status == 1
    assert "did you mean CartPole-v1" in out
