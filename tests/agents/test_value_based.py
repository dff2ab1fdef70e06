"""The DQN family: targets and losses by hand, what noise and dueling do, and special cases that are other agents."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bellmark.agents.core.errors import InvalidSetting
from bellmark.agents.core.nets import NoisyLinear
from bellmark.agents.core.registry import agent_class
from bellmark.agents.core.spec import Spec
from checks import batch_of, plant_q
from helpers import build, one_batch, stream, updates

FAMILY = ["dqn", "c51", "qr_dqn", "iqn", "fqf", "hl_gauss_dqn"]


def log(*probabilities):
    return torch.tensor(probabilities).log()


def test_munchausen_target_of_the_card():
    agent = build("munchausen_dqn", True)
    plant_q(agent.q_target, [[1.0, 0.9]])
    plant_q(agent.q, [[-5.0, 7.0]])
    for action, answer in ((0, 1.990095), (1, 1.900095)):
        target = agent.target(batch_of(action=action, discount=0.99))
        torch.testing.assert_close(target, torch.tensor([answer]), atol=1e-6, rtol=0)
    plant_q(agent.q_target, [[5.0, 0.0]])
    end = agent.target(batch_of(action=1, discount=0.0))
    torch.testing.assert_close(end, torch.tensor([1.0 - 0.9]))  # the bonus counts at the end too, and is clipped at -1


def test_munchausen_target_by_the_sum_over_actions():
    agent = build("munchausen_dqn", True, temperature=0.3, alpha=0.7)
    batch = one_batch(agent)
    policy = lambda obs: torch.softmax(agent.q_target(obs).double() / 0.3, 1)  # noqa: E731
    here, there = policy(batch.obs), policy(batch.next_obs)
    bonus = (0.3 * here.gather(1, batch.action[:, None])[:, 0].log()).clamp(-1, 0)
    value = (there * (agent.q_target(batch.next_obs) - 0.3 * there.log())).sum(1)
    expected = batch.reward + 0.7 * bonus + batch.discount * value
    torch.testing.assert_close(agent.target(batch).double(), expected.detach(), atol=1e-5, rtol=1e-5)


def test_munchausen_without_bonus_and_temperature_is_dqn():
    agent, plain = build("munchausen_dqn", True, alpha=0.0, temperature=1e-5), build("dqn", True)
    plain.load_state_dict(agent.state_dict())
    batch = one_batch(agent)
    torch.testing.assert_close(agent.target(batch), plain.target(batch), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("risk", "level", "remedy"),
    [
        ("cvar", 1.5, r"must be in \(0, 1\]"),
        ("cvar", -0.1, r"must be in \(0, 1\]"),
        ("cpw", -0.5, r"must be in \(0, 10\]"),
        ("cpw", float("inf"), r"must be in \(0, 10\]"),
        ("neutral", 0.5, "leave risk_level out"),
    ],
)
def test_iqn_refuses_levels_of_risk_that_mean_nothing(risk, level, remedy):
    with pytest.raises(InvalidSetting, match=remedy):
        build("iqn", True, risk=risk, risk_level=level)


@pytest.mark.parametrize(
    ("risk", "level"), [("cvar", 1.0), ("cvar", 0.0), ("cpw", 1.5), ("wang", -3.0), ("wang", 3.0), ("neutral", 0.0)]
)
def test_iqn_takes_the_others(risk, level):
    assert build("iqn", True, risk=risk, risk_level=level).q.level == level


def test_munchausen_refuses_double():
    with pytest.raises(InvalidSetting, match="leave double out"):
        build("munchausen_dqn", True, double=True)


def test_rainbow_without_its_parts_is_c51():
    parts = {"double": False, "dueling": False, "noisy": False, "n_step": 1, "replay": "uniform"}
    c51, rainbow = build("c51", True, seed=4), build("rainbow", True, seed=4, **parts)
    for agent in (c51, rainbow):
        torch.manual_seed(5)
        updates(agent, 30)
    assert all(torch.equal(a, b) for a, b in zip(c51.parameters(), rainbow.parameters(), strict=True))


def test_the_settings_of_the_variants():
    def of(name):
        c = agent_class(name).config
        return c.double, c.dueling, c.noisy, c.n_step, c.replay

    assert of("dqn") == (False, False, False, 1, "uniform")
    assert of("double_dqn") == (True, False, False, 1, "uniform")
    assert of("dueling_dqn") == (True, True, False, 1, "uniform")
    assert of("noisy_dqn") == (False, False, True, 1, "uniform")
    assert of("double_dueling_per") == (True, True, False, 1, "prioritized")
    assert of("rainbow") == (True, True, True, 3, "prioritized")


@pytest.mark.parametrize("double", [False, True])
def test_c51_projects_the_distribution_of_the_chosen_action(double):
    """Support [-1, 1] with 5 atoms; the card's numbers for the first action, which only the network prefers."""
    agent = build("c51", True, value_low=-1.0, value_high=1.0, atoms=5, double=double)
    first, second = log(0.1, 0.2, 0.4, 0.2, 0.1), log(0.01, 0.01, 0.01, 0.01, 0.96)
    agent.q_target.output = lambda obs: torch.stack([first, second])[None]
    agent.q.output = lambda obs: torch.stack([second, first])[None]
    target = agent.target(batch_of(reward=0.3, discount=0.9))
    if double:
        torch.testing.assert_close(target, torch.tensor([[0.02, 0.14, 0.30, 0.34, 0.20]]))
    else:
        assert target[0, -1] > 0.9


