"""The command line of `train` and `fit`: their options and the agent's settings side by side, made by tyro."""

from __future__ import annotations

import argparse
import dataclasses
import tomllib
from typing import TYPE_CHECKING, Annotated, Any

from ..agents.core.errors import InvalidSetting, UnknownName
from . import tuned
from .outcome import UsageError

if TYPE_CHECKING:
    from ..agents.core.config import Config


def split_agent(command: str, argv: list[str]) -> tuple[str, list[str]]:
    """The agent's name (the word after the command) and the rest. Raises UsageError for an unknown one."""
    from ..agents.core.registry import find_agents

    known = sorted(find_agents())
    form = f"bellmark {command} AGENT ..., where AGENT is one of {', '.join(known)}"
    if argv[1:] and argv[1] in ("-h", "--help"):
        print(f"usage: {form}\n\n`bellmark {command} AGENT --help` lists all options and that agent's settings.")
        raise SystemExit(0)
    if len(argv) < 2 or argv[1].startswith("-"):
        raise UsageError(f"say which agent: {form}; `bellmark {command} {known[0]} --help` lists its settings")
    if argv[1] not in known:
        raise UsageError(str(UnknownName("agent", argv[1], known)))
    return argv[1], argv[2:]


def parse(prog: str, words: list[str], *parts: Any) -> list[Any]:
    """Fills dataclass instances (their values are the defaults; tyro.MISSING = required) from one flat command line.

    Raises UsageError for an option that none of them has; tyro exits with status 2 for a bad value.
    """
    import tyro

    known = [field.name for part in parts for field in dataclasses.fields(part)]
    refuse_unknown(words, known)
    names = [f"part_{i}" for i in range(len(parts))]
    fields = [(name, Annotated[type(part), tyro.conf.arg(name="")]) for name, part in zip(names, parts, strict=True)]
    call = dataclasses.make_dataclass("Call", fields)
    default = call(*parts)
    filled = tyro.cli(tyro.conf.OmitArgPrefixes[call], default=default, args=words, prog=prog)  # type: ignore[misc, valid-type]
    return [getattr(filled, name) for name in names]


def refuse_unknown(words: list[str], known: list[str]) -> None:
    """tyro would refuse it too, but lists every word around it."""
    for word in words:
        name = word[2:].partition("=")[0].replace("-", "_")
        if word.startswith("--") and {name, name.removeprefix("no_")}.isdisjoint({*known, "help"}):
            raise UsageError(str(UnknownName("setting", name, known)).replace("_", "-"))


def with_settings(agent: str, what: str, options: Any, config: Config, words: list[str]) -> tuple[Any, Config]:
    """Options and settings after the TOML file that `--tuned` or `--settings` asks for: the command line's defaults.

    `what` is the option that names the task (`env` or `data`).
    """
    for path in _settings_files(agent, what, words):
        table = tuned.read(path)
        options = _replaced(options, table.run, "run option", path)
        config = config.override(table.agent)
    return options, config


def with_data_settings(agent: str, options: Any, words: list[str]) -> Any:
    """Options of the data set after those files."""
    for path in _settings_files(agent, "data", words):
        options = _replaced(options, tuned.read(path).data, "data option", path)
    return options


def _settings_files(agent: str, what: str, words: list[str]) -> list[Any]:
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument(f"--{what}", default="")
    early.add_argument("--settings", default="")
    early.add_argument("--tuned", action=argparse.BooleanOptionalAction, default=False)
    found, _ = early.parse_known_args([word for word in words if word not in ("-h", "--help")])
    paths: list[Any] = [tuned.find(agent, getattr(found, what))] if found.tuned else []
    return [*paths, found.settings] if found.settings else paths


def _replaced(options: Any, table: dict[str, Any], what: str, path: Any) -> Any:
    known = [field.name for field in dataclasses.fields(options)]
    for name, value in table.items():
        if name not in known:
            raise UnknownName(f"{what} (in {path})", name, known)
        if type(value) is not type(getattr(options, name)):
            kind = type(getattr(options, name)).__name__
            raise InvalidSetting(f"{path}: the {what} {name} must be of type {kind}, not {value!r}")
    return dataclasses.replace(options, **table)


def keywords(text: str) -> dict[str, Any]:
    """What is between the braces of a TOML inline table. Raises InvalidSetting."""
    try:
        (table,) = tomllib.loads(f"table = {{ {text} }}").values()
    except (ValueError, RecursionError) as error:
        raise InvalidSetting(
            f"env_kwargs = {text!r} is not of the form 'name = value, name = value' with values of TOML: {error}"
        ) from error
    return table
