"""An update as one compiled graph: losses, gradients, optimiser steps and targets, without a second copy of them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .config import RolloutConfig
from .errors import InvalidSetting
from .parameters import FlatParameters

if TYPE_CHECKING:
    from .agent import Agent

OPTIONS = {"fallback_random": True, "cpp_wrapper": True}
"""Of PyTorch's compiler: the random numbers of the uncompiled update; no Python between the kernels."""
KEPT = ("SHAPE_ENV", "CONSTANT_MATCH", "EQUALS_MATCH")
"""What is checked again at every call, beside the batch: sizes and plain values, not the modules' structure."""


class CompiledUpdate:
    """`agent.update` as one graph for each answer of `due`, made when it is first needed.

    Within the graph every network's parameters are views into its flat parameters. The agent's `progress` is a tensor
    there, so that schedules are a part of the graph.
    """

    def __init__(self, agent: Agent, backend: str):
        self.agent = agent
        self.progress = torch.zeros((), dtype=torch.float64, device=agent.device)
        self.cadences: set[int] | None = None
        torch._dynamo.config.trace_autograd_ops = True
        options = {**(OPTIONS if backend == "inductor" else {}), "guard_filter_fn": kept}
        self.graph = torch.compile(  # type: ignore[call-overload]
            self.run,
            fullgraph=True,
            backend=backend,
            options=options,
            isolate_recompiles=True,
            recompile_limit=64,
        )

    def __call__(self, batch: Any) -> dict[str, Tensor]:
        agent = self.agent
        batch = type(batch)(*(field.clone() if field.storage_offset() else field for field in batch))
        if self.cadences is None:
            self.cadences = cadences(agent, batch)
            if isinstance(agent.config, RolloutConfig):  # its batches differ by a row
                for field in batch:
                    torch._dynamo.maybe_mark_dynamic(field, 0)
        for flat in agent._flat.values():
            if isinstance(flat.optimizer, torch.optim.Adam):
                flat.moments()  # the graph reads and writes them: they must be there
        own, progress = vars(agent), agent.progress  # past nn.Module's search at every assignment
        own["dues"] = {every: agent.updates % every == 0 for every in self.cadences}
        own["progress"] = self.progress.fill_(progress)
        try:
            return self.graph(batch)
        except torch._dynamo.exc.Unsupported as error:
            reason = str(error).splitlines()[0]
            raise InvalidSetting(
                f"an update of '{agent.name}' cannot be compiled ({reason}): leave out compile"
            ) from error
        finally:
            own["dues"], own["progress"] = {}, progress

    def run(self, batch: Any) -> dict[str, Tensor]:
        """What is compiled."""
        flats: dict[str, FlatParameters] = self.agent._flat
        owned = {name: flat.views for name, flat in flats.items()}
        parameters: dict[str, Tensor] = {}
        for name, flat in flats.items():
            views = flat.views_of(flat.flat.detach())
            flat.views = [*views.values()]  # type: ignore[list-item]
            parameters |= {f"{name}.{key}": view for key, view in views.items()}
        metrics = torch.func.functional_call(self.agent, parameters, (batch,))
        for name, flat in flats.items():
            flat.views = owned[name]
        return {name: value.detach() for name, value in metrics.items()}


def cadences(agent: Agent, batch: Any) -> set[int]:
    """What an update asks `due` about: found with one update of a copy, which draws from no random stream."""
    with torch.random.fork_rng(devices=[]):
        other = copy.deepcopy(agent)
        asked: set[int] = set()
        other.due = lambda every: asked.add(every) or True  # type: ignore[method-assign, func-returns-value]
        other.update(batch)
    return asked


def kept(guards: list[Any]) -> list[bool]:
    """Which checks before a call of the graph are worth their time."""
    return [
        guard.guard_type in KEPT or (guard.guard_type == "TENSOR_MATCH" and "batch" in guard.name) for guard in guards
    ]
