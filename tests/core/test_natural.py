"""Natural gradients against an explicit Fisher matrix, the card's numbers and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bellmark.agents.core.natural import conjugate_gradient, curvature, flatten, natural_step, parts
from bellmark.agents.core.optimizers import RMSProp
from bellmark.agents.core.parameters import FlatParameters
from bellmark.agents.core.policies import Categorical, Normal, stochastic_policy
from helpers import spec_of
from torch import nn


def test_conjugate_gradient_of_the_card_in_two_iterations():
    matrix = torch.tensor([[4.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    b = torch.tensor([1.0, 2.0], dtype=torch.float64)
    found = conjugate_gradient(lambda v: matrix @ v, b, 2)
    torch.testing.assert_close(found, torch.tensor([1 / 11, 7 / 11], dtype=torch.float64), rtol=1e-12, atol=0)
    torch.testing.assert_close(conjugate_gradient(lambda v: matrix @ v, b, 50), found, rtol=1e-12, atol=0)
    assert torch.equal(conjugate_gradient(lambda v: matrix @ v, torch.zeros_like(b), 5), torch.zeros_like(b))


def test_conjugate_gradient_solves_a_random_system():
    torch.manual_seed(0)
    root = torch.randn(20, 20, dtype=torch.float64)
    matrix, b = root @ root.T + torch.eye(20), torch.randn(20, dtype=torch.float64)
    found = conjugate_gradient(lambda v: matrix @ v, b, 60)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, b), rtol=1e-5, atol=1e-5)


def explicit_fisher(policy, obs, law):
    """E over states and actions of score score^T, by quadrature over actions."""
    parameters = [*policy.parameters()]
    size, total = sum(p.numel() for p in parameters), 0.0
    for state in obs:
        here = law(state[None])
        if isinstance(here, Categorical):
            actions, weights = torch.arange(here.log_probs.shape[1]), here.log_probs.exp()[0].detach()
        else:  # Gauss-Hermite: exact for polynomials, and the scores are quadratic in the action
            nodes, weight = np.polynomial.hermite_e.hermegauss(6)
            grid = np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 2)
            weights = torch.tensor(np.outer(weight, weight).ravel() / (2 * np.pi))
            actions = (here.mean + here.log_std.exp() * torch.tensor(grid)).detach()
        for action, weight in zip(actions, weights, strict=True):
            score = torch.autograd.grad(law(state[None]).log_prob(action[None]).sum(), parameters)
            flat = torch.cat([g.flatten() for g in score])
            total = total + weight * flat[:, None] * flat[None] / len(obs)
    assert total.shape == (size, size)
    return total


@pytest.mark.parametrize("discrete", [True, False])
def test_fisher_vector_products_against_the_explicit_matrix(discrete):
    torch.manual_seed(0)
    policy = stochastic_policy(spec_of(discrete), (5,), log_std=-0.3, orthogonal=False).double()
    obs = torch.randn(7, 3, dtype=torch.float64)
    flat = FlatParameters(policy)
    old = type(law := policy(obs))(*(part.detach().clone() for part in law))
    product, fisher = curvature(flat, old.kl(policy(obs)).mean()), explicit_fisher(policy, obs, policy)
    assert fisher.abs().max() > 0.1
    vector = flatten(flat, [torch.randn_like(view) for view in flat.views])
    dense = torch.cat([part.flatten() for part in parts(flat, vector)])
    found = torch.cat([part.flatten() for part in parts(flat, product(vector))])
    torch.testing.assert_close(found, fisher @ dense, rtol=1e-9, atol=1e-12)


class Slope(nn.Module):
    """theta s, theta 0 at first."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, state):
        return self.theta * state


@pytest.mark.parametrize(("damping", "length", "kl"), [(0.0, 0.0894427, 0.01), (0.1, 0.0877058, 0.00961538)])
def test_policy_step_of_the_card(damping, length, kl):
    policy, states = Slope(), torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    flat, log_std = FlatParameters(policy), torch.zeros(1, dtype=torch.float64)
    law = lambda: Normal(policy(states), log_std)  # noqa: E731
    old = Normal(policy(states).detach(), log_std)
    found = natural_step(flat, -0.3 * policy.theta.sum(), old.kl(law()).mean(), 0.01, damping, 10)
    np.testing.assert_allclose(parts(flat, found.step)[0].item(), length, atol=1e-7)
    flat.flat.add_(found.step)
    np.testing.assert_allclose(old.kl(law()).mean().item(), kl, atol=1e-8)


@pytest.mark.parametrize("laws", ["normal", "categorical"])
def test_kl_against_torch(laws):
    torch.manual_seed(0)
    d = torch.distributions
    if laws == "normal":
        a, b = (Normal(torch.randn(6, 3), torch.randn(3)) for _ in range(2))
        true = d.kl_divergence(d.Normal(a.mean, a.log_std.exp()), d.Normal(b.mean, b.log_std.exp())).sum(-1)
    else:
        a, b = (Categorical.of(torch.randn(6, 3)) for _ in range(2))
        true = d.kl_divergence(d.Categorical(logits=a.log_probs), d.Categorical(logits=b.log_probs))
    assert true.min() > 0.01
    torch.testing.assert_close(a.kl(b), true)


def test_rmsprop_is_its_formula():
    x = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer, square, expected = RMSProp([x], lr=0.1, decay=0.9, epsilon=0.01), np.ones(2), np.array([1.0, -2.0])
    for gradient in ([0.5, -3.0], [1.0, 0.0], [-2.0, 4.0]):
        x.grad = torch.tensor(gradient)
        optimizer.step()
        square = 0.9 * square + 0.1 * np.square(gradient)
        expected = expected - 0.1 * np.array(gradient) / np.sqrt(square + 0.01)
        np.testing.assert_allclose(x.detach().numpy(), expected, rtol=1e-6)
