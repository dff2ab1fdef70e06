"""Assertions on agents, as plain functions: the tests call them on the package, the mutants on a package with a bug."""

from __future__ import annotations

from typing import Any

import bellmark
import numpy as np
import torch
from bellmark.agents.core.batch import Batch, RolloutBatch
from bellmark.agents.core.buffer import Buffer
from bellmark.agents.core.nets import Linear
from bellmark.agents.core.registry import agent_class
from bellmark.envs import make
from bellmark.envs.probes import ChooseSign, DelayedReward, TruncatedForever
from helpers import (
    action_value,
    build,
    children,
    has,
    has_replay,
    is_offline,
    one_batch,
    random_actions,
    small,
    snapshot,
    spec_of,
    stream,
    targets,
    updates,
    value_of,
)
from torch import Tensor

# ---- structure ---------------------------------------------------------------------------------------------------


def every_parameter_moves(name: str, discrete: bool) -> None:
    agent = build(name, discrete)
    before = {k: p.detach().clone() for k, p in agent.named_parameters() if p.requires_grad}
    assert before
    updates(agent, 20)
    still = [k for k, p in agent.named_parameters() if k in before and torch.equal(before[k], p.detach())]
    assert not still, f"20 updates left {still} where they were"


def only_the_named_child_moves(name: str, discrete: bool) -> None:
    """A step of `minimize` moves that child and nothing else; `follow` moves targets and nothing else."""
    agent = build(name, discrete)
    minimize, follow = agent.minimize, agent.follow
    minimized: set[str] = set()

    def moved_by(action: Any, *args: Any) -> tuple[Any, set[str]]:
        before = {k: snapshot(child) for k, child in children(agent).items()}
        result = action(*args)
        after = {k: snapshot(child) for k, child in children(agent).items()}
        return result, {k for k in before if any(not torch.equal(before[k][p], after[k][p]) for p in before[k])}

    def watched_minimize(child: str, loss: Tensor) -> Tensor:
        assert loss.ndim == 0, f"the loss of {child} has shape {list(loss.shape)}"
        result, moved = moved_by(minimize, child, loss)
        assert moved == {child}, f"minimising {child} moved {sorted(moved)}"
        minimized.add(child)
        return result

    def watched_follow(tau: float) -> None:
        _, moved = moved_by(follow, tau)
        assert moved <= set(targets(agent)), f"follow moved {sorted(moved)}"

    agent.minimize, agent.follow = watched_minimize, watched_follow
    updates(agent, 6)
    trainable = {k for k, child in children(agent).items() if any(p.requires_grad for p in child.parameters())}
    assert minimized == trainable


def targets_follow(name: str, discrete: bool) -> None:
    """Targets start equal, want no gradient, have no optimiser, and move exactly when `follow` is called, part way."""
    agent = build(name, discrete)
    follow, calls = agent.follow, []
    agent.follow = lambda tau: (calls.append(tau), follow(tau))[1]
    sources = {k: k.removesuffix("_target") for k in targets(agent)}
    for target, source in sources.items():
        own, other = dict(children(agent)[target].named_parameters()), children(agent)[source].named_parameters()
        assert all(torch.equal(own[k], p) for k, p in other), f"{target} does not start as a copy"
        assert not any(p.requires_grad for p in own.values())
        assert not {p.data_ptr() for p in own.values()} & {p.data_ptr() for p in children(agent)[source].parameters()}
    batches, moves = stream(agent), dict.fromkeys(sources, 0)
    for _ in range(12):
        before = {k: snapshot(children(agent)[k]) for k in sources}
        calls.clear()
        agent.step(next(batches))
        for target, source in sources.items():
            now, then, lead = (snapshot(children(agent)[target]), before[target], snapshot(children(agent)[source]))
            changed = any(not torch.equal(now[k], then[k]) for k in now)
            assert changed == bool(calls), f"{target} moved: {changed}, follow was called: {bool(calls)}"
            moves[target] += changed
            if len(calls) == 1:
                for k in now:
                    torch.testing.assert_close(now[k], then[k] + calls[0] * (lead[k] - then[k]), atol=1e-6, rtol=1e-5)
    assert all(moves.values()), f"targets never moved: {[k for k, n in moves.items() if not n]}"
    assert not [k for k in agent.state() if k.startswith("optimizer.") and k.split(".")[1] in sources]


