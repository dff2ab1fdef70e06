"""Discrete SAC: target and entropy by enumeration, the actor's optimum, and the temperature's slope."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bellmark.agents.core.policies import Categorical
from checks import batch_of
from helpers import build


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
    assert agent.target_entropy == pytest.approx(0.5 * np.log(2))
    (slope,) = torch.autograd.grad(agent.temperature_loss(torch.tensor([0.6, 0.4])), [agent.temperature.log])
    assert slope.item() == pytest.approx(0.5 - 0.5 * np.log(2))
