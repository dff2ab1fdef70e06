"""NaN and infinity in losses and gradients, for every agent and each of its networks: named, left out, or repaired."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bellmark.agents.core import checkpoint
from bellmark.agents.core.errors import NotFinite
from bellmark.agents.core.parameters import FlatParameters
from bellmark.agents.core.status import Status
from helpers import build, every_case, same, stream


def spoil(patch: pytest.MonkeyPatch, agent, child: str, value: float, at: int) -> None:
    """One element of the gradient of `child` is `value` in update `at`."""
    flat, backward = agent._flat[child], FlatParameters.backward

    def spoilt(self, loss):
        gradient = backward(self, loss)
        if self is flat and agent.updates == at:
            gradient[0] = value
        return gradient

    patch.setattr(FlatParameters, "backward", spoilt)


def trained(agent) -> list[str]:
    """The children that are minimised within the first updates."""
    batches, seen = stream(agent), set()
    for _ in range(4):
        seen |= {name.removesuffix("_grad_norm") for name in agent.step(next(batches)) if name.endswith("_grad_norm")}
    return sorted(seen)


def second_update_of(name, discrete, child) -> int:
    """The update in which that child is minimised for the second time: its optimiser has a state by then."""
    agent, times = build(name, discrete), 0
    batches = stream(agent)
    while times < 2:
        times += f"{child}_grad_norm" in agent.step(next(batches))
    return agent.updates


def own(agent, child: str):
    """Parameters and optimiser of one child, copied."""
    tensors = agent.state().items()
    return {k: v.clone() for k, v in tensors if k.startswith((f"net.{child}.", f"optimizer.{child}."))}


def cases(name, discrete):
    return [(child, second_update_of(name, discrete, child)) for child in trained(build(name, discrete))]


@every_case
def test_every_trainable_network_reports_its_gradient(name, discrete):
    agent = build(name, discrete)
    assert trained(agent) == sorted(child for child, flat in agent._flat.items() if flat.trainable)


@every_case
def test_stop_names_the_gradient_and_keeps_the_last_checkpoint(monkeypatch, tmp_path: Path, name, discrete):
    for child, at in cases(name, discrete):
        agent, path = build(name, discrete), tmp_path / f"{child}.bell"
        batches, status = stream(agent), Status(agent, None, None, 100)
        checkpoint.save(path, agent)
        good = path.read_bytes()
        with monkeypatch.context() as patch:
            spoil(patch, agent, child, float("nan"), at)
            for _ in range(at):
                status.record(agent.step(next(batches)))
        with pytest.raises(NotFinite, match=f"{child}_grad_norm.* became nan between updates 1 and {at} "):
            status.metrics()
        with pytest.raises(NotFinite, match=child):
            checkpoint.save(path, agent)
        assert path.read_bytes() == good


@every_case
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_skip_leaves_that_network_and_its_optimiser_as_they_were(monkeypatch, name, discrete, value):
    for child, at in cases(name, discrete):
        agent, before = build(name, discrete, non_finite="skip"), {}
        batches = stream(agent)
        with monkeypatch.context() as patch:
            spoil(patch, agent, child, value, at)
            patch.setattr(FlatParameters, "step", remember(FlatParameters.step, agent, child, at, before))
            for _ in range(at - 1):
                assert agent.step(next(batches)).get(f"{child}_grad_non_finite_count", torch.zeros(())) == 0.0
            metrics = agent.step(next(batches))
        assert before, "the step was not seen"
        assert same(before, own(agent, child))
        assert metrics[f"{child}_grad_non_finite_count"] == 1.0
        assert all(value.isfinite() for value in metrics.values())
        assert any(f"{child}_grad_norm" in agent.step(next(batches)) for _ in range(50)), "it is not minimised again"
        assert not same(before, own(agent, child)), "the next gradient is used again"
        assert all(value.isfinite().all() for value in agent.state().values())


def remember(step, agent, child, at, before):
    def remembering(self, *arguments):
        if self is agent._flat[child] and agent.updates == at:
            before.update(own(agent, child))
        step(self, *arguments)

    return remembering


@every_case
def test_clip_leaves_out_the_elements_alone(monkeypatch, name, discrete):
    for child, at in cases(name, discrete):
        spoilt, zeroed = (build(name, discrete, non_finite="clip") for _ in range(2))
        for agent, value in ((spoilt, float("-inf")), (zeroed, 0.0)):
            torch.manual_seed(1)
            batches = stream(agent)
            with monkeypatch.context() as patch:
                spoil(patch, agent, child, value, at)
                for _ in range(at):
                    metrics = agent.step(next(batches))
            assert metrics[f"{child}_grad_non_finite_count"] == float(value != 0.0)
        assert same(spoilt.state(), zeroed.state())


def test_counts_are_summed_and_other_metrics_averaged():
    agent = build("td3", False)
    status = Status(agent, None, None, 100)
    for count in range(150):
        status.record({"loss": torch.tensor(float(count)), "x_count": torch.tensor(float(count % 3 == 0))})
    assert status.metrics() == {"loss": 74.5, "x_count": 50.0}
