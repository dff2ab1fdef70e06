"""The least time that the matrix products of an update could take: the same products alone, into memory at hand."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward")


class Operators(TorchDispatchMode):
    """Counts the operators that run within it and the bytes of their new tensors, and keeps the matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.allocated = 0
        """Bytes of tensors that share no memory with an argument."""
        self.products: list[Callable[[], Any]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        self.counts[name] += 1
        if name in PRODUCTS:
            kept = [x.detach().clone() if isinstance(x, torch.Tensor) else x for x in args]
            self.products.append(fastest(function, kept, kwargs or {}))
        result = function(*args, **(kwargs or {}))
        own = {x.untyped_storage().data_ptr() for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        for x in tree_leaves(result):
            if isinstance(x, torch.Tensor) and x.untyped_storage().data_ptr() not in own:
                self.allocated += x.nbytes
        return result


def fastest(function: Any, args: list[Any], kwargs: dict[str, Any]) -> Callable[[], Any]:
    """The call of a product, by oneDNN where compiled graphs take that."""
    from ...agents.core.products import large, product, wanted  # the compiler, whose memory is not the contestant's

    if "mm" in function.overloadpacket.__name__ and wanted() and large(*args[-2:]):
        a, b = args[-2:]
        pairs = [(a, b)] if a.ndim == 2 else [*zip(a, b, strict=True)]
        return lambda: [product(x, y) for x, y in pairs]
    return lambda: function(*args, **kwargs)


def floor(update: Callable[[], Any], updates: int, repeats: int = 30) -> tuple[float, float]:
    """Seconds that the products of one update take alone, and how many operators it calls; means over `updates`."""
    operators = Operators()
    with operators:
        for _ in range(updates):
            update()
    times = []
    with torch.inference_mode():
        for _ in range(repeats):
            began = time.perf_counter()
            for product in operators.products:
                product()
            times.append(time.perf_counter() - began)
    return statistics.median(times) / updates, operators.counts.total() / updates
