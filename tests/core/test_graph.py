"""Compiled code called directly is what it was made from: with other values, sizes, owners and parameters as well."""

from __future__ import annotations

import pytest
import torch
from bellmark.agents.core.compiled import one_graph
from bellmark.agents.core.graph import Graph, Looking, origins
from torch import nn


class Scaled:
    """y = scale * (x W), and what a caller could see."""

    def __init__(self, scale):
        self.scale = scale
        self.weight = nn.Parameter(torch.arange(6.0).view(3, 2))

    def product(self, x):
        return self.scale * (x @ self.weight.detach()) + torch.rand(())

    def with_an_input(self, x):
        return x @ self.weight.detach(), x

    def passed_on(self, x):
        self.weight.detach().mul_(2.0)
        return {"y": x.sum(), "first": self.weight.detach()[0, 1].clone()}

    def on_the_host(self, x):
        return x if float(x.sum()) > 0 else -x


def called(graph, plain, x):
    """What the graph gives, which is what `plain` gives with the same random numbers."""
    results = []
    for function in (graph, plain):
        torch.manual_seed(0)
        results.append(function(x))
    torch.testing.assert_close(*results)
    return results[0]


@pytest.fixture(params=["aot_eager", "inductor"])
def backend(request):
    return request.param


def test_it_is_the_method(backend):
    owner, other = Scaled(2.0), Scaled(3.0)
    graph, second = Graph(owner.product, backend), Graph(other.product, backend)
    for x in (torch.ones(4, 3), torch.zeros(4, 3), torch.full((4, 3), -1.0), torch.ones(4, 3)):
        called(graph, owner.product, x)
        called(second, other.product, x)  # of the same class, with another value
    with torch.no_grad():
        owner.weight.mul_(-1.0)
    called(graph, owner.product, torch.ones(4, 3))
    owner.scale = 5.0
    called(graph, owner.product, torch.ones(4, 3))
    called(graph, owner.product, torch.ones(7, 3))
    assert len(graph.ready) == 3 and len(second.ready) == 1


def test_from_the_third_call_on_nothing_is_between(monkeypatch):
    owner = Scaled(2.0)
    graph = Graph(owner.product, "inductor")
    x = torch.ones(4, 3)
    for _ in range(3):
        called(graph, owner.product, x)
    monkeypatch.setattr(graph, "compiled", None)
    monkeypatch.setattr(Looking, "__call__", None)
    ((_, run),) = graph.ready
    (name,) = (name for name in run.__code__.co_names if name.startswith("__compiled_fn"))
    assert run.__globals__[name].__name__ == "<lambda>"
    called(graph, owner.product, -x)


def test_an_input_that_comes_out_stays_the_input():
    owner = Scaled(2.0)
    graph = Graph(owner.with_an_input, "inductor")
    for i in range(4):
        x = torch.full((2, 3), float(i))
        product, same = graph(x)
        torch.testing.assert_close(product, owner.with_an_input(x)[0])
        assert same.data_ptr() == x.data_ptr()


def test_what_a_method_changes_is_changed_once_a_call(backend):
    owner = Scaled(1.0)
    graph = Graph(owner.passed_on, backend)
    for calls in range(1, 6):
        found = graph(torch.ones(2))
        assert found["first"] == 2.0**calls == owner.weight[0, 1]


def test_origins():
    a, b, c = torch.zeros(1), torch.zeros(1), torch.zeros(1)
    found = origins([c, b, 7, a, 9], [a, 7, b, 9])
    assert found[0] is c and found[1:] == [2, 1, 0, 3]
    assert origins([a, 7], [a, 9, 7]) == []  # one of two numbers: which is not certain


class Marked(Scaled):
    marked = one_graph(Scaled.on_the_host)
    _compiled = None


def test_without_a_compiler_a_marked_method_is_itself():
    x = -torch.ones(2)
    assert torch.equal(Marked(1.0).marked(x), -x) and Marked.marked.__name__ == "on_the_host"
