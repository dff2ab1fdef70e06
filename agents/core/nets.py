"""Networks: multi-layer perceptrons (alone or as a batched ensemble), a convolutional body, noisy layers, initialisers.

An ensemble of E networks is one module whose weights carry a leading axis E: one batched product a layer.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .errors import UnsupportedSpace
from .spec import Spec

Activation = Literal["relu", "tanh", "elu", "gelu", "silu"]
Initialiser = Callable[[Tensor, Tensor], None]
"""Fills a weight `[inputs, outputs]` and its bias `[outputs]` in place."""

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


def uniform_init(weight: Tensor, bias: Tensor) -> None:
    """Uniform in +-1/sqrt(inputs), weights and biases: PyTorch's default for linear layers."""
    bound = 1.0 / math.sqrt(weight.shape[0])
    weight.uniform_(-bound, bound)
    bias.uniform_(-bound, bound)


def orthogonal_init(gain: float = math.sqrt(2.0)) -> Initialiser:
    """Orthogonal weights of the given gain, zero biases (Saxe et al. 2014)."""

    def initialise(weight: Tensor, bias: Tensor) -> None:
        nn.init.orthogonal_(weight, gain)
        bias.zero_()

    return initialise


class Linear(nn.Module):
    """y = x W + b, for one network (`size` None) or for an ensemble.

    One: `[..., inputs]` -> `[..., outputs]`. Ensemble of E: `[B, inputs]` (the same for all) or `[E, B, inputs]` ->
    `[E, B, outputs]`; every member is initialised on its own.
    """

    def __init__(self, inputs: int, outputs: int, size: int | None = None, init: Initialiser = uniform_init):
        super().__init__()
        lead = () if size is None else (size,)
        self.weight = nn.Parameter(torch.empty(*lead, inputs, outputs))
        self.bias = nn.Parameter(torch.empty(*lead, outputs))
        with torch.no_grad():
            members = zip(self.weight, self.bias, strict=True) if lead else [(self.weight, self.bias)]
            for weight, bias in () if self.weight.is_meta else members:
                init(weight, bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.ndim == 2:
            return torch.addmm(self.bias, x, self.weight) if x.ndim == 2 else x @ self.weight + self.bias
        if self.weight.shape[-1] == 1:  # a batched product with one column is several times slower than this
            return (x * self.weight.mT).sum(-1, keepdim=True) + self.bias.unsqueeze(1)
        if x.ndim == 2:
            x = x.expand(len(self.weight), *x.shape)
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight)


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis; an ensemble's members have their own scale and shift."""

    def __init__(self, width: int, size: int | None = None):
        super().__init__()
        shape = (width,) if size is None else (size, 1, width)
        self.scale, self.shift = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:]) * self.scale + self.shift


def signed_sqrt(x: Tensor) -> Tensor:
    """sign(x) sqrt|x|"""
    return x.sign() * x.abs().sqrt()


class NoisyLinear(nn.Module):
    """Linear layer with factorised Gaussian noise on its parameters (Fortunato et al. 2018, eq. 9-11).

    y = x (W + S * f(e_in) f(e_out)^T) + b + s f(e_out), f(x) = sign(x) sqrt|x|; one draw a forward pass. Without
    noise in evaluation mode. S and s start at sigma / sqrt(inputs).
    """

    def __init__(self, inputs: int, outputs: int, sigma: float = 0.5):
        super().__init__()
        self.mean = Linear(inputs, outputs)
        self.sigma_weight = nn.Parameter(torch.full((inputs, outputs), sigma / math.sqrt(inputs)))
        self.sigma_bias = nn.Parameter(torch.full((outputs,), sigma / math.sqrt(inputs)))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.mean(x)
        return self.noisy(x, *(signed_sqrt(torch.randn(n, device=x.device)) for n in self.sigma_weight.shape))

    def noisy(self, x: Tensor, noise_in: Tensor, noise_out: Tensor) -> Tensor:
        """The output under given transformed noise, `[inputs]` and `[outputs]`."""
        return self.mean(x) + ((x * noise_in) @ self.sigma_weight + self.sigma_bias) * noise_out


