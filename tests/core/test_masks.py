"""Masks: no invalid action is ever chosen, whoever chooses and in whatever mode the environment resets."""

from __future__ import annotations

import contextlib
import inspect

import gymnasium
import numpy as np
import pytest
import torch
from bellmark import make
from bellmark.agents.core.critics import DiscreteQ
from bellmark.agents.core.errors import BellmarkError, InvalidMask
from bellmark.agents.core.masks import allowed, forbid, random_actions
from bellmark.agents.core.policies import MultiCategorical, Softmax
from bellmark.agents.core.registry import find_agents
from bellmark.agents.core.spaces import flat_fields, read_action_space, read_parts
from bellmark.agents.core.spec import Spec
from bellmark.envs import evaluate
from bellmark.envs import make as make_env
from gymnasium import spaces

N = 6
SMALL = {"start": 200, "rollout_length": 100, "hidden": (16,), "batch_size": 16, "update_ratio": 0.02, "epochs": 1}
PLAIN, MULTI = spaces.Discrete(N, start=2), spaces.MultiDiscrete([2, 4], start=[0, 1])


class Guarded(gymnasium.Env):
    """Allows some of its actions, anew in each step, and counts what it is asked to do beyond them."""

    observation_space = spaces.Box(-1, 1, (3,))
    asked = forbidden = 0

    def __init__(self, multi: bool = False, final: str = "none"):
        self.action_space, self.final = MULTI if multi else PLAIN, final
        self.mask, self.t = np.zeros(N, bool), 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.seen(), {}

    def seen(self):
        self.mask = self.np_random.random(N) < 0.3
        self.mask[[self.np_random.integers(2), 2 + self.np_random.integers(4)]] = True
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)

    def action_masks(self):
        return self.mask

    def step(self, action):
        chosen = [action[0], 2 + action[1] - 1] if np.ndim(action) else [action - 2]
        Guarded.asked += 1
        Guarded.forbidden += not (self.action_space.contains(action) and self.mask[chosen].all())
        self.t += 1
        obs, done = self.seen(), self.t >= 20
        if done and self.final == "none":
            self.mask[:] = False
        return obs, float(np.sum(action)), done, False, {}


def masked_spec(action_space=PLAIN) -> Spec:
    parts = flat_fields(read_parts(Guarded.observation_space), N)
    return Spec.from_dict(parts | read_action_space(action_space))


def random_obs(count: int, seed: int = 0) -> torch.Tensor:
    obs = torch.randn(count, 3 + N, generator=torch.Generator().manual_seed(seed))
    mask = (obs[:, 3:] > 0.8).float()
    mask[torch.arange(count), torch.arange(count) % 2] = 1
    mask[torch.arange(count), 2 + torch.arange(count) % 4] = 1
    return torch.cat([obs[:, :3], mask], 1)


@pytest.fixture(autouse=True)
def _count():
    Guarded.asked = Guarded.forbidden = 0


def discrete_agents() -> list[str]:
    """Those of the registry that learn in an environment with discrete actions and masks."""
    found = []
    for name, kind in find_agents().items():
        try:
            settings = {k: v for k, v in SMALL.items() if hasattr(kind.config, k)}
            kind(masked_spec(), kind.config.override(settings)).require("online")
            found.append(name)
        except BellmarkError:
            pass
    return found


def small(name: str) -> dict:
    return {k: v for k, v in SMALL.items() if hasattr(find_agents()[name].config, k)}


@pytest.mark.parametrize("name", discrete_agents())
def test_every_discrete_agent_keeps_to_the_masks(name):
    env = make_env(Guarded, 8)
    agent = make(name, env, seed=1, **small(name)).learn(800)
    assert agent.updates and Guarded.forbidden == 0
    evaluate(agent, env, 16, seed=0, deterministic=False)
    evaluate(agent, env, 16, seed=0)
    assert Guarded.asked > 1200 and Guarded.forbidden == 0


@pytest.mark.parametrize("multi", [False, True])
@pytest.mark.parametrize("name", sorted(find_agents()))
def test_no_agent_acts_against_a_mask(name, multi):
    """Those that learn from data alone as well; an agent that cannot keep to masks says so."""
    kind, obs = find_agents()[name], random_obs(100)
    try:
        agent = kind(masked_spec(MULTI if multi else PLAIN), kind.config.override(small(name)))
    except BellmarkError:
        return
    for explore in (False, True):
        action = agent.act(obs, explore)
        assert obs[:, 3:].gather(1, action + torch.tensor([0, 2]) if multi else action.unsqueeze(1)).all()


def masked_cases() -> list[tuple[str, bool]]:
    """All agents that keep to masks, also those that learn from data alone: (name, whether of several choices)."""
    found = []
    for name, kind in find_agents().items():
        for multi in (False, True):
            with contextlib.suppress(BellmarkError):
                kind(masked_spec(MULTI if multi else PLAIN), kind.config.override(small(name)))
                found.append((name, multi))
    return found


@pytest.mark.parametrize(("name", "multi"), masked_cases())
def test_none_of_1e5_samples_is_invalid(name, multi):
    kind, chosen = find_agents()[name], []
    settings = small(name) | ({"context": 2} if hasattr(kind.config, "context") else {})
    agent = kind(masked_spec(MULTI if multi else PLAIN), kind.config.override(settings))
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter.copy_(30 * torch.randn_like(parameter))  # strong wishes
    start = {"start": np.ones(10_000, bool)} if "start" in inspect.signature(agent.explore).parameters else {}
    for obs in random_obs(100_000).split(10_000):
        explored = torch.as_tensor(agent.explore(obs.numpy(), **start))
        for action in (agent.act(obs, True), agent.act(obs, False), explored):
            chosen.append(action + torch.tensor([0, 2]) if multi else action.unsqueeze(1))
            assert obs[:, 3:].gather(1, chosen[-1]).all()
    for i in range(3):
        assert len(torch.cat(chosen[i::3]).unique()) >= N - 1, "but every action is chosen somewhere, or all but one"


