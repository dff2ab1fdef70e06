"""One seed gives one run, bit for bit, and looking at a run does not change it."""

from __future__ import annotations

import bellmark
import numpy as np
import torch
from bellmark.agents.core.registry import agent_class
from bellmark.envs import evaluate, make
from helpers import ENVS, build, cases_where, every_online_case, filled_buffer, is_offline, same, small, spec_of

STEPS = 160


class Evaluate:
    """A hook that evaluates on an environment of its own."""

    every = 70

    def __init__(self, env_id):
        self.env, self.returns = make(env_id, 2), []

    def __call__(self, status):
        for deterministic in (True, False):
            self.returns.append(evaluate(status.agent, self.env, 2, 7, deterministic).returns.mean())


def trained(name, discrete, seed, hooks=(), **settings):
    kind = agent_class(name)
    ratio = min(getattr(kind.config, "update_ratio", 1.0), 2.0)
    agent = bellmark.make(name, ENVS[discrete], seed=seed, num_envs=2, **small(kind, update_ratio=ratio, **settings))
    agent.learn(STEPS, hooks=hooks)
    assert STEPS <= agent.steps <= STEPS + 2
    assert agent.updates > 15
    return agent


@every_online_case
def test_a_seed_decides_the_run_and_evaluation_changes_nothing(name, discrete):
    numpy_before = np.random.get_state()  # noqa: NPY002
    first = trained(name, discrete, seed=5)
    numpy_after = np.random.get_state()  # noqa: NPY002
    assert numpy_before[0] == numpy_after[0]
    np.testing.assert_array_equal(numpy_before[1], numpy_after[1])
    random_state = torch.get_rng_state()
    hook = Evaluate(ENVS[discrete])
    again = trained(name, discrete, seed=5, hooks=[hook])
    assert len(hook.returns) == 2 * (STEPS // hook.every)
    assert np.isfinite(hook.returns).all()
    assert same(first.state(), again.state())
    assert torch.equal(random_state, torch.get_rng_state())
    rows, other_rows = first.buffer.state(), again.buffer.state()
    assert same(rows[0], other_rows[0])
    assert rows[1] == other_rows[1]
    other = trained(name, discrete, seed=6)
    weights, theirs = ({k: v for k, v in agent.named_parameters() if v.ndim >= 2} for agent in (first, other))
    assert weights and not [k for k, v in weights.items() if torch.equal(v, theirs[k])]


@cases_where(is_offline)
def test_the_seed_decides_what_is_learnt_from_data(name, discrete):
    states = []
    for seed in (1, 1, 2):
        agent = build(name, discrete, seed=seed)
        agent.fit(filled_buffer(spec_of(discrete)), updates=30)
        assert agent.updates == 30
        states.append(agent.state())
    assert same(states[0], states[1])
    assert not same(states[0], states[2])


@every_online_case
def test_environments_of_one_seed_are_not_alike(name, discrete):
    agent = bellmark.make(name, ENVS[discrete], seed=5, num_envs=3, **small(agent_class(name)))
    agent.learn(3)
    first = agent.buffer.obs[0]
    assert len(first.unique(dim=0)) == 3
