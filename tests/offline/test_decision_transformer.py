"""The Decision Transformer: no look ahead, the windows and targets of the card, and a memorised set of episodes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bellmark.agents.core.errors import InvalidData, InvalidSetting
from bellmark.agents.core.policies import Categorical
from bellmark.envs import evaluate, make
from helpers import build, filled_buffer, one_batch, spec_of
from recorded import episodes_of

NAME = "decision_transformer"


def numbers(guess):
    return guess.log_probs if isinstance(guess, Categorical) else guess


@pytest.mark.parametrize("discrete", [True, False])
def test_nothing_of_the_future_is_seen(discrete):
    """The guess of step t changes with R_t, s_t and everything before, with a_{t-1}, and with nothing else."""
    agent = build(NAME, discrete, context=6, hidden=(16, 16))
    batch = one_batch(agent)
    with torch.no_grad():
        for p in agent.actor.parameters():  # far from the start, where everything is nearly zero
            p.add_(0.3 * torch.randn_like(p))
    fields = [batch.return_to_go, batch.obs, batch.action, batch.time]
    before = numbers(agent.actor(*fields))
    for field, first_seen in ((0, 3), (1, 3), (2, 4), (3, 3)):
        changed = [values.clone() for values in fields]
        changed[field][:, 3] = 1 - changed[field][:, 3] if field == 2 else changed[field][:, 3] + 5
        moved = (numbers(agent.actor(*changed)) - before).abs().amax((0, 2))
        assert (moved[:first_seen] == 0).all()
        assert (moved[first_seen:] > 1e-4).all()


def test_windows_of_the_card():
    """Rewards 1, 2, 3 at scale 1000; from step 1 of three there are two steps, then none."""
    data = episodes_of((3, 2), (3, 7))
    data.reward[:2, 0] = torch.tensor([1.0, 2.0])
    agent = build(NAME, True, context=4, normalize_obs=False, batch_size=200)
    (batch,) = agent.sample(data)
    starts = {}
    for i in range(200):
        starts.setdefault(batch.obs[i, 0, 0].item() / 3, [values[i] for values in batch])
    assert sorted(starts) == [0, 1, 2, 3, 4]
    for start, lengths, to_go in ((0, [0, 1, 2], [6, 5, 3]), (1, [1, 2], [5, 3]), (4, [1], [7])):
        found = dict(zip(batch._fields, starts[start], strict=True))
        real = len(lengths)
        assert found["mask"].tolist() == [1.0] * real + [0.0] * (4 - real)
        assert found["time"][:real].tolist() == lengths
        np.testing.assert_allclose(1000 * found["return_to_go"][:real], to_go, rtol=1e-6)
        assert (found["obs"][:real, 0] / 3).tolist() == [start + step for step in range(real)]
        assert found["action"][:real].tolist() == [(start + step) % 2 for step in range(real)]
    assert agent.best_return.item() == 7.0


def test_what_is_not_real_does_not_count():
    agent = build(NAME, False, context=8, dropout=0.0)
    batch = one_batch(agent)
    assert 0 < batch.mask.sum() < batch.mask.numel()
    loss = agent.actor_loss(batch).item()
    noise = batch._replace(action=torch.where(batch.mask[..., None] > 0, batch.action, torch.tensor(1e3)))
    np.testing.assert_allclose(agent.actor_loss(noise).item(), loss, rtol=1e-6)
    guess = agent.actor(*batch[:4])
    by_hand = [(guess[b, t] - batch.action[b, t]).square().mean().item() for b, t in batch.mask.nonzero()]
    np.testing.assert_allclose(loss, np.mean(by_hand), rtol=1e-5)


def test_the_target_falls_by_each_reward():
    """Target 6 at scale 1000: .006, .005 after the reward 1, .003 after 2; a new episode begins anew."""
    agent = build(NAME, True, context=4, target_return=6.0)
    obs, state = np.zeros((2, 3), np.float32), None
    for step, reward in enumerate((1.0, 2.0, 0.0)):
        _, state = agent.act_from(obs, state, np.array([step == 0, step == 0]), explore=False)
        state = agent.credit(state, np.array([reward, 0.0]))
    np.testing.assert_allclose(1000 * state.return_to_go[:, :3], [[6, 5, 3], [6, 6, 6]], rtol=1e-5)
    _, state = agent.act_from(obs, state, np.array([False, True]), explore=False)
    np.testing.assert_allclose(1000 * state.return_to_go[0], [6, 5, 3, 3], rtol=1e-5)
    assert state.steps.tolist() == [4, 1]
    np.testing.assert_allclose(1000 * state.return_to_go[1, 0], 6, rtol=1e-5)


@pytest.mark.parametrize("discrete", [True, False])
def test_acting_reads_what_training_reads(discrete):
    """Step by step with a context of 4, and the network on the last four steps at once, over an episode of 9."""
    agent = build(NAME, discrete, context=4, target_return=9.0, return_scale=1.0, normalize_obs=False)
    rng, state, start = np.random.default_rng(0), None, np.array([True, True])
    seen, done, to_go = [], [], []
    for step in range(9):
        obs = rng.standard_normal((2, 3)).astype(np.float32)
        action, state = agent.act_from(obs, state, start, explore=False)
        seen.append(torch.as_tensor(obs))
        done.append(torch.as_tensor(action))
        to_go.append(torch.full((2,), 9.0 - 0.5 * step))
        state, start = agent.credit(state, np.array([0.5, 0.5])), np.array([False, False])
        last = slice(max(step - 3, 0), step + 1)
        time = torch.arange(step + 1)[last].expand(2, -1)
        with torch.no_grad():
            guess = numbers(agent.actor(*(torch.stack(x[last], 1) for x in (to_go, seen, done)), time))[:, -1]
        expected = guess.argmax(-1) if discrete else guess
        np.testing.assert_allclose(action, expected, atol=1e-5)


def test_a_set_of_episodes_is_memorised():
    """Two kinds of episodes whose actions only return and time tell apart: asked for either return, it does that."""
    lengths, returns = (6,) * 8, (1, 2) * 4
    data = episodes_of(lengths, returns)
    data.obs.zero_()
    row = torch.arange(6)
    pattern = {1: (row * 3 % 5) % 2, 2: (row * 7 % 4) // 2}
    assert not torch.equal(pattern[1], pattern[2])
    starts = data.valid_index().view(8, 6)
    for i, start in enumerate(starts):
        data.action[start, 0] = pattern[returns[i]]
    options = {"hidden": (32, 32), "context": 3, "return_scale": 1.0, "warm_up": 10, "batch_size": 64}
    agent = build(NAME, True, **options, learning_rate=3e-3, normalize_obs=False)
    agent.fit(data, 250)
    for wanted in (1, 2):
        agent.config = agent.config.override({"target_return": float(wanted)})
        state, actions = None, []
        for step in range(6):
            action, state = agent.act_from(np.zeros((1, 3), np.float32), state, np.array([step == 0]), explore=False)
            actions.append(int(action[0]))
        assert actions == pattern[wanted].tolist()


def test_evaluation_credits_and_remembers():
    """It agrees with acting by hand, and an agent without its memory acts differently."""
    env = make("CartPole-v1", 2)
    agent = build(NAME, True, spec=env.spec, context=5, target_return=30.0, return_scale=10.0)
    with torch.no_grad():
        for p in agent.actor.parameters():
            p.add_(0.3 * torch.randn_like(p))
    found = evaluate(agent, env, 2, seed=3)
    obs, state, sums, over = env.reset(3), None, np.zeros(2), np.zeros(2, bool)
    while not over.all():
        action, state = agent.act_from(obs, state, env.episode_start, explore=False)
        step = env.step(action)
        state, obs = agent.credit(state, step.reward), step.obs
        sums += step.reward * ~over
        over |= step.terminated
    assert found.returns.tolist() == sums.tolist()


def test_predict_keeps_its_state_and_settings_are_checked():
    agent = build(NAME, False, context=4)
    obs = np.random.default_rng(0).standard_normal((3, 3)).astype(np.float32)
    _, state = agent.predict(obs, deterministic=True)
    _, state = agent.predict(obs, state=state, episode_start=np.array([False, True, False]), deterministic=True)
    assert state.steps.tolist() == [2, 1, 2]
    with pytest.raises(InvalidSetting, match="one width for each block"):
        build(NAME, False, hidden=(16, 8))
    with pytest.raises(InvalidData, match="set longest"):
        build(NAME, False, longest=3).fit(filled_buffer(spec_of(False)), 1)


def test_warm_up_and_weight_decay():
    agent = build(NAME, False, learning_rate=1e-3, warm_up=4)
    rates = []
    for _ in range(6):
        agent.updates += 1
        rates.append(agent.learning_rate("actor"))
    np.testing.assert_allclose(rates, [0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3, 1e-3])
    assert agent._flat["actor"].optimizer.param_groups[0]["weight_decay"] == 1e-4
