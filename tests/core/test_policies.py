"""Laws over actions against torch.distributions, numerical integration and the card's numbers."""

from __future__ import annotations

import math

import pytest
import torch
from bellmark.agents.core.policies import (
    Categorical,
    Deterministic,
    Gaussian,
    Normal,
    Softmax,
    TanhGaussian,
    TanhNormal,
    stochastic_policy,
)


def numbers(*values):
    return torch.tensor([values], dtype=torch.float64)


@pytest.mark.parametrize(
    ("mean", "log_std", "before", "action", "expected"),
    [
        (0.0, 0.0, 0.5, 0.4621172, -0.8037095),
        (0.5, -1.0, 2.0, 0.9640276, -5.5816211),
        (0.0, 0.0, 8.0, None, -18.3052327),
    ],
)
def test_squashed_gaussian_of_the_card(mean, log_std, before, action, expected):
    law, before = TanhNormal(numbers(mean), numbers(log_std)), numbers(before)
    assert law.log_prob_before_tanh(before).item() == pytest.approx(expected, abs=1e-6)
    if action is not None:
        assert before.tanh().item() == pytest.approx(action, abs=1e-7)
        assert law.log_prob(before.tanh()).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (0.7, -1.0), (-1.0, 0.5)])
def test_squashed_gaussian_integrates_to_one(mean, log_std):
    before = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    law = TanhNormal(numbers(mean).expand(len(before), 1), numbers(log_std).expand(len(before), 1))
    density = law.log_prob_before_tanh(before[:, None]).exp()
    assert torch.trapezoid(density, before.tanh()).item() == pytest.approx(1, abs=1e-4)


def test_squashed_gaussian_agrees_with_torch_and_sums_over_dimensions():
    mean, log_std = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
    law = TanhNormal(mean, log_std)
    reference = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(mean, log_std.exp()), torch.distributions.TanhTransform()
    )
    action = 1.8 * torch.rand(6, 3, dtype=torch.float64) - 0.9
    torch.testing.assert_close(law.log_prob(action), reference.log_prob(action).sum(-1))
    assert torch.equal(law.mode(), mean.tanh())


def test_a_sample_has_the_log_prob_that_comes_with_it():
    law = TanhNormal(torch.randn(50, 2, dtype=torch.float64), torch.randn(50, 2, dtype=torch.float64) - 1)
    action, log_prob = law.sample_with_log_prob()
    inside = (action.abs() < 0.999).all(1)
    assert inside.sum() > 20
    torch.testing.assert_close(law.log_prob(action)[inside], log_prob[inside], rtol=1e-6, atol=1e-6)
    torch.manual_seed(1)
    first = law.sample()
    torch.manual_seed(1)
    assert torch.equal(first, law.sample_with_log_prob()[0])


def test_actions_at_the_bounds_have_a_finite_log_prob():
    law = TanhNormal(torch.zeros(2, 1), torch.zeros(2, 1))
    assert law.log_prob(torch.tensor([[1.0], [-1.0]])).isfinite().all()
    assert law.log_prob_before_tanh(torch.tensor([[40.0], [-40.0]])).isfinite().all()


def test_normal_agrees_with_torch():
    mean, action = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    for log_std in (torch.randn(3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)):
        law, reference = Normal(mean, log_std), torch.distributions.Normal(mean, log_std.exp().expand(5, 3))
        torch.testing.assert_close(law.log_prob(action), reference.log_prob(action).sum(-1))
        torch.testing.assert_close(law.entropy(), reference.entropy().sum(-1))
        assert torch.equal(law.mode(), mean)


def test_samples_of_a_normal_have_its_mean_and_deviation():
    count = 40_000
    law = Normal(torch.full((count, 1), 2.0), torch.full((1,), math.log(0.5)))
    sample = law.sample()
    assert sample.mean().item() == pytest.approx(2, abs=5 * 0.5 / math.sqrt(count))
    assert sample.std().item() == pytest.approx(0.5, rel=5 / math.sqrt(2 * count))


