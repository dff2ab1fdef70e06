"""Bad input to agents gets an error that names the remedy, and leaves the agent as it was."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from itertools import pairwise

import bellmark
import numpy as np
import pytest
import torch
from bellmark.agents.core.errors import BellmarkError, InvalidSetting, NotFinite, UnknownName, UnsupportedSpace
from bellmark.agents.core.registry import agent_class, find_agents
from bellmark.agents.core.spec import Spec
from bellmark.envs import make
from helpers import (
    CASES,
    ENVS,
    build,
    cases_where,
    every_case,
    every_online_case,
    filled_buffer,
    goes_online,
    has,
    has_replay,
    same,
    small,
    spec_of,
    specs_for,
    supports,
)

NAMES = sorted(find_agents())
every_name = pytest.mark.parametrize("name", NAMES)


def test_the_registry():
    assert bellmark.list_agents() == NAMES
    assert {"ppo", "dqn", "td3", "sac", "iql", "td3_bc"} <= set(NAMES)
    assert {name for name, _ in CASES} == set(NAMES), "an agent that fits no space"
    assert all(kind.name == name for name, kind in find_agents().items())


@every_name
def test_unknown_agent(name):
    with pytest.raises(UnknownName, match=f"there is no agent '{name}x'; did you mean .*{name}"):
        bellmark.make(f"{name}x", "CartPole-v1")


def test_an_agent_with_no_near_name():
    with pytest.raises(UnknownName, match=r"known: .*ppo"):
        bellmark.make("zzzzzzzz", "CartPole-v1")


def test_environments_are_taken_as_they_are():
    with make("CartPole-v1", 3) as env:
        assert bellmark.make("ppo", env).env is bellmark.make("ppo", env, num_envs=3).env is env
        with pytest.raises(InvalidSetting, match=r"num_envs is 8, .* 3 environments .* leave num_envs out"):
            bellmark.make("ppo", env, num_envs=8)


@every_name
def test_unknown_setting(name):
    kind = find_agents()[name]
    with pytest.raises(UnknownName, match=r"there is no setting 'learning_rte'; did you mean .*learning_rate"):
        kind.config.override({"learning_rte": 1e-3})
    with pytest.raises(UnknownName, match="batch_size"):
        bellmark.make(name, ENVS[next(iter(specs_for(name)))], batchsize=3)


@every_name
@pytest.mark.parametrize(
    ("setting", "value"),
    [("gamma", 1.5), ("batch_size", 0), ("batch_size", 2.5), ("learning_rate", "fast"), ("hidden", (0,))],
)
def test_bad_setting(name, setting, value):
    with pytest.raises(InvalidSetting, match=setting):
        find_agents()[name].config.override({setting: value})


@every_name
def test_settings_are_documented_and_survive_json(name):
    kind = find_agents()[name]
    config = kind.config
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config
    documented = set()
    for owner in type(config).__mro__[:-1]:
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0].body
        for field, text in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                documented.add(field.target.id)
    assert set(config.to_dict()) <= documented
    assert len(inspect.getdoc(kind) or "") > 100, "an agent states its equations"


@every_name
def test_unsupported_space(name):
    """Discrete or continuous, whichever the agent does not take, is refused with a way out."""
    for discrete in (True, False):
        if discrete in specs_for(name):
            assert supports(name, spec_of(discrete))
            continue
        kind = find_agents()[name]
        with pytest.raises(UnsupportedSpace, match=f"'{name}' needs (discrete|continuous) actions"):
            bellmark.make(name, ENVS[discrete], **small(kind))


@every_name
def test_unbounded_actions_are_refused(name):
    from gymnasium.spaces import Box

    with pytest.raises(UnsupportedSpace, match="finite bounds"):
        Spec.from_spaces(Box(-1, 1, (3,), np.float32), Box(-np.inf, np.inf, (2,), np.float32))


@cases_where(lambda name: not has_replay(name))
def test_fitting_an_on_policy_agent_is_refused(name, discrete):
    agent = build(name, discrete)
    before = agent.state()
    with pytest.raises(InvalidSetting, match=rf"'{name}' learns only from what its own policy has just done.* iql"):
        agent.fit(filled_buffer(spec_of(discrete)), updates=5)
    assert agent.updates == 0
    assert same(before, agent.state())


@cases_where(lambda name: not goes_online(name))
def test_going_online_is_refused(name, discrete):
    agent = bellmark.make(name, ENVS[discrete], **small(agent_class(name)))
    with pytest.raises(InvalidSetting, match=rf"'{name}' learns only from recorded data, not online.* iql"):
        agent.learn(10)
    assert agent.steps == 0
    assert agent.buffer is None


@every_case
def test_data_of_another_shape_are_refused(name, discrete):
    agent = build(name, discrete)
    with pytest.raises(BellmarkError):
        agent.fit(filled_buffer(spec_of(discrete, obs_size=4)), updates=5)
    assert agent.updates == 0


@every_online_case
def test_an_environment_of_another_shape_is_refused(name, discrete):
    agent = build(name, discrete)
    with pytest.raises(InvalidSetting, match="the agent was made for"):
        agent.learn(10, env=ENVS[discrete])
    assert agent.steps == 0
    with pytest.raises(InvalidSetting, match="no environment"):
        build(name, discrete).learn(10)


@every_case
def test_moving_an_agent_is_refused(name, discrete):
    agent = build(name, discrete)
    for move in (lambda: agent.to("cpu"), agent.double, lambda: agent.to(torch.float64), agent.half):
        with pytest.raises(InvalidSetting, match="device="):
            move()
    assert all(p.dtype == torch.float32 for p in agent.parameters())


@every_online_case
def test_a_loss_that_is_not_finite_is_reported(name, discrete):
    """With where it happened and what to do; the checkpoint of before is still there."""
    agent = bellmark.make(name, ENVS[discrete], seed=1, **small(agent_class(name)))
    agent.learn(60)
    weights = [p for p in agent.parameters() if p.requires_grad]
    with torch.no_grad():
        for p in weights:
            p.fill_(float("nan"))

    class Read:
        every = 10

        def __call__(self, status):
            status.metrics()

    with pytest.raises(NotFinite, match=r"not finite|became nan"):
        agent.learn(200, hooks=[Read()])


@every_online_case
def test_a_reward_that_is_not_finite_is_reported(name, discrete):
    class Broken(type(make(ENVS[discrete]).env.envs[0].unwrapped)):
        taken = 0

        def step(self, action):
            self.taken += 1
            obs, reward, *rest = super().step(action)
            return obs, float("nan") if self.taken == 45 else reward, *rest

    agent = bellmark.make(name, lambda: Broken(), seed=1, **small(agent_class(name)))
    with pytest.raises(NotFinite, match=r"reward of environment 0 .* at step (4[5-9]|5\d) .*mend the environment"):
        agent.learn(100)
    assert agent.steps <= 45
    assert all(torch.isfinite(p).all() for p in agent.parameters())


@every_online_case
def test_training_goes_on_with_another_number_of_environments(name, discrete):
    settings = small(agent_class(name), normalize_obs=True, normalize_reward=True)
    agent = bellmark.make(name, ENVS[discrete], seed=1, num_envs=2, **settings)
    agent.learn(60)
    done = agent.updates
    agent.learn(60, env=make(ENVS[discrete], 3))
    assert agent.steps >= 120
    assert agent.updates > done


@cases_where(lambda name: has(name, "n_step") and goes_online(name))
def test_data_first_then_online(name, discrete):
    """`fit` then `learn` on one object: the buffer starts with the data and grows."""
    env = make(ENVS[discrete], 2)
    agent = bellmark.make(name, env, seed=1, **small(agent_class(name)))
    agent.fit(filled_buffer(env.spec, 150), updates=10)
    assert (agent.updates, agent.steps) == (10, 0)
    agent.learn(40)
    assert 40 <= agent.steps <= 41, "two columns, and one of them may reset"
    assert 15 <= agent.updates <= 10 + 41 * max(agent.config.update_ratio, 1)
    assert 185 <= agent.buffer.transitions <= 191
