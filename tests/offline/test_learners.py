"""AWAC, CRR, XQL, ReBRAC and discrete IQL by hand, and values of a chain against dynamic programming."""

from __future__ import annotations

import math

import checks
import numpy as np
import pytest
import torch
from bellmark.agents.core.losses import gumbel, huber
from bellmark.offline.awac import weigh
from helpers import build, one_batch

# ---- AWAC and CRR ------------------------------------------------------------------------------------------------

ADVANTAGES = torch.tensor([0.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("temperature", "weighting", "answer"),
    [
        (1.0, "exponential", [1.0, 2.718282, 7.389056]),
        (1.0, "softmax", [0.270092, 0.734185, 1.995723]),
        (1 / 3, "exponential", [1.0, 20.0855, 100.0]),
        (1.0, "binary", [0.0, 1.0, 1.0]),
    ],
)
def test_weights_of_the_card(temperature, weighting, answer):
    agent = build("awac", False, advantage_temperature=temperature, advantage_weighting=weighting)
    log_prob = torch.zeros(3, requires_grad=True)
    checks.plant(agent.actor, lambda obs: checks.FixedLaw(torch.zeros(3), log_prob))
    loss = agent.actor_loss(checks.batch_of(rows=3), ADVANTAGES)
    (slope,) = torch.autograd.grad(loss, log_prob)
    np.testing.assert_allclose(-3.0 * slope, answer, rtol=1e-5)


def test_softmax_weights_are_blind_to_a_constant():
    torch.testing.assert_close(weigh(ADVANTAGES + 5, "softmax", 1.0), weigh(ADVANTAGES, "softmax", 1.0))
    ratio = weigh(ADVANTAGES + 5, "exponential", 1e9) / weigh(ADVANTAGES, "exponential", 1e9)
    np.testing.assert_allclose(ratio, 148.41316, rtol=1e-5)


def test_awac_advantage_and_target_take_the_lower_critic():
    agent = build("awac", False)
    checks.plant(agent.actor, lambda obs: FixedSample(torch.full((1, 2), 3.0)))
    q = lambda obs, action: torch.stack([action.sum(1), 1.0 - action.sum(1)])  # noqa: E731
    checks.plant(agent.critic, q)
    batch = checks.batch_of(action=(0.2, 0.3))
    torch.testing.assert_close(agent.advantage(batch), torch.tensor([1.5]))  # min(.5, .5) - min(2, -1): cut to (1, 1)
    agent.critic_target.output = lambda obs, action: q(obs, action)[..., None]
    torch.testing.assert_close(agent.target(batch), torch.tensor([0.01]))


class FixedSample(tuple):
    """A law that gives one action."""

    def __new__(cls, action):
        return super().__new__(cls, (action,))

    def sample(self):
        return self[0]


@pytest.mark.parametrize(
    ("baseline", "weighting", "answer"),
    [
        ("mean", "binary", 1.0),
        ("mean", "exponential", 2.718282),
        ("max", "binary", 0.0),
        ("max", "exponential", 0.135335),
    ],
)
def test_crr_of_the_card(baseline, weighting, answer):
    """The policy's actions are worth 1, 2, 3, 6, the recorded one 4: 1 above the mean, 2 below the best."""
    agent = build("crr", False, baseline=baseline, advantage_weighting=weighting)
    checks.plant(agent.critic, [[4.0]])
    agent.critic.of_actions = lambda obs, actions: torch.tensor([[[1.0, 2.0, 3.0, 6.0]]])
    advantage = agent.advantage(checks.batch_of())
    checks.plant(agent.actor, lambda obs: checks.FixedLaw(torch.zeros(1), torch.ones(1, requires_grad=True)))
    np.testing.assert_allclose(-agent.actor_loss(checks.batch_of(), advantage).item(), answer, rtol=1e-5)


def test_crr_looks_at_four_different_actions_in_the_same_state():
    agent, found = build("crr", False, samples=4), []
    agent.critic.of_actions = lambda obs, actions: (found.append((obs, actions)), torch.zeros(1, len(obs), 4))[1]
    batch = one_batch(agent)
    agent.advantage(batch)
    ((obs, actions),) = found
    assert torch.equal(obs, batch.obs)
    assert actions.shape == (16, 4, 2)
    assert len(actions.flatten().unique()) == 16 * 4 * 2


def test_crr_copies_its_targets():
    agent = build("crr", False, copy_every=3)
    batch = one_batch(agent)
    for update in range(1, 7):
        agent.step(batch)
        for name in ("actor", "critic"):
            online, target = (agent.get_submodule(n).state_dict() for n in (name, f"{name}_target"))
            assert all(torch.equal(online[k], target[k]) for k in online) is (update % 3 == 0)


# ---- XQL ---------------------------------------------------------------------------------------------------------


def test_gumbel_loss_of_the_card():
    z = torch.tensor([0.0, 1.0, -2.0])
    found = gumbel(z, 1.0, 7.0)
    np.testing.assert_allclose(found, [0.0, 0.264241, 0.417667], atol=1e-6)
    np.testing.assert_allclose(found.mean() * math.e, 0.617872, rtol=1e-5)
    torch.testing.assert_close(gumbel(2.0 * z, 2.0, 7.0), found)
    low = gumbel(torch.tensor([-40.0, -50.0]), 1.0, 7.0)
    np.testing.assert_allclose(low, [39.0 * math.e, 49.0 * math.e], rtol=1e-5)  # M is -1, not -40
    beyond = torch.tensor([9.0, 0.0], requires_grad=True)
    loss = gumbel(beyond, 1.0, 7.0)
    np.testing.assert_allclose(loss[0].item() * math.exp(7), math.exp(7) - 8, rtol=1e-5)
    assert torch.autograd.grad(loss.sum(), beyond)[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("beta", "answer"), [(1.0, 0.620115), (0.5, 0.716890), (100.0, 0.50125), (0.02, 0.986137)])
def test_xql_value_is_the_log_of_the_mean_exponential(beta, answer):
    """The value of one state whose recorded actions are worth 0 and 1."""
    agent = build("xql", False, hidden=(), gumbel_temperature=beta, max_clip=100.0, learning_rate=0.02)
    checks.plant(agent.critic_target, [[0.0, 1.0], [0.0, 1.0]])
    batch = checks.batch_of(rows=2)
    for number in range(1500):
        agent.config = agent.config.override({"learning_rate": 0.02 if number < 1000 else 0.001})
        agent.minimize("value", agent.value_loss(batch, torch.tensor([0.0, 1.0])))
    np.testing.assert_allclose(agent.value(torch.zeros(1, 3)).item(), answer, atol=0.005)


def test_xql_mixes_in_noise_and_random_actions():
    agent = build("xql", False, action_noise=0.1, random_actions=2)
    seen = []
    checks.plant(agent.critic_target, lambda obs, action: (seen.append((obs, action)), torch.zeros(2, len(obs)))[1])
    batch = one_batch(agent)
    obs, q = agent.smoothed(batch)
    ((given, action),) = seen
    assert torch.equal(given, obs)
    assert torch.equal(obs, batch.obs.repeat(3, 1))
    assert q.shape == (48,)
    noise = action[:16] - batch.action
    assert 0.0 < noise.abs().max() <= 0.5
    np.testing.assert_allclose(noise.std().item(), 0.1, atol=0.04)
    assert action[16:].abs().max() <= 1.0
    np.testing.assert_allclose(action[16:].std().item(), 3**-0.5, atol=0.12)


def test_xql_critic_loss_is_hubers():
    agent = build("xql", False)
    agent.critic.output = lambda obs, action: torch.tensor([[[3.0]], [[30.0]]])
    loss = agent.critic_loss(checks.batch_of(reward=0.0, discount=0.0))
    assert loss.item() == 4.5 + 400.0 == huber(torch.tensor([3.0, 30.0]), torch.zeros(2), 20.0).sum().item()