@pytest.mark.parametrize("kind", [Normal, TanhNormal])
def test_samples_carry_gradients_to_mean_and_deviation(kind):
    mean, log_std = torch.zeros(1, 2, requires_grad=True), torch.full((1, 2), 0.3, requires_grad=True)
    torch.manual_seed(2)
    sample = kind(mean, log_std).sample()
    torch.manual_seed(2)
    noise = torch.randn(1, 2)
    sample.sum().backward()
    slope = 1 - sample.detach().square() if kind is TanhNormal else torch.ones(1, 2)
    torch.testing.assert_close(mean.grad, slope)
    torch.testing.assert_close(log_std.grad, slope * noise * math.exp(0.3))


def test_gradients_of_log_probs():
    action = torch.rand(3, 2, dtype=torch.float64) - 0.5
    draw = lambda: torch.randn(3, 2, dtype=torch.float64, requires_grad=True)  # noqa: E731
    for kind in (Normal, TanhNormal):
        assert torch.autograd.gradcheck(lambda m, s, kind=kind: kind(m, s).log_prob(action), (draw(), draw()))
    choice = torch.tensor([0, 1, 1])
    assert torch.autograd.gradcheck(lambda x: Categorical.of(x).log_prob(choice), draw())
    assert torch.autograd.gradcheck(lambda x: Categorical.of(x).entropy(), draw())


def test_categorical_agrees_with_torch():
    logits = 3 * torch.randn(7, 4, dtype=torch.float64)
    law, reference = Categorical.of(logits), torch.distributions.Categorical(logits=logits)
    action = torch.randint(4, (7,))
    torch.testing.assert_close(law.log_prob(action), reference.log_prob(action))
    torch.testing.assert_close(law.entropy(), reference.entropy())
    assert torch.equal(law.mode(), logits.argmax(1))


def test_categorical_samples_by_its_probabilities():
    count, probabilities = 60_000, torch.tensor([0.6, 0.3, 0.09, 0.01])
    sample = Categorical.of(probabilities.log().expand(count, 4) + 7).sample()
    assert sample.dtype == torch.int64 and sample.shape == (count,)
    frequencies = torch.bincount(sample, minlength=4) / count
    sigma = (probabilities * (1 - probabilities) / count).sqrt()
    assert ((frequencies - probabilities).abs() < 5 * sigma).all()


def test_an_impossible_choice_is_never_sampled():
    logits = torch.tensor([0.0, -1e8, 0.0]).expand(20_000, 3)
    assert set(Categorical.of(logits).sample().tolist()) == {0, 2}


def test_the_deviation_of_the_squashed_policy_is_clamped(continuous):
    policy = TanhGaussian(continuous, (4,))
    with torch.no_grad():
        policy.net[-1].weight.zero_()
        policy.net[-1].bias.copy_(torch.tensor([0.3, -0.4, 50.0, -50.0]))
    law = policy(torch.randn(2, 3))
    torch.testing.assert_close(law.mean, torch.tensor([[0.3, -0.4]] * 2))
    assert law.log_std.tolist() == [[2, -20]] * 2


def test_the_free_deviation_and_the_squashed_mean(continuous):
    obs = torch.randn(2, 3)
    policy = Gaussian(continuous, (4,), log_std=-0.5)
    law = policy(obs)
    assert law.log_std.tolist() == [-0.5, -0.5]
    assert torch.equal(law.mean, policy.net(obs))
    law.log_prob(torch.zeros(2, 2)).sum().backward()
    assert policy.log_std.grad.abs().min() > 0
    squashed = Gaussian(continuous, (4,), log_std=-50.0, squash_mean=True)
    assert torch.equal(squashed(obs).mean, squashed.net(obs).tanh())
    assert squashed(obs).log_std.tolist() == [-5, -5]


def test_the_deterministic_policy_is_bounded(continuous):
    policy, obs = Deterministic(continuous, (4,)), 100 * torch.randn(50, 3)
    assert torch.equal(policy(obs), policy.net(obs).tanh())
    assert policy(obs).shape == (50, 2)


def test_the_policy_of_on_policy_agents_starts_alike_for_all_actions(continuous, discrete):
    obs = torch.randn(100, 3)
    softmax = stochastic_policy(discrete, (64, 64))
    assert isinstance(softmax, Softmax)
    assert (softmax(obs).log_probs.exp() - 1 / discrete.actions).abs().max() < 0.05
    gaussian = stochastic_policy(continuous, (64, 64))
    assert gaussian(obs).mean.abs().max() < 0.1
    assert gaussian(obs).log_std.tolist() == [0, 0]
