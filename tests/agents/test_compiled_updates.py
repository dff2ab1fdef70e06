"""An update as one compiled graph is the update: the same metrics, parameters, moments and random numbers.

So is what acts in training: the same actions.

Traced as a whole (`aot_eager`), for every agent; with generated code for one, which is what `--compile` runs.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from bellmark.agents.core import compiled
from bellmark.agents.core.agent import Agent
from bellmark.agents.core.errors import InvalidSetting
from bellmark.agents.core.graph import Graph
from bellmark.agents.core.registry import find_agents
from helpers import build, every_case, one_batch
from torch.utils._pytree import tree_leaves


def both_ways(name, discrete, updates, backend, **settings):
    """Two agents of one seed after so many updates, one's compiled; the metrics of each update are compared."""
    agent, other = (build(name, discrete, **settings) for _ in range(2))
    agent.progress = other.progress = 0.25
    torch.manual_seed(0)
    batch = one_batch(agent)
    torch.manual_seed(0)
    fields, others = ([x for x in tree_leaves(y) if torch.is_tensor(x)] for y in (batch, one_batch(other)))
    assert all(map(torch.equal, fields, others))
    other.compile_updates(backend)
    obs = np.random.default_rng(0).random((2, *agent.spec.obs_shape), np.float32)
    for update in range(updates):
        metrics = []
        for learner in (agent, other):
            torch.manual_seed(update)
            learner.steps = 10 + update
            metrics.append({k: float(v) for k, v in learner.step(batch).items()} | {"next": torch.rand(()).item()})
        assert metrics[0] == pytest.approx(metrics[1], rel=1e-3, abs=1e-5)
        actions = []
        for learner in (agent, other):
            torch.manual_seed(update)
            actions.append(learner.explore(obs))
        assert actions[0] == pytest.approx(actions[1], rel=1e-3, abs=1e-5)
    assert len(other._compiled.run_update.ready) <= 2, "one with, one without what is due only now and then"
    if type(agent).act is not Agent.act:
        (how,) = other._compiled.methods.values()
        assert isinstance(how, Graph)
    return agent.state(), other.state()


def assert_close(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.allclose(value, other[name], rtol=1e-3, atol=1e-5), name


@every_case
def test_traced_is_eager(name, discrete):
    if find_agents()[name].uncompiled:
        with pytest.raises(InvalidSetting, match="cannot be compiled"):
            build(name, discrete).compile_updates()
        return
    assert_close(*both_ways(name, discrete, 3, "aot_eager", schedule="linear", max_grad_norm=0.5))


def test_generated_is_eager():
    one, other = both_ways("dqn", True, 4, "inductor", target_every=2, update_ratio=1.0)
    assert_close(one, other)
    assert not torch.equal(other["net.q.last.0.weight"], build("dqn", True).state()["net.q.last.0.weight"])


def test_a_compiled_agent_takes_over_a_state():
    compiled, plain = (build("sac", False, normalize_obs=True) for _ in range(2))
    compiled.compile_updates()
    batch, obs = one_batch(plain), np.ones((2, *plain.spec.obs_shape), np.float32)
    for update in range(5):
        torch.manual_seed(update)
        compiled.step(batch)
        compiled.explore(obs)
    for _ in range(3):
        plain.step(batch)
    plain.obs_normalizer.update(torch.randn(50, *plain.spec.obs_shape))
    compiled.load_state(plain.state(), plain.counters())
    for update in range(2):
        actions, metrics = [], []
        for learner in (compiled, plain):
            torch.manual_seed(update)
            actions.append(learner.explore(obs))
            metrics.append({k: float(v) for k, v in learner.step(batch).items()})
        assert actions[0] == pytest.approx(actions[1], rel=1e-3, abs=1e-5)
        assert metrics[0] == pytest.approx(metrics[1], rel=1e-3, abs=1e-5)
    assert_close(compiled.state(), plain.state())


def test_the_first_environment_step_does_not_wait_for_the_compiler():
    agent, plain = build("ppo", True), build("ppo", True)
    agent.compile_updates()
    obs, actions = np.ones((2, *agent.spec.obs_shape), np.float32), []
    for learner in (agent, plain):
        torch.manual_seed(0)
        actions.append(learner.explore(obs))
    assert not agent._compiled.methods and (actions[0] == actions[1]).all()


COLD = """
import sys, bellmark
agent = bellmark.make("ppo", "CartPole-v1")
agent.compile_updates()
agent.explore(agent.env.reset(0))
print(*(name for name in ("torch._dynamo", "torch._inductor") if name in sys.modules))
"""


def test_no_agent_imports_the_compiler_before_its_first_update():
    done = subprocess.run([sys.executable, "-c", COLD], capture_output=True, check=True, text=True)
    assert not done.stdout.split()


def test_an_older_pytorch_is_refused_at_once(monkeypatch):
    monkeypatch.setattr(compiled, "version", lambda: (2, 12))
    with pytest.raises(InvalidSetting, match=r"compiled updates need torch 2\.13 or newer, not .*: leave out compile"):
        build("dqn", True).compile_updates()
