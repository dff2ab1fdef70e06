"""One network's parameters as one flat tensor, so that an optimiser step or a target update is one operation."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .config import NonFinite
from .errors import InvalidCheckpoint

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
        self.optimizer: torch.optim.Optimizer | None = None
        if self.trainable:
            self.flat.grad = torch.zeros_like(self.flat)
        for start, view in zip(starts[:-1], self.views, strict=True):
            place = slice(start, start + view.numel())
            self.flat[place] = view.detach().flatten()
            view.data = self.flat[place].view(view.shape)
            if self.flat.grad is not None:
                self.gradients.append(self.flat.grad[place].view(view.shape))

    def descend(self, loss: Tensor, learning_rate: float, max_norm: float, non_finite: NonFinite) -> dict[str, Tensor]:
        """One step of the optimiser down the gradient of `loss`, shortened to `max_norm` if longer (0: never).

        Gives `grad_norm`, the length before. Unless `non_finite` is "stop", also `grad_non_finite_count`: 1 if NaN or
        infinity was in the gradient; the step was then left out ("skip"), or made without those elements ("clip").
        """
        self.backward(loss)
        if non_finite == "stop":
            found = {"grad_norm": self.clip(max_norm)}
        else:
            assert self.flat.grad is not None and self.optimizer is not None
            bad = (~self.flat.grad.isfinite().all()).float()
            self.flat.grad.nan_to_num_(0.0, 0.0, 0.0)
            if non_finite == "skip":
                self.optimizer.__dict__["found_inf"] = bad  # fused optimisers do nothing where it is 1
            found = {"grad_norm": self.clip(max_norm), "grad_non_finite_count": bad}
        self.step(learning_rate)
        return found

    def backward(self, loss: Tensor) -> None:
        """The gradient of `loss` with respect to these parameters alone, into `flat.grad`."""
        torch._foreach_copy_(self.gradients, torch.autograd.grad(loss, self.views))

    def clip(self, max_norm: float) -> Tensor:
        """Shortens the gradient to `max_norm` if it is longer, unless that is 0; gives its length before."""
        assert self.flat.grad is not None
        norm = self.flat.grad.norm()
        if max_norm:
            self.flat.grad.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0))
        return norm

    def step(self, learning_rate: float) -> None:
        """One step of the optimiser."""
        assert self.optimizer is not None
        self.optimizer.param_groups[0]["lr"] = learning_rate
        self.optimizer.step()

    def optimizer_state(self) -> dict[str, Tensor]:
        """The optimiser's moments and step count by name; nothing before its first step."""
        return dict(self.optimizer.state[self.flat]) if self.optimizer is not None else {}

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `optimizer_state` gave. Raises InvalidCheckpoint where it does not fit."""
        for name, value in state.items():
            if self.optimizer is None or value.numel() not in (1, self.flat.numel()):
                raise InvalidCheckpoint(f"the checkpoint's optimiser state '{name}' does not fit this agent's networks")
        if self.optimizer is not None:
            self.optimizer.state[self.flat] = {k: v.to(self.flat.device, copy=True) for k, v in state.items()}

    def follow(self, source: FlatParameters, tau: float) -> None:
        """x <- x + tau (source - x); buffers (running statistics) are copied."""
        if tau == 1.0:
            self.flat.copy_(source.flat)
        else:
            self.flat.lerp_(source.flat, tau)
        for own, other in zip(self.module.buffers(), source.module.buffers(), strict=True):
            own.copy_(other)
