"""Evaluation: fixed quotas, its own streams, no trace in torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bellmark.agents.core.errors import InvalidSetting
from bellmark.envs import evaluate, make
from gymnasium.vector import SyncVectorEnv


class Chooser:
    """Takes choice 0, or a random one from torch where it explores; remembers what it saw and was asked."""

    def __init__(self):
        self.explored, self.seen = set(), []

    def act_on(self, obs, explore):
        self.explored.add(explore)
        self.seen.append(obs.tolist())
        assert obs.dtype == np.float32
        return torch.randint(2, (len(obs),)).numpy() if explore else np.zeros(len(obs), np.int64)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
@pytest.mark.parametrize(
    ("episodes", "lengths"),
    [(1, [1]), (2, [1, 5]), (7, [1, 1, 1, 5, 5, 20, 20]), (9, [1] * 3 + [5] * 3 + [20] * 3)],
)
def test_each_column_runs_its_quota(scripted, mode, episodes, lengths):
    vector = SyncVectorEnv([lambda length=length: scripted(length) for length in (1, 5, 20)], autoreset_mode=mode)
    with make(vector) as env:
        result = evaluate(Chooser(), env, episodes, seed=0)
        assert result.lengths.tolist() == lengths
        assert result.returns.shape == (episodes,)
        assert env.pop_episodes() == []


def test_returns_are_the_sums_of_rewards(scripted):
    with make(scripted, 1, fixed_length=3) as env:
        result = evaluate(Chooser(), env, 4, seed=0)
    per_episode = [sum(10 * episode + time - 0.1 for time in (1, 2, 3)) for episode in range(4)]
    np.testing.assert_allclose(result.returns, per_episode, rtol=1e-6)
    assert result.lengths.tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize("deterministic", [True, False])
def test_torch_goes_on_as_if_nothing_had_been_evaluated(deterministic):
    agents = [Chooser() for _ in range(3)]
    with make("CartPole-v1", 2) as env:
        torch.manual_seed(0)
        expected = torch.rand(3)
        torch.manual_seed(0)
        first = evaluate(agents[0], env, 4, seed=1, deterministic=deterministic)
        assert torch.equal(torch.rand(3), expected)
        again = evaluate(agents[1], env, 4, seed=1, deterministic=deterministic)
        evaluate(agents[2], env, 4, seed=2, deterministic=deterministic)
    assert agents[0].explored == {not deterministic}
    np.testing.assert_array_equal(first.returns, again.returns)
    np.testing.assert_array_equal(first.returns, first.lengths)
    assert agents[0].seen == agents[1].seen
    assert agents[0].seen[0] != agents[2].seen[0]


def test_at_least_one_episode():
    with make("CartPole-v1") as env, pytest.raises(InvalidSetting, match="episodes is 0"):
        evaluate(Chooser(), env, 0, seed=0)
