"""Losses against the cards' numbers, closed forms and gradcheck; broadcasting is refused everywhere."""

from __future__ import annotations

import pytest
import torch
from bellmark.agents.core.losses import clipped_surrogate, clipped_value, expectile, huber, mse, quantile_huber


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_mse():
    assert mse(numbers(1, 2, -1), numbers(3, 2, 1)).tolist() == [4, 0, 4]
    ensemble = mse(torch.stack([numbers(5, 4), numbers(4, 6)]), numbers(5, 5))
    assert ensemble.tolist() == [[0, 1], [1, 1]]
    assert float(ensemble.mean(1).sum()) == 1.5


def test_huber():
    errors = numbers(-3, -1, -0.5, 0, 0.5, 1, 2)
    assert huber(errors, torch.zeros_like(errors)).tolist() == [2.5, 0.5, 0.125, 0, 0.125, 0.5, 1.5]
    assert huber(errors, torch.zeros_like(errors), 2.0).tolist() == [4, 0.5, 0.125, 0, 0.125, 0.5, 2]
    expected = torch.nn.functional.huber_loss(errors, torch.ones_like(errors), reduction="none", delta=0.7)
    torch.testing.assert_close(huber(errors, torch.ones_like(errors), 0.7), expected)


def test_expectile_of_the_card():
    loss = expectile(numbers(1, -2), 0.7)
    assert loss.tolist() == pytest.approx([0.7, 1.2])
    assert float(loss.mean()) == pytest.approx(0.95, abs=1e-12)
    assert expectile(numbers(3, -3), 0.5).tolist() == [4.5, 4.5]


@pytest.mark.parametrize(("level", "minimiser"), [(0.5, 11 / 3), (0.7, 5.615385), (0.9, 8.272727)])
def test_the_minimiser_is_the_expectile(level, minimiser):
    samples, value = numbers(0, 1, 10), torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([value], max_iter=50)

    def loss():
        optimizer.zero_grad()
        total = expectile(samples - value, level).mean()
        total.backward()
        return total

    optimizer.step(loss)
    assert value.item() == pytest.approx(minimiser, abs=1e-5)


def test_quantile_huber_of_the_card():
    fractions = numbers(0.25, 0.75)
    loss = quantile_huber(numbers(0, 1)[None], numbers(-1, 0.5, 3)[None], fractions)
    assert loss.tolist() == pytest.approx([0.8541666666667])


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_quantile_huber_is_sum_over_quantiles_of_mean_over_targets(threshold):
    quantiles, target = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    fractions = numbers(0.1, 0.5, 0.8)
    for levels in (fractions, fractions.expand(4, 3)):
        found = quantile_huber(quantiles, target, levels, threshold)
        for b in range(4):
            total = 0.0
            for i, level in enumerate(fractions.tolist()):
                for y in target[b].tolist():
                    u = y - float(quantiles[b, i])
                    size = abs(u)
                    if threshold:
                        size = u * u / 2 / threshold if size <= threshold else size - threshold / 2
                    total += abs(level - (u < 0)) * size / 6
            assert float(found[b]) == pytest.approx(total, abs=1e-12)
    ensemble = quantile_huber(torch.stack([quantiles, quantiles + 1]), target, fractions, threshold)
    torch.testing.assert_close(ensemble[0], found)
    torch.testing.assert_close(ensemble[1], quantile_huber(quantiles + 1, target, fractions, threshold))


def test_plain_quantile_loss_is_least_at_the_quantile():
    samples = torch.arange(101, dtype=torch.float64)[None]
    candidates = torch.arange(101, dtype=torch.float64)
    losses = [float(quantile_huber(c.view(1, 1), samples, numbers(0.3), 0.0)) for c in candidates]
    assert int(torch.tensor(losses).argmin()) == 30


def test_clipped_surrogate_of_the_card():
    loss = clipped_surrogate(numbers(1.5, 0.7, 1.5, 0.7), numbers(1, 1, -1, -1), 0.2)
    assert loss.tolist() == pytest.approx([-1.2, -0.7, 1.5, 0.8])
    assert float(loss.mean()) == pytest.approx(0.1)


def test_clipped_surrogate_has_no_gradient_beyond_the_clip():
    ratio = numbers(1.5, 0.7, 1.5, 0.7).requires_grad_()
    clipped_surrogate(ratio, numbers(1, 1, -1, -1), 0.2).sum().backward()
    assert ratio.grad.tolist() == [0, -1, 1, 0]


