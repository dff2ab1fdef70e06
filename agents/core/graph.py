"""Compiled code that is called directly: torch.compile's own way to it takes longer than a small network."""

from __future__ import annotations

import itertools
import re
import types
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._dynamo.eval_frame import _debug_get_cache_entry_list
from torch._inductor.output_code import CompiledFxGraph

from .products import Products, wanted
from .replayed import Replayed, recordable

torch._dynamo.config.trace_autograd_ops = True
OPTIONS = {"fallback_random": True, "cpp.min_chunk_size": 4096}
"""Of PyTorch's compiler: the random numbers of uncompiled code; no threads for loops that take less time than to start
them."""
KEPT = ("SHAPE_ENV", "CONSTANT_MATCH", "EQUALS_MATCH")
"""What is checked again at every call, beside the arguments: sizes and plain values, not the modules' structure."""
NUMBERS = itertools.count()


class Graph:
    """The bound method `method` as one graph for each set of sizes and plain values that it meets.

    Made by torch.compile at the first call and asked for by it at no other: from then on the checks of `KEPT`, the
    code that fetches the tensors, and the generated code are called as they are. On the host no Python is between its
    kernels; on a GPU the generated code is recorded, see `Replayed`. Raises what torch.compile raises.
    """

    def __init__(self, method: Callable[..., Any], backend: str, device: str = "cpu"):
        assert isinstance(method, types.MethodType)
        original, self.owner = method.__func__, method.__self__
        code = original.__code__.replace(co_name=f"{original.__name__}_{next(NUMBERS)}")  # no other graph's cache
        self.function = types.FunctionType(code, original.__globals__, code.co_name, None, original.__closure__)
        self.names = code.co_varnames[: code.co_argcount]
        options: dict[str, Any] = {**(OPTIONS if backend == "inductor" else {}), "guard_filter_fn": self.kept}
        if backend == "inductor" and device == "cpu":
            options |= {"cpp_wrapper": True} | ({"post_grad_custom_post_pass": Products()} if wanted() else {})
        how: dict[str, Any] = {"backend": backend, "options": options, "recompile_limit": 64}
        self.compiled = torch.compile(self.function, fullgraph=True, **how)
        self.ready: list[tuple[Callable[[dict[str, Any]], bool], Callable[..., Any]]] = []

    def __call__(self, *arguments: Any) -> Any:
        arguments = (self.owner, *arguments)
        scope = dict(zip(self.names, arguments, strict=True))
        for fits, run in self.ready:
            if fits(scope):
                return run(*arguments)
        result = self.compiled(*arguments)
        entries = [entry for entry in _debug_get_cache_entry_list(self.function.__code__) if entry.code is not None]
        self.ready = [(entry.guard_manager.check, unwrapped(entry.code, self.function)) for entry in entries]
        return result

    def kept(self, guards: Sequence[Any]) -> list[bool]:
        """Which checks before a call are worth their time."""
        tensors = re.compile(rf"({'|'.join(self.names[1:])})\b")  # the arguments, and what is in them
        return [
            guard.guard_type in KEPT or (guard.guard_type == "TENSOR_MATCH" and bool(tensors.match(guard.name)))
            for guard in guards
        ]


def unwrapped(code: types.CodeType, function: Any) -> Callable[..., Any]:
    """What torch.compile made of `function`; from the third call on without the wrappers of its compiled parts."""
    scope = dict(function.__globals__)
    for name in code.co_names:
        if name.startswith("__compiled_fn"):
            scope[name] = Looking(scope, name)
    return types.FunctionType(code, scope, function.__name__, None, function.__closure__)


class Looking:
    """Calls `scope[name]`, and puts the generated code in its place if all that is between only passes on.

    Two calls must agree: the generated code takes what is given, in some order, and the same tensors beside it; it
    gives what comes out.
    """

    def __init__(self, scope: dict[str, Any], name: str):
        self.scope, self.name, self.wrapped, self.sources = scope, name, scope[name], list[Any]()

    def __call__(self, *given: Any) -> Any:
        calls: list[tuple[CompiledFxGraph, list[Any], Sequence[Any]]] = []
        original = CompiledFxGraph.__call__

        def watched(graph: CompiledFxGraph, inputs: list[Any]) -> Any:
            calls.append((graph, list(inputs), original(graph, inputs)))
            return calls[-1][2]

        with patch.object(CompiledFxGraph, "__call__", watched):
            results = self.wrapped(*given)
        self.scope[self.name] = self.wrapped
        if len(calls) == 1 and [*map(id, calls[0][2])] == [*map(id, results)]:
            graph, taken, _ = calls[0]
            sources = origins(taken, given)
            if sources and not self.sources:
                self.sources, self.scope[self.name] = sources, self
            elif sources and all(x is y for x, y in zip(sources, self.sources, strict=True)):
                generated = graph.current_callable
                assert generated is not None
                if recordable(taken):
                    generated = Replayed(generated, graph.mutated_input_idxs)
                self.scope[self.name] = shortcut(generated, sources)
        return results


def origins(taken: Sequence[Any], given: Sequence[Any]) -> list[Any]:
    """Of each that is taken, its place among the given: a tensor itself, the nth number as the nth. Else the tensor.

    Nothing if there are not as many numbers.
    """
    places = {id(x): i for i, x in enumerate(given) if isinstance(x, Tensor)}
    numbers = [i for i, x in enumerate(given) if not isinstance(x, Tensor)]
    if [given[i] for i in numbers] != [x for x in taken if not isinstance(x, Tensor)]:
        return []
    rest = iter(numbers)
    return [places.get(id(x), x) if isinstance(x, Tensor) else next(rest) for x in taken]


def shortcut(generated: Callable[[list[Any]], Any], sources: Sequence[Any]) -> Callable[..., Any]:
    """A call of `generated`, with inputs from those `sources`."""
    if all(x is i for i, x in enumerate(sources)):
        return lambda *given: generated([*given])
    return lambda *given: generated([given[x] if type(x) is int else x for x in sources])
