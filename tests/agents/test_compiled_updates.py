"""An update as one compiled graph is the update: the same metrics, parameters, moments and random numbers.

Traced as a whole (`aot_eager`), for every agent; with generated code for one, which is what `--compile` runs.
"""

from __future__ import annotations

import copy

import pytest
import torch
from helpers import build, every_case, one_batch


def both_ways(agent, batch, updates, backend):
    """The agent and a copy of it after so many updates, the copy's compiled; metrics of each update are compared."""
    other = copy.deepcopy(agent)
    other.compile_updates(backend)
    for update in range(updates):
        metrics = []
        for learner in (agent, other):
            torch.manual_seed(update)
            metrics.append({k: float(v) for k, v in learner.step(batch).items()} | {"next": torch.rand(()).item()})
        assert metrics[0] == pytest.approx(metrics[1], rel=1e-3, abs=1e-5)
    return agent.state(), other.state()


def assert_close(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.allclose(value, other[name], rtol=1e-3, atol=1e-5), name


@every_case
def test_traced_is_eager(name, discrete):
    agent = build(name, discrete, schedule="linear", max_grad_norm=0.5)
    agent.progress = 0.25
    assert_close(*both_ways(agent, one_batch(agent), 3, "aot_eager"))


def test_generated_is_eager():
    agent = build("dqn", True, target_every=2, update_ratio=1.0)
    before = {name: value.clone() for name, value in agent.state().items()}
    one, other = both_ways(agent, one_batch(agent), 4, "inductor")
    assert_close(one, other)
    assert not torch.equal(other["net.q.last.0.weight"], before["net.q.last.0.weight"])
