"""ReBRAC's two penalties by hand, its networks, and recorded next actions by enumeration."""

from __future__ import annotations

import checks
import numpy as np
import pytest
import torch
from bellmark.offline.rebrac import DataBatch
from helpers import build, filled_buffer, spec_of


def rebrac_batch(discount=0.99, continues=1.0):
    batch = checks.batch_of(discount=discount)
    return DataBatch(*batch, torch.tensor([[0.2, -0.1]]), torch.tensor([continues]))


@pytest.mark.parametrize(
    ("discount", "continues", "answer"), [(0.99, 1.0, 9.908713), (0.0, 1.0, 1.0), (0.99, 0.0, 9.91)]
)
def test_rebrac_target_of_the_card(discount, continues, answer):
    """Qbar (10, 9), r 1, a' (.5, .1), recorded (.2, -.1), b2 .01: penalty .13; none where nothing was recorded."""
    agent = build("rebrac", False, critic_penalty=0.01, target_noise=0.0)
    checks.plant(agent.actor_target, [[0.5, 0.1]])
    agent.critic_target.output = lambda obs, action: torch.tensor([[[10.0]], [[9.0]]])
    torch.testing.assert_close(agent.target(rebrac_batch(discount, continues)), torch.tensor([answer]))
    agent.steps = 1
    online = agent.target(rebrac_batch(discount, continues))
    torch.testing.assert_close(online, torch.tensor([1.0 + discount * 9.0]))


def test_rebrac_penalty_is_on_the_noisy_action(monkeypatch):
    agent = build("rebrac", False, critic_penalty=1.0)
    checks.plant(agent.actor_target, [[0.5, 0.1]])
    agent.critic_target.output = lambda obs, action: torch.zeros(2, 1, 1)
    monkeypatch.setattr(torch, "randn_like", lambda x: torch.tensor([[1.0, -9.0]]))
    torch.testing.assert_close(agent.target(rebrac_batch()), torch.tensor([1.0 - 0.99 * (0.5**2 + 0.3**2)]))


def test_rebrac_actor_loss_of_the_card():
    """Lowest Q (2, -6), pi ((.5, .5), (0, 0)), a ((.5, 0), (1, 0)), b1 .1: lambda .25, loss .5625."""
    agent = build("rebrac", False, actor_penalty=0.1)
    action = torch.tensor([[0.5, 0.5], [0.0, 0.0]], requires_grad=True)
    slope = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    checks.plant(agent.actor, lambda obs: action)
    checks.plant(agent.critic, lambda obs, a: checks._linear_q(a, slope).flip(0))
    batch = checks.batch_of(obs=torch.zeros(2, 3), action=torch.tensor([[0.5, 0.0], [1.0, 0.0]]), rows=2)
    loss = agent.actor_loss(batch)
    np.testing.assert_allclose(loss.item(), 0.5625, rtol=1e-6)
    (gradient,) = torch.autograd.grad(loss, action)
    torch.testing.assert_close(gradient, 0.1 * (action - batch.action).detach() - 0.25 * slope / 2.0)
    for progress, share in ((0.0, 1.0), (0.2, 0.8), (0.5, 0.5), (0.9, 0.5)):
        agent.steps, agent.progress = 1, progress
        np.testing.assert_allclose(agent.penalties, (0.1 * share, 0.0))


def test_rebrac_critics_normalise_after_the_activation():
    agent = build("rebrac", False, hidden=(8, 8))
    kinds = [type(layer).__name__ for layer in agent.critic.net]
    assert kinds == ["Linear", "ReLU", "LayerNorm"] * 2 + ["Linear"]
    assert [type(layer).__name__ for layer in agent.actor.net] == ["Linear", "ReLU"] * 2 + ["Linear"]
    first, last = agent.critic.net[0], agent.critic.net[-1]
    assert (first.bias == 0.1).all()
    assert 0.3 < first.weight.abs().max() <= 5**-0.5
    assert 1e-3 < max(last.weight.abs().max(), last.bias.abs().max()) <= 3e-3
    assert agent.actor.net[-1].weight.abs().max() <= 1e-3


@pytest.mark.parametrize("n_step", [1, 3])
def test_next_actions_by_enumeration(n_step):
    buffer = filled_buffer(spec_of(False), 300, seed=2)
    rows = buffer.valid_index()
    batch = buffer.gather(rows, 0.9, n_step)
    action, continues = buffer.next_action(rows, n_step)
    ended = (buffer.terminated | buffer.truncated)[:-1, 0] | ~buffer.valid[1:, 0]  # the data's end is none that is told
    for i, row in enumerate(rows.tolist()):
        last = row
        while last - row < n_step - 1 and not ended[last]:
            last += 1
        assert torch.equal(batch.next_obs[i], buffer.obs[last + 1, 0])
        assert continues[i].item() == float(not ended[last])
        if not ended[last]:
            assert torch.equal(action[i], buffer.action[last + 1, 0])
