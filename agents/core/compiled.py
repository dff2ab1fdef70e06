"""Updates, and what acts, as compiled graphs: losses, gradients, optimiser steps and targets, not written twice."""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .config import RolloutConfig
from .errors import InvalidSetting
from .optimizers import RMSProp
from .parameters import FlatParameters
from .seeding import forked

if TYPE_CHECKING:
    from .agent import Agent


NEEDED = (2, 13)
"""The first version of PyTorch with which updates were compiled: others lack parts of what `Graph` uses."""


def version() -> tuple[int, ...]:
    """PyTorch's."""
    return tuple(int(part) for part in torch.__version__.split(".")[:2])


class Compiled:
    """`agent.update` as one graph for each answer of `due`, made when it is first needed; and its `one_graph` methods.

    Within the graph every network's parameters are views into its flat parameters. The agent's `progress` and
    `updates` are tensors there, so that schedules are a part of the graph; `steps` is 1 there if there are any.
    """

    def __init__(self, agent: Agent, backend: str):
        if agent.uncompiled:
            why = f"updates of '{agent.name}' cannot be compiled ({agent.uncompiled}): leave out compile"
            raise InvalidSetting(why)
        if version() < NEEDED:
            needed = f"torch {'.'.join(map(str, NEEDED))} or newer, not {torch.__version__}"
            raise InvalidSetting(f"compiled updates need {needed}: leave out compile")
        self.agent, self.backend = agent, backend
        self.progress, self.updates = (torch.zeros((), dtype=torch.float64, device=agent.device) for _ in range(2))
        self.cadences: set[int] | None = None
        self.methods: dict[Callable[..., Any], Callable[..., Any]] = {}

    def graph(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """A bound method as graphs."""
        from .graph import Graph  # which takes seconds: not before the first environment step

        return Graph(method, self.backend, self.agent.device.type)

    @functools.cached_property
    def run_update(self) -> Callable[..., Any]:
        """`run` as graphs."""
        return self.graph(self.run)

    def update(self, batch: Any) -> dict[str, Tensor]:
        """The agent's `forward`."""
        agent = self.agent
        batch = type(batch)(*(field.clone() if field.storage_offset() else field for field in batch))
        if self.cadences is None:
            self.cadences = cadences(agent, batch)
            if isinstance(agent.config, RolloutConfig):  # its batches differ by a row
                for field in batch:
                    torch._dynamo.maybe_mark_dynamic(field, 0)
        for flat in agent._flat.values():
            if isinstance(flat.optimizer, torch.optim.Adam | RMSProp):
                flat.moments()  # the graph reads and writes them: they must be there
        own = vars(agent)  # past nn.Module's search at every assignment
        numbers = {"progress": agent.progress, "updates": agent.updates, "steps": agent.steps, "dues": {}}
        own["dues"] = {every: agent.updates % every == 0 for every in self.cadences}
        own["progress"], own["updates"] = self.progress.fill_(agent.progress), self.updates.fill_(agent.updates)
        own["steps"] = min(agent.steps, 1)
        try:
            return self.run_update(batch)
        except torch._dynamo.exc.Unsupported as error:
            reason = str(error).splitlines()[0]
            raise InvalidSetting(
                f"an update of '{agent.name}' cannot be compiled ({reason}): leave out compile"
            ) from error
        finally:
            own |= numbers

    def run(self, batch: Any) -> dict[str, Tensor]:
        """What is compiled of an update."""
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
        return {name: value.detach().clone() for name, value in metrics.items()}  # no input goes out again

    def call(self, method: Callable[..., Any], *arguments: Tensor) -> Any:
        """A `one_graph` method of the agent; as it is if it cannot be one graph."""
        if method not in self.methods:
            self.methods[method] = self.graph(types.MethodType(method, self.agent))
        try:
            return self.methods[method](*arguments)
        except torch._dynamo.exc.Unsupported:
            self.methods[method] = types.MethodType(method, self.agent)
            return self.methods[method](*arguments)


def one_graph(method: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a method, from tensors to tensors, that is compiled with its agent's updates, after the first of these."""

    @functools.wraps(method)
    def call(self: Agent, *arguments: Tensor) -> Any:
        if self._compiled is None or not self.updates or torch.compiler.is_compiling():
            return method(self, *arguments)
        return self._compiled.call(method, *arguments)

    return call


def cadences(agent: Agent, batch: Any) -> set[int]:
    """What an update asks `due` about: found with one update of a copy, which draws from no random stream."""
    with forked(agent.device):
        other = copy.deepcopy(agent)
        asked: set[int] = set()
        other.due = lambda every: asked.add(every) or True  # type: ignore[method-assign, func-returns-value]
        other.update(batch)
    return asked
