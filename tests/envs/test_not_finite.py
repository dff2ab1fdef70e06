"""NaN and infinity are stopped where they enter, and the error says whose fault they are."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from bellmark.agents.core.errors import NotFinite
from bellmark.envs import make
from gymnasium.vector import SyncVectorEnv


class Broken(gymnasium.Env):
    """Gives the values that it was told to from its third step on; until then it shows the action."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, obs=0.0, reward=0.0):
        self.bad_obs, self.bad_reward, self.time = obs, reward, 0

    def reset(self, *, seed=None, options=None):
        self.time = 0
        return np.zeros(2), {}

    def step(self, action):
        self.time += 1
        late = self.time >= 3
        obs = np.array([0.0, self.bad_obs if late else float(action[0])])
        return obs, self.bad_reward if late else 0.0, False, False, {}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("what", ["observation", "reward"])
def test_values_that_are_not_finite_are_named(bad, what):
    broken = {"obs": bad} if what == "observation" else {"reward": bad}
    vector = SyncVectorEnv([Broken, lambda: Broken(**broken)])
    with make(vector) as env:
        env.reset(0)
        env.step(np.zeros((2, 1), np.float32))
        env.step(np.zeros((2, 1), np.float32))
        with pytest.raises(
            NotFinite, match=rf"the {what} of environment 1 of 'SyncVectorEnv' at step 3 .*environment is"
        ):
            env.step(np.zeros((2, 1), np.float32))


def test_the_agent_is_named_where_its_action_was_bad():
    with make(Broken) as env:
        env.reset(0)
        with pytest.raises(NotFinite, match=r"observation of environment 0 of 'Broken' at step 1 .*agent's action"):
            env.step(np.full((1, 1), np.nan, np.float32))


def test_large_finite_values_pass():
    vector = SyncVectorEnv([lambda: Broken(obs=3e38, reward=-3e38)])
    with make(vector) as env:
        env.reset(0)
        steps = [env.step(np.zeros((1, 1), np.float32)) for _ in range(3)]
        np.testing.assert_array_equal(steps[-1].next_obs, np.float32([[0.0, 3e38]]))
        np.testing.assert_array_equal(steps[-1].reward, np.float32([-3e38]))
