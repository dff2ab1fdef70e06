"""`bellmark explain AGENT`: equations, settings, papers, departures, and what a variant changes of its parent."""

from __future__ import annotations

from dataclasses import dataclass

from tyro.conf import Positional

from ..agents.core.errors import UnknownName
from .outcome import UsageError


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Explains an agent from its docstrings: as a page on a terminal, as plain Markdown in a pipe or file."""

    agent: Positional[str]
    """Name of the agent; `bellmark agents` lists them."""


def main(argv: list[str]) -> int:
    import tyro
    from rich.console import Console
    from rich.markdown import Markdown

    from .pages import page

    arguments = tyro.cli(Arguments, args=argv[1:], prog="bellmark explain")
    try:
        text, console = page(arguments.agent), Console()
    except UnknownName as error:
        raise UsageError(str(error)) from error
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        print(text, end="")
    return 0