def test_c51_refuses_an_empty_support():
    with pytest.raises(InvalidSetting, match="value_low = 3 must be below value_high = 3"):
        build("c51", True, value_low=3.0, value_high=3.0)


@pytest.mark.parametrize("encoding", ["hl_gauss", "two_hot"])
def test_hl_gauss_learns_the_scalar_target_of_dqn(encoding):
    """The probabilities that are learnt have the mean r + discount max Qbar."""
    agent = build("hl_gauss_dqn", True, encoding=encoding)
    batch = one_batch(agent)
    scalar = batch.reward + batch.discount * agent.q_target(batch.next_obs).amax(1)
    torch.testing.assert_close(agent.target(batch) @ agent.q.head.atoms, scalar, atol=1e-4, rtol=1e-4)
    spread = (agent.target(batch) > 1e-3).sum(1)
    assert (spread <= 2).all() if encoding == "two_hot" else (spread > 2).all()


def test_qr_dqn_target_and_loss_of_the_card():
    agent = build("qr_dqn", True, quantiles=2)
    agent.q.output = lambda obs: torch.tensor([[[0.0, 1.0], [9.0, 9.0]]])
    agent.q_target.output = lambda obs: torch.tensor([[[-5.0, -5.0], [2.0, 4.0]]])
    batch = batch_of(action=0, discount=0.5)
    assert agent.target(batch).tolist() == [[2.0, 3.0]]
    # u: 2, 3 at tau 1/4 and 1, 2 at tau 3/4; Huber 1.5, 2.5 and .5, 1.5
    assert agent.q_loss(batch).item() == pytest.approx(0.25 * 2.0 + 0.75 * 1.0)


def test_iqn_chooses_by_risk_and_learns_all_quantiles():
    """The second action is better on average, the first in the worst case."""
    agent = build("iqn", True, risk="cvar", risk_level=0.1)
    quantiles = lambda features, tau: torch.stack([0.0 * tau + 1.0, 10.0 * tau - 3.0], 1)  # noqa: E731
    agent.q.quantiles = agent.q_target.quantiles = quantiles
    assert agent.act(torch.zeros(1, 3), explore=False).item() == 0
    target = agent.target(batch_of(reward=2.0, discount=0.5))
    torch.testing.assert_close(target, torch.full((1, 16), 2.5))
    agent.q.level = agent.q_target.level = 0.9
    assert agent.act(torch.zeros(1, 3), explore=False).item() == 1
    target = torch.cat([agent.target(batch_of(reward=2.0, discount=0.5)) for _ in range(20)])
    assert 0.5 <= target.min() < 0.6
    assert 5.4 < target.max() <= 5.5, "targets are not distorted: that would end at 5"


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("settings", [{"dueling": True}, {"noisy": True}, {"double": True, "dueling": True}])
def test_network_settings_go_with_every_head(name, settings):
    agent = build(name, True, hidden=(16, 16), **settings)
    before = {k: p.detach().clone() for k, p in agent.q.named_parameters()}
    found = updates(agent, 20)
    assert all(torch.isfinite(value) for metrics in found for value in metrics.values())
    assert not [k for k, p in agent.q.named_parameters() if torch.equal(before[k], p)]


@pytest.mark.parametrize("name", ["noisy_dqn", "rainbow"])
def test_noise_explores_and_is_absent_from_deterministic_actions(name):
    agent = build(name, True, hidden=(16, 16))
    layers = [module for module in agent.q.modules() if isinstance(module, NoisyLinear)]
    assert len(layers) == 3 + agent.config.dueling, "every linear layer is noisy"
    assert agent.epsilon == 0.0
    agent.updates, obs = 1, np.random.default_rng(0).standard_normal((100, 3)).astype(np.float32)
    calm = [agent.act_on(obs, explore=False) for _ in range(3)]
    assert (calm[0] == calm[1]).all()
    assert (calm[0] == calm[2]).all()
    noisy = [agent.act_on(obs, explore=True) for _ in range(20)]
    assert len({actions.tobytes() for actions in noisy}) > 3, "a new draw at each step"
    assert agent.q.training, "updates see noise after an evaluation"
    torch.manual_seed(0)
    first = agent.q(torch.ones(1, 3))
    assert not torch.equal(first, agent.q(torch.ones(1, 3)))


