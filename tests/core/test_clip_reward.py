"""With `clip_reward` an agent learns from the sign of rewards; everything that is told stays in the game's units."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from bellmark import make as make_agent
from bellmark.agents.core.errors import InvalidSetting
from bellmark.envs import evaluate, make
from helpers import build, filled_buffer, spec_of


class Rewards(gymnasium.Env):
    """Gives 7, -3, 0, 0.5 and ends."""

    observation_space = gymnasium.spaces.Box(0.0, 9.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.time += 1
        return np.full(1, self.time, np.float32), (7.0, -3.0, 0.0, 0.5)[self.time - 1], self.time == 4, False, {}


@pytest.mark.parametrize(("agent", "settings"), [("dqn", {"start": 8}), ("ppo", {"rollout_length": 40})])
@pytest.mark.parametrize(("clip", "expected"), [(True, {1.0, -1.0, 0.0}), (False, {7.0, -3.0, 0.0, 0.5})])
def test_what_is_learnt_from_is_clipped_and_what_is_told_is_not(agent, settings, clip, expected):
    with make(Rewards, 2) as env, make(Rewards) as other:
        learner = make_agent(agent, env, clip_reward=clip, batch_size=4, hidden=(4,), **settings)
        learner.learn(36)
        rewards = learner.buffer.reward.flatten()[learner.buffer.valid_index()]
        assert set(rewards.tolist()) == expected
        assert evaluate(learner, other, 2, 0).returns.tolist() == [4.5, 4.5]


def test_rewards_of_data_are_not_clipped_so_the_setting_is_refused():
    with pytest.raises(InvalidSetting, match="clip_reward does not change rewards of data"):
        build("dqn", True, clip_reward=True).fit(filled_buffer(spec_of(True)), updates=1)
