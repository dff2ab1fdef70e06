"""What must hold in every agent, whatever it learns."""

from __future__ import annotations

from typing import Any

import checks
import numpy as np
import pytest
import torch
from bellmark.agents.core.registry import find_agents
from bellmark.agents.core.rollouts import RolloutAgent
from helpers import (
    build,
    cases_where,
    every_case,
    every_online_case,
    has,
    one_batch,
    remembers,
    spec_of,
    stream,
    updates,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map


def on_policy(name: str) -> bool:
    """Whether it passes over single transitions of a rollout, in random order."""
    return issubclass(find_agents()[name], RolloutAgent) and not remembers(name)


@every_case
def test_every_parameter_moves(name, discrete):
    checks.every_parameter_moves(name, discrete)


@every_case
def test_minimising_one_child_moves_no_other(name, discrete):
    checks.only_the_named_child_moves(name, discrete)


@every_case
def test_targets_follow(name, discrete):
    checks.targets_follow(name, discrete)


@every_case
def test_targets_want_no_gradient(name, discrete):
    checks.targets_want_no_gradient(name, discrete)


@every_case
def test_no_gradient_is_left(name, discrete):
    checks.no_gradient_is_left(name, discrete)


@every_case
def test_ensemble_members_differ(name, discrete):
    checks.ensembles_differ(name, discrete)


@every_case
@pytest.mark.parametrize("batch_size", [1, 16])
def test_metrics_are_finite(name, discrete, batch_size):
    checks.metrics_are_finite(name, discrete, batch_size=batch_size)


@every_case
def test_metrics_are_finite_with_normalised_observations(name, discrete):
    checks.metrics_are_finite(name, discrete, normalize_obs=True, normalize_reward=True)


@cases_where(on_policy)
@pytest.mark.parametrize("settings", [{}, {"normalize_obs": True}, {"normalize_obs": True, "normalize_reward": True}])
def test_ratio_is_one_before_the_first_step(name, discrete, settings):
    checks.ratio_is_one(name, discrete, **settings)


@cases_where(on_policy)
def test_every_pass_visits_every_transition_once(name, discrete):
    agent = build(name, discrete, rollout_length=24, epochs=3, batch_size=7)
    batches, rollouts = agent.batches, []

    def watched_batches(buffer):
        found = [*batches(buffer)]
        if found:
            assert not buffer.transitions, "the rollout is still there"
            rollouts.append(found)
        return found

    agent.batches = watched_batches
    one_batch(agent)
    rows = [row.tobytes() for batch in rollouts[0] for row in batch.obs.numpy()]
    transitions = len(rows) // 3
    assert 24 < transitions <= 48, "two columns of 24 rows, less the resets"
    passes = [sorted(rows[i * transitions : (i + 1) * transitions]) for i in range(3)]
    assert passes[0] == passes[1] == passes[2]
    assert len(set(passes[0])) == transitions
    assert rows[:transitions] != rows[transitions : 2 * transitions], "every pass has an order of its own"


@every_case
@pytest.mark.parametrize("explore", [False, True])
def test_actions_are_in_range(name, discrete, explore):
    agent = build(name, discrete)
    updates(agent, 3)
    obs = np.random.default_rng(0).standard_normal((200, 3)).astype(np.float32) * 10
    action = agent.act_on(obs, explore)
    spec = agent.spec
    if discrete:
        assert action.dtype == np.int64
        assert action.shape == (200,)
        assert 0 <= action.min() <= action.max() < spec.actions
    else:
        assert action.dtype == np.float32
        assert action.shape == (200, spec.actions)
        assert np.isfinite(action).all()
        outside, state = agent.predict(obs, deterministic=not explore)
        assert (state is not None) == remembers(name)
        assert outside.shape == (200, spec.actions)
        assert -2.0 <= outside.min() <= outside.max() <= 3.0
    single, _ = agent.predict(obs[0], deterministic=not explore)
    assert np.shape(single) == (() if discrete else (spec.actions,))


@cases_where(lambda name: has(name, "start"))
def test_random_start_covers_the_actions(name, discrete):
    agent = build(name, discrete, start=10)
    action = agent.explore(np.zeros((500, 3), np.float32))
    if discrete:
        np.testing.assert_allclose(np.bincount(action, minlength=2) / 500, [0.5, 0.5], atol=0.1)
    else:
        np.testing.assert_allclose([action.min(), action.mean(), action.max()], [-1, 0, 1], atol=0.1)


@every_case
def test_greedy_actions_are_deterministic(name, discrete):
    agent = build(name, discrete)
    updates(agent, 3)
    obs = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    before = torch.get_rng_state()
    first = agent.act_on(obs, explore=False)
    np.testing.assert_array_equal(first, agent.act_on(obs, explore=False))
    assert torch.equal(before, torch.get_rng_state()), "acting without exploration drew random numbers"
    np.testing.assert_allclose(agent.act_on(obs[:1], explore=False), first[:1], rtol=1e-4, atol=1e-5)


@every_online_case
def test_exploring_actions_differ(name, discrete):
    agent = build(name, discrete)
    obs = np.zeros((100, 3), np.float32)
    actions = [agent.act_on(obs, explore=True) for _ in range(20)]  # a noisy network draws its noise once a call
    assert len(np.unique(np.concatenate(actions), axis=0)) > 1


HOST = {"aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::nonzero", "aten::masked_select"}
"""Operations whose result the host must wait for."""


class NoHost(TorchDispatchMode):
    """Refuses operations for which the host would wait for the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().split(".")[0]
        assert name not in HOST, f"{name} waits for the device"
        if name == "aten::index":
            assert not any(i is not None and i.dtype == torch.bool for i in args[1]), "a mask as index waits"
        return func(*args, **(kwargs or {}))


@every_case
def test_an_update_never_waits_for_the_device(name, discrete):
    """With the default settings; a setting that needs the host, such as target_kl, says so and is off."""
    agent = build(name, discrete)
    batches = stream(agent)
    for _ in range(6):
        batch = next(batches)
        with NoHost():
            agent.step(batch)


class Elsewhere(TorchDispatchMode):
    """Refuses operations with a tensor that is not on the device "meta"."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, result)) if torch.is_tensor(x)]
        assert all(x.device.type == "meta" for x in tensors), f"{func.name()} of a tensor on the host"
        return result


@every_case
def test_an_update_is_all_on_its_device(name, discrete):
    """What the host holds would be copied at every update, and would stay as it is in a CUDA graph."""
    agent = build(name, discrete)
    batches, kind = stream(agent), type(agent)
    other = kind(agent.spec, agent.config, device="meta")
    for _ in range(4):
        batch = tree_map(lambda x: x.to("meta") if torch.is_tensor(x) else x, next(batches))
        other.updates += 1
        with Elsewhere():
            other(batch)


def test_that_the_detector_of_tensors_elsewhere_detects():
    with pytest.raises(AssertionError, match="on the host"), Elsewhere():
        torch.ones(2, device="meta") * torch.tensor(2.0)


def test_that_the_detector_of_waiting_detects():
    with pytest.raises(AssertionError, match="waits"), NoHost():
        torch.ones(1).item()
    with pytest.raises(AssertionError, match="waits"), NoHost():
        torch.arange(3)[torch.ones(3, dtype=torch.bool)]


@cases_where(lambda name: has(name, "target_kl"))
def test_target_kl_stops_the_passes(name, discrete):
    agent = build(name, discrete, target_kl=1e-6, learning_rate=1e-2, epochs=10, rollout_length=16, batch_size=100)
    batches = stream(agent)
    agent.step(next(batches))  # the first step always happens: nothing has moved yet
    before = [p.clone() for p in agent.parameters()]
    agent.step(next(batches))
    assert all(torch.equal(p, q) for p, q in zip(before, agent.parameters(), strict=True))
    assert agent.stop_pass
    next(batches)
    assert not agent.stop_pass, "the next rollout begins anew"


@every_case
def test_an_agent_is_copied_whole(name, discrete):
    import copy

    agent = build(name, discrete)
    updates(agent, 5)
    other = copy.deepcopy(agent)
    obs = np.random.default_rng(1).standard_normal((20, 3)).astype(np.float32)
    np.testing.assert_array_equal(agent.act_on(obs, False), other.act_on(obs, False))
    assert other.counters() == agent.counters()
    before = agent.act_on(obs, False)
    updates(other, 5)
    np.testing.assert_array_equal(agent.act_on(obs, False), before)


@every_case
def test_images_are_refused_or_work(name, discrete):
    from bellmark.agents.core.errors import UnsupportedSpace
    from bellmark.agents.core.spec import Spec

    vector = spec_of(discrete)
    image = Spec(**{**vector.__dict__, "obs_shape": (1, 36, 36), "obs_dtype": "uint8"})
    try:
        agent = build(name, discrete, spec=image, normalize_obs=False)
    except UnsupportedSpace:
        return
    obs = np.random.default_rng(0).integers(256, size=(2, 1, 36, 36), dtype=np.uint8)
    assert len(agent.act_on(obs, explore=False)) == 2


@cases_where(lambda name: not remembers(name))
def test_a_batch_holds_what_the_agent_asked_for(name, discrete):
    agent = build(name, discrete, batch_size=16, rollout_length=8)
    batch = one_batch(agent)
    sizes = {len(value) for value in batch}
    assert sizes == {len(batch.obs)}
    assert 12 <= len(batch.obs) <= 16
    assert batch.action.dtype == (torch.int64 if discrete else torch.float32)
