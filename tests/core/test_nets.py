"""Networks: ensembles are separate networks, initialisers do what they say, statistics are exact."""

from __future__ import annotations

import math

import pytest
import torch
from bellmark.agents.core.bodies import NatureCNN, body
from bellmark.agents.core.nets import (
    ACTIVATIONS,
    LayerNorm,
    Linear,
    NoisyLinear,
    frozen_copy,
    mlp,
    orthogonal_init,
    signed_sqrt,
    uniform_init,
)
from bellmark.agents.core.normalizer import Normalizer
from bellmark.agents.core.spec import Spec
from torch import nn


def test_one_linear_layer():
    layer, x = Linear(3, 2), torch.randn(4, 3)
    torch.testing.assert_close(layer(x), x @ layer.weight + layer.bias)
    torch.testing.assert_close(layer(x.expand(5, 4, 3))[2], layer(x))


@pytest.mark.parametrize("own_input", [False, True])
def test_an_ensemble_is_separate_networks(own_input):
    size, batch = 3, 5
    options = {"activation": "tanh", "layer_norm": True}
    ensemble = mlp(4, (6, 7), 2, size=size, **options).double()
    members = [mlp(4, (6, 7), 2, **options).double() for _ in range(size)]
    with torch.no_grad():
        for e, member in enumerate(members):
            for own, other in zip(member.parameters(), ensemble.parameters(), strict=True):
                own.copy_(other[e].view_as(own) + e * 0.1)
                other[e] = own.view_as(other[e])
    x = torch.randn(size, batch, 4, dtype=torch.float64) if own_input else torch.randn(batch, 4, dtype=torch.float64)
    output, weight = ensemble(x), torch.randn(size, batch, 2, dtype=torch.float64)
    (output * weight).sum().backward()
    for e, member in enumerate(members):
        single = member(x[e] if own_input else x)
        torch.testing.assert_close(single, output[e])
        (single * weight[e]).sum().backward()
        for own, other in zip(member.parameters(), ensemble.parameters(), strict=True):
            torch.testing.assert_close(own.grad, other.grad[e].view_as(own))


@pytest.mark.parametrize("init", [uniform_init, orthogonal_init()])
def test_members_of_an_ensemble_differ(init):
    for layer in mlp(4, (8, 8), 2, size=5, init=init):
        if isinstance(layer, Linear):
            for e in range(1, 5):
                assert (layer.weight[e] - layer.weight[0]).abs().mean() > 0.01


@pytest.mark.parametrize(("inputs", "outputs"), [(8, 5), (5, 8), (6, 6)])
@pytest.mark.parametrize("gain", [1.0, math.sqrt(2), 0.01])
def test_orthogonal(inputs, outputs, gain):
    for size in (None, 3):
        layer = Linear(inputs, outputs, size, orthogonal_init(gain))
        assert not layer.bias.any()
        for weight in layer.weight.detach().view(-1, inputs, outputs):
            small = weight.t() @ weight if inputs >= outputs else weight @ weight.t()
            torch.testing.assert_close(small, gain**2 * torch.eye(min(inputs, outputs)), atol=1e-5, rtol=1e-4)


def test_orthogonal_gain_is_sqrt_two_by_default():
    layer = Linear(6, 6, init=orthogonal_init())
    assert layer.weight.square().sum().item() == pytest.approx(12, rel=1e-5)


def test_uniform_bounds():
    layer = Linear(64, 500, size=2, init=uniform_init)
    for values in (layer.weight, layer.bias):
        assert values.abs().max() <= 1 / 8
        assert values.abs().max() > 0.99 / 8
        assert values.std().item() == pytest.approx(1 / 8 / math.sqrt(3), rel=0.05)


