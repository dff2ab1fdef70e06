"""Known answers through whole agents, whole updates against the equations written out, and special cases."""

from __future__ import annotations

import checks
import numpy as np
import pytest
import torch
from bellmark.agents.core.batch import Step
from bellmark.agents.core.rollouts import explained_variance
from helpers import build, one_batch, stream


def test_td3_is_its_equations():
    checks.td3_is_its_equations()
    checks.td3_is_its_equations(critics=5, actor_delay=3)


def test_ddpg_is_td3_with_its_settings():
    checks.ddpg_is_td3_with_its_settings()


def test_td3_known_answers():
    checks.td3_target_is_right()
    checks.td3_smoothing_is_right()


def test_td3_target_after_three_actor_steps():
    agent = build("td3", False, learning_rate=0.0)
    with torch.no_grad():
        for child, value in (("critic", 2.0), ("critic_target", 1.0), ("actor", 2.0), ("actor_target", 1.0)):
            for p in agent.get_submodule(child).parameters():
                p.fill_(value)
    batches = stream(agent)
    for _ in range(6):
        agent.step(next(batches))
    for child in ("critic_target", "actor_target"):
        for p in agent.get_submodule(child).parameters():
            torch.testing.assert_close(p, torch.full_like(p, 1.014925125))


def test_td3_actor_loss_reads_the_first_critic():
    agent = build("td3", False)
    checks.plant(agent.critic, [[4.0], [-9.0]])
    assert agent.actor_loss(checks.batch_of()).item() == -4.0
    checks.plant(agent.critic, [[5.0, 4.0], [4.0, 6.0]])
    checks.plant(agent.critic_target, [[5.0, 5.0], [5.0, 5.0]])
    assert agent.critic_loss(checks.batch_of(reward=5.0, discount=0.0, rows=2)).item() == 1.5


def test_td3_bc_known_answer_and_gradient():
    checks.td3_bc_actor_loss_is_right()


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_td3_bc_is_blind_to_the_scale_of_rewards(scale):
    agent = build("td3_bc", False)
    batch = one_batch(agent)
    before = agent.actor_loss(batch).item()
    last = agent.critic.net[-1]
    with torch.no_grad():
        last.weight.mul_(scale)
        last.bias.mul_(scale)
    np.testing.assert_allclose(agent.actor_loss(batch).item(), before, rtol=1e-5)


def test_td3_bc_without_value_is_cloning():
    agent = build("td3_bc", False, alpha=0.0)
    batch = one_batch(agent)
    parameters = [*agent.actor.parameters()]
    found = torch.autograd.grad(agent.actor_loss(batch), parameters)
    cloning = torch.autograd.grad((agent.actor(batch.obs) - batch.action).square().mean(), parameters)
    for g, h in zip(found, cloning, strict=True):
        torch.testing.assert_close(g, h)


def test_td3_bc_tends_to_td3():
    agent = build("td3_bc", False, alpha=1e8)
    batch = one_batch(agent)
    parameters = [*agent.actor.parameters()]
    found = torch.autograd.grad(agent.actor_loss(batch), parameters)
    plain = torch.autograd.grad(-agent.critic(batch.obs, agent.actor(batch.obs))[0].mean(), parameters)
    a, b = (torch.cat([g.flatten() for g in gradients]) for gradients in (found, plain))
    np.testing.assert_allclose(torch.nn.functional.cosine_similarity(a, b, dim=0).item(), 1.0, atol=1e-5)


def test_sac_is_its_equations():
    checks.sac_is_its_equations()


def test_sac_known_answers():
    checks.sac_target_is_right()
    checks.sac_temperature_falls_where_entropy_is_high()
    agent = build("sac", False, temperature=0.2)
    checks.plant(agent.critic, [[1.0], [3.0]])
    loss = agent.actor_loss(checks.batch_of(), torch.zeros(1, 2), torch.tensor([-0.5]))
    np.testing.assert_allclose(loss.item(), -1.1, rtol=1e-6)


def test_sac_keeps_a_fixed_temperature():
    agent = build("sac", False, temperature=0.2, learn_temperature=False)
    batches = stream(agent)
    for _ in range(3):
        agent.step(next(batches))
    np.testing.assert_allclose(agent.temperature().item(), 0.2, rtol=1e-6)


