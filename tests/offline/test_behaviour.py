"""The law that an agent's actions are said to follow, against the actions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bellmark.offline.behaviour import Clipped, Uniform, law, log_probs
from helpers import build, cases_where, goes_online, spec_of


@cases_where(goes_online)
def test_the_law_is_what_the_agent_draws_from(name, discrete):
    """Frequencies, or means and spreads, of many actions in one state beside those of the law."""
    agent = build(name, discrete, exploration_fraction=0.0, exploration_end=0.3)
    agent.progress = 1.0
    obs = torch.randn(1, 3).expand(20_000, -1)
    with torch.no_grad():
        found = law(agent, obs[:2])
        if found is None:
            return
        drawn = agent.act(obs, explore=True)
        if discrete:
            choices = torch.arange(agent.spec.actions)
            expected = law(agent, obs[: len(choices)]).log_prob(choices).exp()
            torch.testing.assert_close(expected.sum(), torch.tensor(1.0))
            torch.testing.assert_close(drawn.bincount(minlength=len(choices)) / len(drawn), expected, atol=0.02, rtol=0)
            return
        drawn = drawn.clamp(-1, 1)
        grid = torch.linspace(-1, 1, 4001)[1:-1]
        fixed = drawn[:1].expand(len(grid), -1).clone()
        fixed[:, 0] = grid
        density = law(agent, obs[: len(grid)]).log_prob(fixed).double().exp()
        inside = drawn[:, 0].abs() < 1
        mean = (density * grid).sum() / density.sum()
        assert float(mean) == pytest.approx(float(drawn[inside, 0].mean()), abs=0.05)


def test_a_clipped_gaussian_has_all_its_mass_in_the_interval():
    clipped = Clipped(torch.tensor([[0.4]]), torch.tensor([-0.2]))
    grid = torch.linspace(-1, 1, 20_001)[1:-1].unsqueeze(1)
    inside = clipped._replace(mean=clipped.mean.expand(len(grid), 1)).log_prob(grid).exp().sum() * 1e-4
    at_bounds = clipped._replace(mean=clipped.mean.expand(2, 1)).log_prob(torch.tensor([[-1.0], [1.0]])).exp()
    assert float(inside + at_bounds.sum()) == pytest.approx(1.0, abs=1e-3)
    below = float(torch.distributions.Normal(0.4, np.exp(-0.2)).cdf(torch.tensor(-1.0)))
    above = float(torch.distributions.Normal(-0.4, np.exp(-0.2)).cdf(torch.tensor(-1.0)))
    assert at_bounds.tolist() == pytest.approx([below, above])


def test_log_probs_are_those_of_the_policy_in_raw_observations():
    agent = build("sac", False)
    obs, action = torch.randn(50, 3), torch.rand(50, 2) * 1.8 - 0.9
    with torch.no_grad():
        expected = agent.actor(obs).log_prob(action)
    np.testing.assert_allclose(log_probs(agent, obs.numpy(), action.numpy()), expected, rtol=1e-5)
    assert log_probs(build("td3", False), obs, action) is None
    uniform = log_probs(Uniform(spec_of(True)), obs, np.zeros(50, np.int64))
    np.testing.assert_allclose(uniform, -np.log(2.0))
