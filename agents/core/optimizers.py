"""Optimisers that PyTorch lacks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class RMSProp(torch.optim.Optimizer):
    """v <- decay v + (1 - decay) g^2,  x <- x - lr g / sqrt(v + epsilon), v = 1 at first: TensorFlow's RMSProp.

    PyTorch's has epsilon outside the root and v = 0 at first, so that its first steps are 10 times as long.
    """

    def __init__(self, parameters: Any, lr: float, decay: float = 0.99, epsilon: float = 1e-5):
        super().__init__(parameters, {"lr": lr, "decay": decay, "epsilon": epsilon})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        (group,) = self.param_groups
        for x in group["params"]:
            self.descend(x, x.grad, group["lr"])

    def descend(self, x: Tensor, gradient: Tensor, learning_rate: float | Tensor, skip: Tensor | None = None) -> None:
        """One step of the parameter `x`, in place; none where `skip` is 1."""
        (group,), square = self.param_groups, self.moments(x)["square"]
        new = square.lerp(gradient.square(), 1.0 - group["decay"])
        step = learning_rate * gradient / (new + group["epsilon"]).sqrt()
        if skip is not None:
            new, step = torch.where(skip > 0, square, new), step * (1.0 - skip)
        square.copy_(new)
        x.sub_(step)

    def moments(self, x: Tensor) -> dict[str, Tensor]:
        """What is kept of the gradients of `x`."""
        state: dict[str, Tensor] = self.state[x]
        if not state:
            state["square"] = torch.ones_like(x, requires_grad=False)
        return state
