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
    has_replay,
    is_offline,
    one_batch,
    random_actions,
    small,
    snapshot,
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
        assert all(p.data_ptr() != q.data_ptr() for p, q in zip(own.values(), children(agent)[source].parameters()))
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
    assert not [field for field in fields if getattr(batch, field).requires_grad]
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
    "rollout_length": 32,
    "epochs": 10,
    "temperature": 0.01,
    "learn_temperature": False,
    "actor_decay": False,
}
"""Settings with which every agent finds the values of the probes within a second or two."""

GAMMA, TOLERANCE = PROBE["gamma"], 0.3


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
    agent = trained_on("TruncatedForever", name, discrete, 1600, **settings)
    close(value_of(agent, np.ones((1, 1))), [TruncatedForever.value(GAMMA)])


def finds_values_of_delayed_reward(name: str, discrete: bool, **settings: Any) -> None:
    agent = trained_on("DelayedReward", name, discrete, 1600, **settings)
    close(value_of(agent, np.eye(4)), DelayedReward.value(GAMMA, 4), tolerance=0.15)


def chooses_the_sign(name: str, discrete: bool, **settings: Any) -> None:
    """The policy is right in both states; critics of actions give 1 to the right and -1 to the wrong choice."""
    agent = trained_on("ChooseSign", name, discrete, 1600, **settings)
    obs = np.repeat([[-1.0], [1.0]], 2, axis=0).astype(np.float32)
    action = agent.act_on(obs, explore=False)
    choice = action if discrete else (action[:, 0] > 0).astype(int)
    np.testing.assert_array_equal(ChooseSign.value(obs, choice), np.ones(4))
    choice = np.array([0, 1, 0, 1])
    q = action_value(agent, obs, choice if discrete else np.float32(1.4 * choice[:, None] - 0.7))
    if q is None:
        close(value_of(agent, obs), np.ones(4))
    else:
        close(q, ChooseSign.value(obs, choice))


def close(values: Tensor, true: Any, tolerance: float = TOLERANCE) -> None:
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
    agent = build("iql", False, hidden=(), expectile=t, learning_rate=0.05)
    plant(agent.critic_target, [[0.0, 1.0, 10.0], [0.0, 1.0, 10.0]])
    for _ in range(700):
        agent.step(batch_of(rows=3))
    np.testing.assert_allclose(agent.value(torch.zeros(1, 3)).item(), answer, atol=0.02)
