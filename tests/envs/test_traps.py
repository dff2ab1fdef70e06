"""Traps of vector environments: what ends an episode, how columns restart, and what an update is owed for."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from bellmark import make as make_agent
from bellmark.envs import make

MODES = ["next_step", "same_step", "disabled"]


class EndsAtLimit(gymnasium.Env):
    """Terminates at its fifth step, where a TimeLimit of 5 truncates it as well."""

    observation_space = gymnasium.spaces.Box(0.0, 9.0, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, terminates: bool = True):
        self.terminates, self.time = terminates, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.time += 1
        return np.full(1, self.time, np.float32), 1.0, self.terminates and self.time == 5, False, {}


def limited(terminates=True):
    return gymnasium.wrappers.TimeLimit(EndsAtLimit(terminates), 5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("terminates", [True, False])
def test_where_both_ends_meet_the_episode_is_terminated_alone(mode, terminates):
    raw = limited(terminates)
    raw.reset()
    assert [raw.step(np.zeros(1))[2:4] for _ in range(5)][-1] == (terminates, True), "gymnasium says both"
    with make(limited, 2, autoreset=mode, terminates=terminates) as env:
        env.reset(0)
        steps = [env.step(np.zeros((2, 1), np.float32)) for _ in range(5)]
        assert not any((step.terminated | step.truncated).any() for step in steps[:-1])
        assert (steps[-1].terminated == terminates).all() and (steps[-1].truncated != terminates).all()
        assert (steps[-1].next_obs == 5.0).all(), "the final observation, whatever comes next"
        assert [(episode.reward_sum, episode.length) for episode in env.pop_episodes()] == [(5.0, 5)] * 2


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gives_the_same_transitions(mode, scripted, transitions):
    def found(autoreset):
        with make(scripted, 3, autoreset=autoreset) as env:
            return transitions(env, 5, 60, lambda obs: (obs[:, 1] % 3).astype(np.int64))

    for column, reference in zip(found(mode), found("next_step"), strict=True):
        shared = min(len(column), len(reference))
        assert shared > 30
        assert column[:shared] == reference[:shared]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("num_envs", [1, 4])
@pytest.mark.parametrize(("update_ratio", "expected"), [(1.0, 201), (0.5, 100), (3.0, 603)])
def test_updates_are_counted_per_transition(num_envs, mode, update_ratio, expected):
    """As many updates for 300 transitions, the first 99 of which came before `start`, whoever gave them."""
    with make(limited, num_envs, autoreset=mode) as env:
        agent = make_agent("td3", env, start=100, update_ratio=update_ratio, batch_size=2, hidden=(4,), buffer_size=500)
        agent.learn(300)
        assert 300 <= agent.steps < 300 + num_envs, "reset rows are no transitions"
        lead = num_envs - 1  # the step that reaches `start` owes updates for all of its transitions
        owed = agent.updates / update_ratio
        assert expected / update_ratio - 1 <= owed <= expected / update_ratio + 2 * lead
        assert agent.buffer.transitions == agent.steps


@pytest.mark.parametrize("env_id", ["HalfCheetah-v4", "HalfCheetah-v5", "Hopper-v4", "Walker2d-v5"])
def test_an_id_means_the_same_task_in_envpool(env_id):
    """From each of envpool's states, gymnasium's next observation and reward are the same but for the solver's past."""
    pytest.importorskip("envpool")
    rng = np.random.default_rng(0)
    with make(env_id, 1, backend="envpool") as pool, make(env_id, 1) as sync:
        sync.reset(0)
        single = sync.env.envs[0].unwrapped
        positions, errors = single.model.nq - 1, []
        clip = np.inf if env_id.startswith("HalfCheetah") else 10.0  # of the velocities that are observed
        obs = pool.reset(3)
        for _ in range(120):
            raw = obs[0].astype(np.float64)
            single.set_state(np.concatenate([[0.0], raw[:positions]]), raw[positions:])
            action = rng.uniform(-1, 1, (1, pool.spec.actions)).astype(np.float32)
            step = pool.step(action)
            other, reward, terminated, _, _ = single.step(pool.spec.decode_action(action)[0])
            if step.valid[0] and np.abs(raw[positions:]).max() < clip:
                errors.append(max(np.abs(other - step.next_obs[0]).max(), abs(reward - step.reward[0])))
                assert terminated == step.terminated[0]
            obs = step.obs
    assert len(errors) > 20
    assert np.median(errors) < 1e-5, max(errors)


@pytest.mark.parametrize("task", ["Ant", "Humanoid", "Swimmer", "Reacher", "InvertedDoublePendulum"])
@pytest.mark.parametrize("version", ["v4", "v5"])
def test_an_id_has_the_same_spec_in_envpool(task, version):
    pytest.importorskip("envpool")
    with make(f"{task}-{version}", backend="envpool") as pool, make(f"{task}-{version}") as sync:
        assert pool.spec == sync.spec


def test_versions_of_a_task_differ():
    """InvertedPendulum-v5 gives no reward for falling, -v4 does: v4 and v5 never share a table."""
    rewards = {}
    for env_id in ("InvertedPendulum-v4", "InvertedPendulum-v5"):
        with make(env_id, 1) as env:
            env.reset(0)
            steps = [env.step(np.ones((1, 1), np.float32)) for _ in range(30)]
            rewards[env_id] = next(float(step.reward[0]) for step in steps if step.terminated[0])
    assert rewards == {"InvertedPendulum-v4": 1.0, "InvertedPendulum-v5": 0.0}