def test_layers_of_an_mlp_in_order():
    def kinds(**options):
        return [type(layer) for layer in mlp(3, (5, 6), 2, **options)]

    assert kinds() == [Linear, nn.ReLU, Linear, nn.ReLU, Linear]
    block = [Linear, nn.Dropout, LayerNorm, nn.Tanh]
    assert kinds(dropout=0.1, layer_norm=True, activation="tanh") == [*block, *block, Linear]
    assert [type(layer) for layer in mlp(3, (5,))] == [Linear, nn.ReLU]
    assert [tuple(x.shape) for x in mlp(3, (5, 6), 2, size=4).parameters()] == [
        (4, 3, 5),
        (4, 5),
        (4, 5, 6),
        (4, 6),
        (4, 6, 2),
        (4, 2),
    ]
    assert [tuple(x.shape) for x in mlp(3, (), 2).parameters()] == [(3, 2), (2,)]


def test_the_last_layer_has_its_own_initialiser():
    net = mlp(16, (16,), 16, init=orthogonal_init(), last_init=orthogonal_init(0.01))
    assert net[0].weight.square().sum().item() == pytest.approx(32, rel=1e-4)
    assert net[-1].weight.square().sum().item() == pytest.approx(16e-4, rel=1e-4)


def test_activations_are_what_they_are_called():
    x = torch.linspace(-2, 2, 9)
    for name, function in {"relu": torch.relu, "tanh": torch.tanh, "elu": nn.functional.elu}.items():
        assert torch.equal(ACTIVATIONS[name]()(x), function(x))
    torch.testing.assert_close(ACTIVATIONS["silu"]()(x), x * x.sigmoid())
    torch.testing.assert_close(ACTIVATIONS["gelu"]()(x), x * torch.special.ndtr(x))


def test_layer_norm():
    x = 5 * torch.randn(4, 7) + 3
    torch.testing.assert_close(LayerNorm(7)(x), nn.LayerNorm(7)(x))
    layer = LayerNorm(7, size=2)
    with torch.no_grad():
        layer.scale[1], layer.shift[1] = 2.0, 3.0
    torch.testing.assert_close(layer(x.expand(2, 4, 7))[1], 2 * nn.LayerNorm(7)(x) + 3)


def test_noisy_layer_of_the_card():
    layer = NoisyLinear(2, 1)
    with torch.no_grad():
        layer.mean.weight.copy_(torch.tensor([[0.5], [-0.5]]))
        layer.mean.bias.fill_(0.2)
        layer.sigma_weight.fill_(0.1)
        layer.sigma_bias.fill_(0.3)
    noise = signed_sqrt(torch.tensor([0.25, -4.0]))
    assert noise.tolist() == [0.5, -2]
    x = torch.tensor([[1.0, 2.0]])
    assert layer.noisy(x, noise, torch.ones(1)).item() == pytest.approx(-0.35)
    assert layer.eval()(x).item() == pytest.approx(-0.3)
    assert (NoisyLinear(4, 3).sigma_weight == 0.25).all() and (NoisyLinear(4, 3).sigma_bias == 0.25).all()


def test_noise_is_new_in_every_pass_and_gone_in_evaluation():
    layer, x = NoisyLinear(3, 2), torch.randn(6, 3)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))
    assert torch.equal(layer(x), layer.mean(x))
    layer.train()
    outputs = torch.stack([layer(x) for _ in range(4000)]).detach()
    spread = outputs.std(0) / math.sqrt(4000)
    assert ((outputs.mean(0) - layer.mean(x)).abs() < 5 * spread).all()


def test_nature_cnn():
    net = NatureCNN((4, 84, 84))
    assert [tuple(x.shape) for x in net.parameters()] == [
        (32, 4, 8, 8),
        (32,),
        (64, 32, 4, 4),
        (64,),
        (64, 64, 3, 3),
        (64,),
        (3136, 512),
        (512,),
    ]
    image = torch.randint(256, (2, 4, 84, 84), dtype=torch.uint8)
    assert net(image).shape == (2, 512)
    torch.testing.assert_close(net(image), net.linear(net.convolutions(image.double().div(255).float())))


