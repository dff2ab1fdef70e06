"""oneDNN's products in place of PyTorch's, in compiled graphs."""

import types

import numpy as np
import pytest
import torch
from bellmark.agents.core import graph, products
from bellmark.agents.core.buffer import Buffer
from bellmark.agents.core.loop import fit
from bellmark.agents.core.registry import agent_class
from bellmark.agents.core.spec import Spec

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")
M, K, N = 128, 96, 112
"""A product beyond `LEAST`."""


@pytest.fixture
def replaced(monkeypatch):
    """The graphs' products that were replaced, as on a processor where they are wanted."""
    found = []
    original = products.one
    monkeypatch.setattr(graph, "wanted", lambda: True)
    monkeypatch.setattr(products, "one", lambda *given: found.append(given) or original(*given))
    monkeypatch.setattr(products.Products, "uuid", lambda self: None)  # no graph of an earlier process
    return found


def compiled(function, *arguments):
    """What a method, whose first argument stands for its object, gives as a graph."""
    with torch.inference_mode():
        return graph.Graph(types.MethodType(function, object()), "inductor")(*arguments)


def test_layouts_and_biases(replaced):
    torch.manual_seed(0)
    a, b, c = torch.randn(M, K), torch.randn(K, N), torch.randn(N)
    at, bt = a.mT.contiguous().mT, b.mT.contiguous().mT
    assert M * K * N >= products.LEAST
    for x in (a, at):
        for y in (b, bt):
            found = compiled(lambda _, x, y, c: (x @ y, torch.addmm(c, x, y).relu(), y.mT @ x.mT), x, y, c)
            exact = a.double() @ b.double()
            for got, expected in zip(found, (exact, (exact + c).relu(), exact.mT), strict=True):
                torch.testing.assert_close(got, expected.float(), rtol=1e-5, atol=1e-4)
    assert len(replaced) == 12


def test_ensembles(replaced):
    torch.manual_seed(0)
    x, w, c = torch.randn(M, K), torch.randn(3, K, N), torch.randn(3, 1, N)
    found = compiled(lambda _, x, w, c: torch.baddbmm(c, x.expand(3, M, K), w) + x.expand(3, M, K) @ w, x, w, c)
    expected = 2 * torch.einsum("mk,ekn->emn", x.double(), w.double()) + c
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-4)
    assert len(replaced) in (3, 6)  # the compiler may find the same product twice


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (torch.ones(8, 8), torch.ones(8, 8)),
        (torch.ones(M, K).double(), torch.ones(K, N).double()),
        (torch.ones(products.MEMBERS + 1, M, K), torch.ones(products.MEMBERS + 1, K, N)),
    ],
    ids=["small", "float64", "many members"],
)
def test_what_stays(a, b, replaced):
    found = compiled(lambda _, a, b: a @ b, a, b)
    assert not replaced and torch.equal(found, torch.full_like(found, a.shape[-1]))


@pytest.mark.parametrize("name", ["td3_bc", "iql", "cql"])
def test_an_update_is_the_same_but_for_rounding(name, replaced):
    """Three updates of wide networks, replaced and plain, from the same start and the same random numbers."""
    rng, count, bounds = np.random.default_rng(0), 512, {"action_low": (-1.0,) * 3, "action_high": (1.0,) * 3}
    spec = Spec((11,), 3, discrete=False, action_shape=(3,), **bounds)
    data = Buffer.from_transitions(
        spec,
        obs=rng.standard_normal((count, 11), np.float32),
        action=rng.uniform(-1, 1, (count, 3)).astype(np.float32),
        reward=rng.standard_normal(count, np.float32),
        terminated=np.zeros(count, bool),
        truncated=np.arange(count) % 100 == 99,
    )
    kind, parameters = agent_class(name), []
    for compiles in (False, True):
        torch.manual_seed(1)
        agent = kind(spec, kind.config.override({"hidden": (128, 128), "batch_size": 128}))
        if compiles:
            agent.compile_updates()
        fit(agent, data, 3)
        parameters.append(torch.cat([x.detach().flatten() for x in agent.parameters()]))
    assert len(replaced) > 10
    difference = (parameters[0] - parameters[1]).abs()
    assert difference.mean() < 1e-7 and difference.max() < 1e-4


def test_only_where_the_usual_library_is_slower(monkeypatch, tmp_path):
    known = tmp_path / "cpuinfo"
    monkeypatch.setattr(products, "KNOWN", known)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    for text, expected in (("vendor_id : AuthenticAMD", True), ("vendor_id : GenuineIntel", False)):
        known.write_text(text)
        assert products.wanted.__wrapped__() is expected
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    known.write_text("vendor_id : AuthenticAMD")
    assert not products.wanted.__wrapped__()
