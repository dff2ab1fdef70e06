"""Discrete SAC: target and entropy by enumeration, the actor's optimum, and the temperature's slope."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from bellmark.agents.core.errors import InvalidSetting
from bellmark.agents.core.parts import Part
from bellmark.agents.core.policies import Categorical
from bellmark.agents.core.spaces import flat_fields
from checks import batch_of
from helpers import build, spec_of


def test_discrete_sac_target_by_enumeration():
    agent = build("sac_discrete", True, temperature=0.2)
    q = torch.tensor([[[2.0, 5.0]], [[3.0, 4.0]]])
    agent.critic_target.forward = lambda obs: q
    probability = torch.tensor([0.3, 0.7])
    agent.actor.forward = lambda obs: law_of(probability)
    expected = 1.0 + 0.9 * sum(p * (min(q[0, 0, a], q[1, 0, a]) - 0.2 * p.log()) for a, p in enumerate(probability))
    torch.testing.assert_close(agent.target(batch_of(action=0, discount=0.9)), expected[None])


def law_of(probability):
    return Categorical(probability.log().expand(1, -1))


def test_discrete_sac_actor_loss_and_its_optimum():
    """mean sum_a pi (alpha log pi - Q) is least at pi = softmax(Q / alpha)."""
    agent = build("sac_discrete", True, temperature=0.5)
    q, logits = torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    law = law_of(torch.tensor([0.25, 0.75]))
    loss = agent.actor_loss(law.log_probs, law.entropy(), q).item()
    by_hand = 0.25 * (0.5 * np.log(0.25) - 1) + 0.75 * (0.5 * np.log(0.75) - 2)
    assert loss == pytest.approx(by_hand, abs=1e-6)
    for _ in range(300):
        optimizer.zero_grad()
        log_probs = logits.log_softmax(1)
        agent.actor_loss(log_probs, -(log_probs.exp() * log_probs).sum(1), q).backward()
        optimizer.step()
    torch.testing.assert_close(logits.softmax(1).detach(), (q / 0.5).softmax(1), atol=1e-3, rtol=0)


def test_discrete_sac_holds_its_entropy():
    """The temperature's slope in log alpha is entropy - target: it falls where the policy is too random."""
    agent = build("sac_discrete", True, target_entropy=0.5)
    loss = agent.temperature_loss(batch_of(rows=2), torch.tensor([0.6, 0.4]))
    (slope,) = torch.autograd.grad(loss, [agent.temperature.log])
    assert slope.item() == pytest.approx(0.5 - 0.5 * np.log(2))


def test_discrete_sac_holds_the_entropy_of_what_is_allowed():
    """A uniform policy over what is allowed is too random; where only one action is, there is no entropy to hold."""
    spec = dataclasses.replace(spec_of(True, actions=6), **flat_fields((Part("", (3,), "vector"),), 6))
    agent = build("sac_discrete", True, spec=spec)
    for count in (1, 2, 5, 6):
        mask = (torch.arange(6) < count).float()
        batch = batch_of(obs=torch.cat([torch.zeros(3), mask])[None])
        entropy = agent.actor(batch.obs).entropy().detach()
        (slope,) = torch.autograd.grad(agent.temperature_loss(batch, entropy), [agent.temperature.log])
        assert slope.item() == pytest.approx(entropy.item() - 0.98 * np.log(count), abs=1e-6)


@pytest.mark.parametrize("head", ["two_hot", "hl_gauss"])
def test_discrete_sac_compares_histograms_with_the_same_target(head):
    support = {"value_low": -5.0, "value_high": 5.0, "atoms": 51, "critics": 1}
    agent, scalar = (build("sac_discrete", True, critic_head=each, **support) for each in (head, "scalar"))
    obs = torch.randn(7, 3)
    values = agent.critic_target(obs).detach()
    scalar.critic_target.forward = lambda obs: values
    scalar.actor.load_state_dict(agent.actor.state_dict())
    batch = batch_of(obs=obs, action=torch.arange(7) % 2, rows=7)
    target = scalar.target(batch)
    torch.testing.assert_close(agent.target(batch), target)
    log_probability = agent.critic.output(obs)[0, torch.arange(7), batch.action].log_softmax(-1)
    by_hand = -0.5 * (agent.critic.head.encode(target) * log_probability).sum(-1).mean()
    torch.testing.assert_close(agent.critic_loss(batch), by_hand)


@pytest.mark.parametrize("head", ["c51", "quantile"])
def test_discrete_sac_refuses_distributions_of_returns(head):
    with pytest.raises(InvalidSetting, match="take scalar, two_hot or hl_gauss"):
        build("sac_discrete", True, critic_head=head)
