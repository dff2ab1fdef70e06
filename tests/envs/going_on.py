"""Games that go on from a state in another environment, for the tests of Atari and of MinAtar."""

from __future__ import annotations

import json

import numpy as np
from bellmark.agents.core.checkpoint import flatten, unflatten


def play(env, steps, seed):
    rng = np.random.default_rng(seed)
    return [env.step(rng.integers(env.spec.actions, size=env.num_envs)) for _ in range(steps)]


def through_a_file(state):
    tensors = {}
    return unflatten(json.loads(json.dumps(flatten(state, "env", tensors))), tensors)


def assert_goes_on(env, fresh, before, after):
    """`fresh` goes on bit for bit from the state of `env` after `before` steps. Gives the `after` steps from there."""
    env.reset(3)
    current = play(env, before, 0)[-1].obs
    assert env.obstacle() == ""
    state = through_a_file(env.state())
    then = play(env, after, 1)
    np.testing.assert_array_equal(fresh.load_state(state), current)
    for step, same in zip(then, play(fresh, after, 1), strict=True):
        for field, other in zip(step, same, strict=True):
            np.testing.assert_array_equal(field, other)
    assert fresh.pop_episodes() == env.pop_episodes()
    return then
