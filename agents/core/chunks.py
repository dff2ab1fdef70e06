"""A loss and its gradient, chunk by chunk, so that only one chunk's activations exist at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def sum_in_chunks(
    loss: Callable[..., Tensor], parameters: Sequence[nn.Parameter], rows: int, *tensors: Tensor
) -> Tensor:
    """The sum of `loss(*chunk)` over chunks of at most `rows` rows of `tensors`, with a gradient in `parameters` only.

    Exactly `loss(*tensors)` where that is a sum over rows. The gradient is made at once, while the chunk's activations
    are still in the cache; on a CPU that makes wide batches much faster. The result carries it as a linear function of
    the parameters: total + g (x - x), the second x fixed. A compiler gets the loss whole.
    """
    if torch.compiler.is_compiling():
        return loss(*tensors)
    total, gradients = tensors[0].new_zeros(()), None
    for chunk in zip(*(tensor.split(rows) for tensor in tensors), strict=True):
        with torch.enable_grad():
            part = loss(*chunk)
            slopes = torch.autograd.grad(part, parameters)
        total = total + part.detach()
        if gradients is None:
            gradients = slopes
        else:
            torch._foreach_add_(gradients, slopes)
    assert gradients is not None
    return total + sum((g * (x - x.detach())).sum() for g, x in zip(gradients, parameters, strict=True))
