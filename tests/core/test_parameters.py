"""One flat tensor behaves as the separate parameters would."""

from __future__ import annotations

import pytest
import torch
from bellmark.agents.core.nets import frozen_copy, mlp
from bellmark.agents.core.parameters import FlatParameters, shorten
from torch import nn


def pair():
    """A flattened network, and the same network as it was."""
    net = mlp(3, (5, 7), 2, activation="tanh")
    return net, FlatParameters(net), frozen_copy(net).requires_grad_(True)


def loss_of(net, x):
    return (net(x) - 1).square().mean()


def test_parameters_are_views_of_one_tensor():
    torch.manual_seed(3)
    values = [x.detach().clone() for x in mlp(3, (5, 7), 2).parameters()]
    torch.manual_seed(3)
    net = mlp(3, (5, 7), 2)
    flat = FlatParameters(net)
    storage = flat.flat.untyped_storage().data_ptr()
    for value, parameter in zip(values, net.parameters(), strict=True):
        assert torch.equal(value, parameter)
        assert parameter.untyped_storage().data_ptr() == storage
    with torch.no_grad():
        flat.flat.fill_(2.0)
    assert all((parameter == 2).all() for parameter in net.parameters())
    with torch.no_grad():
        for i, parameter in enumerate(net.parameters()):
            parameter.fill_(10.0 + i)
    counts = {10 + i: parameter.numel() for i, parameter in enumerate(net.parameters())}
    assert all(int((flat.flat == value).sum()) == count for value, count in counts.items()), "views do not overlap"


@pytest.mark.parametrize("compiled", [False, True], ids=["kernel", "formula"])
@pytest.mark.parametrize("max_norm", [0.0, 0.05])
def test_steps_are_those_of_adam_on_separate_parameters(max_norm, compiled, monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiled)
    net, flat, reference = pair()
    flat.optimizer = torch.optim.Adam([flat.flat], fused=True)
    theirs = torch.optim.Adam(reference.parameters(), lr=1e-2)
    for _ in range(200):
        x = torch.randn(16, 3)
        norm = flat.descend(loss_of(net, x), 1e-2, max_norm, "stop")["grad_norm"]
        theirs.zero_grad()
        loss_of(reference, x).backward()
        length = nn.utils.clip_grad_norm_(reference.parameters(), max_norm or 1e9)
        torch.testing.assert_close(norm, length, rtol=1e-3, atol=1e-6)
        theirs.step()
    for own, other in zip(net.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)
    assert loss_of(net, torch.randn(100, 3)) < 0.1


@pytest.mark.parametrize("compiled", [False, True], ids=["kernel", "formula"])
def test_a_hundred_steps_in_float64_are_exactly_adams(compiled, monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiled)
    net, _, reference = pair()
    net = frozen_copy(net).double().requires_grad_(True)
    reference = reference.double()
    flat = FlatParameters(net)
    flat.optimizer = torch.optim.Adam([flat.flat], betas=(0.8, 0.95), eps=1e-3)
    theirs = torch.optim.Adam(reference.parameters(), lr=1e-2, betas=(0.8, 0.95), eps=1e-3)
    for _ in range(100):
        x = torch.randn(16, 3, dtype=torch.float64)
        flat.descend(loss_of(net, x), 1e-2, 0.1, "stop")
        theirs.zero_grad()
        loss_of(reference, x).backward()
        nn.utils.clip_grad_norm_(reference.parameters(), 0.1)
        theirs.step()
    for own, other in zip(net.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=1e-7)


@pytest.mark.parametrize("compiled", [False, True], ids=["kernel", "formula"])
def test_a_step_that_is_skipped_changes_nothing(compiled, monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiled)
    net, flat, _ = pair()
    flat.optimizer = torch.optim.Adam([flat.flat])
    x = torch.randn(16, 3)
    flat.descend(loss_of(net, x), 1e-2, 0.0, "skip")
    before = {name: value.clone() for name, value in flat.optimizer_state().items()} | {"flat": flat.flat.clone()}
    found = flat.descend(loss_of(net, x) * float("inf"), 1e-2, 0.0, "skip")
    assert found["grad_non_finite_count"] == 1
    for name, value in {**flat.optimizer_state(), "flat": flat.flat}.items():
        assert torch.equal(value, before[name]), name
    flat.descend(loss_of(net, x), 1e-2, 0.0, "skip")
    assert flat.optimizer_state()["step"] == 2


@pytest.mark.parametrize("compiled", [False, True], ids=["kernel", "formula"])
def test_the_very_first_step_can_be_skipped(compiled, monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiled)
    net, flat, _ = pair()
    flat.optimizer = torch.optim.Adam([flat.flat])
    before = flat.flat.clone()
    flat.descend(loss_of(net, torch.randn(16, 3)) * float("inf"), 1e-2, 0.0, "skip")
    assert torch.equal(flat.flat, before) and flat.optimizer_state()["step"] == 0


def test_the_gradient_is_that_of_this_network_alone():
    net, flat, _ = pair()
    other = mlp(2, (4,), 1)
    flat.backward(other(net(torch.randn(8, 3))).mean())
    assert flat.flat.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in other.parameters())


def test_only_what_is_longer_is_shortened():
    gradient = torch.zeros(30)
    gradient[0], gradient[20] = 3.0, 4.0
    assert shorten(gradient, 10.0) == 5
    assert gradient.norm().item() == 5
    shorten(gradient, 0.5)
    assert gradient[[0, 20]].tolist() == pytest.approx([0.3, 0.4], rel=1e-6)


def test_follow_of_the_card():
    online, target = nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False)
    source, follower = FlatParameters(online), FlatParameters(target)
    with torch.no_grad():
        source.flat.fill_(2.0)
        follower.flat.fill_(1.0)
    for _ in range(3):
        follower.follow(source, 0.005)
    for parameter in target.parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, 1.014925125), rtol=0, atol=1e-6)
    assert all((parameter == 2).all() for parameter in online.parameters())
    follower.follow(source, 1.0)
    assert all((parameter == 2).all() for parameter in target.parameters())
    assert not follower.trainable and source.trainable


def test_follow_copies_running_statistics():
    online, target = (nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)) for _ in range(2))
    online(torch.randn(10, 2))
    FlatParameters(target.requires_grad_(False)).follow(FlatParameters(online), 0.005)
    assert torch.equal(target[1].running_mean, online[1].running_mean)
    assert torch.equal(target[1].running_var, online[1].running_var)
    assert target[1].num_batches_tracked == 1
