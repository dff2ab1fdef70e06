"""CQL in all its forms against brute force, closed forms and hand-made figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from bellmark.agents.core.batch import Batch
from bellmark.offline.cal_ql import BoundedBatch
from bellmark.offline.discrete_cql import conservative_gap
from helpers import build, one_batch, same

VALUES = torch.tensor([[[2.0, 1.0, 2.0, 3.0, 1.5, 2.5, 0.0]]])
"""Of the recorded action, then two uniform ones, two of the policy here and two of the policy there: `[1, 1, 7]`."""
DENSITY = torch.tensor([[-2 * math.log(2.0), -2 * math.log(2.0), -0.5, 0.2, 0.0, -1.0]])


def rows(count=1):
    ones = torch.ones(count)
    return Batch(ones, ones, ones, ones, ones, ones, torch.zeros(count, dtype=torch.int64))


def gap(agent, values=VALUES):
    return (agent.pushed_down(rows(), values, DENSITY) - values[..., 0]).item()


def test_penalty_known_answers():
    np.testing.assert_allclose(gap(build("cql", False, samples=2)), 2.523036, atol=1e-5)
    np.testing.assert_allclose(gap(build("cql_rho", False, samples=2)), 2.011798, atol=1e-5)


@pytest.mark.parametrize(("bound", "answer"), [(2.2, 2.767705), (-math.inf, 2.523036)])
def test_calibrated_penalty_known_answers(bound, answer):
    agent = build("cal_ql", False, samples=2)
    values = VALUES.clone().requires_grad_()
    pushed = agent.pushed_down(BoundedBatch(*rows(), torch.tensor([bound])), values, DENSITY)
    np.testing.assert_allclose((pushed - values[..., 0]).item(), answer, atol=1e-5)
    pushed.sum().backward()
    pressed = values.grad[0, 0] > 0
    assert pressed.tolist() == [False, True, True, True, *([bound < 1.5, True, bound < 0.0])]


def test_a_bound_above_every_value_leaves_only_uniform_actions_to_push_down():
    agent = build("cal_ql", False, samples=2)
    values = VALUES.clone().requires_grad_()
    agent.pushed_down(BoundedBatch(*rows(), torch.tensor([1000.0])), values, DENSITY).sum().backward()
    assert values.grad[0, 0, 3:].tolist() == [0.0] * 4
    np.testing.assert_allclose(values.grad[0, 0, 1:3].tolist(), [0.0, 0.0], atol=1e-12)


def test_discrete_penalty_is_the_enumeration():
    value = torch.tensor([[1.0, 2.0, 3.0], [0.0, -1.0, 5.0]])
    action = torch.tensor([1, 0])
    expected = [math.log(sum(math.exp(q) for q in row)) - row[a] for row, a in zip(value.tolist(), action, strict=True)]
    np.testing.assert_allclose(conservative_gap(value, action), expected, rtol=1e-6)
    np.testing.assert_allclose(conservative_gap(value, action)[0], 1.407606, atol=1e-6)


@pytest.mark.parametrize("name", ["discrete_cql", "discrete_cql_qr"])
def test_discrete_loss_is_that_of_the_head_and_the_penalty(name):
    agent = build(name, True, penalty_weight=0.0)
    batch = one_batch(agent)
    error = agent.losses(batch)
    agent.config = agent.config.override({"penalty_weight": 3.0})
    torch.testing.assert_close(agent.losses(batch) - error, 3.0 * conservative_gap(agent.q(batch.obs), batch.action))
    torch.testing.assert_close(error, agent.q.loss(batch.obs, batch.action, agent.target(batch)))


def brute_force(agent, batch, actions, log_density):
    """The sum over critics of the mean gap, one state, one action at a time, in float64."""
    total = torch.zeros((), dtype=torch.float64)
    for e in range(agent.config.critics):
        for i in range(len(batch.obs)):
            q = [agent.critic(batch.obs[i : i + 1], a[None])[e, 0].double() for a in (batch.action[i], *actions[i])]
            terms = [(q[j + 1] - log_density[i, j].double()).exp() for j in range(len(log_density[i]))]
            total = total + batch.weight[i] * (sum(terms).log() - q[0]) / len(batch.obs)
    return total


@pytest.mark.parametrize("chunk", [1, 50, 10_000])
def test_penalty_and_its_gradient_are_those_of_brute_force(chunk, monkeypatch):
    """On the very samples, however the batch is cut."""
    monkeypatch.setattr("bellmark.offline.cql.ROWS", chunk)
    agent = build("cql", False)
    batch = one_batch(agent)._replace(weight=torch.linspace(0.5, 2.0, 16))
    proposals = agent.proposals(batch)
    agent.proposals = lambda batch: proposals
    parameters = [*agent.critic.parameters()]
    found, true = agent.penalty(batch), brute_force(agent, batch, *proposals)
    np.testing.assert_allclose(found.item(), true.item(), rtol=1e-5)
    for g, h in zip(
        torch.autograd.grad(2.0 * found, parameters), torch.autograd.grad(2.0 * true, parameters), strict=True
    ):
        torch.testing.assert_close(g, h, atol=1e-6, rtol=1e-4)


def test_proposals_are_uniform_here_and_there_with_their_own_densities():
    agent = build("cql", False, samples=500)
    batch = one_batch(agent)
    actions, log_density = agent.proposals(batch)
    assert actions.shape == (16, 1500, 2)
    assert not actions.requires_grad
    assert not log_density.requires_grad
    uniform, here, there = actions.split(500, 1)
    np.testing.assert_allclose([uniform.min(), uniform.mean(), uniform.max()], [-1, 0, 1], atol=0.02)
    torch.testing.assert_close(log_density[:, :500], torch.full((16, 500), -2 * math.log(2.0)))
    with torch.no_grad():
        for obs, drawn, density in (
            (batch.obs, here, log_density[:, 500:1000]),
            (batch.next_obs, there, log_density[:, 1000:]),
        ):
            true = torch.stack([agent.actor(obs).log_prob(drawn[:, i]) for i in range(500)], 1)
            inside = drawn.abs().amax(2) < 0.99  # nearer to the bounds an action does not tell its density in float32
            torch.testing.assert_close(true[inside], density[inside], atol=2e-3, rtol=1e-3)


def test_a_constant_value_has_the_gap_of_the_volume():
    agent = build("cql", False, samples=1)
    values = torch.full((1, 1, 7), 4.0)
    uniform = agent.pushed_down(rows(), values, torch.full((1, 6), -2 * math.log(2.0)))
    np.testing.assert_allclose(uniform.item() - math.log(6), 4.0 + 2 * math.log(2.0), rtol=1e-6)


def test_values_of_many_actions_are_values_of_each():
    agent = build("cql", False, layer_norm=True)
    batch = one_batch(agent)
    actions = torch.rand(16, 5, 2) * 2 - 1
    each = torch.stack([agent.critic(batch.obs, actions[:, i]) for i in range(5)], -1)
    torch.testing.assert_close(agent.critic.of_actions(batch.obs, actions), each)


def test_without_penalty_it_is_sac_without_entropy_in_the_backup():
    """Losses, and the parameters after updates on the same batches with the same random numbers."""
    settings = {"learning_rate": 1e-3, "temperature": 1e-9, "learn_temperature": False}
    plain = build("sac", False, **settings)
    agent = build("cql", False, penalty_weight=0.0, actor_learning_rate=1e-3, backup_samples=1, **settings)
    agent.proposals = lambda batch: (batch.action[:, None], torch.zeros(16, 1))  # draws nothing
    for i in range(5):
        batch = one_batch(plain, seed=i)
        for one in (plain, agent):
            torch.manual_seed(i)
            one.step(batch)
    for (k, p), q in zip(plain.named_parameters(), agent.parameters(), strict=True):
        torch.testing.assert_close(q, p, atol=1e-6, rtol=1e-4, msg=k)


def test_target_takes_the_best_of_the_lowest():
    agent = build("cql", False, backup_samples=3)
    output = torch.tensor([[1.0, 5.0, 3.0], [2.0, 0.0, 4.0]])  # lowest: 1, 0, 3
    agent.critic_target.output_of_actions = lambda obs, actions: output.view(2, 1, 3, 1)
    batch = one_batch(agent)
    batch = Batch(*(field[:1] for field in batch))._replace(reward=torch.tensor([1.0]), discount=torch.tensor([0.5]))
    assert agent.target(batch).tolist() == [2.5]


def test_the_multiplier_rises_while_the_gap_is_too_large():
    agent = build("cql", False, lagrange=True, penalty_weight=5.0, lagrange_gap=5.0)
    assert agent.multiplier.log.item() == 1.0
    with torch.no_grad():
        agent.multiplier.log.zero_()
    np.testing.assert_allclose(agent.multiplier_loss(torch.tensor(2.523036)).item(), 12.38482, rtol=1e-6)
    before = agent.factor().item()
    agent.minimize("multiplier", agent.multiplier_loss(torch.tensor(2.523036)))
    assert agent.factor().item() < before == 1.0
    for _ in range(3):
        agent.minimize("multiplier", agent.multiplier_loss(torch.tensor(50.0)))
    assert agent.factor().item() > 1.0 - 1e-3
    with torch.no_grad():
        agent.multiplier.log.fill_(100.0)
    assert agent.factor().item() == pytest.approx(1e6)


def test_the_penalty_lowers_values_of_other_actions_than_the_recorded():
    batch, gaps = one_batch(build("cql", False)), {}
    for weight in (0.0, 10.0):
        agent = build("cql", False, penalty_weight=weight, learning_rate=1e-2)
        for _ in range(50):
            metrics = agent.step(batch)
        gaps[weight] = metrics["gap"].item()
    assert gaps[10.0] < gaps[0.0] - 0.4


def test_copies_agree():
    import copy

    agent = build("cal_ql", False)
    batch = one_batch(agent)
    other = copy.deepcopy(agent)
    assert same(agent.state(), other.state())
    torch.manual_seed(0)
    first = agent.step(batch)
    torch.manual_seed(0)
    assert same(first, other.step(batch))
