"""Sequences of a recurrent agent against stepping one by one, with episodes that begin in the middle."""

from __future__ import annotations

import bellmark
import gymnasium
import numpy as np
import pytest
import torch
from bellmark.agents.core.recurrence import Recurrence
from bellmark.envs import evaluate, make
from bellmark.envs.probes import TruncatedForever
from bellmark.envs.vector import VectorEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from helpers import build, seen, stream

CELLS = pytest.mark.parametrize("cell", ["lstm", "gru"])


@CELLS
def test_sequences_are_single_steps(cell):
    torch.manual_seed(0)
    layer, x, state = Recurrence(3, 5, cell), torch.randn(9, 4, 3), torch.randn(4, 10 if cell == "lstm" else 5)
    start = torch.zeros(9, 4, dtype=torch.bool)
    start[0, 1] = start[3, 0] = start[3, 2] = start[4, 2] = start[8, 3] = True
    output, after = layer(x, state, start, (3, 4, 8))
    for column in range(4):
        alone = state[column : column + 1]
        for t in range(9):
            if start[t, column]:
                alone = torch.zeros_like(alone)
            y, alone = layer(x[t : t + 1, column : column + 1], alone, torch.zeros(1, 1, dtype=torch.bool), ())
            torch.testing.assert_close(output[t, column], y[0, 0], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(after[column], alone[0], atol=1e-6, rtol=1e-5)
    reset, _ = layer(x[3:], torch.zeros_like(state), torch.zeros_like(start[3:]), ())
    torch.testing.assert_close(output[3, 0], reset[0, 0], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(output[3, 1], reset[0, 1], atol=1e-3), "the others go on"


def small_agent(env, **settings):
    """Five rows or more a rollout, each environment a batch of its own, two passes."""
    small = {"rollout_length": 11, "memory_size": 6, "hidden": (8,), "epochs": 2, "batch_size": 11}
    return bellmark.make("recurrent_ppo", env, seed=1, **small | settings)


def watch(agent):
    """Fills lists: what the policy thought while acting, `(log_prob, value)` of each step; its rollouts."""
    acted, rollouts, act, remembered = [], [], agent._act, agent.remembered

    def watched_act(obs, state, start, explore):
        action, after = act(obs, state, start, explore)
        with torch.no_grad():
            features, _ = agent.actor_critic.step(seen(agent, obs), state, torch.as_tensor(start))
            log_prob = agent.actor_critic.actor(features).log_prob(torch.as_tensor(action))
            acted.append(torch.stack([log_prob, agent.actor_critic.critic(features)]))
        return action, after

    def watched_remembered(rollout):
        found = remembered(rollout)
        rollouts.append((type(rollout)(*(field.clone() for field in rollout)), found, torch.stack(acted)))
        acted.clear()
        return found

    agent._act, agent.remembered = watched_act, watched_remembered
    return rollouts


def uneven(mode, discrete):
    """Three environments whose episodes last 3, 4 and 7 steps; nothing but the memory tells the steps apart."""
    makers = [lambda n=n: TruncatedForever(not discrete, n) for n in (3, 4, 7)]
    return VectorEnv(SyncVectorEnv(makers, autoreset_mode=mode), "uneven", "sync", {})


@CELLS
@pytest.mark.parametrize("discrete", [True, False])
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_a_rollout_is_what_the_policy_thought_when_it_acted(cell, discrete, mode):
    """Log-probabilities and values of every transition: within episodes, after resets, and across rollouts."""
    agent = small_agent(uneven(mode, discrete), memory=cell)
    rollouts = watch(agent)
    agent.learn(120)
    assert len(rollouts) >= 3
    for rollout, (rows, start, cuts), acted in rollouts:
        assert (start.any(1) & ~start.all(1)).any(), "episodes begin at different times"
        assert set(start.any(1).nonzero().flatten().tolist()) == set(cuts)
        for column in range(3):
            valid = rollout.valid[:, column]
            kept = valid if mode is AutoresetMode.NEXT_STEP else slice(None)  # with it, reset rows are acted on too
            thought = acted[: len(valid) if mode is AutoresetMode.NEXT_STEP else None, :, column][kept]
            found = torch.stack([rows.log_prob[valid, column], rows.value[valid, column]], 1)
            torch.testing.assert_close(found, thought, atol=1e-5, rtol=1e-4)
            assert found[:, 1].unique().numel() > 2, "the memory tells steps apart"


@pytest.mark.parametrize("discrete", [True, False])
def test_ratio_is_one_before_the_first_step(discrete):
    agent = build("recurrent_ppo", discrete, epochs=1, batch_size=10_000, memory_size=8)
    batches = stream(agent)
    for _ in range(3):
        batch = next(batches)
        with torch.no_grad():
            law, output = agent.evaluate(batch)
        torch.testing.assert_close(law.log_prob(batch.action), batch.log_prob, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(output.squeeze(1), batch.value, atol=1e-5, rtol=1e-5)
        agent.step(batch)


def test_a_pass_takes_every_environment_once():
    agent = small_agent(uneven(AutoresetMode.NEXT_STEP, True))
    rollouts, batches = watch(agent), []
    agent.step = lambda batch, step=agent.step: (batches.append(batch), step(batch))[1]
    agent.learn(40)
    rollout = rollouts[0][0]
    counts = sorted(rollout.valid.sum(0).tolist())
    assert sorted(len(batch.action) for batch in batches[:3]) == counts
    assert all(batch.obs.shape[:2] == (11, 1) for batch in batches[:6])
    assert sum(counts) == sum(len(batch.rows) for batch in batches[3:6])


def test_predict_follows_the_convention_and_evaluate_remembers():
    env = uneven(AutoresetMode.NEXT_STEP, False)
    agent = small_agent(env)
    agent.learn(60)
    obs, start, state, actions = np.ones((2, 1), np.float32), np.ones(2, bool), None, []
    for t in range(6):
        start = np.array([t == 0, t in (0, 3)])
        action, state = agent.predict(obs, state, start, deterministic=True)
        actions.append(action[:, 0])
    actions = np.array(actions)
    assert state[0].shape == (2, 12)
    np.testing.assert_allclose(actions[3:, 1], actions[:3, 1], atol=1e-6)
    np.testing.assert_allclose(actions[:3, 0], actions[:3, 1], atol=1e-6)
    assert np.unique(actions[:, 0]).size == 6, "one environment's memory goes on"
    single, after = agent.predict(obs[0], deterministic=True)
    np.testing.assert_allclose(single, actions[0, :1], atol=1e-6)
    assert after[0].shape == (1, 12)

    given, act = [], agent._act
    agent._act = lambda obs, state, start, explore: (given.append((state, start)), act(obs, state, start, explore))[1]
    before = agent.state_now.clone()
    evaluate(agent, make(lambda: TruncatedForever(True, 4)), 3, seed=0)
    assert [bool(start[0]) for _, start in given[:11]] == [True] + 4 * [False] + [True] + 4 * [False] + [True]
    assert given[1][0].abs().sum() > 0
    assert torch.equal(agent.state_now, before), "evaluation leaves training alone"


class Recall(gymnasium.Env):
    """The first observation is -1 or 1, the second 0: there its sign must be named for a reward of 1, else -1."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.sign, self.second = int(self.np_random.integers(2)), False
        return np.full(1, 2.0 * self.sign - 1.0, np.float32), {}

    def step(self, action):
        if not self.second:
            self.second = True
            return np.zeros(1, np.float32), 0.0, False, False, {}
        return np.zeros(1, np.float32), 2.0 * (action == self.sign) - 1.0, True, False, {}


@CELLS
def test_it_learns_what_only_memory_can(cell):
    settings = {"rollout_length": 48, "batch_size": 96, "epochs": 6, "learning_rate": 5e-3, "gamma": 0.9}
    agent = small_agent(make(Recall, 4), memory=cell, **settings | {"memory_size": 16, "hidden": (16,)})
    agent.learn(4000)
    assert evaluate(agent, make(Recall), 40, seed=1).returns.mean() > 0.9
