"""Batch renormalisation, the normalisation that carries running statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

EPSILON = 1e-3
"""Added to every variance."""
MOMENTUM = 0.01
"""Share by which running statistics move towards those of a batch."""
MOST_R, MOST_D = 3.0, 5.0
"""Bounds of the corrections: r in [1/3, 3], d in [-5, 5]."""


class BatchRenorm(nn.Module):
    """Batch renormalisation over rows (Ioffe 2017, arXiv 1702.03275, algorithm 1), with CrossQ's constants.

    In training, with mean m and (biased) variance v of the rows at hand, and M, S the running ones before this pass:

        r  = clip(sqrt(v + eps) / sqrt(S + eps), 1/3, 3),  d = clip((m - M) / sqrt(S + eps), -5, 5),  both constants
        y  = scale (r (x - m) / sqrt(v + eps) + d) + shift,   then  M <- M + 0.01 (m - M),  S <- S + 0.01 (v - S)

    with r = 1 and d = 0 in the first `warmup` passes, which is plain batch normalisation. In evaluation mode
    y = scale (x - M) / sqrt(S + eps) + shift, and nothing changes.

    One network: `[B, width]`. Ensemble of E: `[B, width]` or `[E, B, width]` -> `[E, B, width]`; every member has
    statistics, scale and shift of its own.
    """

    mean: Tensor
    variance: Tensor
    passes: Tensor

    def __init__(self, width: int, size: int | None = None, warmup: int = 0):
        super().__init__()
        self.warmup = warmup
        shape = (width,) if size is None else (size, 1, width)
        self.scale, self.shift = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("variance", torch.ones(shape))
        self.register_buffer("passes", torch.zeros((*shape[:-1], 1), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return torch.addcmul(self.shift, x - self.mean, self.scale * (self.variance + EPSILON).rsqrt())
        variance, mean = torch.var_mean(x, -2, correction=0, keepdim=True)
        variance, mean = (variance, mean) if self.mean.ndim == 3 else (variance[0], mean[0])
        slope = (variance + EPSILON).rsqrt()
        r, d = self.corrections(mean.detach(), variance.detach())
        y = torch.addcmul(d, x - mean, slope * r)
        return torch.addcmul(self.shift, y, self.scale)

    @torch.no_grad()
    def corrections(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """r and d from the statistics of this pass, which then enter the running ones."""
        slope, warm = (self.variance + EPSILON).rsqrt(), self.passes >= self.warmup
        r = ((variance + EPSILON).sqrt() * slope).clamp(1.0 / MOST_R, MOST_R)
        d = ((mean - self.mean) * slope).clamp(-MOST_D, MOST_D)
        self.mean += MOMENTUM * (mean - self.mean)
        self.variance += MOMENTUM * (variance - self.variance)
        self.passes += 1
        return torch.where(warm, r, 1.0), torch.where(warm, d, 0.0)


@contextmanager
def training(module: nn.Module) -> Iterator[None]:
    """Within it `module` is in training mode, afterwards in evaluation mode."""
    module.train()
    try:
        yield
    finally:
        module.eval()
