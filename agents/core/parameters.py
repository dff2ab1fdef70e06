"""One network's parameters as one flat tensor, so that an optimiser step or a target update is one operation."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

ALIGNMENT = 16
"""Every parameter starts at a multiple of so many elements, so that vector instructions find it aligned."""


class FlatParameters:
    """The parameters of `module` become views into `flat`; the gradients that `descend` receives, views into its grad.

    Moving the module to another device or type afterwards would undo this: choose both before.
    """

    def __init__(self, module: nn.Module):
        self.module, self.views = module, list(module.parameters())
        self.trainable = all(view.requires_grad for view in self.views)
        starts = [0]
        for view in self.views:
            starts.append(starts[-1] + math.ceil(view.numel() / ALIGNMENT) * ALIGNMENT)
        like = self.views[0]
        self.flat = nn.Parameter(torch.zeros(starts[-1], dtype=like.dtype, device=like.device), requires_grad=False)
        self.gradients: list[Tensor] = []
        if self.trainable:
            self.flat.grad = torch.zeros_like(self.flat)
        for start, view in zip(starts[:-1], self.views, strict=True):
            place = slice(start, start + view.numel())
            self.flat[place] = view.detach().flatten()
            view.data = self.flat[place].view(view.shape)
            if self.flat.grad is not None:
                self.gradients.append(self.flat.grad[place].view(view.shape))

    def backward(self, loss: Tensor) -> None:
        """The gradient of `loss` with respect to these parameters alone, into `flat.grad`."""
        torch._foreach_copy_(self.gradients, torch.autograd.grad(loss, self.views))

    def clip(self, max_norm: float) -> None:
        """Shortens the gradient to `max_norm` if it is longer."""
        assert self.flat.grad is not None
        self.flat.grad.mul_((max_norm / (self.flat.grad.norm() + 1e-6)).clamp(max=1.0))

    def follow(self, source: FlatParameters, tau: float) -> None:
        """x <- x + tau (source - x); buffers (running statistics) are copied."""
        if tau == 1.0:
            self.flat.copy_(source.flat)
        else:
            self.flat.lerp_(source.flat, tau)
        for own, other in zip(self.module.buffers(), source.module.buffers(), strict=True):
            own.copy_(other)
