"""Heads: projections against brute force and closed form, the cards' numbers, and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from bellmark.agents.core.heads import Categorical, Quantile, Scalar


def log(*probabilities):
    return torch.tensor([probabilities]).log()


def assert_close(found, expected, atol=1e-6):
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype), rtol=0, atol=atol)


def test_scalar_targets_of_the_card():
    """Next values [2, 5]; the online network prefers the first action."""
    head, reward, discount = Scalar(), torch.tensor([1.0]), torch.tensor([0.9])
    assert float(head.backup(reward, discount, torch.tensor([[5.0]]))) == 5.5
    assert float(head.backup(reward, discount, torch.tensor([[2.0]]))) == pytest.approx(2.8)
    assert float(head.backup(reward, torch.zeros(1), torch.tensor([[5.0]]))) == 1


def test_scalar_loss_is_squared_or_huber():
    output, target = torch.tensor([[1.0], [4.0]]), torch.tensor([1.5, 1.0])
    assert Scalar().loss(output, target).tolist() == [0.25, 9]
    assert Scalar(threshold=1.0).loss(output, target).tolist() == [0.125, 2.5]
    assert Scalar().mean(torch.zeros(2, 5, 1)).shape == (2, 5)
    with pytest.raises(ValueError, match="does not fit"):
        Scalar().loss(output, target[:, None])


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_priorities_of_a_scalar_are_absolute_errors(threshold):
    """And those of a distribution are its loss."""
    head, error = Scalar(threshold), torch.tensor([-3.0, -0.4, 0.0, 0.2, 0.5, 1.0, 7.0])
    loss = head.loss(error[:, None], torch.zeros(7))
    assert_close(head.error(loss), error.abs())
    assert_close(Categorical(-1, 1, 5).error(loss), loss)
    assert_close(Quantile(3).error(loss), loss)


def test_c51_projection_of_the_card():
    head, output = Categorical(-1, 1, 5), log(0.1, 0.2, 0.4, 0.2, 0.1)
    found = head.backup(torch.tensor([0.3]), torch.tensor([0.9]), output)
    assert_close(found, [[0.02, 0.14, 0.30, 0.34, 0.20]])
    assert_close(found @ head.atoms, [0.28])
    assert_close(head.backup(torch.tensor([0.3]), torch.zeros(1), output), [[0, 0, 0.4, 0.6, 0]])
    assert_close(head.backup(torch.tensor([0.5]), torch.zeros(1), output), [[0, 0, 0, 1, 0]])


def floor_and_ceil(head, reward, discount, probability):
    """The paper's algorithm 1, with the exact hit put right."""
    atoms, result = head.atoms.double(), torch.zeros_like(probability)
    step = (head.high - head.low) / (head.outputs - 1)
    for b in range(len(reward)):
        for j, mass in enumerate(probability[b]):
            place = (float(reward[b] + discount[b] * atoms[j]) - head.low) / step
            place = min(max(place, 0.0), head.outputs - 1.0)
            below = min(math.floor(place), head.outputs - 2)
            result[b, below] += mass * (below + 1 - place)
            result[b, below + 1] += mass * (place - below)
    return result


@pytest.mark.parametrize("target", ["c51", "two_hot", "hl_gauss"])
def test_targets_that_are_not_a_number_say_so(target):
    """They come to the guard of losses as NaN, in their own row alone."""
    head = Categorical(-1, 1, 5, target)
    reward = torch.tensor([math.nan, 0.5, math.inf])
    found = head.backup(reward, torch.full((3,), 0.9), torch.zeros(3, 5))
    assert found[0].isnan().any() and found[1:].isfinite().all()


def test_c51_projection_against_floor_and_ceil():
    head = Categorical(-10, 10, 51).double()
    output = torch.randn(40, 51, dtype=torch.float64)
    reward = torch.randn(40, dtype=torch.float64) * 6
    reward[0], reward[1] = 100, -100
    discount = torch.rand(40, dtype=torch.float64)
    discount[2], reward[2] = 1, 0.8  # a shift by two atoms, exactly
    found = head.backup(reward, discount, output)
    assert_close(found.sum(-1), torch.ones(40), 1e-6)
    assert_close(found, floor_and_ceil(head, reward, discount, output.softmax(-1)), 1e-5)
    assert found[0, -1] == pytest.approx(1) and found[1, 0] == pytest.approx(1)
    inside = (reward.abs() + 10 * discount) <= 10
    assert inside.sum() > 3
    mean = reward + discount * head.mean(output)
    assert_close((found @ head.atoms)[inside], mean[inside], 1e-5)


def test_c51_identity_keeps_the_distribution():
    head = Categorical(-2, 3, 11)
    output = torch.randn(4, 11)
    assert_close(head.backup(torch.zeros(4), torch.ones(4), output), output.softmax(-1))


def test_uniform_logits_cost_log_of_their_number():
    head = Categorical(-1, 1, 5)
    target = torch.tensor([[0.02, 0.14, 0.30, 0.34, 0.20]])
    assert float(head.loss(torch.zeros(1, 5), target)) == pytest.approx(math.log(5), abs=1e-6)
    assert float(head.loss(log(*target[0].tolist()), target)) == pytest.approx(
        -float((target * target.log()).sum()), abs=1e-6
    )
    with pytest.raises(ValueError, match="does not fit"):
        head.loss(torch.zeros(3, 1, 5), torch.zeros(3, 5))