@pytest.mark.parametrize("options", [{"autoreset": "same_step"}, {"autoreset": "disabled"}, {"backend": "async"}])
@pytest.mark.parametrize(("name", "multi"), [("ppo", True), ("dqn", False)])
def test_masks_belong_to_their_observation_in_every_mode(name, multi, options):
    with make_env(Guarded, 3, multi=multi, **options) as env:
        agent = make(name, env, seed=1, **small(name)).learn(600)
        assert env.lost_episodes == 0 and agent.updates
        assert allowed(env.spec, torch.from_numpy(env.obs)).any(1).all()
    assert Guarded.forbidden == 0


def test_random_actions_are_uniform_over_the_allowed():
    obs = torch.tensor([[0.0, 0, 0, 1, 0, 1, 1, 0, 0]]).expand(90_000, -1)
    torch.manual_seed(0)
    counts = random_actions(masked_spec(), obs).bincount(minlength=N)
    assert counts[[1, 4, 5]].tolist() == [0, 0, 0] and (counts[[0, 2, 3]] - 30_000).abs().max() < 5 * 142
    parts = random_actions(masked_spec(MULTI), obs)
    assert parts[:, 0].unique().tolist() == [0] and (parts[:, 1].bincount() - 45_000).abs().max() < 5 * 150


@pytest.mark.parametrize("space", [PLAIN, MULTI])
def test_the_law_is_the_one_over_the_allowed_alone_and_finite(space):
    torch.manual_seed(0)
    policy, obs = Softmax(masked_spec(space), (8,)), random_obs(50)
    law, logits = policy(obs), policy.last(policy.body(obs)).double()
    spans = [(0, 2), (2, 6)] if space is MULTI else [(0, N)]
    mask, entropy, log_prob = allowed(policy.spec, obs), torch.zeros(50).double(), torch.zeros(50).double()
    action = law.sample()
    for i, (a, b) in enumerate(spans):
        for row in range(50):
            p = logits[row, a:b][mask[row, a:b]].softmax(0)
            entropy[row] -= (p * p.log()).sum()
            place = action[row, i] if space is MULTI else action[row]
            log_prob[row] += p[mask[row, a:b].nonzero().flatten().tolist().index(int(place))].log()
    torch.testing.assert_close(law.entropy().double(), entropy, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(law.log_prob(action).double(), log_prob, atol=1e-5, rtol=1e-5)
    (law.entropy() + law.log_prob(action) + law.kl(policy(obs))).sum().backward()
    assert all(p.grad.isfinite().all() for p in policy.parameters())
    assert isinstance(law, MultiCategorical) == (space is MULTI)


def test_networks_do_not_see_the_mask():
    torch.manual_seed(0)
    q, obs = DiscreteQ(masked_spec(), (8,)), random_obs(20)
    other = obs.clone()
    other[:, 3:] = 1
    assert torch.equal(q.output(obs), q.output(other)) and not torch.equal(q(obs), q(other))
    assert torch.equal(q(obs), forbid(q.spec, obs, q(other)))


def test_normalisers_leave_the_mask_alone():
    env = make_env(Guarded, 4)
    agent = make("ppo", env, seed=1, normalize_obs=True, **small("ppo")).learn(800)
    seen = agent.obs_normalizer(torch.from_numpy(env.obs))
    assert torch.equal(seen[:, 3:], torch.from_numpy(env.obs)[:, 3:]) and agent.obs_normalizer.mean.shape == (3,)
    assert Guarded.forbidden == 0


def test_predict_takes_masks_as_sb3_contrib_does():
    agent = make("ppo", make_env(Guarded), seed=1)
    obs, mask = np.zeros(3, np.float32), np.eye(N, dtype=bool)[4]
    assert agent.predict(obs, action_masks=mask)[0] == 4 + 2
    assert agent.predict(np.zeros((2, 3)), action_masks=np.stack([mask, mask[::-1]]))[0].tolist() == [6, 3]
    torch.manual_seed(0)
    assert len(set(agent.predict(np.zeros((100, 3)))[0].tolist())) == N, "without masks all is allowed"
    for wrong, message in [(np.zeros(N, bool), "no action"), (np.ones(N + 1, bool), "do not fit")]:
        with pytest.raises(InvalidMask, match=message):
            agent.predict(obs, action_masks=wrong)
    with pytest.raises(InvalidMask, match="leave action_masks out"):
        make("ppo", "CartPole-v1").predict(np.zeros(4), action_masks=[True, True])


def test_a_mask_without_any_action_is_an_error_where_the_episode_goes_on():
    env = make_env(Guarded, 1)
    env.env.envs[0].unwrapped.seen = lambda: np.zeros(3, np.float32)
    with pytest.raises(InvalidMask, match="allows no action"):
        env.reset(0)


def test_masks_in_info_are_read_where_the_environment_says_so():
    env = make_env("Taxi-v4", 2)
    assert env.spec.masked and env.spec.obs_shape == (506,)
    env.reset(0)
    masks = [one.unwrapped.action_mask(one.unwrapped.s).astype(bool).tolist() for one in env.env.envs]
    assert allowed(env.spec, torch.from_numpy(env.obs)).tolist() == masks
