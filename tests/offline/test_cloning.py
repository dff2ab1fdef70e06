"""Behaviour cloning by hand, and the best episodes by enumeration."""

from __future__ import annotations

import bellmark
import checks
import numpy as np
import pytest
import torch
from bellmark.agents.core.buffer import Buffer
from bellmark.agents.core.policies import Normal
from bellmark.offline.trajectories import best_episodes, select, trajectories
from helpers import build, filled_buffer, spec_of
from recorded import episodes_of

LENGTHS, RETURNS = (10, 100, 50, 20, 20), (5, 50, 40, 30, 60)


def test_best_episodes_of_the_card():
    """Of (length, return) = (10, 5), (100, 50), (50, 40), (20, 30), (20, 60) the best 40 % are 60 and 50: 120 steps."""
    data = episodes_of(LENGTHS, RETURNS, ended=[1, 0, 1, 0, 0])
    assert trajectories(data).returns.tolist() == list(RETURNS)
    best = best_episodes(data, 0.4)
    assert best.transitions == 120
    kept = trajectories(best)
    assert (kept.lengths.tolist(), kept.returns.tolist()) == ([100, 20], [50, 60])
    rows = best.gather(best.valid_index(), 0.9)
    steps = [*range(10, 110), *range(180, 200)]
    assert (rows.obs[:, 0] / 3).tolist() == steps
    assert (rows.next_obs[:, 0] / 3).tolist() == [step + 1 for step in steps]
    assert rows.discount.tolist() == [pytest.approx(0.9)] * 120, "both were cut off, so both bootstrap"
    assert best_episodes(data, 1.0).transitions == 200
    assert best_episodes(data, 0.0).transitions == 20, "at least one"


@pytest.mark.parametrize("fraction", [0.1, 0.35, 0.5])
def test_best_episodes_by_enumeration(fraction):
    data = filled_buffer(spec_of(True), 400, seed=4)
    episodes, rewards = [], []
    for row in range(data.rows):
        if data.valid[row, 0]:
            rewards.append((data.reward[row, 0].item(), row))
            if data.terminated[row, 0] or data.truncated[row, 0]:
                episodes.append(rewards)
                rewards = []
    assert rewards, "an episode that was left off is none of the best"
    ranked = sorted(episodes, key=lambda episode: -sum(reward for reward, _ in episode))
    rows = sorted(row for episode in ranked[: int(fraction * len(episodes))] for _, row in episode)
    best = best_episodes(data, fraction)
    assert torch.equal(best.obs[best.valid], data.obs[torch.tensor(rows), 0])
    assert torch.equal(best.reward[best.valid], data.reward[torch.tensor(rows), 0])


def test_ties_go_to_the_shorter_and_unfinished_episodes_do_not_count():
    data = episodes_of((5, 3, 4), (1, 1, 1))
    assert trajectories(data).best(0.4).tolist() == [1]
    last = data.valid_index()[-1]
    data.terminated[last], data.reward[last] = False, 100.0
    found = trajectories(data)
    assert found.finished.tolist() == [True, True, False]
    assert found.best(0.5).tolist() == [1]


def test_episodes_of_a_ring_of_several_columns():
    """A replay buffer that has wrapped: time order, and no episode across the head."""
    from bellmark.envs import make

    env = make("CartPole-v1", 3)
    buffer, rng = Buffer(env.spec, 60, 3), np.random.default_rng(0)
    buffer.begin(env.reset(0))
    for _ in range(150):
        action = rng.integers(2, size=3)
        buffer.add(action, env.step(action))
    found = trajectories(buffer)
    assert len(found.rows) == buffer.transitions
    assert buffer.written == buffer.rows
    np.testing.assert_allclose(found.returns, found.lengths)
    steps = np.diff(found.rows) % (buffer.rows * buffer.columns)
    inside = found.time[1:] > 0
    assert (steps[inside] == buffer.columns).all()
    assert found.returns_to_go.tolist() == (np.repeat(found.lengths, found.lengths) - found.time).tolist()


def test_returns_to_go_of_the_card():
    data = episodes_of((3, 2), (3, 7))
    data.reward[:2, 0] = torch.tensor([1.0, 2.0])
    found = trajectories(data)
    assert found.returns_to_go.tolist() == [6, 5, 3, 7, 7]
    assert found.time.tolist() == [0, 1, 2, 0, 1]


