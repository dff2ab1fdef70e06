"""Implicit quantile networks: distortions against their formulas, shapes, means, and what draws new fractions."""

from __future__ import annotations

import math

import pytest
import torch
from bellmark.agents.core.implicit import ImplicitQ, distort
from bellmark.agents.core.losses import quantile_huber
from bellmark.agents.core.spec import Spec

SPEC = Spec((3,), 4, discrete=True)


@pytest.mark.parametrize(
    ("risk", "level", "at_one_quarter", "at_three_quarters"),
    [
        ("neutral", 0.0, 0.25, 0.75),
        ("cpw", 0.71, 0.2928629, 0.6388816),
        ("wang", -0.75, 0.0771524, 0.4699044),
        ("wang", 0.75, 0.5300956, 0.9228476),
        ("cvar", 0.25, 0.0625, 0.1875),
        ("cvar", 1.0, 0.25, 0.75),
    ],
)
def test_distortions_of_the_card(risk, level, at_one_quarter, at_three_quarters):
    found = distort(torch.tensor([0.25, 0.75], dtype=torch.float64), risk, level)
    torch.testing.assert_close(found, torch.tensor([at_one_quarter, at_three_quarters]).double(), rtol=0, atol=1e-7)


@pytest.mark.parametrize(("risk", "usual"), [("neutral", 0.0), ("cvar", 0.25), ("wang", -0.75), ("cpw", 0.71)])
def test_distortions_rise_within_the_unit_interval(risk, usual):
    fractions = torch.linspace(1e-6, 1 - 1e-6, 101, dtype=torch.float64)
    found = distort(fractions, risk)
    torch.testing.assert_close(found, distort(fractions, risk, usual))
    assert (found.diff() > 0).all()
    assert 0 <= found[0] < 0.01
    assert found[-1] <= 1


class Known(ImplicitQ):
    """Quantiles that are known: action a's are those of the uniform law on [-a, a]."""

    def quantiles(self, features, fractions):
        return (2 * fractions - 1).unsqueeze(1) * torch.arange(4.0)[:, None]


@pytest.mark.parametrize(
    ("risk", "level", "share"), [("neutral", 0.0, 0.0), ("cvar", 0.25, -0.75), ("wang", -0.75, -0.404117)]
)
def test_values_are_means_of_distorted_quantiles(risk, level, share):
    """With U(-a, a): the mean is 0, the mean of the worst quarter is -3a/4, Wang's is a (2 Phi(e / sqrt 2) - 1)."""
    if risk == "wang":
        assert share == pytest.approx(2 * torch.special.ndtr(torch.tensor(level / math.sqrt(2))).item() - 1, abs=1e-6)
    net = Known(SPEC, (8,), policy_quantiles=20_000, risk=risk, level=level)
    for mode in (True, False):
        values = net.train(mode)(torch.zeros(2, 3))
        assert values.shape == (2, 4)
        torch.testing.assert_close(values, share * torch.arange(4.0).expand(2, 4), atol=0.05 if mode else 1e-3, rtol=0)


def test_many_fractions_give_the_mean_of_a_learnt_distribution():
    """Quantile regression on samples 0, 0, 3 ends at values whose mean over fractions is 1."""
    torch.manual_seed(0)
    net = ImplicitQ(SPEC, (32,), quantiles=32, policy_quantiles=200)
    optimizer, obs = torch.optim.Adam(net.parameters(), lr=3e-3), torch.ones(8, 3)
    for _ in range(500):
        optimizer.zero_grad()
        loss = net.loss(obs, torch.full((8,), 2), torch.tensor([0.0, 0.0, 3.0]).expand(8, 3))
        loss.mean().backward()
        optimizer.step()
    assert net.eval()(obs)[0, 2].item() == pytest.approx(1.0, abs=0.25)


def test_fractions_are_drawn_anew_in_training_and_even_in_evaluation():
    net, obs = ImplicitQ(SPEC, (8,), quantiles=5, policy_quantiles=4), torch.zeros(6, 3)
    features = net.body(obs)
    first, second = net.fractions(features, 5), net.fractions(features, 5)
    assert first.shape == (6, 5)
    assert (first != second).all()
    assert first.unique().numel() == 30, "every row has its own"
    assert not torch.equal(net(obs), net(obs))
    net.eval()
    assert net.fractions(features, 4)[3].tolist() == [0.125, 0.375, 0.625, 0.875]
    assert torch.equal(net(obs), net(obs))


def test_the_cosines_of_the_card():
    """At the fraction 1/4: cos(pi i / 4) for i = 1..4."""
    net, seen = ImplicitQ(SPEC, (8,), cosines=4), []
    net.embedding.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    net.quantiles(net.body(torch.zeros(1, 3)), torch.tensor([[0.25, 0.5]]))
    torch.testing.assert_close(seen[0][0], torch.tensor([0.7071068, 0.0, -0.7071068, -1.0]))
    assert seen[0].shape == (2, 4)


@pytest.mark.parametrize("dueling", [False, True])
def test_quantiles_row_by_row(dueling):
    """Each row and fraction alone gives what all of them give together."""
    net, obs, fractions = ImplicitQ(SPEC, (8,), dueling=dueling), torch.randn(3, 3), torch.rand(3, 5)
    together = net.quantiles(net.body(obs), fractions)
    assert together.shape == (3, 4, 5)
    for b in range(3):
        for n in range(5):
            alone = net.quantiles(net.body(obs[b : b + 1]), fractions[b : b + 1, n : n + 1])
            torch.testing.assert_close(together[b, :, n], alone[0, :, 0])


def test_the_loss_is_at_the_fractions_of_its_outputs():
    net, obs, action, target = (
        ImplicitQ(SPEC, (8,), quantiles=6),
        torch.randn(3, 3),
        torch.tensor([3, 0, 1]),
        torch.rand(3, 7),
    )
    torch.manual_seed(1)
    found = net.loss(obs, action, target)
    torch.manual_seed(1)
    fractions = net.fractions(net.body(obs), 6)
    output = net.quantiles(net.body(obs), fractions)[torch.arange(3), action]
    torch.testing.assert_close(found, quantile_huber(output, target, fractions))
    other = quantile_huber(output, target, fractions.flip(1))
    assert (found - other).abs().min() > 1e-4
