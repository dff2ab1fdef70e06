"""Critics with distributions in TD3 and SAC: which target they get, and that they find the values of the probes."""

from __future__ import annotations

import checks
import pytest
import torch
from bellmark.agents.core.ensemble import EnsembleConfig, head_of
from bellmark.agents.core.errors import InvalidSetting
from bellmark.agents.core.heads import Scalar
from checks import batch_of
from helpers import build, updates
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


def test_a_histogram_needs_room():
    assert isinstance(head_of(EnsembleConfig()), Scalar)
    with pytest.raises(InvalidSetting, match="value_low = 3 and value_high = 3 leave no room"):
        build("sac", False, critic_head="c51", value_low=3.0, value_high=3.0)
