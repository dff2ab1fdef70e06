"""How much work an update is, in figures that do not depend on the machine: operators, new memory, looks at the device.

Time is measured by `bellmark bench`; this is what a test can hold on to.
"""

from __future__ import annotations

import pytest
import torch
from bellmark.agents.core.batch import Batch
from bellmark.agents.core.registry import find_agents
from bellmark.agents.core.replay import ReplayAgent
from bellmark.scripts.bench.floor import Operators
from helpers import build, cases_where, every_case, filled_buffer, has_replay, remembers, spec_of, stream

UPDATES = 4
"""An even number, since some networks are updated every second time."""

MOST_OPERATORS = {
    ("dqn", True): 75,
    ("iql", False): 226,
    ("npg", False): 640,
    ("npg", True): 510,
    ("ppo", False): 170,
    ("ppo", True): 158,
    ("sac", False): 243,
    ("td3", False): 99,
    ("td3_bc", False): 106,
    ("ddpg", False): 130,
    ("tqc", False): 257,
    ("redq", False): 172,
    ("droq", False): 199,
    ("crossq", False): 327,
    ("trpo", False): 750,
    ("trpo", True): 540,
}
"""Per update; lower one when you make it so. An agent that is not listed may call MOST."""
MOST = 500
SAMPLING = 17
"""Operators of a draw and its gather."""


def work(agent, batches) -> Operators:
    for _ in range(2):
        agent.step(next(batches))
    ready = [next(batches) for _ in range(UPDATES)]
    with Operators() as operators:
        for batch in ready:
            agent.step(batch)
    return operators


@every_case
def test_operators_per_update(name, discrete):
    agent = build(name, discrete, target_every=1_000_000)
    found = work(agent, stream(agent)).counts
    assert found.total() / UPDATES <= MOST_OPERATORS.get((name, discrete), MOST), found


@every_case
def test_an_update_never_waits_for_the_device(name, discrete):
    agent = build(name, discrete)
    counts = work(agent, stream(agent)).counts
    assert counts["_local_scalar_dense"] == 0, "a tensor became a Python number"
    assert counts["nonzero"] == 0, "the shape of a result depends on values"


@cases_where(lambda name: not remembers(name))
def test_an_update_needs_memory_for_its_activations_alone(name, discrete):
    """Twice the batch takes at most twice the memory."""
    small, large = (
        work(agent := build(name, discrete, batch_size=size, rollout_length=128), stream(agent)).allocated
        for size in (32, 64)
    )
    assert small < large <= 2 * small


def draws_uniformly(name):
    return (
        has_replay(name)
        and find_agents()[name].sample is ReplayAgent.sample
        and find_agents()[name].config.replay == "uniform"
    )


@cases_where(draws_uniformly)
@pytest.mark.parametrize("count", [1, 20])
def test_batches_of_a_round_come_from_one_gather(name, discrete, count):
    agent, buffer = build(name, discrete, normalize_obs=False), filled_buffer(spec_of(discrete))
    agent.updates = 1
    with Operators() as operators:
        batches = list(agent.sample(buffer, count))
    assert len(batches) == count
    assert operators.counts.total() <= SAMPLING + len(Batch._fields), "cutting it up adds one operator a field"
    assert operators.counts["index_select"] == 5
    assert 1 <= operators.counts["randint"] <= 2, "rounds of candidates"
    assert operators.counts["index"] == 0, "several times as slow"


def test_a_look_at_a_value_is_counted():
    with Operators() as operators:
        torch.ones(3).sum().item()
    assert operators.counts["_local_scalar_dense"] == 1
    assert operators.allocated >= 12
