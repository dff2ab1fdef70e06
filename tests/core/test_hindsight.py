"""Hindsight replay: goals come from later in the same episode, and they are what makes learning work."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from bellmark import make
from bellmark.agents.core.batch import Step
from bellmark.agents.core.errors import InvalidSetting, UnsupportedSpace
from bellmark.agents.core.hindsight import HindsightBuffer
from bellmark.agents.core.spec import Spec
from bellmark.envs import evaluate
from bellmark.envs import make as make_env
from bellmark.envs.goals import GoalTask
from gymnasium import spaces

KEYS = ("observation", "achieved_goal", "desired_goal")


class Point(gymnasium.Env):
    """A point that moves by up to 0.2 a step in the square [-1, 1]^2: -1 until it is within 0.2 of the goal."""

    action_space = spaces.Box(-1, 1, (2,))
    observation_space = spaces.Dict({key: spaces.Box(-1, 1, (2,)) for key in KEYS})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, (self.place, self.goal) = 0, self.np_random.uniform(-1, 1, (2, 2)).astype(np.float32)
        return self.obs(), {}

    def obs(self):
        return dict(zip(KEYS, (self.place, self.place, self.goal), strict=True))

    def step(self, action):
        self.place, self.t = np.clip(self.place + 0.2 * action, -1, 1).astype(np.float32), self.t + 1
        return self.obs(), float(self.compute_reward(self.place, self.goal, {})), False, self.t >= 20, {}

    def compute_reward(self, achieved, desired, info):
        return -(np.linalg.norm(achieved - desired, axis=-1) > 0.2).astype(np.float32)


class Task:
    """Rewards that say who was compared with whom."""

    achieved, desired = slice(1, 2), slice(2, 3)

    def judge(self, achieved, desired):
        return (1000 * achieved + desired)[:, 0], (achieved > desired)[:, 0]


PARTS = spaces.Dict({key: spaces.Box(-np.inf, np.inf, (1,)) for key in KEYS})


def filled(steps: int, rows: int = 40, columns: int = 3, seed: int = 0, **options) -> HindsightBuffer:
    """Steps of every kind: achieved goals count up; observation = number of the episode; desired is -1."""
    rng = np.random.default_rng(seed)
    spec = Spec.from_spaces(PARTS, spaces.Discrete(2))
    buffer = HindsightBuffer(spec, rows, columns, task=Task(), **options)
    episode, count = np.arange(columns), columns

    def obs():
        nonlocal count
        count += columns
        return np.stack([episode, count + np.arange(columns), np.full(columns, -1)], 1).astype(np.float32)

    buffer.begin(obs())
    done = np.zeros(columns, bool)
    for t in range(steps):
        valid = ~done & (rng.random(columns) > 0.05)  # a reset, or a lost episode: the next one begins
        episode = np.where(valid, episode, episode.max() + 1 + np.arange(columns))
        done = valid & (rng.random(columns) < 0.15)
        terminated, following = done & (rng.random(columns) < 0.5), obs()
        restarted, now = None, following
        if t > steps // 2:  # from then on same-step
            restarted, done = done, np.zeros(columns, bool)
            episode = np.where(restarted, episode.max() + 1 + np.arange(columns), episode)
            now = np.where(restarted[:, None], obs(), following)
        ended = restarted if restarted is not None else done
        step = Step(following, np.zeros(columns, np.float32), terminated, ended & ~terminated, valid, now, restarted)
        buffer.add(np.zeros(columns, np.int64), step)
        if t % 7 == 3:
            buffer.later(buffer.valid_index())  # so that episodes are followed step by step from here on
    return buffer


def candidates(buffer: HindsightBuffer, index: int) -> set[float]:
    """Achieved goals after a row, found by walking."""
    found, row, column = set(), index // buffer.columns, index % buffer.columns
    while True:
        following = (row + 1) % buffer.rows
        found.add(buffer.obs[following, column, 1].item())
        if buffer.terminated[row, column] or buffer.truncated[row, column] or not buffer.valid[following, column]:
            return found
        row = following


@pytest.mark.parametrize("steps", [1, 20, 39, 41, 150])
@pytest.mark.parametrize("rows", [8, 40])
def test_goals_are_those_achieved_later_in_the_episode(steps, rows):
    buffer = filled(steps, rows)
    index = buffer.valid_index()
    torch.manual_seed(0)
    draws = torch.stack([buffer.later(index)[:, 1] for _ in range(300)], 1)
    for i, row in enumerate(index.tolist()):
        assert set(draws[i].tolist()) == candidates(buffer, row), f"row {row}"


def test_later_goals_are_equally_likely():
    buffer = filled(1)
    for _ in range(9):
        head = buffer.current_obs() + np.array([0, 100, 0], np.float32)
        no = np.zeros(3, bool)
        buffer.add(np.zeros(3, np.int64), Step(head, np.zeros(3, np.float32), no, no, ~no, head))
    row = buffer.valid_index()[-27:][:1]  # nine transitions remain
    torch.manual_seed(0)
    counts = torch.unique(buffer.later(row.expand(90_000))[:, 1], return_counts=True)[1]
    assert len(counts) == 9 and (counts - 10_000).abs().max() < 5 * 100


def test_what_was_followed_step_by_step_is_what_is_found_from_the_rows():
    buffer = filled(150)
    followed = buffer.stop.view(-1)[buffer.valid_index()].clone()
    running = buffer._running.copy()
    buffer._find_episodes()
    assert torch.equal(buffer.stop.view(-1)[buffer.valid_index()], followed) and (buffer._running == running).all()


def test_a_relabelled_transition_is_judged_anew_and_k_in_k_plus_1_are():
    buffer, k = filled(150, goals=4), 4
    torch.manual_seed(0)
    stored = buffer.obs.clone()
    batch = buffer.sample(50_000, 0.9)
    goal, next_goal, achieved = batch.obs[:, 2], batch.next_obs[:, 2], batch.next_obs[:, 1]
    own = goal == -1
    assert torch.equal(goal, next_goal) and torch.equal(buffer.obs, stored), "the rows stay as they are"
    assert abs(own.float().mean() - 1 / (k + 1)) < 5 * np.sqrt(0.16 / 50_000)
    assert torch.equal(batch.reward, torch.where(own, 0.0, 1000 * achieved + goal))
    terminated = buffer.terminated.view(-1)[batch.row]
    assert torch.equal(batch.discount, torch.where(own, 0.9 * ~terminated, 0.9 * (achieved <= goal)))
    assert (goal[~own] >= achieved[~own]).all(), "a goal was achieved by this very step, or later"


def test_resumed_it_draws_the_same():
    buffer, other = filled(150), filled(30, seed=1)
    other.load_state(*buffer.state())
    for one in (buffer, other):
        torch.manual_seed(3)
        one.drawn = one.sample(500, 0.9)
    assert all(torch.equal(a, b) for a, b in zip(buffer.drawn, other.drawn, strict=True))


BITS = {"batch_size": 128, "learning_rate": 1e-3, "gamma": 0.98, "start": 1000, "target_every": 400, "double": True}
BITS |= {"exploration_fraction": 0.5, "hidden": (256,), "train_every": 8, "update_ratio": 0.125, "buffer_size": 100_000}


@pytest.mark.parametrize(("replay", "low", "high"), [("hindsight", 0.9, 1.0), ("uniform", 0.0, 0.1)])
def test_ten_bits_are_learnt_with_hindsight_and_not_without(replay, low, high):
    bits = lambda: make_env("bellmark/BitFlipping-v0", 8, size=10)  # noqa: E731
    agent = make("dqn", bits(), seed=1, replay=replay, **BITS).learn(12_000)
    returns = evaluate(agent, bits(), 100, seed=0).returns
    assert low <= (returns > -10).mean() <= high


def test_a_point_finds_its_goal_with_hindsight():
    settings = {"hidden": (64, 64), "start": 500, "batch_size": 128, "gamma": 0.95, "learning_rate": 1e-3}
    agent = make("sac", make_env(Point, 4), seed=1, replay="hindsight", update_ratio=0.25, temperature=0.1, **settings)
    agent.learn(5000)
    assert evaluate(agent, make_env(Point, 4), 40, seed=0).returns.mean() > -10, "twelve steps at most, of twenty"


class OneVerdict(Point):
    """Judges a pair of goals, as the mazes of gymnasium-robotics do: their norm has no axis."""

    def compute_reward(self, achieved, desired, info):
        return float(np.linalg.norm(achieved - desired))

    def compute_terminated(self, achieved, desired, info):
        return np.array([np.linalg.norm(achieved - desired) <= 0.45])


def test_a_judge_of_single_goals_is_asked_about_each():
    task, rng = GoalTask(make_env(OneVerdict)), np.random.default_rng(0)
    achieved, desired = rng.uniform(-1, 1, (2, 50, 2)).astype(np.float32)
    distance = np.linalg.norm(achieved - desired, axis=1)
    assert 0 < (distance <= 0.45).sum() < 50
    for rows in (slice(0, 50), slice(0, 1)):
        reward, ended = task.judge(achieved[rows], desired[rows])
        np.testing.assert_allclose(reward, distance[rows], rtol=1e-6)
        np.testing.assert_array_equal(ended, distance[rows] <= 0.45)
        assert (reward.dtype, ended.dtype) == (np.float32, bool)


def test_environments_in_other_processes_judge_here():
    env = make_env(Point, 2, backend="async")
    agent = make("sac", env, replay="hindsight", start=20, batch_size=8, hidden=(8,)).learn(80)
    agent.env.close()
    assert agent.updates and agent.buffer.task.compute_terminated is None


def test_what_cannot_be_done_is_named():
    agent = make("dqn", "bellmark/BitFlipping-v0", replay="hindsight")
    agent.env = None
    with pytest.raises(InvalidSetting, match="needs env="):
        agent.make_buffer(1)
    with pytest.raises(InvalidSetting, match="not from data"):
        agent.fit(HindsightBuffer(agent.spec, 10), 1)
    with pytest.raises(InvalidSetting, match="n_step = 1"):
        make("dqn", "bellmark/BitFlipping-v0", replay="hindsight", n_step=2).learn(10)
    with pytest.raises(UnsupportedSpace, match="has no goals"):
        make("dqn", "CartPole-v1", replay="hindsight").learn(10)
    with pytest.raises(InvalidSetting, match="clip_reward = False"):
        make("dqn", "bellmark/BitFlipping-v0", replay="hindsight", clip_reward=True).learn(10)
