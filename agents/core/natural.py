"""Natural gradients: curvature-vector products by double backward, conjugate gradients, steps of a given divergence.

A divergence is a mean over the batch that is 0, with gradient 0, where the parameters are now: the KL from the present
policy, say. Its Hessian there is the curvature (for the KL: the Fisher matrix), which is never formed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .parameters import FlatParameters

Product = Callable[[Tensor], Tensor]
"""The curvature times a flat vector."""


def parts(flat: FlatParameters, vector: Tensor) -> list[Tensor]:
    """Views into a flat vector, shaped and placed as the parameters are."""
    return [vector.as_strided(view.shape, view.stride(), view.storage_offset()) for view in flat.views]


def flatten(flat: FlatParameters, gradients: Sequence[Tensor]) -> Tensor:
    """The inverse of `parts`, with zeros in the gaps."""
    vector = torch.zeros_like(flat.flat)
    torch._foreach_copy_(parts(flat, vector), list(gradients))
    return vector


def gradient(flat: FlatParameters, loss: Tensor) -> Tensor:
    """The gradient of `loss` as a flat vector; the divergence may share its graph."""
    return flatten(flat, torch.autograd.grad(loss, flat.views, retain_graph=True))


def curvature(flat: FlatParameters, divergence: Tensor) -> Product:
    """The Hessian of `divergence` times a vector (Pearlmutter 1994)."""
    slopes = torch.autograd.grad(divergence, flat.views, create_graph=True)

    def product(vector: Tensor) -> Tensor:
        along = torch.stack([(s * v).sum() for s, v in zip(slopes, parts(flat, vector), strict=True)]).sum()
        return flatten(flat, torch.autograd.grad(along, flat.views, retain_graph=True, materialize_grads=True))

    return product


@torch.no_grad()
def conjugate_gradient(product: Product, b: Tensor, iterations: int, tolerance: float = 1e-10) -> Tensor:
    """x with `product(x)` = b, from x = 0 (Hestenes and Stiefel 1952).

    Stands still once the squared residual is at most `tolerance`; the host does not look, so the number of iterations
    is fixed.
    """
    x, residual, direction = torch.zeros_like(b), b, b
    square = b @ b
    for _ in range(iterations):
        with torch.enable_grad():
            curved = product(direction)
        going = square > tolerance
        length = torch.where(going, square / (direction @ curved), 0.0)
        x, residual = x + length * direction, residual - length * curved
        before, square = square, residual @ residual
        direction = residual + torch.where(going, square / before, 0.0) * direction
    return x


class NaturalStep(NamedTuple):
    """The step from the parameters as they are to the edge of a ball of the divergence, to second order."""

    step: Tensor
    """Flat, with step . curvature . step / 2 = radius."""
    curved: Tensor
    """0-d, step . curvature . step."""
    slope: Tensor
    """0-d, gradient . step: the change of the loss to first order."""


def natural_step(
    flat: FlatParameters, loss: Tensor, divergence: Tensor, radius: float, damping: float, iterations: int
) -> NaturalStep:
    """Down the natural gradient of `loss`, until `divergence` is `radius`.

    The damping (added to the curvature's diagonal) counts in the length too: the divergence stays a little below.
    """
    slope, product = gradient(flat, loss), curvature(flat, divergence)
    direction = -conjugate_gradient(lambda v: product(v) + damping * v, slope, iterations)
    curved = direction @ product(direction) + damping * direction @ direction
    length = torch.where(curved > 0, (2.0 * radius / curved).sqrt(), 0.0)
    return NaturalStep(length * direction, length.square() * curved, length * (slope @ direction))