def targets_want_no_gradient(name: str, discrete: bool) -> None:
    """Neither a batch nor what `target` makes of it carries a gradient."""
    agent = build(name, discrete)
    batch = one_batch(agent)
    fields = batch._fields if hasattr(batch, "_fields") else ()
    assert not [field for field in fields if getattr(getattr(batch, field), "requires_grad", False)]
    if hasattr(agent, "target"):
        target = agent.target(batch)
        assert not target.requires_grad, "the target carries a gradient"
        assert target.shape == batch.reward.shape or target.shape[0] == len(batch.reward)


def no_gradient_is_left(name: str, discrete: bool) -> None:
    agent = build(name, discrete)
    updates(agent, 4)
    assert not [k for k, p in agent.named_parameters() if p.grad is not None]


def ensembles_differ(name: str, discrete: bool) -> None:
    """Members of every ensemble differ at the start, and after 20 updates."""
    agent = build(name, discrete)
    for done in (0, 20):
        updates(agent, done)
        for k, module in agent.named_modules():
            if isinstance(module, Linear) and module.weight.ndim == 3:
                for i in range(len(module.weight)):
                    for j in range(i):
                        gap = (module.weight[i] - module.weight[j]).abs().mean().item()
                        assert gap > 1e-3, f"members {i} and {j} of {k} are {gap} apart after {done} updates"


def metrics_are_finite(name: str, discrete: bool, **settings: Any) -> None:
    """Metrics of all updates are finite 0-d tensors without gradient."""
    agent = build(name, discrete, **settings)
    for metrics in updates(agent, 8):
        assert metrics
        for k, value in metrics.items():
            assert isinstance(value, Tensor), f"{k} is a {type(value).__name__}"
            assert value.ndim == 0, f"{k} has shape {list(value.shape)}"
            assert not value.requires_grad, f"{k} carries a gradient"
            assert torch.isfinite(value), f"{k} is {value.item()}"
    assert all(torch.isfinite(p).all() for p in agent.parameters())


def ratio_is_one(name: str, discrete: bool, **settings: Any) -> None:
    """Before the first step on each of three rollouts, pi / pi_old is 1, and pi_old is the policy that acted."""
    agent = build(name, discrete, epochs=1, batch_size=10_000, learning_rate=1e-2, **settings)
    act, acted = agent.act, []

    def watched_act(obs: Tensor, explore: bool) -> Tensor:
        action = act(obs, explore)
        acted.append(agent.law(obs).log_prob(action).clone())
        return action

    agent.act = watched_act
    batches = stream(agent)
    for _ in range(3):
        batch: RolloutBatch = next(batches)
        with torch.no_grad():
            ratio = (agent.law(batch.obs).log_prob(batch.action) - batch.log_prob).exp()
        torch.testing.assert_close(ratio, torch.ones_like(ratio), atol=1e-6, rtol=0)
        there = torch.cat(acted)
        gap = (batch.log_prob[:, None] - there[None]).abs().amin(1).max().item()
        assert gap < 2e-5, f"a log-probability is {gap} off every one at which the policy acted"
        acted.clear()
        agent.step(batch)


# ---- probes ------------------------------------------------------------------------------------------------------

PROBE: dict[str, Any] = {
    "gamma": 0.7,
    "learning_rate": 3e-3,
    "hidden": (32,),
    "batch_size": 64,
    "start": 64,
    "train_every": 1,
    "update_ratio": 0.5,
    "tau": 0.05,
    "target_every": 20,
    "exploration_fraction": 0.5,
    "exploration_end": 0.2,
    "exploration_noise": 0.3,
    "noise": 0.1,
    "rollout_length": 32,
    "epochs": 10,
    "temperature": 0.01,
    "learn_temperature": False,
    "renorm_warmup": 50,
    "actor_decay": False,
    "actor_learning_rate": 3e-3,
    "penalty_weight": 0.01,
    "lagrange": False,
    "beta": 0.01,
    "predictor_updates": 20,
    "quantiles": 8,
    "policy_quantiles": 8,
    "intrinsic_coef": 0.01,
    "bonus_low": -0.3,
}
"""Settings with which every agent finds the values of the probes within a second or two."""

