"""Returns to go beside a buffer: by hand, against a loop, and while rows are added online."""

from __future__ import annotations

import math

import numpy as np
import torch
from bellmark.agents.core.batch import Step
from bellmark.agents.core.buffer import Buffer
from bellmark.offline.returns import ReturnsToGo
from helpers import build, filled_buffer, spec_of


def recorded(reward, terminated, truncated):
    count = len(reward)
    obs = np.zeros((count, 3), np.float32)
    return Buffer.from_transitions(
        spec_of(False),
        obs=obs,
        action=np.zeros((count, 2), np.float32),
        reward=np.float32(reward),
        terminated=np.array(terminated, bool),
        truncated=np.array(truncated, bool),
        next_obs=obs,
    )


def column(buffer, gamma, timeout_return=0.0):
    returns = ReturnsToGo(gamma, timeout_return)
    returns.agree(buffer)
    return returns.column[buffer.valid_index()]


def by_loop(buffer, gamma):
    """Backwards through each column from the head; -infinity until an episode's end is met."""
    found = np.full((buffer.rows, buffer.columns), -math.inf)
    for j in range(buffer.columns):
        following = -math.inf
        for k in range(1, buffer.rows):
            t = (int(buffer.head[j]) - k) % buffer.rows
            if not buffer.valid[t, j]:
                following = -math.inf
                continue
            ended = bool(buffer.terminated[t, j] | buffer.truncated[t, j])
            following = float(buffer.reward[t, j]) + (0.0 if ended else gamma * following)
            found[t, j] = following
    return found


def test_returns_known_answers():
    np.testing.assert_allclose(column(recorded([0, 0, 1], [0, 0, 1], [0, 0, 0]), 0.9), [0.81, 0.9, 1.0], rtol=1e-6)
    failing = recorded([-1] * 7, [0] * 7, [0, 0, 0, 0, 0, 0, 1])
    np.testing.assert_allclose(column(failing, 0.99, -100.0), [-100.0] * 7, rtol=1e-6)
    np.testing.assert_allclose(column(failing, 0.5)[-2:], [-1.5, -1.0])
    won = recorded([-1, -1, 0], [0, 0, 1], [0, 0, 0])
    np.testing.assert_allclose(column(won, 0.5, -2.0), [-1.5, -1.0, 0.0])


def test_returns_of_many_episodes_are_those_of_a_loop():
    buffer = filled_buffer(spec_of(False), 500)
    returns = ReturnsToGo(0.97)
    returns.agree(buffer)
    np.testing.assert_allclose(returns.column.view(buffer.rows, 1), by_loop(buffer, 0.97), rtol=1e-4, atol=1e-5)


def test_returns_follow_what_is_collected():
    """After every step, through two rounds of the ring: the column is that of a loop, and of a fresh computation."""
    buffer = filled_buffer(spec_of(False), 30).spread(25, 2)
    rng, returns, done = np.random.default_rng(0), ReturnsToGo(0.9), np.zeros(2, bool)
    obs = np.zeros((2, 3), np.float32)
    buffer.begin(obs)
    for _ in range(100):
        valid = ~done
        done = valid & (rng.random(2) < 0.15)
        terminated = done & (rng.random(2) < 0.5)
        reward = rng.standard_normal(2).astype(np.float32)
        buffer.add(np.zeros((2, 2), np.float32), Step(obs, reward, terminated, done & ~terminated, valid, obs))
        returns.agree(buffer)
        fresh = ReturnsToGo(0.9)
        fresh.agree(buffer)
        index = buffer.valid_index()
        assert torch.equal(returns.column[index], fresh.column[index]), "a resumed run would go on differently"
        expected = torch.as_tensor(by_loop(buffer, 0.9)).flatten()
        torch.testing.assert_close(returns.column[index].double(), expected[index], atol=1e-5, rtol=1e-4)


def test_an_unknown_return_is_no_bound():
    agent = build("cal_ql", False)
    agent.buffer = filled_buffer(agent.spec)
    (batch,) = agent.sample(agent.buffer)
    value = torch.randn(2, 16, 1 + 9)
    density = torch.randn(16, 9)
    torch.testing.assert_close(batch.bound, agent.returns.column[batch.row])
    wanted = (value[..., 1:] - density).logsumexp(-1)
    unknown = batch._replace(bound=torch.full((16,), -math.inf))
    torch.testing.assert_close(agent.pushed_down(unknown, value, density), wanted)
