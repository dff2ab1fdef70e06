"""Losses, advantages and laws can be traced as one graph (`fullgraph`), and compiled they are what they are eagerly.

Traced forward and backward (`aot_eager`); what the code generator adds on top is PyTorch's own business.
"""

from __future__ import annotations

import pytest
import torch
from bellmark.agents.core import advantages, losses
from bellmark.agents.core.heads import Categorical, Quantile, Scalar
from bellmark.agents.core.nets import mlp
from bellmark.agents.core.policies import Categorical as Choice
from bellmark.agents.core.policies import Normal, TanhNormal

B, T, N = 12, 7, 3


def log_prob(before, log_std):
    return TanhNormal(torch.zeros_like(before), log_std).log_prob_before_tanh(before)


def head_loss(head):
    def loss(output, next_output):
        reward, discount = torch.linspace(-1, 1, B), torch.full((B,), 0.9)
        return head.loss(output, head.backup(reward, discount, next_output.detach()))

    return loss


def gae(reward, value):
    ones = torch.ones(T, N)
    return advantages.gae(reward, 0.9 * ones, ones, value, 0.8)


CASES = {
    "mse": (losses.mse, (2, B), (B,)),
    "huber": (losses.huber, (2, B), (B,)),
    "expectile": (lambda a, b: losses.expectile(a - b, 0.7), (B,), (B,)),
    "clipped_surrogate": (lambda a, b: losses.clipped_surrogate(a.exp(), b, 0.2), (B,), (B,)),
    "clipped_value": (lambda a, b: losses.clipped_value(a, b.detach(), b, 0.2), (B,), (B,)),
    "normal": (lambda a, b: Normal(a, b).log_prob(torch.ones(B, 4)), (B, 4), (B, 4)),
    "tanh_normal": (log_prob, (B, 4), (B, 4)),
    "choice": (lambda a, b: Choice(a + b).log_prob(torch.arange(B) % 4), (B, 4), (B, 4)),
    "scalar": (head_loss(Scalar(1.0)), (B, 1), (B, 1)),
    "c51": (head_loss(Categorical(-2, 2, 11)), (B, 11), (B, 11)),
    "hl_gauss": (head_loss(Categorical(-2, 2, 11, "hl_gauss")), (B, 11), (B, 11)),
    "quantile": (head_loss(Quantile(8)), (B, 8), (B, 8)),
    "gae": (gae, (T, N), (T + 1, N)),
}


def results(function, inputs):
    output = function(*inputs)
    return [output, *torch.autograd.grad(output.sum(), inputs, allow_unused=True, materialize_grads=True)]


@pytest.mark.parametrize("name", CASES)
def test_compiled_is_eager(name):
    function, *shapes = CASES[name]
    inputs = [torch.randn(shape, requires_grad=True) for shape in shapes]
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for ours, theirs in zip(results(compiled, inputs), results(function, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_an_ensemble_compiled_is_eager():
    net = mlp(5, (8, 8), 2, size=3, layer_norm=True)
    inputs = [torch.randn(B, 5, requires_grad=True)]
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    for ours, theirs in zip(results(compiled, inputs), results(net, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
