"""Generated code as CUDA graphs: one call starts every kernel of an update, which takes the host longer one by one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor


class Replayed:
    """`generated`, code that takes a list of tensors and numbers, as a CUDA graph for each set of sizes.

    It is recorded at the second call with the same sizes. Tensors that were the same at the call before (parameters,
    moments) are read and written where they are; the others (a batch) are copied to where the graph reads. Where one
    of the former is another one now, all begins anew. Inputs at the places `changed` are written to: as long as one of
    them is another at every call, nothing is recorded.
    """

    def __init__(self, generated: Callable[[list[Any]], Sequence[Any]], changed: Collection[int]):
        self.generated, self.changed = generated, set(changed)
        self.before: dict[Any, list[Any]] = {}
        self.recordings: dict[Any, Recording] = {}

    def __call__(self, given: list[Any]) -> Sequence[Any]:
        sizes = tuple((x.shape, x.stride()) if isinstance(x, Tensor) else x for x in given)
        if sizes in self.recordings and not self.recordings[sizes].fits(given):
            del self.recordings[sizes], self.before[sizes]
        if sizes not in self.recordings:
            before = self.before.get(sizes, [None] * len(given))
            lasting = {i for i, (x, y) in enumerate(zip(given, before, strict=True)) if x is y}
            if sizes not in self.before or not self.changed <= lasting:
                self.before[sizes] = given
                return self.generated([*given])
            self.recordings[sizes] = Recording(self.generated, given, lasting)
        return self.recordings[sizes](given)


class Recording:
    """One CUDA graph. The inputs at the places `lasting` are always the same tensors."""

    def __init__(self, generated: Callable[[list[Any]], Sequence[Any]], given: list[Any], lasting: set[int]):
        self.inputs, self.fresh = [*given], list[int]()
        for i, x in enumerate(given):
            if isinstance(x, Tensor) and i not in lasting:
                self.inputs[i] = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device)
                self.fresh.append(i)
        self.lasting = [i for i in lasting if isinstance(given[i], Tensor)]
        self.take(given)
        self.start, self.outputs = record(generated, self.inputs)
        places = {id(x): i for i, x in enumerate(self.inputs) if isinstance(x, Tensor)}
        self.sources = [places.get(id(x)) for x in self.outputs]

    def fits(self, given: list[Any]) -> bool:
        """Whether what should last did."""
        return all(given[i] is self.inputs[i] for i in self.lasting)

    def take(self, given: list[Any]) -> None:
        """What is new, to where the graph reads."""
        for i in self.fresh:
            once(self.inputs[i]).copy_(once(given[i]))

    def __call__(self, given: list[Any]) -> list[Any]:
        self.take(given)
        self.start()
        return [
            given[source] if source is not None else x.clone() if isinstance(x, Tensor) else x
            for source, x in zip(self.sources, self.outputs, strict=True)
        ]


def recordable(given: Sequence[Any]) -> bool:
    """Whether all tensors are on a GPU: what the host holds would stay as it was when recorded."""
    return all(x.is_cuda for x in given if isinstance(x, Tensor))


def once(x: Tensor) -> Tensor:
    """Without the repetitions of an expanded tensor."""
    return x[tuple(slice(None if step else 1) for step in x.stride())]


def record(generated: Callable[[list[Any]], Any], inputs: list[Any]) -> tuple[Callable[[], None], Sequence[Any]]:
    """What starts the kernels of `generated`, none of which runs now, and its outputs, overwritten by every start."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        outputs = generated([*inputs])
    return graph.replay, outputs
