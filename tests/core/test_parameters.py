"""One flat tensor behaves as the separate parameters would."""

from __future__ import annotations

import pytest
import torch
from bellmark.agents.core.nets import frozen_copy, mlp
from bellmark.agents.core.parameters import FlatParameters
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


@pytest.mark.parametrize("max_norm", [None, 0.05])
def test_steps_are_those_of_adam_on_separate_parameters(max_norm):
    net, flat, reference = pair()
    ours = torch.optim.Adam([flat.flat], lr=1e-2, fused=True)
    theirs = torch.optim.Adam(reference.parameters(), lr=1e-2)
    for _ in range(200):
        x = torch.randn(16, 3)
        flat.backward(loss_of(net, x))
        theirs.zero_grad()
        loss_of(reference, x).backward()
        if max_norm is not None:
            flat.clip(max_norm)
            nn.utils.clip_grad_norm_(reference.parameters(), max_norm)
        for ours_grad, parameter in zip(flat.gradients, reference.parameters(), strict=True):
            torch.testing.assert_close(ours_grad, parameter.grad, rtol=1e-3, atol=1e-6)
        ours.step()
        theirs.step()
    for own, other in zip(net.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)
    assert loss_of(net, torch.randn(100, 3)) < 0.1


def test_a_hundred_steps_in_float64_are_exactly_adams():
    net, _, reference = pair()
    net = frozen_copy(net).double().requires_grad_(True)
    reference = reference.double()
    flat = FlatParameters(net)
    ours = torch.optim.Adam([flat.flat], lr=1e-2)
    theirs = torch.optim.Adam(reference.parameters(), lr=1e-2)
    for _ in range(100):
        x = torch.randn(16, 3, dtype=torch.float64)
        flat.backward(loss_of(net, x))
        flat.clip(0.1)
        ours.step()
        theirs.zero_grad()
        loss_of(reference, x).backward()
        nn.utils.clip_grad_norm_(reference.parameters(), 0.1)
        theirs.step()
    for own, other in zip(net.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=1e-7)


def test_the_gradient_is_that_of_this_network_alone():
    net, flat, _ = pair()
    other = mlp(2, (4,), 1)
    flat.backward(other(net(torch.randn(8, 3))).mean())
    assert flat.flat.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in other.parameters())


def test_clip_shortens_only_what_is_longer():
    _, flat, _ = pair()
    flat.flat.grad.zero_()
    flat.flat.grad[0], flat.flat.grad[20] = 3.0, 4.0
    flat.clip(10.0)
    assert flat.flat.grad.norm().item() == 5
    flat.clip(0.5)
    assert flat.flat.grad[[0, 20]].tolist() == pytest.approx([0.3, 0.4], rel=1e-6)


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
