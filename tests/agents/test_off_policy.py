"""Known answers of DDPG, TQC, REDQ, DroQ and CrossQ; whole updates against the equations."""

from __future__ import annotations

import checks
import numpy as np
import pytest
import torch
from bellmark.agents.actor_critic.sac import SAC
from bellmark.agents.core.errors import InvalidSetting
from checks import FixedLaw, batch_of
from helpers import build, one_batch, stream, updates


def plant_outputs(critic, outputs):
    """The critic's networks answer `[E, B, K]`, whatever is asked."""
    outputs = torch.as_tensor(outputs)
    critic.output = lambda *inputs: outputs
    critic.output_of = lambda members, *inputs: outputs[members]


def plant_law(agent, log_prob, rows=1):
    checks.plant(agent.actor, lambda obs: FixedLaw(torch.zeros(rows, 2), torch.full((rows,), log_prob)))


# ---- DDPG ----------------------------------------------------------------------------------------------------------


def test_ddpg_is_td3_with_its_settings():
    a, b = build("ddpg", False), build("td3", False, critics=1, target_noise=0.0, actor_delay=1)
    for agent in (a, b):
        torch.manual_seed(0)
        updates(agent, 5)
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(p, q)


# ---- TQC -----------------------------------------------------------------------------------------------------------


def test_tqc_target_of_the_card():
    agent = build("tqc", False, critics=2, atoms=3, drop=1, temperature=0.1)
    plant_outputs(agent.critic_target, [[[1.0, 2.0, 3.0]], [[2.0, 4.0, 6.0]]])
    plant_law(agent, -1.0)
    target = agent.target(batch_of(reward=0.5, discount=0.9))
    torch.testing.assert_close(target, torch.tensor([[1.49, 2.39, 2.39, 3.29]]))
    torch.testing.assert_close(agent.target(batch_of(reward=0.5, discount=0.0)), torch.full((1, 4), 0.5))


def test_tqc_truncation_is_sorting_by_hand():
    agent = build("tqc", False, critics=3, atoms=7, drop=2)
    obs, action = torch.randn(9, 3), torch.randn(9, 2)
    atoms = agent.critic_target.output(obs, action)
    found = agent.next_output(obs, action)
    for row in range(9):
        pool = sorted(atoms[e, row, m].item() for e in range(3) for m in range(7))
        assert found[row].tolist() == pool[: 3 * 7 - 3 * 2]


def test_tqc_actor_climbs_the_mean_of_all_quantiles():
    agent = build("tqc", False, temperature=0.2)
    obs, action, log_prob = torch.randn(4, 3), torch.randn(4, 2), torch.randn(4)
    expected = 0.2 * log_prob - agent.critic.output(obs, action).mean((0, 2))
    found = agent.actor_loss(batch_of(obs=obs, rows=4), action, log_prob)
    torch.testing.assert_close(found, expected.mean())


def test_tqc_with_one_quantile_that_drops_nothing_is_sac_with_one_critic():
    """While errors are at most 1 the quantile loss at fraction 1/2 is a quarter of the squared one."""
    agent, sac = build("tqc", False, critics=1, atoms=1, drop=0), build("sac", False, critics=1)
    batch = one_batch(agent)
    batch = batch._replace(reward=0.1 * batch.reward, discount=0.1 * batch.discount)
    results = []
    for each in (agent, sac):
        each.load_state_dict(sac.state_dict())
        torch.manual_seed(0)
        target = each.target(batch)
        loss = each.critic_loss(batch)
        results.append([target.flatten(), *torch.autograd.grad(loss, [*each.critic.parameters()])])
    for quantile, scalar in zip(*results, strict=True):
        torch.testing.assert_close(quantile, scalar if quantile is results[0][0] else scalar / 4)


def test_tqc_needs_a_quantile_to_keep():
    with pytest.raises(InvalidSetting, match="drop = 5 leaves none of the 5 quantiles"):
        build("tqc", False, atoms=5, drop=5)


