"""Prioritised replay: probabilities and weights against enumeration, and rows that come and go."""

import numpy as np
import pytest
import torch
from bellmark.agents.core.batch import Step
from bellmark.agents.core.buffer import Buffer
from bellmark.agents.core.heads import Quantile
from bellmark.agents.core.prioritized import Prioritized, SumTree
from bellmark.agents.core.sampling import Sampler
from bellmark.agents.core.spec import Spec

SPEC = Spec((1,), 1, False)


def filled(count, **options):
    """A buffer of `count` transitions of one endless episode; the observation is the number of the row."""
    buffer = Buffer(SPEC, count + 1, sampler=Prioritized(**options))
    buffer.begin(np.zeros((1, 1), np.float32))
    for i in range(count):
        push(buffer, i + 1)
    return buffer


def leaves(buffer):
    buffer.sampler.agree(buffer)
    return buffer.sampler.tree.leaves[: buffer.rows * buffer.columns]


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
    buffer.sampler.epsilon = 0.0
    buffer.sampler.report(buffer, torch.arange(3), torch.tensor([1.0, -2.0, 4.0]))
    probability = leaves(buffer)[:3] / buffer.sampler.tree.total
    np.testing.assert_allclose(probability, [0.207766, 0.314914, 0.477320], atol=1e-6)
    np.testing.assert_allclose(buffer.gather(torch.arange(3), 0.9).weight, [1.0, 0.846745, 0.716978], atol=1e-6)
    np.testing.assert_allclose(buffer.gather(torch.tensor([1, 2]), 0.9).weight, [1.0, 0.846745], atol=1e-6)


def test_draws_follow_the_probabilities():
    torch.manual_seed(0)
    buffer = filled(50, alpha=1.0)
    buffer.sampler.report(buffer, torch.arange(50), torch.arange(50.0))
    counts = torch.bincount(torch.cat([buffer.draw(32) for _ in range(2000)]), minlength=51)
    expected = 64_000 * torch.arange(50) / 1225
    assert counts[50] == 0 and counts[0] <= 1  # the head is no transition; row 0 has priority epsilon
    np.testing.assert_allclose(counts[1:50], expected[1:50], atol=5 * expected.max().sqrt().item())


def test_new_rows_have_the_greatest_priority_and_rows_that_go_have_none():
    buffer = filled(4, alpha=1.0)
    buffer.sampler.epsilon = 0.0
    buffer.sampler.report(buffer, torch.arange(4), torch.tensor([1.0, 2.0, 7.0, 3.0]))
    push(buffer, 5.0, terminated=True)  # written into row 4; row 0 becomes the head
    np.testing.assert_allclose(leaves(buffer), [0, 2, 7, 3, 7])
    push(buffer, 6.0, valid=False)  # a reset row: row 0 stays out, row 1 becomes the head
    np.testing.assert_allclose(leaves(buffer), [0, 0, 7, 3, 7])
    buffer.sampler.report(buffer, torch.tensor([1, 2]), torch.tensor([9.0, 1.0]))  # row 1 was lost since it was drawn
    np.testing.assert_allclose(leaves(buffer), [0, 0, 1, 3, 7])
    assert set(buffer.draw(1000).tolist()) == {2, 3, 4}


def test_state_keeps_priorities():
    buffer, other = filled(6), filled(6)
    buffer.sampler.report(buffer, torch.arange(6), torch.rand(6) * 5)
    other.load_state(*buffer.state())
    for own, saved in zip(other.sampler.tree.levels, buffer.sampler.tree.levels, strict=True):
        assert own.equal(saved)
    assert other.sampler.greatest == buffer.sampler.greatest
    torch.manual_seed(3)
    first = buffer.sample(16, 0.9)
    torch.manual_seed(3)
    assert other.sample(16, 0.9).weight.equal(first.weight)


def test_an_empty_buffer_has_nothing_to_draw():
    with pytest.raises(ValueError, match="no transition to sample"):
        Buffer(SPEC, 4, sampler=Prioritized()).draw(2)