@pytest.mark.parametrize("channels", [1, 4])
def test_images_are_scaled_and_stay_as_they_are(channels):
    """Floats too, which are not converted, and one channel, whose memory is in the same order either way."""
    net, image = NatureCNN((channels, 36, 36)), torch.randint(256, (2, channels, 36, 36), dtype=torch.uint8)
    parts = image.float() / 255.0
    for layer in net.convolutions:
        parts = layer(parts)
    for same in (image, image.float(), image.float().contiguous(memory_format=torch.channels_last)):
        before = same.clone()
        torch.testing.assert_close(net(same), net.linear(parts))
        assert torch.equal(same, before)


def test_nature_cnn_takes_an_initialiser():
    net = NatureCNN((1, 36, 36), orthogonal_init())
    for layer in net.convolutions:
        if isinstance(layer, nn.Conv2d):
            flat = layer.weight.detach().flatten(1)
            torch.testing.assert_close(flat @ flat.t(), 2 * torch.eye(len(flat)), atol=1e-4, rtol=1e-4)
            assert not layer.bias.any()


def test_a_body_fits_the_observation(continuous):
    net, features = body(continuous, (7, 9), activation="tanh")
    assert net(torch.zeros(2, 3)).shape == (2, 9) and features == 9
    net, features = body(Spec((1, 36, 36), 2, True, obs_dtype="uint8"), ())
    assert isinstance(net, NatureCNN) and features == 512


def test_a_frozen_copy_has_no_gradients_and_its_own_storage():
    net = mlp(3, (4,), 2)
    copy = frozen_copy(net)
    assert all(x.requires_grad for x in net.parameters()) and not any(x.requires_grad for x in copy.parameters())
    x = torch.randn(5, 3)
    before = net(x).detach()
    assert torch.equal(copy(x), before)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)
    assert torch.equal(copy(x), before) and not torch.equal(net(x), before)


def test_merged_batches_have_the_statistics_of_all():
    values = 1e4 + 3 * torch.randn(100, 2, dtype=torch.float64)
    normalizer = Normalizer((2,))
    for part in values.split([1, 2, 30, 7, 60]):
        normalizer.update(part)
    assert normalizer.count == 100
    torch.testing.assert_close(normalizer.mean, values.mean(0), rtol=1e-13, atol=0)
    torch.testing.assert_close(normalizer.variance, values.var(0, correction=0), rtol=1e-9, atol=0)
    x = values[:5].float()
    torch.testing.assert_close(normalizer(x), ((x - values.mean(0).float()) / values.std(0, correction=0).float()))


def test_normalised_values_are_clipped_and_epsilon_is_added_to_the_deviation():
    normalizer = Normalizer((1,), clip=2.0, epsilon=0.5)
    normalizer.update(torch.tensor([[1.0], [3.0]]))  # mean 2, deviation 1
    assert normalizer(torch.tensor([[3.5], [-100.0], [100.0]])).flatten().tolist() == [1, -2, 2]
    assert normalizer.scale(torch.tensor([[1.5], [6.0]])).flatten().tolist() == [1, 2]
    assert Normalizer((1,))(torch.tensor([[0.25]])).item() == pytest.approx(0.25)


def test_a_dimension_that_never_moved_is_only_shifted():
    """Else its first movement would be multiplied by 1 / epsilon."""
    normalizer = Normalizer((3,))
    for _ in range(7):
        normalizer.update(torch.tensor([[0.1, 0.0, 1.0], [0.1, 0.0, 3.0]]))
    moved = normalizer(torch.tensor([[0.6, 0.5, 2.5]]))
    torch.testing.assert_close(moved, torch.tensor([[0.5, 0.5, 0.5]]))


def test_hooks_of_a_network_are_called():
    """The direct call leaves nothing out that somebody waits for."""
    net, seen = mlp(3, (4,), 2), []
    net.register_forward_pre_hook(lambda module, inputs: seen.append("before"))
    handle = net.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape)))
    net(torch.zeros(5, 3))
    handle.remove()
    net(torch.zeros(5, 3))
    assert seen == ["before", (5, 2), "before"]