def mlp(
    inputs: int,
    hidden: Sequence[int],
    outputs: int | None = None,
    *,
    size: int | None = None,
    activation: Activation = "relu",
    init: Initialiser = uniform_init,
    last_init: Initialiser | None = None,
    layer_norm: bool = False,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Layers of widths `hidden`, each: linear, (dropout,) (layer norm,) activation; then a linear one to `outputs`.

    Without `outputs` it ends with the last activation. `size` makes an ensemble.
    """
    layers: list[nn.Module] = []
    for before, width in zip((inputs, *hidden), hidden, strict=False):
        layers.append(Linear(before, width, size, init))
        if dropout:
            layers.append(nn.Dropout(dropout))
        if layer_norm:
            layers.append(LayerNorm(width, size))
        layers.append(ACTIVATIONS[activation]())
    if outputs is not None:
        layers.append(Linear((inputs, *hidden)[-1], outputs, size, last_init or init))
    return nn.Sequential(*layers)


class NatureCNN(nn.Module):
    """The convolutional body of DQN (Mnih et al. 2015): images `[B, C, H, W]` uint8 -> `[B, 512]`."""

    def __init__(self, shape: Sequence[int], init: Initialiser | None = None):
        super().__init__()
        if min(shape[1:]) < 36:
            raise UnsupportedSpace(
                f"images of {shape[1]} x {shape[2]} pixels are too small for the CNN: resize to 84 x 84"
            )
        self.convolutions = nn.Sequential(
            *(nn.Conv2d(shape[0], 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU()),
            *(nn.Conv2d(64, 64, 3, 1), nn.ReLU(), nn.Flatten()),
        )
        flat = self.convolutions(torch.zeros(1, *shape)).shape[1]
        self.linear = mlp(flat, (512,), init=init or uniform_init)
        if init is not None:
            with torch.no_grad():
                for layer in self.convolutions:
                    if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                        init(layer.weight.flatten(1).t(), layer.bias)

    def forward(self, image: Tensor) -> Tensor:
        return self.linear(self.convolutions(image.float() / 255.0))


def body(spec: Spec, hidden: Sequence[int], **options: Any) -> tuple[nn.Module, int]:
    """What turns observations into features, and how many: the CNN for images, hidden layers for vectors."""
    if spec.is_image:
        return NatureCNN(spec.obs_shape, options.get("init")), 512
    return mlp(spec.obs_size, hidden, **options), (spec.obs_size, *hidden)[-1]


def frozen_copy(module: nn.Module) -> Any:
    """A copy of `module` without gradients: a target network."""
    return copy.deepcopy(module).requires_grad_(False)


class Normalizer(nn.Module):
    """Running mean and variance, and the values that they normalise: clip((x - mean) / (std + epsilon), +-clip).

    Statistics are merged batch by batch (Chan et al. 1979), in float64.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, shape: Sequence[int] = (), clip: float = math.inf, epsilon: float = 1e-8):
        super().__init__()
        self.clip, self.epsilon = clip, epsilon
        self.register_buffer("mean", torch.zeros(tuple(shape), dtype=torch.float64))
        self.register_buffer("variance", torch.ones(tuple(shape), dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, values: Tensor) -> None:
        """Takes in values `[B, *shape]`."""
        values = values.double()
        count, mean = len(values), values.mean(0)
        variance = values.var(0, correction=0)
        total = self.count + count
        shift = mean - self.mean
        spread = self.variance * self.count + variance * count + shift.square() * self.count * count / total
        self.mean += shift * count / total
        self.variance.copy_(spread / total)
        self.count.copy_(total)

    def scale(self, values: Tensor) -> Tensor:
        """Divided by the standard deviation, not shifted."""
        return (values / (self.variance.sqrt() + self.epsilon).float()).clamp(-self.clip, self.clip)

    def forward(self, values: Tensor) -> Tensor:
        return self.scale(values - self.mean.float())