def test_a_tree_with_many_leaves_is_the_running_sum():
    rng = np.random.default_rng(0)
    values = torch.as_tensor(rng.random(12_345) * (rng.random(12_345) < 0.7))
    tree = SumTree(12_345, torch.device("cpu"))
    assert [len(level) for level in tree.levels] == [64, 256, 12_352]
    tree.set(torch.arange(12_345), values)
    for _ in range(20):
        leaf = torch.as_tensor(rng.integers(12_345, size=50))
        values[leaf] = torch.as_tensor(rng.random(50))[:, None].expand(50, 2)[:, 0]
        tree.set(leaf, values[leaf])
        running = values.cumsum(0)
        mass = torch.as_tensor(rng.random(500)) * tree.total
        found = tree.find(mass)
        assert (values[found] > 0).all()
        assert (running[found] > mass - 1e-9).all()
        assert (running[found] - values[found] <= mass + 1e-9).all()
    again = SumTree(12_345, torch.device("cpu"))
    again.set(torch.arange(12_345), values)
    for own, other in zip(tree.levels, again.levels, strict=True):
        assert own.equal(other), "sums do not depend on the order of updates, or a resumed run would differ"


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("style", ["next_step", "same_step"])
def test_rows_that_were_written_since_the_last_draw_are_set_at_the_next(columns, style, scripted, drive, continuous):
    """In any number, with any number of resets in each column, across the ring and beyond it."""
    env, buffer = scripted(columns, style), Buffer(continuous, 23, columns, sampler=Prioritized(alpha=1.0))
    known, new = {}, 0
    for steps in (2, 1, 2, 3, 5, 8, 13, 16, 20, 22, 23, 24, 40, 1, 1, 7):
        moves = buffer.moves
        drive(env, buffer, steps, seed=steps)
        known = known if buffer.moves - moves < 23 else {}  # after a whole ring every row counts as new
        rows, valid = buffer.draw(8), buffer.valid.view(-1)
        assert (leaves(buffer) > 0).equal(valid)
        index, greatest = buffer.valid_index(), float(buffer.sampler.greatest)
        obs = [tuple(values) for values in buffer.observations(index).tolist()]
        new += sum(values not in known for values in obs)
        known |= {values: known.get(values, greatest) for values in obs}
        assert leaves(buffer)[index].tolist() == [known[values] for values in obs]
        error = torch.rand(23 * columns) * 3
        buffer.sampler.report(buffer, rows, error[rows])
        reported = error.double()[rows] + 1e-6
        known |= {
            tuple(values): priority
            for values, priority in zip(buffer.observations(rows).tolist(), leaves(buffer)[rows].tolist(), strict=True)
        }
        np.testing.assert_allclose(leaves(buffer)[rows], reported)
    assert new > 100


def test_spread_keeps_the_priorities():
    buffer = filled(12, alpha=1.0)
    buffer.sampler.epsilon = 0.0
    buffer.sampler.report(buffer, torch.arange(12), torch.arange(12.0))
    push(buffer, 13.0)  # row 0 is lost
    wide = buffer.spread(5, 2)
    index = wide.valid_index()
    found = dict(zip(wide.observations(index)[:, 0].tolist(), leaves(wide)[index].tolist(), strict=True))
    assert found == {float(i): float(i) for i in range(1, 12)} | {12.0: 11.0}
    assert type(wide.sampler) is Prioritized
    assert (wide.sampler.alpha, wide.sampler.greatest) == (1.0, 11.0)
    assert leaves(wide).sum() == sum(range(12)) + 11


def test_the_exponent_of_weights_rises_to_1_over_the_training(small_agent, trained):
    agent = small_agent("dqn", replay="prioritized", priority_weight=0.4)
    buffer = trained(agent).buffer
    for progress, exponent in ((0.0, 0.4), (0.5, 0.7), (1.0, 1.0)):
        agent.progress = progress
        (batch,) = agent.sample(buffer)
        probability = leaves(buffer)[batch.row] / buffer.sampler.tree.total
        weight = (buffer.transitions * probability) ** -exponent
        np.testing.assert_allclose(batch.weight, weight / weight.max(), rtol=1e-5)


def test_an_agent_reports_the_errors_of_each_batch_before_it_draws_the_next(small_agent, trained):
    agent = trained(small_agent("dqn", replay="prioritized", priority_exponent=1.0))
    agent.q_loss = lambda batch: (
        0.0 * agent.batch_loss(batch, torch.stack([batch.reward, -2 * batch.reward]), Quantile(1))
        + agent.q(batch.obs).mean()
    )
    for batch in agent.sample(agent.buffer, 3):
        probability = leaves(agent.buffer)[batch.row] / agent.buffer.sampler.tree.total
        exponent = 0.4 + 0.6 * agent.progress
        weight = probability**-exponent
        np.testing.assert_allclose(batch.weight, weight / weight.max(), rtol=1e-5)
        metrics = agent.step(batch)
        assert metrics.keys() == {"loss", "q_grad_norm"}
        np.testing.assert_allclose(leaves(agent.buffer)[batch.row], 2 * batch.reward.abs() + 1e-6, rtol=1e-5)


def test_data_are_seen_in_another_way_without_a_copy(small_agent, trained):
    data = trained(small_agent("dqn")).buffer
    data.recorded = True
    agents = [small_agent("dqn", replay=kind) for kind in ("prioritized", "prioritized", "uniform")]
    for agent in agents:
        agent.fit(data, updates=5)
        assert agent.buffer.obs is data.obs
    assert agents[2].buffer is data
    assert type(data.sampler) is Sampler
    assert agents[0].buffer.sampler is not agents[1].buffer.sampler
    sampler = agents[0].buffer.sampler
    agents[0].fit(data, updates=5)
    assert agents[0].buffer.sampler is sampler, "it goes on with what it knows"
