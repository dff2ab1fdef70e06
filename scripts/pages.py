"""The page of an agent in Markdown, read from its docstrings and settings: there is no other copy of what it says."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import os
import re
import textwrap
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_type_hints

from ..agents.core.agent import Agent
from ..agents.core.config import Config, Settings
from ..agents.core.registry import agent_class
from .agents import describe

ROOT = Path(__file__).parents[1]
PAPER = re.compile(r"arXiv\s+(\d{4}\.\d{4,5})")
DEPARTURE = re.compile(r"(?=\bDepartures?\b)")
TYPES = {float: "number", int: "whole number", bool: "True or False", str: "text"}


class Text(NamedTuple):
    """What the docstring of an agent says."""

    about: str
    """Its first paragraph: name, source, one clause."""
    body: list[str]
    """The other paragraphs; equations are indented."""
    departures: list[str]
    """What follows the word "Departures", paragraph by paragraph."""

    @property
    def equations(self) -> list[str]:
        return [paragraph for paragraph in self.body if paragraph.startswith("    ")]


class Setting(NamedTuple):
    """One field of a settings class."""

    name: str
    value: Any
    allowed: str
    meaning: str


def read(kind: type) -> Text:
    about, *paragraphs = inspect.cleandoc(kind.__doc__ or "").split("\n\n")
    body: list[str] = []
    departures: list[str] = []
    for paragraph in paragraphs:
        prose, *rest = [paragraph] if paragraph.startswith("    ") else DEPARTURE.split(paragraph, maxsplit=1)
        body += [prose.rstrip()] if prose.strip() else []
        departures += rest
    return Text(about, body, departures)


def papers(kind: type) -> list[str]:
    """The arXiv numbers in an agent's docstring, in order."""
    return list(dict.fromkeys(PAPER.findall(kind.__doc__ or "")))


def settings(config: Settings) -> Iterator[tuple[type[Settings], list[Setting]]]:
    """The settings, class by class, the agent's own first: each where its sentence was last written."""
    hints, missing = get_type_hints(type(config), include_extras=True), {f.name for f in dataclasses.fields(config)}
    for owner in type(config).__mro__:
        if issubclass(owner, Settings) and owner is not Settings:
            own = {name: text for name, text in sentences(owner).items() if name in missing}
            missing -= own.keys()
            if own:
                yield owner, [Setting(n, getattr(config, n), allowed(hints[n]), text) for n, text in own.items()]


def sentences(owner: type) -> dict[str, str]:
    """The docstrings of the fields that are written in this class itself."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(node, ast.ClassDef)
    return {
        field.target.id: inspect.cleandoc(ast.literal_eval(text.value))
        for field, text in pairwise(node.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr)
    }


def allowed(hint: Any) -> str:
    """The values that a setting of that type may have, in words."""
    if getattr(hint, "__origin__", None) is Literal:
        return ", ".join(map(str, hint.__args__))
    if getattr(hint, "__origin__", None) is tuple:
        return "positive numbers"
    kind = hint.__origin__ if hasattr(hint, "__metadata__") else hint
    return " ".join([TYPES.get(kind, str(kind)), *map(str, getattr(hint, "__metadata__", ()))])


def ancestors(kind: type[Agent]) -> list[type[Agent]]:
    """The classes between an agent and `Agent`, nearest first."""
    return [base for base in kind.__mro__[1:] if issubclass(base, Agent) and base is not Agent]


def overridden(kind: type[Agent], parent: type[Agent]) -> dict[str, str]:
    """The methods that an agent replaces in its parent, with the first line of what they are for."""
    methods = [name for name, value in vars(kind).items() if inspect.isfunction(value) or isinstance(value, property)]
    return {
        name: (inspect.getdoc(getattr(kind, name)) or "").partition("\n")[0]
        for name in methods
        if name in dir(parent) and not name.startswith("__")
    }


def changed(config: Config, parent: Config) -> dict[str, tuple[Any, Any]]:
    """The settings of the parent that have other values here: (here, there)."""
    pairs = {f.name: (getattr(config, f.name, None), getattr(parent, f.name)) for f in dataclasses.fields(parent)}
    return {name: (here, there) for name, (here, there) in pairs.items() if here != there}


@functools.cache
def describe_once(name: str) -> dict[str, Any]:
    """`bellmark agents`'s words, which take time: it builds the agent."""
    return describe(name, agent_class(name))