GAMMA = PROBE["gamma"]


def trained_on(probe: str, name: str, discrete: bool, steps: int, **settings: Any) -> Any:
    """The agent after training on a probe: online, or on data of random actions if it is an offline agent."""
    env = make(f"bellmark/{probe}-v0", 4, continuous=not discrete)
    kind = agent_class(name)
    agent = bellmark.make(name, env, seed=3, **small(kind, **{**PROBE, **settings}))
    if is_offline(name):
        return agent.fit(random_data(env, 300), updates=steps // 2)
    return agent.learn(steps if has_replay(name) else 2 * steps)


def random_data(env: Any, steps: int) -> Buffer:
    """What random actions lead to, in `steps` steps of every environment."""
    rng, buffer = np.random.default_rng(0), Buffer(env.spec, steps + 1, env.num_envs)
    buffer.begin(env.reset(0))
    for _ in range(steps):
        action = random_actions(env.spec, rng, env.num_envs)
        buffer.add(action, env.step(action))
    return buffer


def finds_value_of_truncated_forever(name: str, discrete: bool, **settings: Any) -> None:
    agent = trained_on("TruncatedForever", name, discrete, 1200, **settings)
    close(value_of(agent, np.ones((1, 1))), [TruncatedForever.value(GAMMA)], tolerance=0.15)


def finds_values_of_delayed_reward(name: str, discrete: bool, **settings: Any) -> None:
    agent = trained_on("DelayedReward", name, discrete, 1200, **settings)
    close(value_of(agent, np.eye(4)), DelayedReward.value(GAMMA, 4), tolerance=0.15)


def chooses_the_sign(name: str, discrete: bool, **settings: Any) -> None:
    """The policy is right in both states; critics of actions give 1 to the right and -1 to the wrong choice."""
    if has(name, "renorm_warmup"):  # running statistics say nothing about actions that are no longer tried
        settings |= {"learn_temperature": True, "temperature": 1.0, "update_ratio": 1.0}
    settings = {"start": 800, "hidden": (64,), **settings}  # a saturated policy no longer tries the other side
    agent = trained_on("ChooseSign", name, discrete, 1600, **settings)
    obs = np.repeat([[-1.0], [1.0]], 2, axis=0).astype(np.float32)
    action = agent.act_on(obs, explore=False)
    choice = action if discrete else (action[:, 0] > 0).astype(int)
    np.testing.assert_array_equal(ChooseSign.value(obs, choice), np.ones(4))
    choice = np.array([0, 1, 0, 1])
    q = action_value(agent, obs, choice if discrete else np.float32(1.4 * choice[:, None] - 0.7))
    if q is None:
        values = torch.cat([value_of(agent, state[None]) for state in obs])  # each an episode of its own
        close(values, np.ones(4), tolerance=0.3)
    else:
        close(q, ChooseSign.value(obs, choice), tolerance=0.5)  # a step, by a small network


def close(values: Tensor, true: Any, tolerance: float) -> None:
    np.testing.assert_allclose(values.numpy(), np.asarray(true), atol=tolerance, rtol=0)


# ---- known answers through the agents ----------------------------------------------------------------------------


def batch_of(
    obs: Any = (0.0, 0.0, 0.0), action: Any = (0.0, 0.0), reward: Any = 1.0, discount: Any = 0.99, rows: int = 1
) -> Batch:
    """A batch whose rows are all alike, unless tensors are given."""
    to = lambda x: x if isinstance(x, Tensor) else torch.tensor(x).expand(rows, *torch.tensor(x).shape)  # noqa: E731
    obs, action, reward, discount = to(obs), to(action), to(reward), to(discount)
    return Batch(obs, action, reward, discount, obs, torch.ones(len(obs)), torch.arange(len(obs)))


def plant(network: Any, output: Any) -> None:
    """Makes a network answer `output` (or `output(*inputs)`) whatever its parameters are."""
    network.forward = output if callable(output) else lambda *inputs: torch.as_tensor(output)
    if hasattr(network, "first"):  # one network of an ensemble
        network.first = lambda *inputs: network.forward(*inputs)[0]
        network.output = lambda *inputs: network.forward(*inputs)[..., None]


class FixedLaw:
    """A law that gives one action and its log-probability."""

    def __init__(self, action: Tensor, log_prob: Tensor):
        self.action, self.value = action, log_prob

    def sample_with_log_prob(self) -> tuple[Tensor, Tensor]:
        return self.action, self.value

    def log_prob(self, action: Tensor) -> Tensor:
        return self.value


def sac_target_is_right() -> None:
    agent = build("sac", False, temperature=0.2)
    plant(agent.critic_target, [[10.0], [9.0]])
    plant(agent.critic, [[0.0], [0.0]])
    plant(agent.actor, lambda obs: FixedLaw(torch.zeros(1, 2), torch.tensor([-1.5])))
    torch.testing.assert_close(agent.target(batch_of()), torch.tensor([10.207]))
    torch.testing.assert_close(agent.target(batch_of(discount=0.0)), torch.tensor([1.0]))


def sac_temperature_falls_where_entropy_is_high() -> None:
    agent = build("sac", False, temperature=0.2)
    loss = agent.temperature_loss(torch.tensor([-0.25, -0.75]))
    (slope,) = torch.autograd.grad(loss, [*agent.temperature.parameters()])
    assert agent.target_entropy == -2.0
    np.testing.assert_allclose(slope.item(), 2.5, rtol=1e-6)
    before = agent.temperature().item()
    agent.minimize("temperature", agent.temperature_loss(torch.tensor([-0.5])))
    assert before > agent.temperature().item()
    agent.minimize("temperature", agent.temperature_loss(torch.tensor([5.0])))
    agent.minimize("temperature", agent.temperature_loss(torch.tensor([5.0])))
    low = agent.temperature().item()
    agent.minimize("temperature", agent.temperature_loss(torch.tensor([5.0])))
    assert agent.temperature().item() > low


def td3_target_is_right() -> None:
    agent = build("td3", False, spec=None)
    plant(agent.critic_target, [[5.0], [4.5]])
    plant(agent.critic, [[0.0], [0.0]])
    torch.testing.assert_close(agent.target(batch_of()), torch.tensor([5.455]))
    torch.testing.assert_close(agent.target(batch_of(discount=0.0)), torch.tensor([1.0]))


def dqn_target_is_right(double: bool, answer: float) -> None:
    agent = build("dqn", True, double=double)
    plant_q(agent.q_target, [[2.0, 5.0]])
    plant_q(agent.q, [[3.0, 1.0]])
    batch = batch_of(action=0, discount=0.9)
    torch.testing.assert_close(agent.target(batch), torch.tensor([answer]))


def plant_q(network: Any, values: Any) -> None:
    """Plants values of discrete actions, both as outputs and as values."""
    network.output = lambda obs: torch.tensor(values)[..., None]


def iql_value_is_the_expectile(t: float, answer: float) -> None:
    """The value of one state whose recorded actions are worth 0, 1 and 10 settles at their t-expectile."""
    agent = build("iql", False, hidden=(), expectile=t, learning_rate=0.1)
    plant(agent.critic_target, [[0.0, 1.0, 10.0], [0.0, 1.0, 10.0]])
    for _ in range(300):
        agent.step(batch_of(rows=3))
    np.testing.assert_allclose(agent.value(torch.zeros(1, 3)).item(), answer, atol=0.02)


def td3_smoothing_is_right() -> None:
    """Target policy (.8, -.9, 0) and raw noise (.7, -.3, .1) give the action (1, -1, .1)."""
    agent = build("td3", False, spec=spec_of(False, actions=3))
    actions = []
    plant(agent.actor_target, [[0.8, -0.9, 0.0]])
    plant(agent.critic_target, lambda obs, action: (actions.append(action), torch.zeros(2, 1))[1])
    draw = torch.randn_like
    torch.randn_like = lambda x: torch.tensor([[3.5, -1.5, 0.5]])  # type: ignore[assignment]
    try:
        agent.target(batch_of(action=(0.0, 0.0, 0.0)))
    finally:
        torch.randn_like = draw
    torch.testing.assert_close(actions, [torch.tensor([[1.0, -1.0, 0.1]])])


def td3_bc_actor_loss_is_right() -> None:
    """Q (2, -6), pi ((.5, .5), (0, 0)), a ((.5, 0), (1, 0)), alpha 2.5: lambda .625, loss 1.5625; and its gradient."""
    agent = build("td3_bc", False, alpha=2.5)
    action = torch.tensor([[0.5, 0.5], [0.0, 0.0]], requires_grad=True)
    slope = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    plant(agent.actor, lambda obs: action)
    batch = batch_of(obs=torch.zeros(2, 3), action=torch.tensor([[0.5, 0.0], [1.0, 0.0]]), rows=2)
    for scale in (1.0, 10.0):
        plant(agent.critic, lambda obs, a, s=scale: s * _linear_q(a, slope))
        loss = agent.actor_loss(batch)
        np.testing.assert_allclose(loss.item(), 1.5625, rtol=1e-5)
        (gradient,) = torch.autograd.grad(loss, action)
        cloning = 2.0 * (action - batch.action).detach() / 4.0
        torch.testing.assert_close(gradient, cloning - 0.625 * slope / 2.0)


def _linear_q(action: Tensor, slope: Tensor) -> Tensor:
    """Values of two critics, (2, -6) at the actions at hand, with the given gradient in the action."""
    value = torch.tensor([2.0, -6.0]) + ((action - action.detach()) * slope).sum(1)
    return torch.stack([value, value + 100.0])


def iql_weights_are_right() -> None:
    """Inverse temperature 3: the advantage 1 weighs 20.0855, the advantage 2 weighs 100 (403.4 before the bound)."""
    agent = build("iql", False)
    plant(agent.actor, lambda obs: FixedLaw(torch.zeros(1), torch.ones(len(obs), requires_grad=True)))
    for advantage, weight in ((0.0, 1.0), (1.0, 20.085537), (2.0, 100.0), (-1.0, 0.049787)):
        loss = agent.actor_loss(batch_of(), torch.tensor([advantage]))
        np.testing.assert_allclose(loss.item(), -weight, rtol=1e-5)


def buffer_gives_true_transitions() -> None:
    """Every sampled transition of an environment that counts its steps is one that happened."""
    from bellmark.agents.core.batch import Step

    spec, count = spec_of(True, obs_size=2), 60
    buffer, rng = Buffer(spec, 200, 1), np.random.default_rng(0)
    true, obs, clock, done = {}, np.zeros((1, 2), np.float32), 0.0, False
    buffer.begin(obs)
    for t in range(count):
        clock += 1.0
        next_obs, valid = np.full((1, 2), clock, np.float32), not done
        terminated, truncated = bool(valid and rng.random() < 0.2), bool(valid and rng.random() < 0.2)
        truncated &= not terminated
        reward = float(t) if valid else 0.0
        if valid:
            true[float(obs[0, 0])] = (reward, 0.0 if terminated else 0.5, clock)
        flags = (np.array([flag]) for flag in (terminated, truncated, valid))
        buffer.add(np.zeros(1, np.int64), Step(next_obs, np.array([reward], np.float32), *flags, next_obs))
        obs, done = next_obs, terminated or truncated
    batch = buffer.sample(2000, 0.5)
    columns = (batch.obs[:, 0], batch.reward, batch.discount, batch.next_obs[:, 0])
    found = {row[0]: row[1:] for row in zip(*(column.tolist() for column in columns), strict=True)}
    assert found == true


# ---- whole updates against the equations, written out ------------------------------------------------------------


def forward(p: dict[str, Tensor], prefix: str, x: Tensor, activation: Any = torch.relu) -> Tensor:
    """The network whose linear layers are `prefix.<i>.weight` and `.bias` in `p`; ensembles give `[E, B, K]`."""
    layers = sorted({k.removeprefix(prefix + ".").split(".")[0] for k in p if k.startswith(prefix + ".")}, key=int)
    for i in layers:
        weight, bias = p[f"{prefix}.{i}.weight"], p[f"{prefix}.{i}.bias"]
        x = torch.einsum("...bi,...io->...bo", x, weight) + (bias.unsqueeze(1) if weight.ndim == 3 else bias)
        x = activation(x) if i != layers[-1] else x
    return x


class Reference:
    """Copies of an agent's parameters, with torch's own Adam for each trainable child."""

    def __init__(self, agent: Any, **adam: Any):
        named = agent.named_parameters()
        self.p = {k: v.detach().clone().requires_grad_(v.requires_grad) for k, v in named}
        groups: dict[str, list[Tensor]] = {}
        for k, v in self.p.items():
            if v.requires_grad:
                groups.setdefault(k.split(".")[0], []).append(v)
        rate = agent.config.learning_rate
        self.adam = {k: torch.optim.Adam(v, lr=rate, foreach=False, **adam) for k, v in groups.items()}

    def step(self, child: str, loss: Tensor) -> None:
        for v in self.p.values():
            v.grad = None
        loss.backward()
        if self.max_norm:
            torch.nn.utils.clip_grad_norm_(self.adam[child].param_groups[0]["params"], self.max_norm)
        self.adam[child].step()

    max_norm = 0.0

    def follow(self, target: str, source: str, tau: float) -> None:
        with torch.no_grad():
            for k, v in self.p.items():
                if k.startswith(target + "."):
                    v.copy_((1 - tau) * v + tau * self.p[source + k.removeprefix(target)])

    def q(self, critic: str, obs: Tensor, action: Tensor) -> Tensor:
        return forward(self.p, f"{critic}.net", torch.cat([obs, action], 1))[..., 0]

    def agrees_with(self, agent: Any) -> None:
        for k, v in agent.named_parameters():
            close_by = {"atol": 3e-6, "rtol": 1e-4, "msg": lambda text, k=k: f"{k}: {text}"}
            torch.testing.assert_close(v.detach(), self.p[k].detach(), **close_by)


def compare_with(agent: Any, reference: Reference, update: Any, count: int = 5) -> None:
    """`count` updates of both on the same batches with the same random numbers leave the same parameters."""
    start = {k: v.detach().clone() for k, v in agent.named_parameters()}
    batches = stream(agent)
    for i in range(count):
        batch = next(batches)
        torch.manual_seed(100 + i)
        agent.step(batch)
        torch.manual_seed(100 + i)
        update(batch, i + 1)
        reference.agrees_with(agent)
    assert not [k for k, v in agent.named_parameters() if torch.equal(v, start[k])]


def td3_is_its_equations(**settings: Any) -> None:
    agent = build("td3", False, learning_rate=1e-3, tau=0.1, **settings)
    r, c = Reference(agent), agent.config
    pi = lambda actor, obs: forward(r.p, f"{actor}.net", obs).tanh()  # noqa: E731

    def update(b: Batch, number: int) -> None:
        with torch.no_grad():
            noise = (torch.randn(len(b.obs), 2) * c.target_noise).clamp(-c.target_noise_clip, c.target_noise_clip)
            action = (pi("actor_target", b.next_obs) + noise).clamp(-1, 1)
            y = b.reward + b.discount * r.q("critic_target", b.next_obs, action).min(0).values
        r.step("critic", sum(((q - y) ** 2).mean() for q in r.q("critic", b.obs, b.action)))
        if number % c.actor_delay == 0:
            r.step("actor", -r.q("critic", b.obs, pi("actor", b.obs))[0].mean())
            r.follow("critic_target", "critic", c.tau)
            r.follow("actor_target", "actor", c.tau)

    compare_with(agent, r, update)


def ddpg_is_td3_with_its_settings() -> None:
    """DDPG (Lillicrap et al. 2016, algorithm 1), written without anything of TD3."""
    agent = build("td3", False, critics=1, target_noise=0.0, actor_delay=1, learning_rate=1e-3, tau=0.1)
    r = Reference(agent)

    def update(b: Batch, number: int) -> None:
        with torch.no_grad():
            next_action = forward(r.p, "actor_target.net", b.next_obs).tanh()
            y = b.reward + b.discount * r.q("critic_target", b.next_obs, next_action)[0]
        r.step("critic", ((r.q("critic", b.obs, b.action)[0] - y) ** 2).mean())
        r.step("actor", -r.q("critic", b.obs, forward(r.p, "actor.net", b.obs).tanh())[0].mean())
        r.follow("critic_target", "critic", 0.1)
        r.follow("actor_target", "actor", 0.1)

    compare_with(agent, r, update)


def sac_is_its_equations() -> None:
    agent = build("sac", False, learning_rate=1e-3, tau=0.1, temperature=0.3)
    r = Reference(agent)

    def policy(obs: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = forward(r.p, "actor.net", obs).chunk(2, -1)
        law = torch.distributions.Normal(mean, log_std.clamp(-20, 2).exp())
        z = mean + log_std.clamp(-20, 2).exp() * torch.randn(len(obs), 2)
        log_prob = law.log_prob(z).sum(-1) - torch.log1p(-(z.double().tanh() ** 2)).float().sum(-1)
        return z.tanh(), log_prob

    def update(b: Batch, number: int) -> None:
        alpha = r.p["temperature.log"].exp().detach()
        with torch.no_grad():
            action, log_prob = policy(b.next_obs)
            value = r.q("critic_target", b.next_obs, action).min(0).values - alpha * log_prob
            y = b.reward + b.discount * value
        r.step("critic", sum(0.5 * ((q - y) ** 2).mean() for q in r.q("critic", b.obs, b.action)))
        action, log_prob = policy(b.obs)
        r.step("actor", (alpha * log_prob - r.q("critic", b.obs, action).min(0).values).mean())
        r.step("temperature", -(r.p["temperature.log"] * (log_prob.detach() - 2.0)).mean())
        r.follow("critic_target", "critic", 0.1)

    compare_with(agent, r, update)


def iql_is_its_equations() -> None:
    """Value, then actor with the new value, then critics with the new value, then targets."""
    agent = build("iql", False, learning_rate=1e-3, tau=0.1, actor_decay=False)
    r = Reference(agent)

    def value(obs: Tensor) -> Tensor:
        hidden = torch.relu(obs @ r.p["value.body.0.weight"] + r.p["value.body.0.bias"])
        return (hidden @ r.p["value.last.0.weight"] + r.p["value.last.0.bias"])[:, 0]

    def update(b: Batch, number: int) -> None:
        with torch.no_grad():
            q = r.q("critic_target", b.obs, b.action).min(0).values
        u = q - value(b.obs)
        r.step("value", ((0.7 - (u.detach() < 0).float()).abs() * u**2).mean())
        weight = torch.exp(3.0 * (q - value(b.obs))).clamp(max=100.0).detach()
        mean = forward(r.p, "actor.net", b.obs).tanh()
        law = torch.distributions.Normal(mean, r.p["actor.log_std"].clamp(-5, 2).exp())
        r.step("actor", -(weight * law.log_prob(b.action.clamp(-1 + 1e-5, 1 - 1e-5)).sum(-1)).mean())
        y = (b.reward + b.discount * value(b.next_obs)).detach()
        r.step("critic", sum(((q - y) ** 2).mean() for q in r.q("critic", b.obs, b.action)))
        r.follow("critic_target", "critic", 0.1)

    compare_with(agent, r, update)


def dqn_is_its_equations(double: bool) -> None:
    agent = build("dqn", True, learning_rate=1e-3, double=double, target_every=8, update_ratio=0.25, max_grad_norm=0.5)
    r = Reference(agent)
    r.max_norm = 0.5

    def q(net: str, obs: Tensor) -> Tensor:
        hidden = torch.relu(obs @ r.p[f"{net}.body.0.weight"] + r.p[f"{net}.body.0.bias"])
        return hidden @ r.p[f"{net}.last.0.weight"] + r.p[f"{net}.last.0.bias"]

    def update(b: Batch, number: int) -> None:
        with torch.no_grad():
            chooser = q("q" if double else "q_target", b.next_obs)
            y = b.reward + b.discount * q("q_target", b.next_obs).gather(1, chooser.argmax(1, keepdim=True))[:, 0]
        r.step("q", torch.nn.functional.smooth_l1_loss(q("q", b.obs).gather(1, b.action[:, None])[:, 0], y))
        if number % 2 == 0:
            r.follow("q_target", "q", 1.0)

    compare_with(agent, r, update)


def ppo_is_its_equations(discrete: bool, **settings: Any) -> None:
    """Three rollouts, each advantage from the double sum that defines it, each step by the clipped objective."""
    chosen = {"clip": 0.1, "entropy_coef": 0.01, "learning_rate": 1e-2, "batch_size": 8, **settings}
    agent = build("ppo", discrete, **chosen)
    r, c = Reference(agent, eps=1e-5), agent.config
    r.max_norm = c.max_grad_norm

    def law(obs: Tensor) -> Any:
        p, body = r.p, "actor_critic.actor.body" if discrete else "actor_critic.actor.net"
        hidden = torch.tanh(obs @ p[f"{body}.0.weight"] + p[f"{body}.0.bias"])
        last = "actor_critic.actor.last.0" if discrete else f"{body}.2"
        output = hidden @ p[f"{last}.weight"] + p[f"{last}.bias"]
        if discrete:
            return torch.distributions.Categorical(logits=output)
        return torch.distributions.Independent(
            torch.distributions.Normal(output, p["actor_critic.actor.log_std"].exp()), 1
        )

    def value(obs: Tensor) -> Tensor:
        p = r.p
        hidden = torch.tanh(obs @ p["actor_critic.critic.body.0.weight"] + p["actor_critic.critic.body.0.bias"])
        return (hidden @ p["actor_critic.critic.last.0.weight"] + p["actor_critic.critic.last.0.bias"])[:, 0]

    def update(b: RolloutBatch, number: int) -> None:
        ratio = (law(b.obs).log_prob(b.action) - b.log_prob).exp()
        advantage = (b.advantage - b.advantage.mean()) / (b.advantage.std() + 1e-8)
        gain = torch.min(ratio * advantage, ratio.clamp(1 - c.clip, 1 + c.clip) * advantage).mean()
        error = ((value(b.obs) - b.target) ** 2).mean()
        r.step("actor_critic", -gain + c.value_coef * error - c.entropy_coef * law(b.obs).entropy().mean())

    compare_with(agent, r, update, count=12)


def ppo_is_the_policy_gradient_at_first(discrete: bool) -> None:
    """One pass in one batch gives A2C's gradient, however narrow the clip is, since the ratio is 1."""
    agent = build("ppo", discrete, epochs=1, batch_size=10_000, clip=0.01, entropy_coef=0.02, value_coef=0.7)
    gradients: list[tuple[Tensor, ...]] = []
    minimize, parameters = agent.minimize, [*agent.actor_critic.parameters()]

    def watched_minimize(name: str, loss: Tensor) -> Tensor:
        gradients.append(torch.autograd.grad(loss, parameters, retain_graph=True))
        return minimize(name, loss)

    agent.minimize = watched_minimize
    batches = stream(agent)
    for _ in range(3):
        batch = next(batches)
        law, value = agent.law(batch.obs), agent.actor_critic.critic(batch.obs)
        advantage = (batch.advantage - batch.advantage.mean()) / (batch.advantage.std() + 1e-8)
        gain = (advantage * law.log_prob(batch.action)).mean() + 0.02 * law.entropy().mean()
        true = torch.autograd.grad(0.7 * (value - batch.target).square().mean() - gain, parameters)
        agent.step(batch)
        for found, wanted in zip(gradients.pop(), true, strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-4)
