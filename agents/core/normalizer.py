"""Running statistics of observations and rewards, and the values that they normalise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

CONSTANT = 1e-20
"""Variances of at most this share of the squared mean are rounding."""


class Normalizer(nn.Module):
    """Running mean and variance, and the values that they normalise: clip((x - mean) / (std + epsilon), +-clip).

    Statistics are merged batch by batch (Chan et al. 1979), in float64. A dimension that has always been the same is
    only shifted: it may move later.
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
        self.mean.add_(shift * count / total)
        self.variance.copy_(spread / total)
        self.count.copy_(total)

    def deviation(self) -> Tensor:
        """What values are divided by, float32 `[*shape]`."""
        constant = self.variance <= CONSTANT * self.mean.square()
        return torch.where(constant, 1.0, self.variance.sqrt() + self.epsilon).float()

    def scale(self, values: Tensor) -> Tensor:
        """Divided by the standard deviation, not shifted."""
        return (values / self.deviation()).clamp(-self.clip, self.clip)

    def forward(self, values: Tensor) -> Tensor:
        return self.scale(values - self.mean.float())


class FeatureNormalizer(Normalizer):
    """Leaves the last `kept` values, a mask, as they are."""

    def __init__(self, size: int, kept: int, **options: Any):
        super().__init__((size,), **options)
        self.kept = kept

    def update(self, values: Tensor) -> None:
        super().update(values[..., : -self.kept])

    def forward(self, values: Tensor) -> Tensor:
        return torch.cat([super().forward(values[..., : -self.kept]), values[..., -self.kept :]], -1)
