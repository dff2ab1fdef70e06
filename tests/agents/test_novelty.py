"""Random network distillation: the card's numbers, and what must hold of novelty."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bellmark.agents.core.spec import Spec
from bellmark.agents.on_policy.ppo_rnd import continuing_gae
from helpers import build, one_batch, spec_of, stream, updates

BOTH = pytest.mark.parametrize("discrete", [True, False])


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_novelty_goes_on_through_the_end_of_an_episode():
    """The card's numbers, V = 1: the episode ends after the second step, where our layout has a reset row."""
    valid = torch.tensor([True, True, False, True])[:, None]
    found = continuing_gae(column(0.5, 0.5, 9.0, 0.5), valid, column(1, 1, 7, 1, 1), 0.99, 0.95)
    torch.testing.assert_close(found[valid[:, 0]], column(1.384270, 0.950845, 0.49), atol=1e-6, rtol=0)


def test_continuing_gae_against_a_list_of_steps():
    """Reset rows taken out by hand, one column after the other; a reset row at the end has the final state's value."""
    rng = np.random.default_rng(0)
    valid = torch.tensor(rng.random((30, 6)) < 0.8)
    valid[1:] |= ~valid[:-1]  # no two reset rows in a row
    valid[0] = True
    reward, value = torch.tensor(rng.standard_normal((30, 6))), torch.tensor(rng.standard_normal((31, 6)))
    found = continuing_gae(reward, valid, value, 0.9, 0.8)
    for i in range(6):
        times = valid[:, i].nonzero().flatten().tolist()
        values = [value[t, i].item() for t in times] + [value[times[-1] + 1, i].item()]
        advantage = 0.0
        for k in reversed(range(len(times))):
            delta = reward[times[k], i].item() + 0.9 * values[k + 1] - values[k]
            advantage = delta + 0.9 * 0.8 * advantage
            np.testing.assert_allclose(found[times[k], i].item(), advantage, rtol=1e-9)


def test_the_filter_of_the_card_goes_on_across_rollouts():
    agent = build("ppo_rnd", True, intrinsic_gamma=0.99)
    novelties = iter([torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0])])
    agent.novelty = lambda obs: next(novelties)
    obs, valid = torch.zeros(3, 3), torch.tensor([True, False, True, True])[:, None]
    found = agent.intrinsic_reward(obs, valid)
    sums = np.array([1.0, 2.99, 5.9601])
    np.testing.assert_allclose(found[valid], np.array([1, 2, 3]) / sums.std(), rtol=1e-5)
    assert found[1] == 0
    np.testing.assert_allclose(agent.discounted_novelty, [5.9601], rtol=1e-6)
    agent.intrinsic_reward(obs[:1], valid[:1])
    np.testing.assert_allclose(agent.discounted_novelty, [6.900499], rtol=1e-6)


@BOTH
def test_statistics_are_those_from_before_the_rollout(discrete):
    agent = build("ppo_rnd", discrete)
    batches = stream(agent)
    agent.step(next(batches))
    before = agent.frame_normalizer.mean.clone()
    obs, valid = torch.full((4, 3), 7.0), torch.ones(4, 1, dtype=torch.bool)
    expected = agent.novelty(obs)
    found = agent.intrinsic_reward(obs, valid)[:, 0]
    ratio = found / expected
    torch.testing.assert_close(ratio, ratio[:1].expand(4))
    torch.testing.assert_close(found, agent.novelty_normalizer.scale(expected.detach()))
    assert not torch.equal(agent.frame_normalizer.mean, before)


@pytest.mark.parametrize("name", ["ppo_rnd", "dqn_rnd"])
def test_a_memorised_state_is_not_new(name):
    agent = build(name, True, predictor_learning_rate=1e-2, novelty_features=8)
    known, new = torch.randn(1, 3), torch.randn(50, 3)
    agent.observe(torch.cat([known, new]))
    first, others = agent.novelty(known).item(), agent.novelty(new).mean().item()
    before = [p.clone() for p in agent.random_features.parameters()]
    for _ in range(500):
        agent.minimize("predictor", agent.novelty(known).mean())
    assert agent.novelty(known).item() < 1e-5 < 0.01 < first
    assert agent.novelty(new).mean().item() > 0.2 * others
    assert all(torch.equal(p, q) for p, q in zip(before, agent.random_features.parameters(), strict=True))


@BOTH
def test_the_advantage_has_two_streams(discrete):
    agent = build("ppo_rnd", discrete, extrinsic_coef=3.0, intrinsic_coef=0.5)
    both = one_batch(agent)
    alone = []
    for settings in ({"extrinsic_coef": 1.0, "intrinsic_coef": 0.0}, {"extrinsic_coef": 0.0, "intrinsic_coef": 1.0}):
        batch = one_batch(build("ppo_rnd", discrete, **settings))
        assert torch.equal(batch.obs.sort(0)[0], both.obs.sort(0)[0])
        order = torch.cat([batch.obs, batch.target, batch.value], 1)
        alone.append((order, batch.advantage))
    mine = torch.cat([both.obs, both.target, both.value], 1)
    for row, advantage in zip(mine, both.advantage, strict=True):
        parts = [a[(order == row).all(1)] for order, a in alone]
        if all(len(part) == 1 for part in parts):
            np.testing.assert_allclose(advantage, 3.0 * parts[0][0] + 0.5 * parts[1][0], rtol=1e-4, atol=1e-5)
    extrinsic = alone[0][0][:, 3] - alone[0][0][:, 5]
    torch.testing.assert_close(alone[0][1], extrinsic)


def test_a_bonus_is_for_the_next_state_and_of_deviation_one():
    agent = build("dqn_rnd", True, intrinsic_coef=0.25)
    novelty = torch.tensor([1.0, 2.0, 3.0, 6.0])
    np.testing.assert_allclose(agent.bonus(novelty), 0.25 * novelty / novelty.std(correction=0), rtol=1e-6)
    seen = []
    q_loss = agent.q_loss
    agent.q_loss = lambda batch: (seen.append(batch), q_loss(batch))[1]
    batch = one_batch(agent)
    agent.update(batch)
    raised = seen[0].reward - batch.reward
    agent.novelty_normalizer.count.zero_()
    assert (raised > 0).all() and torch.equal(seen[0].next_obs, batch.next_obs)


@BOTH
def test_only_the_newest_frame_of_images_counts(discrete):
    vector = spec_of(discrete)
    image = Spec(**{**vector.__dict__, "obs_shape": (4, 36, 36), "obs_dtype": "uint8", "frame_stack": 4})
    agent = build("ppo_rnd", discrete, spec=image)
    obs = torch.as_tensor(np.random.default_rng(0).integers(256, size=(3, 4, 36, 36), dtype=np.uint8))
    agent.observe(obs)
    assert agent.frame_normalizer.mean.shape == (1, 36, 36)
    changed = obs.clone()
    changed[:, :3] = 0
    torch.testing.assert_close(agent.novelty(obs), agent.novelty(changed))
    changed[:, 3] = 0
    assert (agent.novelty(changed) - agent.novelty(obs)).abs().min() > 1e-6


def test_updates_lower_the_novelty_of_what_is_seen_again():
    agent = build("dqn_rnd", True, predictor_learning_rate=1e-3)
    losses = [float(metrics["predictor_loss"]) for metrics in updates(agent, 200)]
    assert np.mean(losses[-20:]) < 0.3 * np.mean(losses[:20])