def page(name: str, folder: str | None = None) -> str:
    """All that there is to say about an agent, with links relative to a folder of the repository if one is given."""
    kind, text = agent_class(name), read(agent_class(name))
    bases, facts = ancestors(kind), describe_once(name)
    parent = next((base for base in bases if base.name), None)
    lines = [f"# {name}", prose(text.about)]
    lines += [f"Actions: {', '.join(facts['actions'])}. Learns {' or '.join(facts['learns'])}. "
              f"File: {link(facts['file'], facts['file'], folder)}."]  # fmt: skip
    lines += ["Papers: " + ", ".join(prose(f"arXiv {number}") for number in papers(kind)) + "."] if papers(kind) else []
    lines += ["## Equations", *map(block, text.body)] if text.body else []
    for base in bases:
        if not base.name and read(base).equations:
            lines += [f"## Shared: {base.__name__}", prose(read(base).about), *map(block, read(base).body)]
            text = text._replace(departures=[*text.departures, *read(base).departures])
    if not text.equations and parent is not None:
        lines += [f"The rest is as in {named(parent, folder)}:", *map(block, read(parent).equations)]
    lines += ["## Departures", *map(prose, text.departures)] if text.departures else []
    others = [named(base, folder) for base in bases if base.name and read(base).departures]
    lines += [f"Departures of those that it builds on: {', '.join(others)}."] if others else []
    lines += inheritance(kind, bases, parent, folder)
    lines += ["## Settings"]
    for owner, group in settings(kind.config):
        file = Path(inspect.getfile(owner)).relative_to(ROOT).as_posix()
        lines += [f"### {link(owner.__name__, file, folder)}", prose(inspect.cleandoc(owner.__doc__ or ""))]
        rows = [(code(s.name), code(s.value), s.allowed, prose(s.meaning)) for s in group]
        lines += [table(("setting", "default", "values", "meaning"), rows)]
    return "\n\n".join(lines) + "\n"


def inheritance(kind: type[Agent], bases: list[type[Agent]], parent: type[Agent] | None, folder: str | None) -> list:
    """The chain of classes, and what an agent changes of its parent."""
    chain = " → ".join([f"`{kind.__name__}`", *(named(base, folder) for base in bases), "`Agent`"])
    if parent is None:
        return ["## Builds on", chain]
    lines = [f"## What it changes of {parent.name}", chain]
    if methods := overridden(kind, parent):
        lines += ["\n".join(f"- `{name}`{': ' * bool(what)}{prose(what)}" for name, what in methods.items())]
    rows = [
        (code(name), code(here), code(there)) for name, (here, there) in changed(kind.config, parent.config).items()
    ]
    return lines + ([table(("setting", "here", f"in {parent.name}"), rows)] if rows else [])


# ---- Markdown ------------------------------------------------------------------------------------------------------


def prose(text: str) -> str:
    """Running text: what Markdown would read as marks is escaped outside of backticks, papers become links."""
    parts = re.split(r"(`[^`]*`)", text)
    parts[::2] = [re.sub(r"(?m)([*<]|^[-+#>](?= )|(?<!\w)_)", r"\\\1", part) for part in parts[::2]]
    return PAPER.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", "".join(parts))


def block(paragraph: str) -> str:
    """A paragraph: equations, which are indented, as they stand, and text."""
    return f"```text\n{textwrap.dedent(paragraph)}\n```" if paragraph.startswith("    ") else prose(paragraph)


def code(value: Any) -> str:
    return f"`{value}`" if isinstance(value, str) and value else f"`{value!r}`"


def link(text: str, path: str, folder: str | None) -> str:
    """A link to a file of the repository, or where nothing can be followed its text alone."""
    return f"`{text}`" if folder is None else f"[{text}]({Path(os.path.relpath(path, folder)).as_posix()})"


def named(kind: type[Agent], folder: str | None) -> str:
    """An agent by its name, which leads to its page, or a class that is none."""
    return link(kind.name, f"docs/agents/{kind.name}.md", folder) if kind.name else f"`{kind.__name__}`"


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    cells = [[*header], ["---"] * len([*header]), *([cell.replace("\n", " ") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells)