@pytest.mark.parametrize("double", [False, True])
def test_dqn_is_its_equations(double):
    checks.dqn_is_its_equations(double)


@pytest.mark.parametrize(("double", "answer"), [(False, 5.5), (True, 2.8)])
def test_dqn_known_answers(double, answer):
    checks.dqn_target_is_right(double, answer)


def test_dqn_explores_as_its_schedule_says():
    agent = build("dqn", True, exploration_start=0.8, exploration_end=0.2, exploration_fraction=0.5)
    checks.plant_q(agent.q, [[0.0, 1.0]])
    agent.q.output = lambda obs: torch.tensor([[0.0, 1.0]]).expand(len(obs), 2)[..., None]
    agent.updates = 1
    for progress, epsilon in ((0.0, 0.8), (0.25, 0.5), (0.5, 0.2), (1.0, 0.2)):
        agent.progress = progress
        np.testing.assert_allclose(agent.epsilon, epsilon)
        greedy = agent.explore(np.zeros((20_000, 3), np.float32)).mean()
        np.testing.assert_allclose(greedy, 1.0 - epsilon / 2, atol=0.015)
        alone = np.mean([agent.explore(np.zeros((1, 3), np.float32)) for _ in range(2000)])
        np.testing.assert_allclose(alone, 1.0 - epsilon / 2, atol=0.05)


def test_iql_is_its_equations():
    checks.iql_is_its_equations()


@pytest.mark.parametrize(("t", "answer"), [(0.5, 3.666667), (0.7, 5.615385), (0.9, 8.272727)])
def test_iql_value_is_the_expectile_and_the_mean_at_one_half(t, answer):
    checks.iql_value_is_the_expectile(t, answer)


def test_iql_known_answers():
    checks.iql_weights_are_right()


def test_iql_without_temperature_is_cloning():
    agent = build("iql", False, inverse_temperature=0.0)
    batch = one_batch(agent)
    loss = agent.actor_loss(batch, torch.linspace(-5, 5, len(batch.obs)))
    law = torch.distributions.Normal(agent.actor(batch.obs).mean, agent.actor(batch.obs).log_std.exp())
    np.testing.assert_allclose(loss.item(), -law.log_prob(batch.action).sum(1).mean().item(), rtol=1e-4)


def test_iql_actor_step_falls_by_half_a_cosine_only_offline():
    agent = build("iql", False, learning_rate=1e-3)
    for progress, share in ((0.0, 1.0), (0.5, 0.5), (1.0, 0.0)):
        agent.progress = progress
        np.testing.assert_allclose(agent.learning_rate("actor"), share * 1e-3, atol=1e-12)
        assert agent.learning_rate("critic") == agent.learning_rate("value") == 1e-3
    agent.steps = 1
    assert agent.learning_rate("actor") == 1e-3


@pytest.mark.parametrize("discrete", [True, False])
@pytest.mark.parametrize("settings", [{}, {"epochs": 4}, {"clip_schedule": "linear"}])
def test_ppo_is_its_equations(discrete, settings):
    checks.ppo_is_its_equations(discrete, **settings)


@pytest.mark.parametrize("discrete", [True, False])
def test_ppo_with_one_pass_in_one_batch_is_the_policy_gradient(discrete):
    checks.ppo_is_the_policy_gradient_at_first(discrete)


def test_ppo_value_clipping_known_answers():
    agent = build("ppo", True, value_clip=0.2)
    row = one_batch(agent)
    checks.plant(agent.actor_critic.critic, [1.5])
    row = type(row)(*(field[:1] for field in row))._replace(value=torch.tensor([1.0]))
    for target, answer in ((2.0, 0.64), (0.0, 2.25)):
        row = row._replace(target=torch.tensor([target]))
        loss = agent.value_loss(agent.values(row.obs).unsqueeze(-1), row)
        np.testing.assert_allclose(loss.item(), answer, rtol=1e-5)


