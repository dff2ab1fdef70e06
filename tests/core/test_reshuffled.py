"""Random reshuffling: each row once a pass, also while the buffer changes; counts that follow priorities."""

import numpy as np
import pytest
import torch
from bellmark.agents.core.batch import Step
from bellmark.agents.core.buffer import Buffer
from bellmark.agents.core.prioritized import Prioritized
from bellmark.agents.core.reshuffled import PrioritizedReshuffled, Reshuffled
from bellmark.agents.core.spec import Spec
from bellmark.scripts.bench.floor import Operators

SPEC = Spec((1,), 1, False)


def push(buffer, valid=True):
    """A transition in every column, or none; its observation is the number of the push."""
    flag, obs = np.zeros(buffer.columns, bool), buffer.current_obs() + 1
    buffer.add(np.zeros((buffer.columns, 1)), Step(obs, flag.astype(np.float32), flag, flag, flag | valid, obs))


def buffer_of(rows, sampler, columns=1, transitions=None):
    buffer = Buffer(SPEC, rows, columns, sampler=sampler)
    buffer.begin(np.zeros((columns, 1), np.float32))
    for _ in range(rows - 1 if transitions is None else transitions):
        push(buffer)
    return buffer


def counts(buffer, draws):
    return torch.bincount(torch.cat(draws), minlength=buffer.rows * buffer.columns)


def test_each_of_four_rows_three_times_in_twelve_draws():
    buffer = buffer_of(5, Reshuffled())
    for _ in range(20):
        draws = [buffer.draw(3) for _ in range(4)]
        assert counts(buffer, draws).tolist() == [3, 3, 3, 3, 0]
        assert counts(buffer, draws[:2]).tolist() in (
            [a, b, c, d, 0] for a, b, c, d in np.ndindex(3, 3, 3, 3) if min(a, b, c, d) >= 1
        )


def test_two_filled_rows_of_four():
    buffer = buffer_of(5, Reshuffled(), transitions=2)
    for _ in range(20):
        assert sorted(buffer.draw(2).tolist()) == [0, 1]


def test_the_order_is_random_and_another_in_each_pass():
    buffer = buffer_of(101, Reshuffled())
    first, second = buffer.draw(100), buffer.draw(100)
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(100))
    assert not first.equal(second)
    assert (first.diff() > 0).float().mean().item() == pytest.approx(0.5, abs=0.2)
    places = torch.stack([buffer.draw(100).argsort()[0] for _ in range(1000)]).float()
    assert places.mean().item() == pytest.approx(49.5, abs=5 * 28.9 / 1000**0.5)


@pytest.mark.parametrize("columns", [1, 3])
def test_every_row_exactly_once_a_pass_while_the_buffer_grows_and_is_overwritten(columns):
    sampler = Reshuffled()
    buffer = buffer_of(200, sampler, columns, transitions=10)
    began, always, seen, passes, later = 0, set(), [], 0, 0
    while buffer.moves < 5 * buffer.rows:
        order = sampler.order
        row = buffer.draw(1).item()
        if sampler.order is not order:  # the first row of a new pass
            assert len(seen) == len({*seen}), "none twice"
            assert always <= {*seen}, "all that were there throughout"
            later += len({*seen} - began) if passes else 0
            began, seen, passes = {*buffer.valid_index().tolist()}, [], passes + 1
            always = began
        assert buffer.valid.view(-1)[row]
        seen.append(row)
        if torch.rand(()) < 0.2:
            push(buffer, valid=bool(torch.rand(()) < 0.9))
            always = always & {*buffer.valid_index().tolist()}
    assert passes > 5
    assert later > 0, "new rows come in the pass that is going on if their turn is still to come"


@pytest.mark.parametrize("kind", [Reshuffled, PrioritizedReshuffled])
def test_state_goes_on_exactly(kind):
    buffer, other = buffer_of(50, kind(), 2, transitions=30), Buffer(SPEC, 50, 2, sampler=kind())
    for _ in range(10):
        rows = buffer.draw(16)
        buffer.sampler.report(buffer, rows, torch.rand(16))
        push(buffer)
        state, whole = torch.get_rng_state(), []
        other.load_state(*buffer.state())
        for one in (buffer, other):
            torch.set_rng_state(state)
            torch.manual_seed(0)
            for _ in range(5):
                push(one)
                whole.append(one.draw(16))
                one.sampler.report(one, whole[-1], whole[-1] / 10)
        assert torch.stack(whole[:5]).equal(torch.stack(whole[5:]))
        assert all(buffer.state()[0][name].equal(value) for name, value in other.state()[0].items())


