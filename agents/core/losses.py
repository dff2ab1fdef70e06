"""Losses: pure functions of tensors that give one value a row, so that whoever calls decides how to average.

A prediction may have leading axes that the target lacks (`[E, B]` against `[B]`); anything else that broadcasts is
refused, since `[B, 1]` against `[B]` is the most expensive silent bug of this field.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def check_shapes(prediction: Tensor, target: Tensor) -> None:
    """Raises ValueError unless the target's shape is the end of the prediction's."""
    if prediction.shape[prediction.ndim - target.ndim :] != target.shape or target.ndim == 0:
        raise ValueError(f"a target of shape {list(target.shape)} does not fit predictions {list(prediction.shape)}")


def mse(prediction: Tensor, target: Tensor) -> Tensor:
    """(prediction - target)^2, no 1/2. `[E, B]` against `[B]`, or equal shapes."""
    check_shapes(prediction, target)
    return F.mse_loss(prediction, target.expand_as(prediction), reduction="none")


def huber(prediction: Tensor, target: Tensor, threshold: float = 1.0) -> Tensor:
    """u^2 / 2 up to the threshold k, then k (|u| - k / 2) (Huber 1964; Mnih et al. 2015 clip this gradient)."""
    check_shapes(prediction, target)
    if torch.compiler.is_compiling():  # the compiler joins formulas with what is around them, but not that function
        error = target - prediction
        near = error.clamp(-threshold, threshold)
        return near * (error - near / 2)
    return F.huber_loss(prediction, target.expand_as(prediction), reduction="none", delta=threshold)


def expectile(difference: Tensor, expectile: float) -> Tensor:
    """|t - 1{u < 0}| u^2 for u = target - prediction: t above 1/2 pulls towards the upper tail (IQL, eq. 4)."""
    weight = (expectile - (difference < 0).to(difference.dtype)).abs()
    return weight * difference.square()


def gumbel(difference: Tensor, temperature: float, max_clip: float) -> Tensor:
    """(e^z - z - 1) e^-M for z = min(difference / temperature, max_clip), M = max(max z, -1) (XQL, eq. 11).

    Its mean over targets is least at temperature log E exp(target / temperature). Differences beyond `max_clip`
    temperatures give no gradient. The factor e^-M, the same for all rows, keeps the exponential in range.
    """
    z = (difference / temperature).clamp(max=max_clip)
    greatest = z.detach().amax().clamp(min=-1.0)
    return (z - greatest).exp() - (z + 1.0) * (-greatest).exp()


def quantile_huber(quantiles: Tensor, target: Tensor, fractions: Tensor, threshold: float = 1.0) -> Tensor:
    """Quantile Huber loss (Dabney et al. 2018, eq. 10): sum over quantiles of the mean over target samples.

    quantiles `[..., B, N]` at `fractions` `[N]` (or `[B, N]`), target samples `[B, M]` -> `[..., B]`.
    With threshold 0 it is the plain quantile loss.
    """
    check_shapes(quantiles[..., 0], target[..., 0])
    sample, quantile = torch.broadcast_tensors(target.unsqueeze(-2), quantiles.unsqueeze(-1))  # [..., B, N, M], views
    size = huber(quantile, sample, threshold) if threshold else (sample - quantile).abs()
    weight = torch.where(sample < quantile, 1.0 - fractions.unsqueeze(-1), fractions.unsqueeze(-1))
    if torch.compiler.is_compiling():
        total = (weight * size).sum((-2, -1))  # as one loop, which keeps no tensor of their size
    else:
        total = torch.linalg.vecdot(weight.flatten(-2), size.flatten(-2))  # which makes no third tensor of their size
    return total / (target.shape[-1] * (threshold or 1.0))


def clipped_surrogate(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """-min(ratio A, clip(ratio, 1 - clip, 1 + clip) A) (PPO, eq. 7). `[B]`, `[B]` -> `[B]`."""
    check_shapes(ratio, advantage)
    return -torch.minimum(ratio * advantage, ratio.clamp(1.0 - clip, 1.0 + clip) * advantage)


def clipped_value(value: Tensor, old_value: Tensor, target: Tensor, clip: float) -> Tensor:
    """max((v - R)^2, (v_old + clip(v - v_old, -clip, clip) - R)^2), no 1/2: PPO's value clipping. `[B]` each."""
    check_shapes(value, old_value)
    moved = old_value + (value - old_value).clamp(-clip, clip)
    return torch.maximum(mse(value, target), mse(moved, target))
