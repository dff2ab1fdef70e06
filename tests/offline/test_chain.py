"""Values of a chain of five states against dynamic programming."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bellmark.agents.core.buffer import Buffer
from bellmark.agents.core.spec import Spec
from helpers import build

STATES, GAMMA = 5, 0.8


def chain(discrete, steps=4000):
    """Five states in a row; the right action goes on, the wrong one stays; the last step ends and pays 1."""
    rng = np.random.default_rng(0)
    state, rows = 0, []
    for _ in range(steps):
        right = rng.random() < 0.5
        size = rng.uniform(0.2, 1.0) * (1 if right else -1)
        after = state + right
        rows.append((state, int(right) if discrete else [size], float(after == STATES), after == STATES, after))
        state = 0 if after == STATES else after
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    one_hot = np.eye(STATES + 1, dtype=np.float32)[:, :STATES]
    spec = Spec((STATES,), 2 if discrete else 1, discrete=discrete)
    if not discrete:
        spec = Spec((STATES,), 1, discrete=False, action_shape=(1,), action_low=(-1.0,), action_high=(1.0,))
    return Buffer.from_transitions(
        spec,
        obs=one_hot[columns[0]],
        action=columns[1] if discrete else columns[1].astype(np.float32),
        reward=columns[2].astype(np.float32),
        terminated=columns[3],
        truncated=np.zeros(steps, bool),
        next_obs=one_hot[columns[4]],
    )


def values_with(combined):
    """By dynamic programming: V = combined(Q(right), Q(wrong)) until it stays, both actions being equally likely."""
    values = np.zeros(STATES)
    for _ in range(200):
        right = np.append(GAMMA * values[1:], 1.0)
        values = combined(right, GAMMA * values)
    return values


def soft(beta):
    return lambda q, p: beta * np.log(0.5 * np.exp(q / beta) + 0.5 * np.exp(p / beta))


def mean(q, p):
    return 0.5 * (q + p)


SETTINGS = {"gamma": GAMMA, "learning_rate": 3e-3, "hidden": (32,), "batch_size": 128, "tau": 0.05}


@pytest.mark.parametrize(
    ("name", "discrete", "settings", "combined"),
    [
        ("iql", False, {"expectile": 0.5}, mean),
        ("discrete_iql", True, {"expectile": 0.5}, mean),
        ("discrete_iql", True, {"expectile": 0.99}, np.maximum),
        ("xql", False, {"gumbel_temperature": 50.0}, mean),
        ("xql", False, {"gumbel_temperature": 0.2}, soft(0.2)),
    ],
)
def test_values_of_a_chain(name, discrete, settings, combined):
    """Those of the data's policy with a mean, of the best policy with a maximum, of XQL with its soft maximum."""
    data = chain(discrete)
    agent = build(name, discrete, spec=data.spec, actor_decay=False, **SETTINGS, **settings)
    for part in (1.0, 0.1):
        agent.config = agent.config.override({"learning_rate": part * SETTINGS["learning_rate"]})
        agent.fit(data, 600)
    with torch.no_grad():
        found = agent.value(torch.eye(STATES))
    np.testing.assert_allclose(found, values_with(combined), atol=0.06)