def test_cloning_losses_of_the_card():
    """Predictions ((.5, .5), (0, 0)), actions ((.5, 0), (1, 0)): .3125. A unit Gaussian at distance 1: 1.418939."""
    agent = build("bc", False)
    checks.plant(agent.actor, [[0.5, 0.5], [0.0, 0.0]])
    batch = checks.batch_of(action=torch.tensor([[0.5, 0.0], [1.0, 0.0]]), rows=2)
    np.testing.assert_allclose(agent.actor_loss(batch).item(), 0.3125)
    agent = build("bc", False, gaussian=True)
    checks.plant(agent.actor, lambda obs: Normal(torch.zeros(1, 1), torch.zeros(1)))
    np.testing.assert_allclose(agent.actor_loss(checks.batch_of(action=(1.0,))).item(), 1.418939, rtol=1e-6)


def test_cloning_of_choices_learns_their_frequencies():
    """In one state with choices in the proportion 1 : 3 the policy settles at 1/4, 3/4."""
    agent = build("bc", True, learning_rate=0.03)
    batch = checks.batch_of(action=torch.tensor([0, 1, 1, 1]), rows=4)
    for _ in range(200):
        agent.step(batch)
    np.testing.assert_allclose(agent.actor(torch.zeros(1, 3)).log_probs.exp()[0].tolist(), [0.25, 0.75], atol=1e-3)


def test_the_best_tenth_chooses_the_sign():
    """Where every reward tells the right choice from the wrong, cloning the best episodes is right, of all is not."""
    env = checks.make("bellmark/ChooseSign-v0", 4, continuous=False)
    obs = np.array([[-1.0], [1.0]], np.float32)
    for name, right in (("top_bc", True), ("bc", False)):
        agent = bellmark.make(name, env, seed=0, hidden=(32,), batch_size=64, learning_rate=3e-3)
        agent.fit(checks.random_data(env, 300), updates=200)
        probability = agent.actor(agent.obs_normalizer(torch.as_tensor(obs))).log_probs.exp()
        choice = agent.act_on(obs, explore=False)
        value = checks.ChooseSign.value(obs, choice)
        assert (value.tolist() == [1.0, 1.0] and bool((probability.amax(1) > 0.95).all())) is right


def test_what_is_kept_is_found_once():
    agent, data = build("top_bc", True), filled_buffer(spec_of(True))
    agent.fit(data, 3)
    kept = agent._best
    agent.fit(data, 3)
    assert agent._best is kept
    assert kept.transitions < data.transitions / 3
    torch.testing.assert_close(agent.obs_normalizer.mean.float(), kept.obs[kept.valid].mean(0))


@pytest.mark.parametrize("name", ["bc", "top_bc"])
def test_validation_is_the_loss_on_what_is_set_aside_and_draws_nothing(name):
    agent, twin, data = build(name, False), build(name, False), filled_buffer(spec_of(False), 600)
    found = trajectories(data)
    aside, kept = (select(data, found.transitions(np.arange(len(found.first))[part::2])) for part in (0, 1))
    losses = []

    class Validate:
        every = 5

        def __call__(self, status):
            losses.append(agent.validate(aside)["actor_loss"].item())

    for one, hooks in ((agent, [Validate()]), (twin, [])):
        torch.manual_seed(0)
        one.fit(kept, 20, hooks=hooks)
    assert len(losses) == 4 and losses[0] > losses[-1]
    for mine, theirs in zip(agent.state().values(), twin.state().values(), strict=True):
        assert torch.equal(mine, theirs)
    rows = aside if name == "bc" else best_episodes(aside, agent.config.fraction)
    index = rows.valid_index()
    obs = agent.obs_normalizer(data.observations(index))
    error = (agent.actor(obs) - data.action.flatten(0, 1)[index]).square().mean()
    assert losses[-1] == pytest.approx(error.item(), rel=1e-5)


def test_at_most_so_many_transitions_are_validated(monkeypatch):
    agent, data = build("bc", True), filled_buffer(spec_of(True), 100)
    seen = []
    monkeypatch.setattr(agent, "actor_loss", lambda batch: seen.append(batch.row) or torch.zeros(()))
    monkeypatch.setattr("bellmark.offline.bc.VALIDATED", 30)
    agent.validate(data)
    assert torch.equal(seen[0], data.valid_index()[::4])
