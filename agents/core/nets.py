"""Networks: multi-layer perceptrons, alone or as a batched ensemble, noisy layers, normalisation, initialisers.

An ensemble of E networks is one module whose weights carry a leading axis E: one batched product a layer.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .batch_renorm import BatchRenorm
from .config import Activation
from .direct import Direct

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


def bounded_init(bound: float | None = None, bias: float | None = None) -> Initialiser:
    """Uniform weights in +-`bound` (1/sqrt(inputs) if None); biases likewise, or all equal to `bias`."""

    def initialise(weight: Tensor, biases: Tensor) -> None:
        width = bound or 1.0 / math.sqrt(weight.shape[0])
        weight.uniform_(-width, width)
        biases.uniform_(-width, width) if bias is None else biases.fill_(bias)

    return initialise


JOINED = 2**17
"""Up to so many weights the compiler's own sum over one row, joined with what follows, is faster than a product."""


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
        own = self._parameters  # attributes of a module take longer than the product of small networks
        weight, bias = own["weight"], own["bias"]
        assert weight is not None and bias is not None
        if weight.ndim == 2:
            if x.ndim == 2 and len(x) == 1 and weight.numel() <= JOINED and torch.compiler.is_compiling():
                return (x.mT * weight).sum(0, keepdim=True) + bias
            return torch.addmm(bias, x, weight) if x.ndim == 2 else x @ weight + bias
        if weight.shape[-1] == 1:  # a batched product with one column is several times slower than this
            return (x * weight.mT).sum(-1, keepdim=True) + bias.unsqueeze(1)
        if x.ndim == 2:
            x = x.expand(len(weight), *x.shape)
        if torch.compiler.is_compiling():  # the compiler adds the bias where it computes the activation
            return torch.bmm(x, weight) + bias.unsqueeze(1)
        return torch.baddbmm(bias.unsqueeze(1), x, weight)


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
        weight = torch.addcmul(self.mean.weight, self.sigma_weight, torch.outer(noise_in, noise_out))
        bias = torch.addcmul(self.mean.bias, self.sigma_bias, noise_out)
        return torch.addmm(bias, x, weight) if x.ndim == 2 else x @ weight + bias


class Layers(Direct, nn.Sequential):
    """One layer after the other, without what nn.Module does around each: it costs more than a small product."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self._modules.values():
            x = layer.forward(x)  # type: ignore[union-attr]
        return x


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
    norm_after: bool = False,
    dropout: float = 0.0,
    noise: float = 0.0,
    batch_renorm: int | None = None,
) -> Layers:
    """Layers of widths `hidden`, each: linear, (dropout,) (layer norm,) activation; then a linear one to `outputs`.

    Without `outputs` it ends with the last activation. `norm_after` puts a layer norm after each activation. `size`
    makes an ensemble; dropout is independent from member to member. `noise` above 0 makes every linear layer of a
    single network a NoisyLinear of that sigma. `batch_renorm` normalises the inputs and every activation, by plain
    batch normalisation in that many first passes.
    """

    def linear(before: int, width: int, init: Initialiser) -> nn.Module:
        return NoisyLinear(before, width, noise) if noise else Linear(before, width, size, init)

    layers: list[nn.Module] = [] if batch_renorm is None else [BatchRenorm(inputs, size, batch_renorm)]
    for before, width in zip((inputs, *hidden), hidden, strict=False):
        layers.append(linear(before, width, init))
        if dropout:
            layers.append(nn.Dropout(dropout))
        if layer_norm:
            layers.append(LayerNorm(width, size))
        layers.append(ACTIVATIONS[activation]())
        if norm_after:
            layers.append(LayerNorm(width, size))
        if batch_renorm is not None:
            layers.append(BatchRenorm(width, size, batch_renorm))
    if outputs is not None:
        layers.append(linear((inputs, *hidden)[-1], outputs, last_init or init))
    return Layers(*layers)


def frozen_copy(module: nn.Module) -> Any:
    """A copy of `module` without gradients: a target network."""
    return copy.deepcopy(module).requires_grad_(False)
