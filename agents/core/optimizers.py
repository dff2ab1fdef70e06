"""Optimisers that PyTorch lacks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class RMSProp(torch.optim.Optimizer):
    """v <- decay v + (1 - decay) g^2,  x <- x - lr g / sqrt(v + epsilon), v = 1 at first: TensorFlow's RMSProp.

    PyTorch's has epsilon outside the root and v = 0 at first, so that its first steps are 10 times as long.
    """

    found_inf: Tensor | None = None
    """Where this is 1, a step changes nothing, as with PyTorch's fused optimisers."""

    def __init__(self, parameters: Any, lr: float, decay: float = 0.99, epsilon: float = 1e-5):
        super().__init__(parameters, {"lr": lr, "decay": decay, "epsilon": epsilon})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for x in group["params"]:
                square = self.state[x].setdefault("square", torch.ones_like(x, requires_grad=False))
                new = square.lerp(x.grad.square(), 1.0 - group["decay"])
                step = group["lr"] * x.grad / (new + group["epsilon"]).sqrt()
                if self.found_inf is not None:
                    new, step = torch.where(self.found_inf > 0, square, new), step * (1.0 - self.found_inf)
                square.copy_(new)
                x.sub_(step)
