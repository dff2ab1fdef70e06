"""Critics with distributions in TD3 and SAC: which target they get, and that they find the values of the probes."""

from __future__ import annotations

import checks
import pytest
import torch
from bellmark.agents.core.ensemble import EnsembleConfig
from bellmark.agents.core.errors import InvalidSetting
from bellmark.agents.core.heads import Categorical, Quantile, Scalar, head_of
from bellmark.agents.core.registry import find_agents
from checks import batch_of
from helpers import build, one_batch, specs_for, updates
from test_off_policy import plant_law, plant_outputs

HEADS = ["c51", "two_hot", "hl_gauss", "quantile"]
SUPPORT = {"value_low": -5.0, "value_high": 5.0, "atoms": 51}


def test_the_lowest_distribution_of_a_row_is_that_of_the_smallest_mean():
    agent = build("td3", False, critic_head="c51", value_low=0.0, value_high=2.0, atoms=3)
    logits = torch.tensor([[[0.9, 0.05, 0.05], [0.1, 0.1, 0.8]], [[0.4, 0.3, 0.3], [0.3, 0.4, 0.3]]]).log()
    torch.testing.assert_close(agent.critic.lowest(logits), torch.stack([logits[0, 0], logits[1, 1]]))
    scalar = build("td3", False).critic
    assert scalar.lowest(torch.tensor([[[1.0], [5.0]], [[2.0], [4.0]]])).tolist() == [[1.0], [4.0]]


def test_c51_target_of_td3_by_hand():
    """Atoms 0, 1, 2; the certain value 1 becomes 0.25 + 0.5 = 0.75: a quarter at 0, three at 1."""
    agent = build("td3", False, critic_head="c51", value_low=0.0, value_high=2.0, atoms=3)
    plant_outputs(agent.critic_target, [[[0.0, 50.0, 0.0]], [[0.0, 0.0, 50.0]]])
    target = agent.target(batch_of(reward=0.25, discount=0.5))
    torch.testing.assert_close(target, torch.tensor([[0.25, 0.75, 0.0]]))


def test_the_entropy_shifts_a_distribution_of_sac():
    agent = build("sac", False, critic_head="quantile", atoms=2, temperature=0.2)
    plant_outputs(agent.critic_target, [[[8.0, 10.0]], [[9.0, 9.5]]])
    plant_law(agent, -1.5)
    torch.testing.assert_close(agent.target(batch_of()), torch.tensor([[1 + 0.99 * 8.3, 1 + 0.99 * 10.3]]))


def test_hl_gauss_encodes_the_scalar_target():
    agent, scalar = (
        build("sac", False, critic_head=head, temperature=0.2, **SUPPORT) for head in ("hl_gauss", "scalar")
    )
    obs = torch.randn(16, 3)
    checks.plant(scalar.critic_target, agent.critic_target(obs, torch.zeros(16, 2)))
    output = agent.critic_target.output(obs, torch.zeros(16, 2))
    plant_outputs(agent.critic_target, output)
    for each in (agent, scalar):
        plant_law(each, -0.4, 16)
    batch = batch_of(obs=obs, rows=16)
    probability = agent.target(batch)
    torch.testing.assert_close(probability, agent.critic.head.encode(scalar.target(batch)))
    torch.testing.assert_close(probability @ agent.critic.head.atoms, scalar.target(batch), atol=1e-4, rtol=0)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", ["td3", "sac"])
def test_distributional_critics_find_the_values_of_the_probes(name, head):
    support = SUPPORT if head != "quantile" else {"atoms": 15}
    checks.finds_values_of_delayed_reward(name, False, critic_head=head, **support)


@pytest.mark.parametrize("head", HEADS)
def test_every_agent_of_the_family_takes_every_head(head):
    for name in ("ddpg", "redq", "droq", "crossq"):
        agent = build(name, False, critic_head=head, **SUPPORT)
        for metrics in updates(agent, 4):
            assert all(value.isfinite() for value in metrics.values())
        assert agent.critic(torch.zeros(2, 3), torch.zeros(2, 2)).abs().max() < 5


def test_no_ensemble_ignores_the_head():
    """It has the head of the settings, or the agent says that it cannot."""
    refused = []
    for name in [name for name, kind in find_agents().items() if isinstance(kind.config, EnsembleConfig)]:
        try:
            agent = build(name, next(iter(specs_for(name))), critic_head="c51", **SUPPORT)
            assert isinstance(agent.critic.head, Categorical), name
        except InvalidSetting:
            refused.append(name)
    assert sorted(refused) == ["e2o", "sac_discrete", "tqc"]
    for head in ("scalar", "quantile"):
        assert isinstance(build("tqc", False, critic_head=head).critic.head, Quantile)
    with pytest.raises(InvalidSetting, match="leave critic_head out"):
        build("tqc", False, critic_head="hl_gauss")


def test_a_histogram_needs_room():
    assert isinstance(head_of(EnsembleConfig()), Scalar)
    with pytest.raises(InvalidSetting, match="value_low = 3 and value_high = 3 leave no room"):
        build("sac", False, critic_head="c51", value_low=3.0, value_high=3.0)


ON_POLICY = [("ppo", head) for head in HEADS]
ON_POLICY += [(name, "hl_gauss") for name in ("a2c", "npg", "ppo_rnd", "recurrent_ppo")]


@pytest.mark.parametrize(("name", "head"), ON_POLICY)
def test_state_values_are_learnt_through_every_head(name, head):
    rate = 0.1 if name == "a2c" else 1e-2  # whose optimiser begins with a mean squared gradient of 1
    agent = build(name, True, critic_head=head, learning_rate=rate, rollout_length=64, batch_size=1000, **SUPPORT)
    batch, errors = one_batch(agent), []
    for _ in range(3):
        if name == "recurrent_ppo":
            value = agent.actor_critic.critic.head.mean(agent.evaluate(batch)[1])
        else:
            value = agent.values(batch.obs)
        assert value.shape == batch.target.shape and value.abs().max() < 5.0
        errors.append((value - batch.target).square().mean().item())
        for _ in range(150):
            agent.step(batch)
    assert errors[2] < errors[1] < 0.9 * errors[0]


@pytest.mark.parametrize("head", HEADS)
def test_a_state_value_is_the_mean_of_what_the_head_learnt(head):
    """The same observation with returns -1 and 3, three times as often the latter."""
    agent = build("ppo", True, critic_head=head, learning_rate=3e-3, rollout_length=64, batch_size=1000, **SUPPORT)
    batch = one_batch(agent)
    batch = type(batch)(*(field[:40] for field in batch))._replace(obs=torch.ones(40, 3))
    batch = batch._replace(target=torch.tensor([-1.0, 3.0, 3.0, 3.0]).repeat(10))
    for _ in range(1500):
        agent.step(batch)
    assert agent.values(torch.ones(1, 3)).item() == pytest.approx(2.0, abs=0.15)


def test_the_trust_region_of_values_wants_scalar_values():
    with pytest.raises(InvalidSetting, match="goes with scalar values, not critic_head='hl_gauss'"):
        build("trpo", True, value_fit="trust_region", critic_head="hl_gauss")
