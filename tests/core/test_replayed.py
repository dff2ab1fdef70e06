"""Recorded code is the code: with fresh batches, other sizes, and other parameters than it was recorded with.

What a GPU would record is run here: the recording is replaced by one on the host that, as there, runs nothing when it
is made and overwrites its outputs at every start.
"""

from __future__ import annotations

import pytest
import torch
from bellmark.agents.core import graph, replayed
from bellmark.agents.core.graph import Graph
from bellmark.agents.core.registry import find_agents
from bellmark.agents.core.replayed import Replayed
from helpers import build, small, spec_of, stream
from torch import nn


@pytest.fixture
def recorded(monkeypatch):
    """How often each recording was started."""
    starts = []

    def record(generated, inputs):
        random, kept = torch.get_rng_state(), [x.clone() if torch.is_tensor(x) else x for x in inputs]
        outputs, place = generated([*inputs]), len(starts)
        torch.set_rng_state(random)
        for x, old in zip(inputs, kept, strict=True):
            if torch.is_tensor(x) and x.numel() and 0 not in x.stride():
                x.copy_(old)
        starts.append(0)

        def start():
            starts[place] += 1
            for x, new in zip(outputs, generated([*inputs]), strict=True):
                if torch.is_tensor(x):
                    x.copy_(new)

        return start, outputs

    monkeypatch.setattr(replayed, "record", record)
    monkeypatch.setattr(graph, "recordable", lambda given: True)
    return starts


def add_to(given):
    """The first input grows by the second, scaled by the third, a number: an update of a parameter by a batch."""
    parameter, batch, scale = given
    given.clear()  # as generated code does
    parameter.add_(batch.sum() * scale)
    return [parameter * 1.0, None, parameter]


def test_fresh_batches_are_read_and_parameters_written(recorded):
    code, parameter, total, found = Replayed(add_to, [0]), torch.zeros(()), 0.0, []
    for i in range(6):
        value, nothing, same = code([parameter, torch.full((3,), float(i)), 2])
        total += 6.0 * i
        found.append((value, total))
        assert nothing is None and same is parameter
    assert [float(value) for value, _ in found] == [expected for _, expected in found], "outputs are the caller's own"
    assert recorded == [5]


def test_each_set_of_sizes_and_numbers_has_its_recording(recorded):
    code, parameter = Replayed(add_to, [0]), torch.zeros(())
    for size, scale in [(3, 1), (4, 1), (3, 2)] * 3:
        before = float(parameter)
        code([parameter, torch.ones(size), scale])
        assert float(parameter) == before + size * scale
    assert recorded == [2, 2, 2]


def test_it_begins_anew_with_other_parameters(recorded):
    code = Replayed(add_to, [0])
    for parameter in (torch.zeros(()), torch.zeros(())):  # as when a checkpoint is loaded
        for i in range(1, 5):
            code([parameter, torch.ones(3), 1])
            assert float(parameter) == 3.0 * i
    assert recorded == [3, 3]


def test_a_batch_that_came_twice_may_change(recorded):
    code, parameter, batch = Replayed(add_to, [0]), torch.zeros(()), torch.ones(3)
    for i, x in enumerate([batch, batch, batch, 2 * batch, 3 * batch, 4 * batch]):
        before = float(parameter)
        code([parameter, x, 1])
        assert float(parameter) == before + float(x.sum()), i
    assert recorded == [2, 2]


def test_nothing_is_recorded_while_what_is_written_to_changes(recorded):
    code = Replayed(add_to, [0])
    for _ in range(4):
        parameter = torch.zeros(())
        code([parameter, torch.ones(3), 1])
        assert float(parameter) == 3.0
    assert recorded == []


def test_expanded_inputs_keep_their_strides(recorded):
    seen = []

    def code(given):
        seen.append((given[0].stride(), given[1].stride()))
        return [given[0] + given[1]]

    replay = Replayed(code, [])
    for i in range(1, 5):
        (sum_,) = replay([torch.full((1,), float(i)).expand(4, 2), torch.arange(8.0).view(2, 4).T])
        assert torch.equal(sum_, i + torch.arange(8.0).view(2, 4).T)
    assert set(seen) == {((0, 0), (1, 4))} and recorded == [3]


def test_tensors_on_the_host_are_not_recorded():
    assert not replayed.recordable([torch.zeros(1), 3]) and replayed.recordable([3])


class Growing:
    """A parameter, and what an update would do to it."""

    def __init__(self):
        self.weight = nn.Parameter(torch.zeros(3), requires_grad=False)

    def update(self, batch):
        self.weight.detach().add_(batch.sum(0) + torch.rand(3))
        return {"weight": self.weight.detach().clone()}


def test_a_graph_is_its_method(recorded):
    owner, plain = Growing(), Growing()
    graph = Graph(owner.update, "inductor")
    for i in range(8):
        found = []
        for function in (graph, plain.update):
            torch.manual_seed(i)
            found.append(function(torch.full((4, 3), float(i))))
        torch.testing.assert_close(*found)
    torch.testing.assert_close(owner.weight, plain.weight)
    assert recorded == [4]


@pytest.mark.parametrize(("name", "settings"), [("dqn", {"target_every": 2, "update_ratio": 1.0}), ("ppo", {})])
def test_an_agent_learns_the_same(recorded, name, settings):
    agents = [build(name, True, **settings) for _ in range(2)]
    agents[1].compile_updates()
    batches = stream(agents[0])
    for update in range(16):
        batch = next(batches)
        for agent in agents:
            torch.manual_seed(update)
            agent.step(batch)
    for one, (key, other) in zip(agents[0].state().values(), agents[1].state().items(), strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5), key
    assert sum(recorded) >= 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["td3", "sac"])
def test_on_a_gpu_an_agent_learns_the_same(name):
    kind = find_agents()[name]
    make = lambda: kind(spec_of(False), kind.config.override(small(kind)), device="cuda")  # noqa: E731
    agents, batches = [make(), make()], stream(build(name, False))
    agents[1].compile_updates()
    for update in range(16):
        batch = next(batches)
        batch = type(batch)(*(x.cuda() for x in batch))
        for agent in agents:
            torch.manual_seed(update)
            agent.step(batch)
    for one, (key, other) in zip(agents[0].state().values(), agents[1].state().items(), strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4), key
