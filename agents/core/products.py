"""Large matrix products of compiled graphs by oneDNN, on processors where PyTorch's own library is slower."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._inductor.custom_graph_pass import CustomGraphPass
from torch._inductor.ir import TensorBox
from torch._inductor.lowering import permute, register_lowering
from torch._inductor.mkldnn_ir import LinearUnary
from torch.fx import Graph, Node

LEAST = 2**20
"""Multiplications of a product that is worth the call."""
MEMBERS = 10
"""Products of an ensemble, each called by itself, that the compiler can do with."""
KNOWN = Path("/proc/cpuinfo")
"""Where Linux tells the processor's maker."""
ATEN = torch.ops.aten


@functools.cache
def wanted() -> bool:
    """Whether products are replaced: MKL, which PyTorch takes, uses AVX-512 on Intel's processors only."""
    if not torch.backends.mkldnn.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    return KNOWN.exists() and "GenuineIntel" not in KNOWN.read_text()


@torch.library.custom_op("bellmark::product", mutates_args=())
def product(a: Tensor, b: Tensor) -> Tensor:
    """`[M, N]` of `[M, K]` and `[K, N]`, by oneDNN."""
    return torch.ops.mkldnn._linear_pointwise(a, b.mT, None, "none", [], "")


@product.register_fake
def _(a: Tensor, b: Tensor) -> Tensor:
    return a.new_empty(a.shape[0], b.shape[1])


class Product(LinearUnary):
    """Such a product within generated code; unlike its base it takes the second matrix in any layout."""

    @classmethod
    def create(cls, a: Any, b: Any) -> Any:  # type: ignore[override]
        a = LinearUnary.require_contiguous(cls.realize_input(a))
        return TensorBox.create(super().create(a, permute(b, [1, 0]), None, "none", [], ""))

    @classmethod
    def require_contiguous(cls, x: Any) -> Any:
        return x


register_lowering(torch.ops.bellmark.product.default, type_promotion_kind=None)(Product.create)


class Products(CustomGraphPass):
    """Puts oneDNN's in place of each large product of float32 matrices on the host, in a graph of known sizes.

    The same precision; the order of sums differs, as it does between libraries and processors.
    """

    def __call__(self, graph: Graph) -> None:
        for name in ("mm", "addmm", "bmm", "baddbmm"):
            for node in graph.find_nodes(op="call_function", target=getattr(ATEN, name).default):
                *bias, a, b = node.args
                if large(a.meta["val"], b.meta["val"]) and not node.kwargs:
                    with graph.inserting_before(node):
                        new = (several if name.endswith("bmm") else one)(graph, a, b)
                        if bias:
                            new = graph.call_function(ATEN.add.Tensor, (new, *bias))
                    node.replace_all_uses_with(new)
                    graph.erase_node(node)

    def uuid(self) -> Any:
        return (LEAST, MEMBERS, Path(__file__).read_bytes())


def large(a: Tensor, b: Tensor) -> bool:
    """Whether `[M, K]` and `[K, N]`, or `[E, M, K]` and `[E, K, N]`, is a product to replace."""
    *lead, m, k, n = *a.shape, b.shape[-1]
    known = all(isinstance(size, int) for size in (*lead, m, k, n))
    if not known or a.dtype != torch.float32 or a.device.type != "cpu":
        return False
    return m * k * n >= LEAST and all(size <= MEMBERS for size in lead)


def one(graph: Graph, a: Any, b: Any) -> Node:
    """`[M, K]` and `[K, N]`."""
    return graph.call_function(torch.ops.bellmark.product.default, (a, b))


def several(graph: Graph, a: Any, b: Any) -> Node:
    """`[E, M, K]` and `[E, K, N]`."""
    parts = []
    for i in range(a.meta["val"].shape[0]):
        x, y = (graph.call_function(ATEN.select.int, (operand, 0, i)) for operand in (a, b))
        parts.append(graph.call_function(ATEN.unsqueeze.default, (one(graph, x, y), 0)))
    return graph.call_function(ATEN.cat.default, (parts,))