# ---- REDQ, DroQ ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["redq", "droq"])
def test_two_critics_and_a_subset_of_two_have_the_target_of_sac(name):
    agent = build(name, False, critics=2, subset=2, layer_norm=False, dropout=0.0)
    sac, batch = build("sac", False), one_batch(agent)
    sac.load_state_dict(agent.state_dict())
    plant_law(agent, -0.7, 16)
    plant_law(sac, -0.7, 16)
    torch.testing.assert_close(agent.target(batch), sac.target(batch))
    torch.testing.assert_close(agent.critic_loss(batch), sac.critic_loss(batch))


@pytest.mark.parametrize(("values", "mean"), [([1.0, 2.0, 3.0, 4.0, 5.0], 2.0), ([0.3, 2.0, -1.0, 4.0], -0.0666667)])
def test_the_expected_minimum_of_a_random_pair(values, mean):
    agent = build("redq", False, critics=len(values))
    plant_outputs(agent.critic_target, torch.tensor(values)[:, None, None].expand(-1, 3, 1))
    draws = torch.stack([agent.next_output(torch.zeros(3, 3), torch.zeros(3, 2))[:, 0] for _ in range(4000)])
    assert (draws == draws[:, :1]).all(), "one draw for the whole batch"
    assert draws[:, 0].mean().item() == pytest.approx(mean, abs=5 * draws.std().item() / 4000**0.5)
    assert set(draws[:, 0].tolist()) == set(torch.tensor(sorted(values)[:-1]).tolist())


def test_some_networks_are_computed_as_among_all():
    critic = build("redq", False, critics=6, layer_norm=True, hidden=(8, 8)).critic
    obs, action, members = torch.randn(5, 3), torch.randn(5, 2), torch.tensor([4, 1])
    torch.testing.assert_close(critic.output_of(members, obs, action), critic.output(obs, action)[members])


def test_redq_is_its_equations():
    agent = build("redq", False, critics=4, actor_delay=2, learning_rate=1e-3, tau=0.1, temperature=0.3)
    reference = checks.Reference(agent)

    def policy(obs):
        mean, log_std = checks.forward(reference.p, "actor.net", obs).chunk(2, 1)
        law = torch.distributions.Normal(mean, log_std.exp())
        before = mean + log_std.exp() * torch.randn_like(mean)
        return before.tanh(), (law.log_prob(before) - (1 - before.tanh() ** 2).log()).sum(1)

    def update(b, number):
        with torch.no_grad():
            alpha = reference.p["temperature.log"].exp()
            action, log_prob = policy(b.next_obs)
            members = torch.rand(4).topk(2).indices
            value = reference.q("critic_target", b.next_obs, action)[members].min(0).values
            y = b.reward + b.discount * (value - alpha * log_prob)
        q = reference.q("critic", b.obs, b.action)
        reference.step("critic", sum(0.5 * ((q[e] - y) ** 2).mean() for e in range(4)))
        if number % 2 == 0:
            action, log_prob = policy(b.obs)
            reference.step("actor", (alpha * log_prob - reference.q("critic", b.obs, action).mean(0)).mean())
            reference.step("temperature", -(reference.p["temperature.log"] * (log_prob.detach() - 2.0)).mean())
        reference.follow("critic_target", "critic", 0.1)

    checks.compare_with(agent, reference, update, count=6)


def test_a_subset_is_a_part():
    with pytest.raises(InvalidSetting, match="subset = 3 is more than the 2 critics"):
        build("redq", False, critics=2, subset=3)


def test_droq_drops_units_in_targets_and_for_each_critic_on_its_own():
    agent = build("droq", False, dropout=0.5)
    with torch.no_grad():  # the critics' means over many masks differ, but not the weights
        for p in (*agent.critic.parameters(), *agent.critic_target.parameters()):
            p[1] = p[0]
    obs, action = torch.randn(6, 3), torch.randn(6, 2)
    for critic in (agent.critic, agent.critic_target):
        first, second = critic(obs, action), critic(obs, action)
        assert not torch.equal(first, second) and not torch.equal(first[0], first[1])
    plant_law(agent, 0.0, 6)
    batch = batch_of(obs=obs, rows=6)
    assert not torch.equal(agent.target(batch), agent.target(batch))
    assert not torch.equal(agent.actor_value(obs, action), agent.actor_value(obs, action))


