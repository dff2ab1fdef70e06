"""`bellmark agents`: what there is."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..agents.core.agent import Agent


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Lists all agents."""

    json: bool = False
    """Print JSON instead of a table."""


def main(argv: list[str]) -> int:
    import tyro

    from ..agents.core.registry import find_agents

    arguments = tyro.cli(Arguments, args=argv[1:], prog="bellmark agents")
    rows = [describe(name, kind) for name, kind in sorted(find_agents().items())]
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        show(rows)
    return 0


def describe(name: str, kind: type[Agent]) -> dict[str, Any]:
    """One agent as plain values."""
    from ..agents.core.spec import Spec

    root = Path(__file__).parents[1]
    box = {"action_shape": (1,), "action_low": (-1.0,), "action_high": (1.0,)}
    specs = {
        "discrete": Spec(obs_shape=(1,), actions=2, discrete=True),
        "continuous": Spec(obs_shape=(1,), actions=1, discrete=False, **box),  # type: ignore[arg-type]
    }
    return {
        "name": name,
        "about": (inspect.getdoc(kind) or "").partition("\n")[0],
        "file": Path(inspect.getfile(kind)).relative_to(root).as_posix(),
        "actions": [word for word, spec in specs.items() if accepts(kind, spec)],
        "learns": list(kind.learns),
    }


def accepts(kind: type[Agent], spec: Any) -> bool:
    """Whether the agent can be built for such spaces."""
    import torch

    from ..agents.core.errors import UnsupportedSpace

    with torch.random.fork_rng(devices=[]):
        try:
            kind(spec)
        except UnsupportedSpace:
            return False
    return True


def show(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(Column("agent", no_wrap=True), "actions", "learns", "what, and where")
    for row in rows:
        what = f"{row['about']}\n{row['file']}"
        table.add_row(row["name"], ", ".join(row["actions"]), ", ".join(row["learns"]), what)
    Console().print(table)
