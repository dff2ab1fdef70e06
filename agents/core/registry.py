"""All agents, found by looking into the families' folders: there is no list to keep."""

from __future__ import annotations

import importlib
import pkgutil

from .agent import Agent
from .errors import UnknownName

FAMILIES = ("agents.on_policy", "agents.value_based", "agents.actor_critic", "offline")


def find_agents() -> dict[str, type[Agent]]:
    """All registered agents, after importing every file of the families' folders."""
    root = __package__.removesuffix(".agents.core")
    for family in FAMILIES:
        package = importlib.import_module(f"{root}.{family}")
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")
    return Agent.registry


def agent_class(name: str) -> type[Agent]:
    """The agent of that name. Raises UnknownName with the nearest ones."""
    known = find_agents()
    if name not in known:
        raise UnknownName("agent", name, known)
    return known[name]
