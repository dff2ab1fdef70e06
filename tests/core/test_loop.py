"""The one loop: how often it updates, calls hooks and averages, and that one object goes from data to environment."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from bellmark.agents.core.buffer import Buffer
from bellmark.agents.core.config import ReplayConfig
from bellmark.agents.core.errors import InvalidSetting, NotFinite
from bellmark.agents.core.loop import fit, learn, run
from bellmark.agents.core.nets import mlp
from bellmark.agents.core.replay import ReplayAgent
from bellmark.agents.core.status import POOL, Status


class Diary(ReplayAgent):
    """Learns nothing, writes down when it was asked to."""

    config = ReplayConfig(batch_size=4, buffer_size=1000, start=10, hidden=(4,))

    def build(self, spec, c):
        self.net = mlp(spec.obs_size, c.hidden, spec.actions)
        self.written, self.shown = [], []

    def act(self, obs, explore):
        return torch.full((len(obs), self.spec.actions), 0.25)

    def update(self, batch):
        self.written.append(self.steps)
        self.shown.append(self.progress)
        return {"loss": torch.tensor(float(self.updates))}


class Every:
    def __init__(self, every, stop_at=None):
        self.every, self.stop_at, self.calls = every, stop_at, []

    def __call__(self, status):
        self.calls.append(status.clock)
        status.stop = status.clock == self.stop_at


@pytest.fixture
def diary(continuous):
    return lambda **settings: Diary(continuous, Diary.config.override(settings))


@pytest.fixture
def endless(scripted):
    """Environments in which every step is a transition."""
    return lambda columns=1: scripted(columns, longest=10**6)


@pytest.fixture
def data(continuous):
    count = 50
    rng = np.random.default_rng(0)
    return Buffer.from_transitions(
        continuous,
        obs=rng.normal(size=(count, 3)).astype(np.float32) + 500,
        action=np.zeros((count, 2), np.float32),
        reward=np.ones(count, np.float32),
        terminated=np.arange(count) % 10 == 9,
        truncated=np.zeros(count, bool),
        next_obs=np.full((count, 3), 600, np.float32),
    )


@pytest.mark.parametrize(
    ("settings", "columns", "steps", "expected"),
    [
        ({"start": 10}, 1, 15, {10: 1, 11: 1, 12: 1, 13: 1, 14: 1, 15: 1}),
        ({"start": 10}, 3, 18, {12: 3, 15: 3, 18: 3}),
        ({"start": 0}, 1, 3, {1: 1, 2: 1, 3: 1}),
        ({"start": 0, "update_ratio": 2.0}, 3, 6, {3: 6, 6: 6}),
        ({"start": 0, "update_ratio": 0.5}, 1, 8, {2: 1, 4: 1, 6: 1, 8: 1}),
        ({"start": 0, "update_ratio": 0.25, "train_every": 4}, 1, 13, {4: 1, 8: 1, 12: 1}),
        ({"start": 100, "update_ratio": 0.25, "train_every": 4}, 1, 112, {103: 1, 107: 1, 111: 1}),
        ({"start": 0, "update_ratio": 0.5, "train_every": 256}, 1, 600, {256: 128, 512: 128}),
        ({"start": 0, "update_ratio": 0.5, "train_every": 256}, 3, 600, {258: 129, 516: 129}),
        ({"start": 10, "update_ratio": 0.5, "train_every": 256}, 1, 521, {265: 128, 521: 128}),
        ({"start": 10, "update_ratio": 1.0, "train_every": 5}, 1, 25, {14: 5, 19: 5, 24: 5}),
    ],
)
def test_updates_come_as_the_settings_say(settings, columns, steps, expected, diary, endless):
    agent = diary(**settings)
    learn(agent, steps, env=endless(columns))
    assert agent.steps == steps
    assert {at: agent.written.count(at) for at in agent.written} == expected


def test_a_ratio_that_floats_cannot_hold_is_kept_on_average(diary, endless):
    agent = diary(start=0, update_ratio=0.1, train_every=10)
    learn(agent, 1000, env=endless())
    assert abs(agent.updates - 100) <= 1
    assert set(np.diff(agent.written)) <= {9, 10, 11}


def test_steps_are_transitions_and_reset_rows_owe_nothing(diary, scripted):
    agent, env = diary(start=0), scripted(2, longest=3)
    learn(agent, 100, env=env)
    assert agent.steps == sum(len(column) for column in env.transitions) == agent.buffer.transitions
    assert agent.steps in (100, 101) and agent.updates == agent.steps
    assert len(env.actions) > 60, "some steps only reset"


def test_environments_step_while_updates_run(diary, endless, monkeypatch):
    """Without overlap this update would wait for a step that comes after it."""
    agent, env, stepping = diary(start=10, overlap=True), endless(), threading.Event()
    step = env.step
    monkeypatch.setattr(env, "step", lambda action: (stepping.set(), step(action))[1])
    monkeypatch.setattr(agent, "explore", lambda obs: (stepping.clear(), Diary.explore(agent, obs))[1])
    monkeypatch.setattr(agent, "update", lambda batch: {"stepped": torch.tensor(float(stepping.wait(60)))})
    assert learn(agent, 15, env=env).metrics()["stepped"] == 1
    assert_true_to(env, agent.buffer)


@pytest.mark.parametrize(("start", "expected"), [(10, {10: 1, 11: 1, 12: 1, 13: 1, 14: 1}), (0, {1: 1, 2: 1})])
def test_overlapped_updates_come_one_step_later(start, expected, diary, endless):
    agent = diary(start=start, overlap=True)
    learn(agent, max(expected) + 1, env=endless())
    assert {at: agent.written.count(at) for at in agent.written} == expected
    assert agent.owed == 1, "due, but not done yet"


def test_what_fails_in_an_overlapped_step_is_raised(diary, endless, monkeypatch):
    agent, env = diary(overlap=True), endless()
    monkeypatch.setattr(env, "step", lambda action: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        learn(agent, 5, env=env)


def test_actions_are_random_until_start(diary, endless):
    agent, env = diary(start=30), endless(3)
    learn(agent, 60, env=env)
    random, chosen = np.stack(env.actions[:10]), np.stack(env.actions[10:])
    assert (chosen == 0.25).all() and not (random == 0.25).any()
    assert random.min() < -0.8 and random.max() > 0.8 and np.abs(random).max() <= 1
    assert agent.written[0] == 30


def test_hooks_are_called_when_the_clock_passes_their_multiples(diary, endless):
    agent, seven, ten, seldom = diary(), Every(7), Every(10), Every(1000)
    learn(agent, 36, env=endless(3), hooks=[seven, ten, seldom])
    assert seven.calls == [9, 15, 21, 30, 36]
    assert ten.calls == [12, 21, 30]
    assert seldom.calls == []
    learn(agent, 12, hooks=[seven])
    assert seven.calls[5:] == [42]


def test_a_hook_can_stop_the_training(diary, endless):
    agent = diary()
    learn(agent, 100, env=endless(), hooks=[Every(5, stop_at=20)])
    assert agent.steps == 20


def test_offline_the_clock_counts_updates(diary, data):
    agent, hook = diary(), Every(4)
    status = fit(agent, data, 10, hooks=[hook])
    assert (agent.updates, agent.steps, status.unit, agent.env) == (10, 0, "updates", None)
    assert hook.calls == [4, 8]
    assert agent.shown == pytest.approx([i / 10 for i in range(10)])
    assert agent.buffer is data


def test_progress_is_the_share_of_what_was_planned(diary, endless):
    agent = diary(start=0)
    learn(agent, 8, env=endless(2))
    assert agent.shown == pytest.approx([0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75])
    learn(agent, 8)
    assert agent.steps == 16 and agent.shown[8:] == pytest.approx([0.5, 0.5, 0.625, 0.625, 0.75, 0.75, 0.875, 0.875])


def test_a_run_goes_until_its_mark(diary, endless, continuous):
    agent, env = diary(), endless(3)
    run(agent, agent.make_buffer(3), env, until=20)
    assert agent.steps == 21
    run(agent, agent.make_buffer(3), env, until=20)
    assert agent.steps == 21, "nothing is left to do"


@pytest.mark.parametrize("count", [1, POOL - 1, POOL, POOL + 1, 3 * POOL + 5])
def test_metrics_are_means_over_all_updates(count, diary):
    agent = diary()
    status = Status(agent, None, None, 0)
    for i in range(count):
        status.record({"loss": torch.tensor(float(i))} | ({"seldom": torch.tensor(10.0 * i)} if i % 3 == 0 else {}))
    found = status.metrics()
    assert found["loss"] == pytest.approx((count - 1) / 2)
    assert found["seldom"] == pytest.approx(10 * np.mean(range(0, count, 3)))
    assert status.metrics() == {}
    status.record({"loss": torch.tensor(7.0)})
    assert status.metrics() == {"loss": 7}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("at", [3, 100])
def test_a_metric_that_is_not_finite_is_refused(bad, at, diary):
    agent = diary()
    status = Status(agent, None, None, 0)
    for i in range(120):
        agent.updates += 1
        status.record({"critic_loss": torch.tensor(bad if i == at else 1.0), "other": torch.tensor(1.0)})
    with pytest.raises(NotFinite, match=r"critic_loss became .* between updates 1 and 120 .*learning_rate"):
        status.metrics()


def online_content(buffer):
    batch = buffer.gather(buffer.valid_index(), 0.9)
    rows = zip(*(x.tolist() for x in (batch.obs, batch.reward, batch.discount, batch.next_obs)), strict=True)
    return {tuple(obs): (reward, discount, tuple(after)) for obs, reward, discount, after in rows if obs[0] < 100}


def assert_true_to(env, buffer):
    """What the buffer holds of the environment is what happened, from the first observation on."""
    found = online_content(buffer)
    expected = {obs: values[1:] for obs, values in env.expected(0.9).items()}
    assert found.keys() == expected.keys()
    for obs, values in expected.items():
        assert found[obs][:2] == pytest.approx(values[:2])
        assert found[obs][2] == values[2]


def test_one_object_goes_from_data_to_environment(diary, data, scripted):
    agent = diary(start=10)
    fit(agent, data, 20)
    env = scripted(2)
    learn(agent, 30, env=env)
    assert agent.updates - 20 == agent.steps >= 30, "no warm-up: it has learnt before"
    assert (np.stack(env.actions) == 0.25).all()
    assert agent.buffer.columns == 2 and agent.buffer.transitions == 50 + agent.steps
    assert_true_to(env, agent.buffer)


def test_data_between_two_stretches_of_experience(diary, data, scripted):
    """The buffer is new, the environment goes on: its observation must be in the buffer before the next step."""
    agent, env = diary(), scripted(2)
    learn(agent, 20, env=env)
    fit(agent, data, 5)
    before = {obs for column in env.transitions for obs in [item["obs"] for item in column]}
    learn(agent, 20)
    found = online_content(agent.buffer)
    later = {obs: values[1:] for obs, values in env.expected(0.9).items() if obs not in before}
    assert found.keys() == later.keys()
    assert agent.buffer.transitions == 50 + len(later)


def test_an_environment_that_was_reset_before(diary, scripted):
    agent, env = diary(), scripted(2)
    env.reset(1)
    env.step(np.zeros((2, 2), np.float32))
    before = {column[0]["obs"] for column in env.transitions}
    learn(agent, 20, env=env)
    assert online_content(agent.buffer).keys() == env.expected(0.9).keys() - before


@pytest.mark.parametrize("style", ["next_step", "same_step"])
def test_learning_in_stretches_keeps_every_transition(style, diary, scripted):
    agent, env = diary(), scripted(3, style)
    for stretch in (10, 1, 25):
        learn(agent, stretch, env=env)
    assert_true_to(env, agent.buffer)
    assert len(env.seeds) == 1


def test_the_environments_seed_comes_from_the_agents(continuous, scripted):
    seeds = []
    for seed in (0, 0, 1):
        env = scripted()
        learn(Diary(continuous, seed=seed), 1, env=env)
        seeds += env.seeds
    assert seeds[0] == seeds[1] != seeds[2]


def test_what_cannot_be_done_is_refused_with_a_remedy(diary, small_agent, data, scripted, discrete):
    with pytest.raises(InvalidSetting, match="pass env="):
        learn(diary(), 10)
    with pytest.raises(InvalidSetting, match="the agent was made for"):
        learn(diary(), 10, env=scripted(spec=discrete))
    with pytest.raises(InvalidSetting, match="the agent was made for"):
        fit(Diary(discrete), data, 1)
    with pytest.raises(InvalidSetting, match="'ppo' learns only from what its own policy"):
        fit(small_agent("ppo"), data, 1)


def test_rollouts_are_used_when_they_are_complete(small_agent, trained):
    """16 rows of 2 environments in batches of 8, twice: 8 updates for every 32 transitions."""
    agent = trained(small_agent("ppo"), steps=30, longest=10**6)
    assert (agent.updates, agent.buffer.written) == (0, 16)
    for updates, written in ((8, 1), (8, 2), (8, 3)):
        trained(agent, steps=2)
        assert (agent.updates, agent.buffer.written) == (updates, written)
    trained(agent, steps=28)
    assert (agent.steps, agent.updates) == (64, 16)


def test_rollouts_with_short_episodes_end_in_time(small_agent, trained):
    for style in ("next_step", "same_step"):
        agent = trained(small_agent("ppo"), steps=200, style=style, longest=3)
        np.testing.assert_array_equal(agent.buffer.current_obs(), agent.env.obs)
        assert agent.buffer.written <= 16 and agent.updates >= 2 * 6
        if style == "next_step":  # one row a step
            assert agent.buffer.written == len(agent.env.actions) % 16 + 1


def test_nothing_is_kept_of_updates_but_means(diary):
    status = Status(diary(), None, None, 0)
    for i in range(5000):
        status.record({"critic_loss": torch.tensor(float(i)), "skipped_count": torch.tensor(2.0)})
    assert len(status._means) == 2 and len(status._pending) < 64
    assert status.metrics() == pytest.approx({"critic_loss": 2499.5, "skipped_count": 10_000.0})
    assert status.metrics() == {}


def test_means_go_on_after_a_resume(diary):
    one, half, rest = (Status(diary(), None, None, 0) for _ in range(3))
    for i in range(200):
        for status in (one, half if i < 100 else rest):
            if i == 100 and status is rest:
                rest.load_state(half.state())
            status.record({"critic_loss": torch.tensor(0.1 * i)})
        if i == 99:
            half.require_finite()  # as at the end of a training
    assert one.metrics() == rest.metrics()


def test_nan_ends_a_training_that_nobody_logs(diary):
    """In time, and at its end at the latest."""
    status = Status(diary(), None, None, 0)
    with pytest.raises(NotFinite, match="critic_loss became nan"):
        for _ in range(10_000):
            status.record({"critic_loss": torch.tensor(float("nan"))})
    status = Status(diary(), None, None, 0)
    status.record({"critic_loss": torch.tensor(float("inf"))})
    with pytest.raises(NotFinite, match="critic_loss became inf"):
        status.require_finite()


def test_data_elsewhere_are_refused(continuous, data):
    agent = Diary(continuous, Diary.config, device="meta")
    with pytest.raises(InvalidSetting, match="data are on 'cpu', the agent on 'meta': load them by device='meta'"):
        fit(agent, data, 1)
