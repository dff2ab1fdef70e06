"""Prioritised replay: probabilities and weights against enumeration, and rows that come and go."""

import numpy as np
import pytest
import torch
from bellmark.agents.core.batch import Step
from bellmark.agents.core.prioritized import PrioritizedBuffer, SumTree
from bellmark.agents.core.spec import Spec

SPEC = Spec((1,), 1, False)


def filled(count, **options):
    """A buffer of `count` transitions of one endless episode; the observation is the number of the row."""
    buffer = PrioritizedBuffer(SPEC, count + 1, **options)
    buffer.begin(np.zeros((1, 1), np.float32))
    for i in range(count):
        push(buffer, i + 1)
    return buffer


def push(buffer, obs, valid=True, terminated=False):
    flag = lambda value: np.array([value])  # noqa: E731
    following = np.array([[obs]], np.float32)
    reward = np.ones(1, np.float32)
    buffer.add(np.zeros((1, 1)), Step(following, reward, flag(terminated), flag(False), flag(valid), following))


def test_sum_tree_finds_every_leaf_by_brute_force():
    values = torch.tensor([0.0, 3.0, 0.0, 1.0, 0.5, 0.0, 2.0])
    tree = SumTree(7, torch.device("cpu"))
    tree.set(torch.arange(7), values)
    mass = torch.linspace(0, 6.4999, 1000, dtype=torch.float64)
    expected = torch.searchsorted(values.double().cumsum(0), mass, right=True)
    assert tree.total == 6.5
    assert tree.find(mass).equal(expected)
    tree.set(torch.tensor([1, 6]), torch.tensor([0.0, 0.0]))
    assert set(tree.find(torch.rand(500, dtype=torch.float64) * tree.total).tolist()) == {3, 4}
    assert tree.find(tree.total[None]).item() == 4  # rounding up to the total still ends in a leaf that holds something


def test_probabilities_and_weights_of_three_rows():
    buffer = filled(3, alpha=0.6, beta=0.4)
    buffer.epsilon = 0.0
    buffer.update_priorities(torch.arange(3), torch.tensor([1.0, -2.0, 4.0]))
    probability = buffer.tree[torch.arange(3)] / buffer.tree.total
    np.testing.assert_allclose(probability, [0.207766, 0.314914, 0.477320], atol=1e-6)
    np.testing.assert_allclose(buffer.gather(torch.arange(3), 0.9).weight, [1.0, 0.846745, 0.716978], atol=1e-6)
    np.testing.assert_allclose(buffer.gather(torch.tensor([1, 2]), 0.9).weight, [1.0, 0.846745], atol=1e-6)


def test_draws_follow_the_probabilities():
    torch.manual_seed(0)
    buffer = filled(50, alpha=1.0)
    buffer.update_priorities(torch.arange(50), torch.arange(50.0))
    counts = torch.bincount(torch.cat([buffer.draw(32) for _ in range(2000)]), minlength=51)
    expected = 64_000 * torch.arange(50) / 1225
    assert counts[50] == 0 and counts[0] <= 1  # the head is no transition; row 0 has priority epsilon
    np.testing.assert_allclose(counts[1:50], expected[1:50], atol=5 * expected.max().sqrt().item())


def test_new_rows_have_the_greatest_priority_and_rows_that_go_have_none():
    buffer = filled(4, alpha=1.0)
    buffer.epsilon = 0.0
    buffer.update_priorities(torch.arange(4), torch.tensor([1.0, 2.0, 7.0, 3.0]))
    push(buffer, 5.0, terminated=True)  # written into row 4; row 0 becomes the head
    np.testing.assert_allclose(buffer.tree[torch.arange(5)], [0, 2, 7, 3, 7])
    push(buffer, 6.0, valid=False)  # a reset row: row 0 stays out, row 1 becomes the head
    np.testing.assert_allclose(buffer.tree[torch.arange(5)], [0, 0, 7, 3, 7])
    buffer.update_priorities(torch.tensor([1, 2]), torch.tensor([9.0, 1.0]))  # row 1 was lost since it was drawn
    np.testing.assert_allclose(buffer.tree[torch.arange(5)], [0, 0, 1, 3, 7])
    assert set(buffer.draw(1000).tolist()) == {2, 3, 4}


def test_state_keeps_priorities():
    buffer, other = filled(6), filled(6)
    buffer.update_priorities(torch.arange(6), torch.rand(6) * 5)
    other.load_state(*buffer.state())
    assert other.tree.nodes.equal(buffer.tree.nodes)
    assert other.greatest == buffer.greatest
    torch.manual_seed(3)
    first = buffer.sample(16, 0.9)
    torch.manual_seed(3)
    assert other.sample(16, 0.9).weight.equal(first.weight)


def test_an_empty_buffer_has_nothing_to_draw():
    with pytest.raises(ValueError, match="no transition to sample"):
        PrioritizedBuffer(SPEC, 4).draw(2)
