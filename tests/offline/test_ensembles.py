"""SAC-N, EDAC, LB-SAC, SAC-RND and E2O against closed forms, explicit gradients and hand-made figures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bellmark.agents.core.errors import InvalidSetting
from bellmark.agents.core.registry import agent_class
from bellmark.offline.e2o import weighted_min_pair
from bellmark.offline.edac import likeness
from bellmark.offline.sac_rnd import Predictor, Prior
from checks import FixedLaw, batch_of, plant
from helpers import build, one_batch, same, spec_of

# ---- SAC-N, LB-SAC -----------------------------------------------------------------------------------------------


def test_sac_n_with_two_critics_is_sac():
    one, other = build("sac", False), build("sac_n", False, critics=2)
    assert same(one.state(), other.state())
    for i in range(3):
        batch = one_batch(one, seed=i)
        for agent in (one, other):
            torch.manual_seed(i)
            agent.step(batch)
    assert same(one.state(), other.state())


def test_sac_n_takes_the_minimum_of_all():
    agent = build("sac_n", False, critics=3, temperature=0.1)
    plant(agent.critic_target, [[3.0], [2.5], [4.0]])
    plant(agent.actor, lambda obs: FixedLaw(torch.zeros(1, 2), torch.tensor([-1.0])))
    np.testing.assert_allclose(agent.target(batch_of()).item(), 3.574, rtol=1e-6)


@pytest.mark.parametrize(("size", "rate"), [(256, 3e-4), (10_000, 1.875e-3), (64, 1.5e-4)])
def test_lb_sac_scales_every_step_size_with_the_root_of_the_batch(size, rate):
    agent = build("lb_sac", False, batch_size=size)
    for child in ("actor", "critic", "temperature"):
        np.testing.assert_allclose(agent.learning_rate(child), rate, rtol=1e-6)


# ---- EDAC --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slopes", "answer"),
    [
        ([(1, 0), (0, 1), (1, 1)], 1.414214),
        ([(2, 1), (2, 1), (4, 2)], 3.0),
        ([(1, 2), (-3, -6)], -2.0),
    ],
)
def test_likeness_known_answers(slopes, answer):
    """Twice: gradients in two rows, of which one is longer, count alike."""
    slope = torch.tensor(slopes, dtype=torch.float32).unsqueeze(1) * torch.tensor([[1.0], [7.0]])
    action = torch.randn(len(slopes), 2, 2, requires_grad=True)
    np.testing.assert_allclose(likeness((action * slope).sum(-1), action).item(), answer, atol=1e-5)


def test_likeness_is_that_of_explicit_gradients():
    """Member by member, pair by pair; and so is its gradient in the critics."""
    agent = build("edac", False, critics=4)
    batch = one_batch(agent)
    parameters = [*agent.critic.parameters()]
    agent.target = lambda batch: torch.zeros(16)
    found = agent.critic_loss(batch)
    slopes = []
    for e in range(4):
        action = batch.action.clone().requires_grad_()
        (slope,) = torch.autograd.grad(agent.critic(batch.obs, action)[e].sum(), action, create_graph=True)
        slopes.append(slope / slope.norm(dim=1, keepdim=True))
    pairs = sum((slopes[i] * slopes[j]).sum(1) for i in range(4) for j in range(4) if i != j) / 3
    true = 0.5 * agent.critic(batch.obs, batch.action).square().mean(1).sum() + 0.5 * pairs.mean()
    np.testing.assert_allclose(found.item(), true.item(), rtol=1e-5)
    wanted = torch.autograd.grad(true, parameters, allow_unused=True, materialize_grads=True)
    for g, h in zip(torch.autograd.grad(found, parameters), wanted, strict=True):
        torch.testing.assert_close(g, h, atol=1e-6, rtol=1e-3)
    assert not batch.action.requires_grad


# ---- SAC-RND -----------------------------------------------------------------------------------------------------


def test_prior_is_modulated_in_its_last_hidden_layer():
    prior = Prior(spec_of(False))
    prior.body.forward = lambda action: torch.tensor([[1.0, 3.0]])
    prior.film.forward = lambda obs: torch.tensor([[2.0, -1.0, 0.5, 0.5]])
    prior.last.forward = lambda x: x
    assert prior(torch.zeros(1, 3), torch.zeros(1, 2)).tolist() == [[2.5, 0.0]]


def test_predictor_is_bilinear_in_its_first_layer():
    predictor, spec = Predictor(spec_of(False)), spec_of(False)
    obs, action = torch.randn(5, spec.vector_size), torch.randn(5, spec.actions)
    predictor.rest.forward = lambda x: x
    weight = predictor.weight.view(spec.vector_size, spec.actions, -1)
    expected = (torch.einsum("ba,sak,bs->bk", action, weight, obs) + predictor.bias).relu()
    torch.testing.assert_close(predictor(obs, action), expected)


def trained_rnd(**settings):
    agent = build("sac_rnd", False, predictor_updates=3, **settings)
    errors = []
    for i in range(3):
        batch = one_batch(agent, seed=i)
        errors.append(agent.error(batch.obs, batch.action).detach())
        agent.step(batch)
    return agent, torch.cat(errors)


def test_novelty_is_in_deviations_of_all_errors_of_the_first_updates():
    agent, errors = trained_rnd()
    batch = one_batch(agent)
    before = agent.novelty(batch.obs, batch.action)
    torch.testing.assert_close(before, agent.error(batch.obs, batch.action) / errors.std(correction=0))
    for i in range(3):
        agent.step(one_batch(agent, seed=i))
    torch.testing.assert_close(agent.novelty(batch.obs, batch.action), before, rtol=0, atol=0)


def test_sac_rnd_has_no_delay_of_the_actor_to_set():
    with pytest.raises(InvalidSetting, match="leave actor_delay out"):
        agent_class("sac_rnd").config.override({"actor_delay": 2})


def test_first_updates_train_the_predictor_alone():
    agent = build("sac_rnd", False, predictor_updates=2)
    start = {k: v.clone() for k, v in agent.state_dict().items()}
    for i in range(3):
        moved = {k.split(".")[0] for k, v in agent.state_dict().items() if not torch.equal(v, start[k])} - {"sigma"}
        scales = {"obs_scale", "action_scale"}
        assert moved == (scales | {"predictor"} if i else set())
        agent.step(one_batch(agent))
    assert not torch.equal(agent.critic.net[0].weight, start["critic.net.0.weight"])


def test_inputs_of_the_novelty_are_standardised_by_the_data():
    agent = build("sac_rnd", False)
    batch = one_batch(agent)
    from helpers import filled_buffer

    buffer = filled_buffer(agent.spec)
    index = buffer.valid_index()
    obs, action = buffer.observations(index), buffer.action.flatten(0, 1)[index]
    inputs = []
    agent.predictor.forward = lambda obs, action: (inputs.append((obs, action)), torch.zeros(len(obs), 32))[1]
    agent.error(batch.obs, batch.action)
    for found, data, row in zip(inputs[0], (obs, action), (batch.obs, batch.action), strict=True):
        torch.testing.assert_close(found, (row - data.mean(0)) / data.std(0, correction=0), atol=1e-4, rtol=1e-4)


def test_novelty_lowers_target_and_actor_value():
    agent = build("sac_rnd", False, beta=2.0, temperature=0.1)
    agent.error = lambda obs, action: torch.tensor([0.3**2 + 0.4**2])
    agent.sigma.variance.fill_(0.25)
    plant(agent.critic_target, [[5.0], [6.0]])
    plant(agent.critic, [[5.0], [6.0]])
    plant(agent.actor, lambda obs: FixedLaw(torch.zeros(1, 2), torch.tensor([-1.0])))
    np.testing.assert_allclose(agent.novelty(torch.zeros(1, 3), torch.zeros(1, 2)).item(), 0.5, rtol=1e-5)
    np.testing.assert_allclose(agent.target(batch_of()).item(), 5.059, rtol=1e-5)
    assert agent.target(batch_of(discount=0.0)).item() == 1.0
    loss = agent.actor_loss(batch_of(), torch.zeros(1, 2), torch.tensor([-1.0]))
    np.testing.assert_allclose(loss.item(), -0.1 + 2.0 * 0.5 - 5.0, rtol=1e-5)


def test_the_actor_is_led_back_by_the_novelty():
    agent, _ = trained_rnd(beta=1.0)
    batch = one_batch(agent)
    plant(agent.critic, lambda obs, action: torch.zeros(2, len(obs)))
    action = torch.zeros(16, 2, requires_grad=True)
    (slope,) = torch.autograd.grad(agent.actor_value(batch.obs, action).sum(), action)
    (uphill,) = torch.autograd.grad(agent.novelty(batch.obs, action).sum(), action)
    torch.testing.assert_close(slope, -uphill)
    assert uphill.abs().min() > 0


# ---- E2O ---------------------------------------------------------------------------------------------------------


def test_weighted_min_pair_is_the_mean_over_pairs():
    known = torch.tensor([[0.3, 2.0, -1.0, 4.0], [5.0, 5.0, 5.0, 5.0]]).T
    torch.testing.assert_close(weighted_min_pair(known), torch.tensor([-1 / 15, 5.0]))
    np.testing.assert_allclose(weighted_min_pair(torch.arange(5.0, 0.0, -1.0).view(5, 1)), [2.0], rtol=1e-6)
    value = torch.randn(7, 3)
    pairs = [torch.minimum(value[i], value[j]) for i in range(7) for j in range(i)]
    torch.testing.assert_close(weighted_min_pair(value), torch.stack(pairs).mean(0))
    assert weighted_min_pair(value[:2]).tolist() == value[:2].amin(0).tolist()


def e2o_with(values, **settings):
    agent = build("e2o", False, critics=len(values), temperature=0.1, **settings)
    plant(agent.critic_target, values)
    plant(agent.actor, lambda obs: FixedLaw(torch.zeros(1, 2), torch.tensor([-1.0])))
    return agent


def test_e2o_loosens_its_target_and_weighs_rows_by_their_doubt():
    agent = e2o_with([[1.0], [2.0], [3.0], [4.0], [5.0]], doubt=20.0)
    target, weight = agent.loosened(batch_of())
    np.testing.assert_allclose(target.item(), 1.0 + 0.99 * (2.0 + 0.1), rtol=1e-6)
    np.testing.assert_allclose(weight.item(), 0.5, atol=1e-6)
    for values, expected in (([[1.0], [1.0]], 1.0), ([[1.0], [1.2]], 0.6192029)):
        np.testing.assert_allclose(e2o_with(values).loosened(batch_of())[1].item(), expected, rtol=1e-5)


@pytest.mark.parametrize("settings", [{"critic_head": "c51"}, {"critic_head": "quantile"}, {"critics": 1}])
def test_e2o_refuses_what_it_cannot_pair(settings):
    """The minimum of two distributions is none: with c51 the probabilities of a target once summed up to `atoms`."""
    with pytest.raises(InvalidSetting, match="in pairs"):
        build("e2o", False, **settings)


def test_e2o_is_cql_before_the_first_step_and_weighted_sac_after():
    agent, cql = build("e2o", False, critics=3), build("cql", False, critics=3)
    batch = one_batch(agent)
    for one in (agent, cql):
        torch.manual_seed(1)
        one.step(batch)
    assert same(agent.state(), cql.state()), "offline"
    agent.steps, agent.online = 1, True
    target, weight = torch.full((16,), 3.0), torch.linspace(0.5, 1.0, 16)
    agent.loosened = lambda batch: (target, weight)
    error = (agent.critic(batch.obs, batch.action) - 3.0).square()
    np.testing.assert_allclose(agent.critic_loss(batch).item(), 0.5 * (weight * error).mean(1).sum().item(), rtol=1e-5)
    agent.penalty = None
    assert "gap" not in agent.step(batch)


def test_e2o_explores_by_the_upper_bound_and_acts_greedily_without():
    agent = build("e2o", False, critics=2, candidates=3, optimism=1.0)
    value = torch.tensor([[1.0, 1.0, 2.4], [3.0, 4.0, 2.6]])  # mean 2, 2.5, 2.5; deviation 1, 1.5, .1
    agent.critic.of_actions = lambda obs, actions: value.unsqueeze(1).expand(2, len(obs), 3)
    torch.manual_seed(4)
    candidates, _ = agent.draw(torch.zeros(2, 3), 3)
    torch.manual_seed(4)
    assert torch.equal(agent.act(torch.zeros(2, 3), explore=True), candidates[:, 1])
    torch.testing.assert_close(agent.act(torch.zeros(2, 3), explore=False), agent.actor(torch.zeros(2, 3)).mode())
