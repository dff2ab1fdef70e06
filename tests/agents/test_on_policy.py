"""What is peculiar to single on-policy agents, against the equations written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bellmark.agents.core.natural import natural_step
from bellmark.agents.core.spec import Spec
from helpers import build, one_batch, spec_of, stream, updates

BOTH = pytest.mark.parametrize("discrete", [True, False])


@BOTH
def test_ppo_unclipped_with_one_pass_in_one_batch_is_a2c(discrete):
    """With the same optimiser, whole trainings are equal."""
    shared = {"epochs": 1, "batch_size": 1000, "learning_rate": 1e-3, "rollout_length": 8, "gae_lambda": 0.9}
    shared |= {"normalize_advantage": False, "entropy_coef": 0.01, "value_coef": 0.3, "max_grad_norm": 0.5}
    a2c, ppo = build("a2c", discrete, **shared), build("ppo", discrete, clip=1e9, **shared)
    for agent in (a2c, ppo):
        agent._flat["actor_critic"].optimizer = torch.optim.SGD([agent._flat["actor_critic"].flat], lr=1.0)
        torch.manual_seed(1)
        updates(agent, 6)
    other = build("a2c", discrete)
    for mine, yours, first in zip(a2c.parameters(), ppo.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, yours, atol=1e-6, rtol=1e-5)
        assert not torch.equal(mine, first)


@BOTH
def test_advantages_are_normalised_only_if_the_settings_say_so(discrete):
    for on in (True, False):
        agent = build("ppo", discrete, normalize_advantage=on)
        batch = one_batch(agent)
        found = agent.normalized_advantage(batch)
        if on:
            np.testing.assert_allclose([found.mean(), found.std()], [0, 1], atol=1e-5)
        else:
            assert torch.equal(found, batch.advantage)


def test_settings_of_the_policy_reach_it():
    """The zoo's for HalfCheetah: ReLU, log standard deviation -2, no orthogonal matrices."""
    agent = build("ppo", False, activation="relu", log_std=-2.0, orthogonal=False, hidden=(16, 8))
    actor = agent.actor_critic.actor
    assert torch.equal(actor.log_std.detach(), torch.full((2,), -2.0))
    last, usual = actor.net[-1].weight, build("ppo", False, hidden=(16, 8)).actor_critic.actor.net[-1].weight
    assert usual.norm(dim=0).max() < 0.0101 < last.norm(dim=0).min()
    x = torch.randn(4, 3)
    for layer, after in ((0, 1), (2, 3)):
        x = x @ actor.net[layer].weight + actor.net[layer].bias
        assert torch.equal(actor.net[after](x.clone()), x.clamp(min=0))
        x = x.clamp(min=0)


@BOTH
def test_policy_and_value_share_the_cnn_of_images(discrete):
    vector = spec_of(discrete)
    image = Spec(**{**vector.__dict__, "obs_shape": (1, 36, 36), "obs_dtype": "uint8"})
    agent = build("ppo", discrete, spec=image)
    assert {name.split(".")[0] for name, p in agent.actor_critic.named_parameters() if p.ndim == 4} == {"body"}
    rng = np.random.default_rng(0)
    obs = torch.as_tensor(rng.integers(256, size=(5, 1, 36, 36), dtype=np.uint8))
    law, output = agent.actor_critic(obs)
    value = output.squeeze(1)
    torch.testing.assert_close(value, agent.values(obs))
    torch.testing.assert_close(law.log_prob(law.mode()), agent.law(obs).log_prob(law.mode()))
    action = law.mode() if discrete else law.mode().detach() + 1.0
    for loss in (value.sum(), law.log_prob(action).sum()):
        slopes = torch.autograd.grad(loss, [*agent.actor_critic.body.parameters()], retain_graph=True)
        assert all(slope.abs().sum() > 0 for slope in slopes), "both must reach the CNN"


def fixed(law):
    """The law of this moment: a part may be a parameter that is going to move."""
    return type(law)(*(part.detach().clone() for part in law))


def policy_steps(name, discrete, count, **settings):
    """The agent, with `(rows, law before, law after, metrics)` of its first policy steps."""
    agent, seen = build(name, discrete, rollout_length=64, batch_size=64, **settings), []
    policy_step = agent.policy_step

    def watched(rows):
        before = fixed(agent.law(rows.obs))
        metrics = policy_step(rows)
        seen.append((rows, before, fixed(agent.law(rows.obs)), metrics))
        return metrics

    agent.policy_step = watched
    batches = stream(agent)
    while len(seen) < count:
        agent.step(next(batches))
    return agent, seen