def test_noise_has_the_variance_of_the_equations():
    """One layer of one input x = 2: Var y = x^2 S^2 E|e| E|e'| + s^2 E|e'|, and E|e| = sqrt(2 / pi)."""
    layer = NoisyLinear(1, 20_000, sigma=0.3)
    with torch.no_grad():
        layer.mean.weight.zero_(), layer.mean.bias.zero_()
        outputs = torch.stack([layer(torch.full((1, 1), 2.0))[0] for _ in range(400)])
    size = (2 / np.pi) ** 0.5
    np.testing.assert_allclose(outputs.mean().item(), 0.0, atol=0.01)
    np.testing.assert_allclose(outputs.var().item(), 0.09 * (4 * size * size + size), rtol=0.15)


@pytest.mark.parametrize("name", ["dqn", "iqn", "fqf", "sac_discrete"])
@pytest.mark.parametrize("side", [10, 36])
def test_small_and_large_images(name, side):
    spec = Spec((4, side, side), 3, discrete=True, obs_dtype="uint8")
    agent = build(name, True, spec=spec)
    obs = torch.randint(256, (5, 4, side, side), dtype=torch.uint8)
    assert agent.act(obs, explore=False).shape == (5,)
    batch = batch_of(obs=obs, action=torch.tensor([0, 1, 2, 0, 1]), rows=5)
    metrics = agent.step(batch._replace(next_obs=obs.flip(0)))
    assert all(torch.isfinite(value) for value in metrics.values())


# ---- FQF ---------------------------------------------------------------------------------------------------------


def test_fqf_starts_with_equal_intervals():
    """Even where features are large; distances at random would be kept, as the proposals hardly learn."""
    agent = build("fqf", True, quantiles=8)
    features = 10.0 * torch.rand(100, agent.q.features)
    torch.testing.assert_close(agent.proposal(features).diff(), torch.full((100, 8), 1 / 8), atol=0.03, rtol=0)
    assert agent.config.proposal_learning_rate < 1e-6


def test_fqf_values_weigh_quantiles_by_their_intervals():
    agent = build("fqf", True, quantiles=2)
    agent.proposal.forward = lambda features: torch.tensor([[0.0, 0.2, 1.0]])
    agent.q.quantiles = lambda features, tau: torch.stack([10.0 * tau, 4.0 + 0.0 * tau], 1)
    values = agent.action_values(torch.zeros(1, 3))
    torch.testing.assert_close(values, torch.tensor([[0.2 * 1.0 + 0.8 * 6.0, 4.0]]))


def test_fqf_proposes_along_the_gradient_of_the_distance():
    """The gradient in tau against finite differences of W1 = sum_i int |F^-1(x) - F^-1(mid_i)| dx, F^-1(x) = x^2."""
    agent = build("fqf", True, quantiles=4, proposal_entropy=0.0)
    agent.q.quantiles = lambda features, tau: tau.square().unsqueeze(1).expand(-1, 2, -1)
    inner = torch.tensor([[0.2, 0.5, 0.9]], dtype=torch.float64, requires_grad=True)
    edges = lambda: torch.cat([torch.zeros(1, 1), inner, torch.ones(1, 1)], 1)  # noqa: E731
    agent.proposal.forward = lambda features: edges()
    (found,) = torch.autograd.grad(agent.proposal_loss(batch_of(action=1)), inner)

    def distance(middle):
        cuts, grid = [0.0, *middle, 1.0], (np.arange(2_000_000) + 0.5) / 2_000_000
        piece = np.searchsorted(cuts, grid) - 1
        mid = 0.5 * (np.array(cuts[1:]) + np.array(cuts[:-1]))
        return np.abs(grid**2 - mid[piece] ** 2).mean()

    step = 1e-3
    for i in range(3):
        up, down = [0.2, 0.5, 0.9], [0.2, 0.5, 0.9]
        up[i] += step
        down[i] -= step
        np.testing.assert_allclose(found[0, i].item(), (distance(up) - distance(down)) / (2 * step), atol=2e-4)


def test_fqf_proposals_do_not_move_the_network():
    agent = build("fqf", True, proposal_learning_rate=1e-2)
    batch = next(stream(agent))
    before = [p.clone() for p in agent.q.parameters()]
    agent.minimize("proposal", agent.proposal_loss(batch))
    assert all(torch.equal(a, b) for a, b in zip(before, agent.q.parameters(), strict=True))
    edges = agent.proposal(torch.randn(7, 16))
    assert (edges[:, 0] == 0).all()
    torch.testing.assert_close(edges[:, -1], torch.ones(7))
    assert (edges.diff() > 0).all()


def test_fqf_entropy_of_intervals_and_where_they_have_no_length():
    agent = build("fqf", True, proposal_entropy=0.5)
    features = torch.randn(7, 16)
    length = agent.proposal(features).diff().double()
    torch.testing.assert_close(agent.proposal.entropy(features).double(), torch.special.entr(length).sum(1))
    with torch.no_grad():
        agent.proposal.net[-1].weight.mul_(1e6)
    assert (agent.proposal(features).diff() <= 0).any()
    metrics = agent.step(next(stream(agent)))
    assert all(value.isfinite() for value in metrics.values())
