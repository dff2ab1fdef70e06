"""Published settings, `settings/<agent>/<env>.toml`: a source, run options, and the agent's settings.

A file that is for several environments or data sets lists them as its `tasks`.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from ..agents.core.errors import InvalidSetting, UnknownName

FOLDER = Path(__file__).parent / "settings"
LARGEST = 16 * 1024
"""Bytes; nested keys take a time that grows with the square."""
KINDS: dict[str, type] = {"source": str, "tasks": list, "run": dict, "data": dict, "agent": dict}
WORDS = {"source": "text", "tasks": "list of texts"}


class Settings(NamedTuple):
    """What such a file says."""

    source: str
    """Where the settings come from."""
    run: dict[str, Any]
    """Options of the command: steps, num_envs, ..."""
    agent: dict[str, Any]
    """Settings of the agent."""
    data: dict[str, Any]
    """Options of the data set: scale_returns, ..."""
    tasks: list[str]
    """What the file is for, if not for the one task that it is named after."""


def shipped(agent: str = "*") -> list[Path]:
    """All files that come with Bellmark, for one agent or for all."""
    return sorted(FOLDER.glob(f"{agent}/**/*.toml"))


def tasks(path: Path) -> list[str]:
    """The environments, namespaces of environments, or data sets that a shipped file is for."""
    return read(path).tasks or [path.relative_to(FOLDER).with_suffix("").as_posix().partition("/")[2]]


def find(agent: str, env: str) -> Path:
    """The shipped settings of `agent` for `env` or for its namespace ("MinAtar"). Raises UnknownName without any."""
    files = {task: path for path in shipped(agent) for task in tasks(path)}
    name = env if env in files else env.partition("/")[0]
    if name not in files:
        if not files:
            raise InvalidSetting(f"no settings are shipped for '{agent}': leave --tuned out, or give --settings FILE")
        raise UnknownName(f"shipped file of {agent}'s settings for the environment", env, files)
    return files[name]


def read(path: str | os.PathLike[str]) -> Settings:
    """Reads a file of settings. Raises InvalidSetting if it is missing or not of that form."""
    path = os.fspath(path)
    try:
        with open(path, "rb") as file:
            text = file.read(LARGEST + 1)
    except OSError as error:
        raise InvalidSetting(f"cannot read the settings {path}: {error.strerror}") from error
    if len(text) > LARGEST:
        raise InvalidSetting(f"{path} has more than {LARGEST:,} bytes, so it is no file of settings")
    try:
        content = tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidSetting(f"{path} is not valid TOML: {error}") from error
    for name, value in content.items():
        if name not in KINDS:
            raise UnknownName(f"part of a settings file ({path})", name, KINDS)
        sound = isinstance(value, KINDS[name])
        if not sound or (name == "tasks" and not all(isinstance(item, str) for item in value)):
            raise InvalidSetting(f"{path}: '{name}' must be a {WORDS.get(name, f'table [{name}]')}")
    for table in ("run", "data", "agent"):
        for name, value in content.get(table, {}).items():
            for item in value if isinstance(value, list) else [value]:
                if not isinstance(item, str | int | float) or (type(item) is int and abs(item) >= 2**63):
                    raise InvalidSetting(f"{path}: the setting {name} must be a number, a text, true, false or a list")
    run, agent, data = (content.get(table, {}) for table in ("run", "agent", "data"))
    return Settings(content.get("source", ""), run, agent, data, content.get("tasks", []))