@pytest.mark.parametrize(
    ("truncated", "final", "advantage", "target"),
    [
        (False, 9.0, [0.68, -1.0, 3.888, 2.4], [1.18, 0.0, 4.088, 2.8]),
        (True, 3.0, [2.624, 1.7, 3.888, 2.4], [3.124, 2.7, 4.088, 2.8]),
    ],
)
def test_ppo_advantages_known_answers(truncated, final, advantage, target):
    """gamma .9, lambda .8, rewards 1 0 2 1, values .5 1 .2 .4 2; the episode ends at the second step."""
    from bellmark.agents.core.batch import Step

    agent = build("ppo", True, gamma=0.9, gae_lambda=0.8, rollout_length=5, epochs=1, batch_size=100)
    values = iter([0.5, 1.0, final, 0.2, 0.4, 2.0])
    buffer, flag = agent.make_buffer(1), lambda x: np.array([x])
    obs = [np.full((1, 3), value, np.float32) for value in values]
    buffer.begin(obs[0])
    for t, (reward, valid) in enumerate(((1, True), (0, True), (7, False), (2, True), (1, True))):
        ended = t == 1
        flags = (flag(ended and not truncated), flag(ended and truncated), flag(valid))
        step = Step(obs[t + 1], np.float32([reward]), *flags, obs[t + 1])
        buffer.add(np.array([0]), step)
    checks.plant(agent.actor_critic.critic, lambda obs: obs[:, 0])
    (batch,) = agent.batches(buffer)
    order = batch.value.argsort()
    expected = sorted(zip([0.5, 1.0, 0.2, 0.4], advantage, target, strict=True))
    torch.testing.assert_close(batch.advantage[order], torch.tensor([row[1] for row in expected]))
    torch.testing.assert_close(batch.target[order], torch.tensor([row[2] for row in expected]))


def test_the_running_return_goes_on_in_a_column_that_lags():
    """Where episodes begin within a step a column gets a row more for each; the others' episodes are not over."""
    agent = build("ppo", True, gamma=0.5, normalize_reward=True, rollout_length=3, epochs=1)
    buffer, obs, never, always = agent.make_buffer(2), np.zeros((2, 3), np.float32), np.zeros(2, bool), np.ones(2, bool)
    buffer.begin(obs)
    ended = np.array([True, False])
    for _ in range(2):
        buffer.add(np.zeros(2, np.int64), Step(obs, np.float32([1, 1]), ended, never, always, obs, ended))
    (batch,) = agent.batches(buffer)
    assert len(batch.obs) == 4 and agent.discounted_return.tolist() == [0.0, 1.5]


@pytest.mark.parametrize("name", ["ppo", "a2c", "recurrent_ppo"])
def test_a_rollout_of_one_row_is_learnt_from(name):
    """Its targets have no variance to explain; nor has a rollout in which all environments were reset anything."""
    agent = build(name, True, rollout_length=1, batch_size=1, epochs=1, normalize_obs=True)
    batches = stream(agent, columns=1)
    for _ in range(30):
        metrics = agent.step(next(batches))
        assert metrics["explained_variance"] == 0.0 and all(np.isfinite(float(value)) for value in metrics.values())
    assert all(p.isfinite().all() for p in agent.obs_normalizer.state_dict().values())


def test_explained_variance():
    target = torch.tensor([1.0, 3.0])
    assert explained_variance(target, torch.tensor([2.0, 3.0])) == 0.75
    assert explained_variance(torch.ones(2), target) == 0.0


def test_rewards_are_divided_by_the_deviation_of_the_running_return():
    """Against a loop over steps: returns restart after each episode, statistics are those of all returns so far."""
    agent = build("ppo", True, gamma=0.9, normalize_reward=True, rollout_length=12, epochs=1, batch_size=1000)
    found, returns = [], []
    normalized_reward = agent.normalized_reward
    agent.normalized_reward = lambda rollout: (found.append((rollout, normalized_reward(rollout))), found[-1][1])[1]
    running = np.zeros(2)
    batches = stream(agent)
    for _ in range(3):
        next(batches)
        rollout, scaled = found.pop()
        ended = (rollout.trace == 0).numpy()
        for t in range(len(rollout.reward)):
            for i in np.flatnonzero(rollout.valid[t].numpy()):
                running[i] = rollout.reward[t, i].item() + 0.9 * running[i]
                returns.append(running[i])
                over = ended[t, i] and t + 1 < len(ended)  # the last row ends the rollout, perhaps not the episode
                running[i] = 0.0 if over else running[i]
            running[~rollout.valid[t].numpy()] = 0.0
        expected = (rollout.reward.numpy() / np.std(returns)).clip(-10, 10)
        np.testing.assert_allclose(scaled.numpy(), expected, rtol=1e-4, atol=1e-6)
