"""Balanced replay: which rows come from the data, and which are new, exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bellmark.agents.core.balanced import Balanced
from bellmark.agents.core.batch import Step
from bellmark.agents.core.errors import InvalidCheckpoint
from checks import batch_of
from helpers import build, filled_buffer, spec_of

NEW = 100.0
"""Reward of new rows; those of the data are far smaller."""


def went_on(steps, columns=2, room=100, count=200):
    """A buffer with 200 recorded transitions, and some steps of two environments after them."""
    data = filled_buffer(spec_of(False), count).view(Balanced())
    buffer = data.spread(room, columns)
    rng = np.random.default_rng(0)
    obs = np.zeros((columns, 3), np.float32)
    buffer.begin(obs)
    done = np.zeros(columns, bool)
    for _ in range(steps):
        valid = ~done
        done = valid & (rng.random(columns) < 0.2)
        reward = np.full(columns, NEW, np.float32)
        buffer.add(np.zeros((columns, 2), np.float32), Step(obs, reward, done, done & False, valid, obs))
    return buffer


def is_new(batch):
    return (batch.reward == NEW).tolist()


@pytest.mark.parametrize("steps", [2, 20, 99])
def test_every_other_row_is_new(steps):
    buffer = went_on(steps)
    batch = buffer.sample(1000, 0.99)
    assert is_new(batch) == [False, True] * 500
    assert buffer.valid.view(-1)[batch.row].all()
    for part in batch.split(125):
        assert sum(is_new(part)) == 4
    assert sum(is_new(buffer.sample(7, 0.99))) == 3, "an odd row is of the data"


def test_each_half_is_uniform():
    buffer = went_on(40)
    row = buffer.sample(200_000, 0.99).row
    for half, new in ((row[::2], False), (row[1::2], True)):
        valid = buffer.valid_index()
        wanted = valid[(buffer.reward.view(-1)[valid] == NEW) == new]
        found, counts = half.unique(return_counts=True)
        assert found.tolist() == sorted(wanted.tolist())
        np.testing.assert_allclose(counts / 100_000, 1 / len(wanted), atol=6 * (len(wanted) * 100_000) ** -0.5)


def test_data_alone_and_new_rows_alone_are_uniform():
    data = filled_buffer(spec_of(False)).view(Balanced())
    assert not any(is_new(data.sample(100, 0.99)))
    assert not any(is_new(went_on(0).sample(100, 0.99)))
    agent = build("rlpd", False)
    buffer = agent.make_buffer(1)
    assert isinstance(buffer.sampler, Balanced)
    buffer.begin(np.zeros((1, 3), np.float32))
    flag = np.zeros(1, bool)
    step = Step(
        np.zeros((1, 3), np.float32), np.full(1, NEW, np.float32), flag, flag, ~flag, np.zeros((1, 3), np.float32)
    )
    buffer.add(np.zeros((1, 2), np.float32), step)
    assert all(is_new(buffer.sample(10, 0.99)))


@pytest.mark.parametrize("steps", [110, 130, 190])
def test_data_that_the_ring_overwrites_are_drawn_no_more(steps):
    buffer = went_on(steps)
    batch = buffer.sample(400, 0.99)
    assert is_new(batch) == [False, True] * 200
    assert buffer.valid.view(-1)[batch.row].all()


def test_without_data_left_it_is_uniform():
    buffer = went_on(250)
    assert buffer.written == buffer.rows < 250
    assert all(is_new(buffer.sample(100, 0.99)))
    assert buffer.sampler.first == 0


def test_the_boundary_is_saved():
    buffer, other = went_on(20), went_on(0)
    other.load_state(*buffer.state())
    torch.manual_seed(0)
    row = buffer.sample(50, 0.99).row
    torch.manual_seed(0)
    assert torch.equal(other.sample(50, 0.99).row, row)
    tensors, values = buffer.state()
    for bad in (-1, 10**6):
        with pytest.raises(InvalidCheckpoint, match="data end in row"):
            other.load_state(tensors | {"first": torch.tensor(bad)}, values)


@pytest.mark.parametrize(("share", "target"), [(1.0, 10.207), (0.0, 9.91)])
def test_rlpd_may_leave_the_entropy_out_of_its_target(share, target):
    agent = build("rlpd", False, critics=2, temperature=0.2, entropy_in_target=share)
    batch = batch_of()
    found = agent.backup(batch, torch.tensor([[9.0]]), torch.tensor([-1.5]))
    np.testing.assert_allclose(found.item(), target, rtol=1e-6)


def test_rlpd_is_redq_with_its_settings():
    settings = {"layer_norm": True, "target_entropy": -0.5}
    assert build("rlpd", False).config.critics == 10
    one, other = build("rlpd", False), build("redq", False, **settings)
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))
    assert one.target_entropy == other.target_entropy == -1.0


def test_new_rows_that_are_no_transitions_leave_the_draw_to_the_data():
    """As where the first steps were skipped, since something was not finite."""
    buffer = went_on(0)
    flag, obs = np.zeros(2, bool), np.zeros((2, 3), np.float32)
    buffer.add(np.zeros((2, 2), np.float32), Step(obs, np.full(2, NEW, np.float32), flag, flag, flag, obs))
    row = buffer.sample(100, 0.99).row
    assert len(row) == 100 and buffer.valid.view(-1)[row].all()