# ---- CrossQ --------------------------------------------------------------------------------------------------------


def normalised(p, prefix, x, mean, variance, scale):
    """Plain batch normalisation with the given statistics, of one member."""
    return (x - mean) / (variance + 1e-3).sqrt() * p[f"{prefix}.scale"][scale] + p[f"{prefix}.shift"][scale]


def test_crossq_joint_pass_is_separate_statistics_by_hand():
    """During the warm-up: rows (s, a) and (s', a') are normalised by the statistics of both together."""
    agent = build("crossq", False, temperature=0.2)
    batch = one_batch(agent)
    p = {k: v.detach().clone() for k, v in agent.critic.net.named_parameters()}
    plant_law(agent, -0.5, 16)
    rows = torch.cat([torch.cat([batch.obs, batch.action], 1), torch.cat([batch.next_obs, torch.zeros(16, 2)], 1)])
    values = []
    for e in range(2):
        x = rows
        for i, kind in enumerate(("norm", "linear", "relu", "norm", "linear")):
            if kind == "norm":
                x = normalised(p, str(i), x, x.mean(0), ((x - x.mean(0)) ** 2).mean(0), (e, 0))
            elif kind == "linear":
                x = x @ p[f"{i}.weight"][e] + p[f"{i}.bias"][e]
            else:
                x = x.relu()
        values.append(x[:, 0])
    now, after = torch.stack(values).chunk(2, 1)
    expected = batch.reward + batch.discount * (after.min(0).values + 0.2 * 0.5)
    output, target = agent.joint(batch)
    torch.testing.assert_close(output[..., 0], now, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(target, expected, rtol=1e-4, atol=1e-5)
    assert not target.requires_grad


def test_crossq_statistics_move_where_the_equations_say():
    agent = build("crossq", False, actor_delay=2)
    batches = stream(agent)

    def passes():
        return agent.actor.net[0].passes.item(), agent.critic.net[0].passes.unique().item()

    for number, expected in enumerate([(0, 1), (1, 2), (1, 3), (2, 4)], 1):
        agent.step(next(batches))
        assert passes() == expected, f"after update {number}"
    before = {k: v.clone() for k, v in agent.state_dict().items()}
    agent.act_on(np.ones((4, 3), np.float32), explore=True)
    assert all(torch.equal(v, before[k]) for k, v in agent.state_dict().items())
    assert not agent.actor.training and not agent.critic.training


def test_crossq_next_rows_move_the_statistics_of_the_critics():
    agent = build("crossq", False)
    batch = one_batch(agent)._replace(next_obs=torch.full((16, 3), 50.0))
    agent.step(batch)
    mean = agent.critic.net[0].mean
    torch.testing.assert_close(mean[:, 0, :3], (0.005 * (batch.obs.mean(0) + 50)).expand(2, 3))


def test_crossq_has_no_targets_and_its_momentum():
    agent = build("crossq", False)
    assert not [name for name, _ in agent.named_children() if name.endswith("_target")]
    betas = {name: flat.optimizer.param_groups[0]["betas"] for name, flat in agent._flat.items()}
    assert betas == {"actor": (0.5, 0.999), "critic": (0.5, 0.999), "temperature": (0.9, 0.999)}


# ---- update-to-data ratio ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [1, 3])
def test_updates_are_counted_per_transition(columns):
    import bellmark

    config = SAC.config.override({"update_ratio": 2.5, "start": 12, "batch_size": 4, "hidden": (4,)})
    env = bellmark.envs.make("Pendulum-v1", columns)
    agent = SAC(env.spec, config)
    agent.learn(60, env=env)
    after = agent.steps - 12 + columns  # the round that reaches `start` owes updates already
    assert agent.updates + agent.owed == 2.5 * after
    assert agent.owed < 2.5