def test_clipped_value_of_the_card():
    loss = clipped_value(numbers(1.5, 1.5), numbers(1, 1), numbers(2, 0), 0.2)
    assert loss.tolist() == pytest.approx([0.64, 2.25])


COLUMN, ROW = torch.zeros(3, 1), torch.zeros(3)
BROADCASTS = {
    "mse": lambda: mse(COLUMN, ROW),
    "mse, target": lambda: mse(ROW, COLUMN),
    "mse, number": lambda: mse(ROW, torch.zeros(())),
    "huber": lambda: huber(COLUMN, ROW),
    "huber, target": lambda: huber(ROW, COLUMN),
    "quantile_huber": lambda: quantile_huber(torch.zeros(3, 1, 4), torch.zeros(3, 5), torch.zeros(4)),
    "quantile_huber, target": lambda: quantile_huber(torch.zeros(3, 4), torch.zeros(3, 1, 5), torch.zeros(4)),
    "quantile_huber, one target": lambda: quantile_huber(torch.zeros(3, 4), torch.zeros(3), torch.zeros(4)),
    "clipped_surrogate": lambda: clipped_surrogate(COLUMN, ROW, 0.2),
    "clipped_surrogate, advantage": lambda: clipped_surrogate(ROW, COLUMN, 0.2),
    "clipped_value": lambda: clipped_value(COLUMN, ROW, ROW, 0.2),
    "clipped_value, old value": lambda: clipped_value(ROW, COLUMN, ROW, 0.2),
    "clipped_value, target": lambda: clipped_value(ROW, ROW, COLUMN, 0.2),
    "clipped_value, values": lambda: clipped_value(COLUMN, COLUMN, ROW, 0.2),
}


@pytest.mark.parametrize("name", BROADCASTS)
def test_a_column_against_a_row_is_refused(name):
    with pytest.raises(ValueError, match="does not fit"):
        BROADCASTS[name]()


def test_gradients_are_those_of_the_values():
    draw = lambda *shape: torch.randn(*shape, dtype=torch.float64, requires_grad=True)  # noqa: E731
    fixed = torch.randn(5, dtype=torch.float64)
    samples, fractions = torch.randn(5, 4, dtype=torch.float64), numbers(0.2, 0.5, 0.9)
    assert torch.autograd.gradcheck(lambda x: mse(x, fixed), draw(2, 5))
    assert torch.autograd.gradcheck(lambda x: huber(x, fixed, 0.8), draw(2, 5))
    assert torch.autograd.gradcheck(lambda x: expectile(x, 0.7), draw(5))
    for threshold in (0.0, 1.0):
        assert torch.autograd.gradcheck(lambda x, k=threshold: quantile_huber(x, samples, fractions, k), draw(5, 3))
    assert torch.autograd.gradcheck(lambda x: clipped_surrogate(x.exp(), fixed, 0.2), draw(5))
    assert torch.autograd.gradcheck(lambda x: clipped_value(x, fixed, fixed + 0.3, 0.2), draw(5))


def test_huber_gradient_is_the_clipped_error():
    errors = numbers(-3, -0.5, 0.5, 3).requires_grad_()
    huber(errors, torch.zeros(4, dtype=torch.float64)).sum().backward()
    assert errors.grad.tolist() == [-1, -0.5, 0.5, 1]


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_compiled_formulas_are_the_plain_ones(threshold):
    """Values and gradients; at the corners, too."""
    torch.manual_seed(0)
    target, fractions = torch.randn(7, 5).double(), torch.tensor([0.1, 0.5, 0.8]).double()
    quantiles = torch.randn(2, 7, 3).double()
    quantiles[0, 0, :] = target[0, :3] + torch.tensor([0.0, threshold, -threshold]).double()
    found = []
    for compiled in (False, True):
        value = quantiles.clone().requires_grad_()
        each = torch.compile(quantile_huber, backend="eager") if compiled else quantile_huber
        loss = each(value, target, fractions, threshold)
        loss.square().sum().backward()
        found.append((loss.detach(), value.grad))
    torch.testing.assert_close(found[1], found[0])
    if threshold:
        prediction, other = quantiles[..., 0], target[:, 0]
        assert torch.allclose(
            torch.compile(huber, backend="eager")(prediction, other, threshold),
            huber(prediction, other, threshold),
        )
