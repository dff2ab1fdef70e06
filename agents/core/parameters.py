"""One network's parameters as one flat tensor, so that an optimiser step or a target update is one operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import NonFinite
from .errors import InvalidCheckpoint
from .optimizers import RMSProp

ALIGNMENT = 16
"""Every parameter starts at a multiple of so many elements, so that vector instructions find it aligned."""


class FlatParameters:
    """The parameters of `module` become views into `flat`; the gradient is flat as well.

    Moving the module to another device or type afterwards would undo this: choose both before.
    """

    def __init__(self, module: nn.Module):
        self.module, self.views = module, list(module.parameters())
        self.trainable = all(view.requires_grad for view in self.views)
        self.starts = [*accumulate((view.numel() + -view.numel() % ALIGNMENT for view in self.views), initial=0)]
        """Where each parameter begins in `flat`, and where the last one's room ends."""
        like = self.views[0]
        self.flat = nn.Parameter(
            torch.zeros(self.starts[-1], dtype=like.dtype, device=like.device), requires_grad=False
        )
        self.make_optimizer: Callable[[nn.Parameter], torch.optim.Optimizer] | None = None
        self.gradients: list[Tensor] = []
        if self.trainable:
            self.flat.grad = torch.zeros_like(self.flat)
        for start, view in zip(self.starts[:-1], self.views, strict=True):
            place = slice(start, start + view.numel())
            self.flat[place] = view.detach().flatten()
            view.data = self.flat[place].view(view.shape)
            if self.flat.grad is not None:
                self.gradients.append(self.flat.grad[place].view(view.shape))

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer | None:
        """Made when it is first asked for: PyTorch's import the compiler, a second that acting can do without."""
        return self.make_optimizer(self.flat) if self.trainable and self.make_optimizer is not None else None

    def descend(
        self, loss: Tensor, learning_rate: float | Tensor, max_norm: float, non_finite: NonFinite
    ) -> dict[str, Tensor]:
        """One step of the optimiser down the gradient of `loss`, shortened to `max_norm` if longer (0: never).

        Gives `grad_norm`, the length before. Unless `non_finite` is "stop", also `grad_non_finite_count`: 1 if NaN or
        infinity was in the gradient; the step was then left out ("skip"), or made without those elements ("clip").
        """
        gradient = self.backward(loss)
        if non_finite == "stop":
            norm = shorten(gradient, max_norm)
            self.step(gradient, learning_rate)
            return {"grad_norm": norm}
        bad = (~gradient.isfinite().all()).float()
        norm = shorten(gradient.nan_to_num_(0.0, 0.0, 0.0), max_norm)
        self.step(gradient, learning_rate, bad if non_finite == "skip" else None)
        return {"grad_norm": norm, "grad_non_finite_count": bad}

    def backward(self, loss: Tensor) -> Tensor:
        """The gradient of `loss` with respect to these parameters alone, flat."""
        parts = torch.autograd.grad(loss, self.views)
        if torch.compiler.is_compiling():
            return torch.cat([F.pad(part.flatten(), (0, -part.numel() % ALIGNMENT)) for part in parts])
        assert self.flat.grad is not None
        torch._foreach_copy_(self.gradients, parts)
        return self.flat.grad

    def step(self, gradient: Tensor, learning_rate: float | Tensor, skip: Tensor | None = None) -> None:
        """One step of the optimiser; none where `skip` is 1."""
        assert self.optimizer is not None
        group = self.optimizer.param_groups[0]
        decay = group.get("weight_decay", 0.0)
        if isinstance(self.optimizer, torch.optim.Adam) and (group["decoupled_weight_decay"] or not decay):
            if decay:
                kept = 1.0 if skip is None else 1.0 - skip
                self.flat.data.mul_(1.0 - kept * learning_rate * decay)
            adam(self.flat, gradient, self.moments(), learning_rate, group["betas"], group["eps"], skip)
            return
        if isinstance(self.optimizer, RMSProp):
            self.optimizer.descend(self.flat, gradient, learning_rate, skip)
            return
        group["lr"] = learning_rate
        if skip is not None:
            self.optimizer.__dict__["found_inf"] = skip  # fused optimisers do nothing where it is 1
        self.optimizer.step()

    def views_of(self, flat: Tensor) -> dict[str, Tensor]:
        """The module's parameters by name, as views into `flat`, which wants gradients if the module is trained."""
        names = [name for name, _ in self.module.named_parameters()]
        return {
            name: flat[start : start + view.numel()].view(view.shape).requires_grad_(self.trainable)
            for name, start, view in zip(names, self.starts[:-1], self.views, strict=True)
        }

    def moments(self) -> dict[str, Tensor]:
        """The state of Adam, as PyTorch names it, or of RMSProp."""
        assert self.optimizer is not None
        if isinstance(self.optimizer, RMSProp):
            return self.optimizer.moments(self.flat)
        state: dict[str, Tensor] = self.optimizer.state[self.flat]
        if not state:
            state["step"] = torch.zeros((), device=self.flat.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(self.flat), torch.zeros_like(self.flat)
        return state

    def optimizer_state(self) -> dict[str, Tensor]:
        """The optimiser's moments and step count by name; nothing before its first step."""
        made = vars(self).get("optimizer")
        return dict(made.state[self.flat]) if made is not None else {}

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `optimizer_state` gave. Raises InvalidCheckpoint where it does not fit."""
        for name, value in state.items():
            if self.optimizer is None or value.numel() not in (1, self.flat.numel()):
                raise InvalidCheckpoint(f"the checkpoint's optimiser state '{name}' does not fit this agent's networks")
        if (state or "optimizer" in vars(self)) and self.optimizer is not None:
            self.optimizer.state[self.flat] = {k: v.to(self.flat.device, copy=True) for k, v in state.items()}

    def follow(self, source: FlatParameters, tau: float) -> None:
        """x <- x + tau (source - x); buffers (running statistics) are copied."""
        if tau == 1.0:
            self.flat.copy_(source.flat)
        else:
            self.flat.lerp_(source.flat, tau)
        for own, other in zip(self.module.buffers(), source.module.buffers(), strict=True):
            own.copy_(other)


def shorten(gradient: Tensor, max_norm: float) -> Tensor:
    """Shortens the gradient in place to `max_norm` if it is longer, unless that is 0; gives its length before."""
    norm = gradient.norm()
    if max_norm:
        gradient.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm


def adam(
    parameters: Tensor,
    gradient: Tensor,
    state: Mapping[str, Tensor],
    learning_rate: float | Tensor,
    betas: tuple[float, float],
    epsilon: float,
    skip: Tensor | None,
) -> None:
    """One step of Adam (Kingma & Ba 2015, algorithm 1), in place: PyTorch's kernel, or as formulas to be compiled."""
    step, mean, square, (beta1, beta2) = state["step"], state["exp_avg"], state["exp_avg_sq"], betas
    kept = 1.0 if skip is None else 1.0 - skip
    step += kept
    if not torch.compiler.is_compiling():
        torch._fused_adam_(  # what PyTorch's Adam calls, without its search for parameters and states
            *([parameters.data], [gradient], [mean], [square], [], [step]),
            lr=float(learning_rate),
            beta1=beta1,
            beta2=beta2,
            eps=epsilon,
            weight_decay=0.0,
            amsgrad=False,
            maximize=False,
            found_inf=skip,
        )
        return
    mean.lerp_(gradient, kept * (1.0 - beta1))
    square.lerp_(gradient.square(), kept * (1.0 - beta2))
    # 1 - beta^step as one vector with two readers: alone, each would be computed again for every few parameters
    second = torch.arange(2, dtype=torch.float64, device=step.device)  # made where it is read, as a number cannot be
    logs = (betas[0] * (1.0 - second) + betas[1] * second).log()
    corrections = (1.0 - (step.clamp(min=1).double() * logs).exp()).to(mean)  # at step 0 a first step was skipped
    size, root = kept * learning_rate / corrections[0], corrections[1].sqrt()
    parameters.data.sub_(size * root * mean / (square.sqrt() + epsilon * root))