@BOTH
def test_trpo_stays_within_its_bound_and_gains(discrete):
    for max_kl in (0.01, 0.1):
        agent, seen = policy_steps("trpo", discrete, 5, max_kl=max_kl, damping=1e-3)
        assert sum(float(metrics["step_share"]) > 0 for *_, metrics in seen) >= 4
        for rows, before, after, metrics in seen:
            kl = before.kl(after).mean().item()
            np.testing.assert_allclose(metrics["kl"], kl, rtol=1e-3, atol=1e-7)
            assert kl <= max_kl * 1.0001
            advantage = agent.normalized_advantage(rows)
            gain = ((after.log_prob(rows.action) - rows.log_prob).exp() * advantage).mean().item()
            np.testing.assert_allclose(metrics["policy_objective"], gain, rtol=1e-3, atol=1e-6)
            if metrics["step_share"] > 0:
                assert gain > 0 and kl > 0.2 * max_kl, "the step ought to use the bound"
            else:
                assert kl < 1e-9


@BOTH
def test_npg_makes_the_whole_step(discrete):
    _, seen = policy_steps("npg", discrete, 3, max_kl=1e-4, damping=1e-2)
    for _, before, after, metrics in seen:
        assert metrics["step_share"] == 1.0
        assert 0.5e-4 < before.kl(after).mean().item() < 1.05e-4, "the rest is the damping's"


def test_trpo_makes_no_step_that_loses():
    agent, seen = policy_steps("trpo", False, 1)
    rows, _, _, _ = seen[0]
    old, start = fixed(agent.law(rows.obs)), agent._flat["actor"].flat.clone()
    advantage = agent.normalized_advantage(rows)
    law = agent.law(rows.obs)
    down = natural_step(agent._flat["actor"], agent.surrogate(law, rows, advantage), old.kl(law).mean(), 0.01, 0.1, 10)
    assert agent.share(down, old, rows, advantage) > 0
    assert agent.share(down._replace(step=-down.step), old, rows, advantage) == 0, "uphill"
    far = agent.share(down._replace(step=1.5 * down.step), old, rows, advantage)
    assert 0 < far < 1, "too far at first: a shorter one is taken"
    assert torch.equal(agent._flat["actor"].flat, start), "the search leaves the parameters where they were"


def slope_value(agent, theta=0.0):
    """Makes the value theta s of the first coordinate, in the agent's own parameters."""
    with torch.no_grad():
        for p in agent.value.parameters():
            p.zero_()
    weight = agent.value.last[0].weight
    with torch.no_grad():
        weight[0, 0] = theta
    agent.value.output = lambda obs: obs[:, :1] * weight[0, 0] + sum(0 * p.sum() for p in agent.value.parameters())
    return weight


@pytest.mark.parametrize(("radius", "after"), [(0.01, 0.2607681), (10.0, 1.8)])
def test_value_step_of_the_card_and_its_cap(radius, after):
    """V = phi s, states 1 and 2, targets 1 and 4: sigma^2 = 8.5; the least-squares optimum is phi = 1.8."""
    agent = build("npg", True, value_fit="trust_region", value_max_kl=radius, damping=0.0)
    batch, weight = one_batch(agent), slope_value(agent)
    batch = type(batch)(*(field[:2] for field in batch))
    batch = batch._replace(obs=torch.tensor([[1.0, 0, 0], [2.0, 0, 0]]), target=torch.tensor([1.0, 4.0]))
    agent.rollout = None
    loss = agent.step(batch)["value_loss"]
    np.testing.assert_allclose(loss, 8.5, rtol=1e-6)
    np.testing.assert_allclose(weight[0, 0].item(), after, rtol=1e-5)


def test_value_in_its_trust_region_learns():
    settings = {"value_fit": "trust_region", "epochs": 1, "batch_size": 1000, "rollout_length": 64}
    agent = build("trpo", True, **settings, value_max_kl=0.05)
    batch = one_batch(agent)
    losses = [float(agent.step(batch)["value_loss"]) for _ in range(30)]
    assert losses[-1] < 0.7 * losses[0]