@pytest.mark.parametrize("kind", [Reshuffled, PrioritizedReshuffled])
def test_looking_at_the_state_changes_no_draw(kind):
    draws, ends = [], []
    for looks in (False, True):
        torch.manual_seed(1)
        buffer = buffer_of(20, kind(), transitions=5)
        for _ in range(40):
            push(buffer)
            if looks:
                buffer.state()
            push(buffer)
            draws.append(buffer.draw(6))
            buffer.sampler.report(buffer, draws[-1], draws[-1] / 7)
        ends.append(buffer.state()[0])
    assert all(value.equal(ends[1][name]) for name, value in ends[0].items())
    assert torch.stack(draws[:40]).equal(torch.stack(draws[40:]))


def test_equal_priorities_are_drawn_once_each():
    buffer = buffer_of(33, PrioritizedReshuffled())
    for _ in range(10):
        assert counts(buffer, [buffer.draw(8) for _ in range(4)]).tolist() == [1] * 32 + [0]


def test_counts_follow_their_expectation():
    """Within about one of it, where independent draws would be sqrt(count) away."""
    sampler = PrioritizedReshuffled(alpha=1.0)
    buffer = buffer_of(51, sampler)
    buffer.sampler.report(buffer, torch.arange(50), torch.arange(1.0, 51.0))
    found = counts(buffer, [buffer.draw(10) for _ in range(2000)])[:50]
    expected = 20_000 * torch.arange(1.0, 51.0) / 1275
    np.testing.assert_allclose(sampler.expected[:50], expected, rtol=1e-5)
    assert sampler.drawn[:50].equal(found.double())
    assert (found - expected).abs().max() <= 2
    assert expected.max().sqrt() > 25


def test_a_new_row_begins_with_no_counts_and_the_sums_agree():
    sampler = PrioritizedReshuffled(alpha=1.0)
    buffer = buffer_of(5, sampler)
    buffer.sampler.report(buffer, torch.arange(4), torch.tensor([4.0, 3.0, 2.0, 1.0]))
    for _ in range(50):
        buffer.draw(2)
    before = sampler.expected.clone()
    push(buffer)  # row 4 is new, row 0 lost
    sampler.agree(buffer)
    assert sampler.drawn[[0, 4]].tolist() == sampler.expected[[0, 4]].tolist() == [0.0, 0.0]
    drawn = sampler.drawn.sum()
    buffer.draw(2)
    assert sampler.drawn.sum() == drawn + 2
    assert sampler.expected.sum().item() == pytest.approx(sampler.drawn.sum().item(), rel=1e-12)
    total, scale = 3 + 2 + 1 + sampler.greatest, drawn / before[1:4].sum()
    np.testing.assert_allclose(sampler.expected[1:4], before[1:4] * scale + 2 * torch.tensor([3, 2, 1]) / total)


def test_weights_are_those_of_prioritised_replay():
    sampler = PrioritizedReshuffled(alpha=0.6, beta=0.4)
    sampler.epsilon = 0.0
    buffer = buffer_of(4, sampler)
    sampler.report(buffer, torch.arange(3), torch.tensor([1.0, 2.0, 4.0]))
    np.testing.assert_allclose(buffer.gather(torch.arange(3), 0.9).weight, [1.0, 0.846745, 0.716978], atol=1e-6)


@pytest.mark.parametrize("kind", [Reshuffled, Prioritized, PrioritizedReshuffled])
def test_drawing_never_waits_for_the_device(kind):
    buffer = buffer_of(50, kind(), 2)
    buffer.sample(16, 0.9)
    with Operators() as operators:
        for _ in range(3):
            push(buffer)
            batch = buffer.sample(16, 0.9)
            buffer.sampler.report(buffer, batch.row, batch.reward)
    assert operators.counts["_local_scalar_dense"] == operators.counts["nonzero"] == 0
    assert operators.counts.total() > 30
