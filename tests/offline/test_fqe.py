"""Fitted Q-evaluation against dynamic programming on a chain, and doubly robust estimates made from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bellmark.agents.core.buffer import Buffer
from bellmark.agents.core.errors import InvalidSetting
from bellmark.agents.core.policies import Categorical
from bellmark.agents.core.spec import Spec
from bellmark.offline import evaluation
from bellmark.offline.behaviour import probabilities
from bellmark.offline.fqe import FQE
from bellmark.offline.importance import ESTIMATORS
from helpers import build

STATES, GAMMA = 5, 0.8
SETTINGS = {"gamma": GAMMA, "learning_rate": 5e-2, "hidden": (), "batch_size": 256, "target_every": 20}


def chain(discrete, steps=4000):
    """Five states in a row; the right action (1, or a positive number) goes on, the other stays; the end pays 1."""
    rng, state, states = np.random.default_rng(0), 0, []
    right = rng.random(steps) < 0.5
    for goes_on in right:
        states.append(state)
        state = (state + goes_on) % STATES
    ended = right & (np.array(states) == STATES - 1)
    after = np.where(ended, STATES, np.array(states) + right)
    one_hot = np.eye(STATES + 1, dtype=np.float32)[:, :STATES]
    bounds = {} if discrete else {"action_shape": (1,), "action_low": (-1.0,), "action_high": (1.0,)}
    size = rng.uniform(0.2, 1.0, steps) * np.where(right, 1.0, -1.0)
    return Buffer.from_transitions(
        Spec((STATES,), 2 if discrete else 1, discrete=discrete, **bounds),
        obs=one_hot[states],
        action=right.astype(np.int64) if discrete else size.astype(np.float32)[:, None],
        reward=ended.astype(np.float32),
        terminated=ended,
        truncated=np.zeros(steps, bool),
        next_obs=one_hot[after],
    )


def exact(chance):
    """Values, by dynamic programming, of going right with that chance."""
    values = np.zeros(STATES)
    for _ in range(300):
        values = chance * np.append(GAMMA * values[1:], 1.0) + (1.0 - chance) * GAMMA * values
    return values


class Leaning(torch.nn.Module):
    """Goes right with a chance of 0.8 in every state."""

    def forward(self, obs):
        return Categorical(torch.tensor([0.2, 0.8]).log().expand(len(obs), 2))


def judged(stochastic, spec):
    """An agent that goes right, always or with a chance of 0.8."""
    agent = build("bc" if spec.discrete else "td3", spec.discrete, spec=spec)
    if stochastic:
        agent.actor = Leaning()
    elif spec.discrete:
        agent.act = lambda obs, explore: torch.ones(len(obs), dtype=torch.int64)
    else:
        agent.act = lambda obs, explore: torch.full((len(obs), 1), 0.5)
    return agent


def fitted(data, agent, deterministic, settings=SETTINGS, updates=400):
    fqe = FQE.of(agent, deterministic=deterministic, **settings)
    torch.manual_seed(0)
    for rate in (1.0, 0.1):
        fqe.config = fqe.config.override({"learning_rate": rate * settings["learning_rate"]})
        fqe.fit(data, updates)
    return fqe


EXACT = {"stochastic": exact(0.8), "deterministic": GAMMA ** np.arange(STATES)[::-1]}


@pytest.mark.parametrize("kind", ["stochastic", "deterministic"])
def test_values_of_another_policy_than_the_datas_are_those_of_dynamic_programming(kind):
    """A linear layer on one-hot states is a table, so the regression can be exact."""
    data = chain(True)
    fqe = fitted(data, judged(kind == "stochastic", data.spec), kind == "deterministic")
    with torch.no_grad():
        found = fqe.expected(fqe.critic, torch.eye(STATES))[0]
        wrong = fqe.critic(torch.eye(STATES))[0, :, 0]
    np.testing.assert_allclose(found, EXACT[kind], atol=2e-3)
    np.testing.assert_allclose(wrong, GAMMA * EXACT[kind], atol=2e-3)
    assert fqe.initial_values(data).mean() == pytest.approx(EXACT[kind][0], abs=2e-3)


def test_values_of_continuous_actions():
    data = chain(False)
    settings = SETTINGS | {"hidden": (64,), "learning_rate": 3e-3, "critics": 2}
    fqe = fitted(data, judged(False, data.spec), True, settings, 600)
    with torch.no_grad():
        found = fqe.expected(fqe.critic, torch.eye(STATES))
    np.testing.assert_allclose(found, np.stack([EXACT["deterministic"]] * 2), atol=0.06)


def test_doubly_robust_with_fitted_values_is_exact_in_every_episode_of_a_deterministic_chain():
    data = chain(True)
    agent = judged(True, data.spec)
    fqe = fitted(data, agent, False)
    rows = evaluation.trajectories(data).rows
    log_pi = evaluation.judged_log_probs(agent, data, rows, deterministic=False)
    trials = evaluation.trials(data, np.full(len(rows), np.log(0.5)), log_pi, fqe)
    arrived = (trials.reward != 0).any(1)  # the last episode has no end
    short = trials.take(np.flatnonzero(arrived & ((trials.reward != 0).argmax(1) < 12)))  # weights grow like 1.6^t
    terms = ESTIMATORS["dr"](short, GAMMA)
    assert len(terms) > 100
    np.testing.assert_allclose(terms, EXACT["stochastic"][0], atol=0.02)
    assert ESTIMATORS["is"](short, GAMMA).std() > 5 * terms.std()


def test_a_cut_off_episode_bootstraps():
    """One state that pays 1 for ever, recorded in pieces of two steps: its value is 1 / (1 - gamma)."""
    spec = chain(True).spec
    obs = np.tile(np.eye(STATES, dtype=np.float32)[:1], (400, 1))
    data = Buffer.from_transitions(
        spec, obs=obs, action=np.arange(400) % 3 % 2, reward=np.ones(400, np.float32), next_obs=obs,
        terminated=np.zeros(400, bool), truncated=np.arange(400) % 2 == 1,
    )  # fmt: skip
    fqe = fitted(data, judged(False, spec), True, updates=800)
    assert fqe.initial_values(data).mean() == pytest.approx(1.0 / (1.0 - GAMMA), abs=0.02)
    assert evaluation.discounted_returns(data, GAMMA) == pytest.approx([1.0 + GAMMA] * 200)


def test_the_judged_agent_is_left_as_it_is_and_never_learnt():
    data = chain(False)
    agent = build("td3", False, spec=data.spec)
    before = {name: value.clone() for name, value in agent.state_dict().items()}
    fqe = FQE.of(agent, **SETTINGS).fit(data, 20)
    assert all(torch.equal(value, before[name]) for name, value in agent.state_dict().items())
    assert all(name.startswith("critic") for name in fqe.state_dict())


def test_probabilities_are_of_the_greedy_or_of_the_exploring_policy():
    agent = build("dqn", True, spec=chain(True).spec, exploration_fraction=0.0, exploration_end=0.4)
    agent.progress = 1.0
    obs = torch.eye(STATES)
    greedy = probabilities(agent, obs, True)
    assert torch.equal(greedy.argmax(1), agent.q(obs).argmax(1)) and torch.equal(greedy.amax(1), torch.ones(STATES))
    torch.testing.assert_close(probabilities(agent, obs, False), 0.6 * greedy + 0.2)


def test_agents_that_cannot_be_judged_are_refused():
    with pytest.raises(InvalidSetting, match="depends on more"):
        FQE.of(build("recurrent_ppo", True))
    with pytest.raises(InvalidSetting, match="normalize_obs"):
        FQE.of(build("td3", False), normalize_obs=True)