def test_two_hot_of_the_card():
    head = Categorical(-0.8, 0.8, 5, "two_hot")
    assert_close(head.encode(torch.tensor([0.1])), [[0, 0, 0.75, 0.25, 0]])
    assert_close(head.encode(torch.tensor([-3.0, 3.0, 0.4])), [[1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 1, 0]])


@pytest.mark.parametrize(
    ("value", "expected", "mean"),
    [
        (0.0, [0.02234, 0.22994, 0.49544, 0.22994, 0.02234], 0.0),
        (0.1, [0.009707, 0.149059, 0.472599, 0.322125, 0.046509], 0.0986681),
        (0.9, None, 0.6930512),
    ],
)
def test_hl_gauss_of_the_card(value, expected, mean):
    head = Categorical(-1, 1, 5, "hl_gauss", sigma=0.75)
    assert_close(head.atoms, [-0.8, -0.4, 0, 0.4, 0.8])
    code = head.encode(torch.tensor([value]))
    assert float(code.sum()) == pytest.approx(1, abs=1e-6)
    assert float(code @ head.atoms) == pytest.approx(mean, abs=1e-6)
    if expected is not None:
        assert_close(code, [expected], 6e-6)


def test_hl_gauss_of_the_card_with_51_bins():
    head = Categorical(-10, 10, 51, "hl_gauss")
    code = head.encode(torch.tensor([0.3]))[0]
    assert float(code @ head.atoms) == pytest.approx(0.3000019, abs=1e-5)
    assert float(code.max()) == pytest.approx(0.4745377, abs=1e-5)
    assert float(head.atoms[code.argmax()]) == pytest.approx(0.3921569, abs=1e-6)
    assert int((code > 1e-3).sum()) == 6


@pytest.mark.parametrize("target", ["two_hot", "hl_gauss"])
def test_a_scalar_comes_back_through_its_code(target):
    head = Categorical(-10, 10, 51, target)
    values = torch.linspace(-8, 8, 101)
    code = head.encode(values)
    assert code.shape == (101, 51)
    assert_close(code @ head.atoms, values, 1e-4)
    assert_close(head.mean(code.log()), values, 1e-4)
    assert_close(head.encode(torch.tensor([25.0])), head.encode(torch.tensor([10.0])))


@pytest.mark.parametrize("target", ["two_hot", "hl_gauss"])
def test_backup_of_the_mean(target):
    head = Categorical(-10, 10, 51, target)
    output = torch.randn(6, 51)
    reward, discount = torch.randn(6), torch.tensor([0.0, 0.5, 0.9, 0.99, 1.0, 0.2])
    assert_close(head.backup(reward, discount, output), head.encode(reward + discount * head.mean(output)), 0)


def test_width_is_the_distance_of_atoms():
    for target in ("c51", "two_hot", "hl_gauss"):
        head = Categorical(-3, 5, 9, target)
        assert_close(head.atoms.diff(), torch.full((8,), head.width))


def test_mean_is_the_expected_atom():
    head = Categorical(-1, 1, 5)
    assert_close(head.mean(log(0.1, 0.2, 0.4, 0.2, 0.1)), [0.0])
    assert_close(head.mean(log(0.02, 0.14, 0.30, 0.34, 0.20)), [0.28])
    assert head.mean(torch.zeros(2, 7, 5)).shape == (2, 7)


def test_quantile_head():
    head = Quantile(4)
    assert head.fractions.tolist() == [0.125, 0.375, 0.625, 0.875]
    output = torch.tensor([[1.0, 2.0, 3.0, 6.0]])
    assert head.mean(output).tolist() == [3]
    backup = head.backup(torch.tensor([1.0]), torch.tensor([0.5]), output)
    assert backup.tolist() == [[1.5, 2, 2.5, 4]]
    two = Quantile(2)
    assert two.loss(torch.tensor([[0.0, 1.0]]), torch.tensor([[-1, 0.5, 3]])).tolist() == pytest.approx([0.8541667])
    assert two.loss(torch.zeros(3, 7, 2), torch.zeros(7, 2)).shape == (3, 7)


HEADS = {
    "scalar": Scalar(1.0),
    "c51": Categorical(-2, 2, 7),
    "two_hot": Categorical(-2, 2, 7, "two_hot"),
    "hl_gauss": Categorical(-2, 2, 7, "hl_gauss"),
    "quantile": Quantile(7),
}


@pytest.mark.parametrize("name", HEADS)
def test_the_gradient_of_the_loss_is_that_of_the_output(name):
    head = HEADS[name].double()
    output = torch.randn(2, 5, head.outputs, dtype=torch.float64, requires_grad=True)
    following = torch.randn(5, head.outputs, dtype=torch.float64)
    with torch.no_grad():
        target = head.backup(torch.randn(5).double(), torch.rand(5).double(), following)
    assert head.loss(output, target).shape == (2, 5)
    assert torch.autograd.gradcheck(lambda x: head.loss(x, target), output)
    assert torch.autograd.gradcheck(head.mean, output)


@pytest.mark.parametrize("name", HEADS)
def test_learning_a_constant_target_makes_the_mean_that_constant(name):
    head = HEADS[name].float()
    output = torch.zeros(1, head.outputs, requires_grad=True)
    target = head.backup(torch.tensor([0.5]), torch.zeros(1), torch.zeros(1, head.outputs))
    optimizer = torch.optim.Adam([output], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        head.loss(output, target).sum().backward()
        optimizer.step()
    assert head.mean(output).item() == pytest.approx(0.5, abs=0.02)
