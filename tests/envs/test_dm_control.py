"""dm_control through shimmy, where it is installed: `make interop` does that, beside a mujoco that it runs with."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
from bellmark import make as make_agent
from bellmark.envs import make

if "BELLMARK_DM_CONTROL" not in os.environ:  # with it, what is missing is an error
    pytest.importorskip("shimmy")
    pytest.importorskip("dm_control")
    mujoco = pytest.importorskip("mujoco")
    if int(mujoco.__version__.split(".")[0]) >= 4:
        pytest.skip(f"dm_control does not run with mujoco {mujoco.__version__}", allow_module_level=True)

BALANCE = "dm_control/cartpole-balance-v0"


@pytest.fixture(autouse=True)
def no_screen(monkeypatch):
    if sys.platform == "linux":
        monkeypatch.setenv("MUJOCO_GL", "disable")  # before it is imported


def test_episodes_are_cut_off_after_1000_steps():
    with make(BALANCE, 2) as env:
        env.reset(0)
        steps = [env.step(np.zeros((2, 1), np.float32)) for _ in range(1000)]
        assert steps[-1].truncated.all() and not any(step.truncated.any() for step in steps[:-1])
        assert not any(step.terminated.any() for step in steps)
        rewards = np.array([step.reward for step in steps])
        assert 0 <= rewards.min() < rewards.max() <= 1
        assert [episode.length for episode in env.pop_episodes()] == [1000, 1000]


def test_dictionaries_of_observations_are_one_vector():
    with make(BALANCE, 3) as env:
        obs = env.reset(0)
        assert [(part.name, part.shape) for part in env.spec.parts] == [("position", (3,)), ("velocity", (2,))]
        for _ in range(20):
            assert (obs.dtype, obs.shape) == (np.float32, (3, 5))
            np.testing.assert_allclose(np.linalg.norm(obs[:, 1:3], axis=1), 1, rtol=1e-6)  # the pole's cosine and sine
            before, obs = obs, env.step(np.ones((3, 1), np.float32)).obs
            assert (obs[:, 3] > before[:, 3]).all(), "the cart is pushed to the right"


def test_seeds_and_processes():
    runs = []
    for seed, backend in ((0, "sync"), (0, "async"), (1, "sync")):
        with make(BALANCE, 2, backend=backend) as env:
            runs.append([env.reset(seed), *(env.step(np.full((2, 1), 0.5, np.float32)).obs for _ in range(30))])
    first, again, other = (np.array(run) for run in runs)
    np.testing.assert_array_equal(first, again)
    assert (first[0] != other[0]).any() and (first[0, 0] != first[0, 1]).any()


def test_an_agent_learns_there():
    agent = make_agent("sac", BALANCE, seed=0, start=20, hidden=(8,), batch_size=8)
    agent.learn(60)
    assert agent.updates > 30 and agent.spec.actions == 1
