"""Published settings, `settings/<agent>/<env>.toml`: a source, run options, and the agent's settings."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from ..agents.core.errors import InvalidSetting, UnknownName

FOLDER = Path(__file__).parent / "settings"


class Settings(NamedTuple):
    """What such a file says."""

    source: str
    """Where the settings come from."""
    run: dict[str, Any]
    """Options of the command: steps, num_envs, ..."""
    agent: dict[str, Any]
    """Settings of the agent."""


def shipped(agent: str = "*") -> list[Path]:
    """All files that come with Bellmark, for one agent or for all."""
    return sorted(FOLDER.glob(f"{agent}/**/*.toml"))


def task(path: Path) -> str:
    """The environment that a shipped file is for."""
    return path.relative_to(FOLDER).with_suffix("").as_posix().partition("/")[2]


def find(agent: str, env: str) -> Path:
    """The shipped settings of `agent` for `env`. Raises UnknownName if there are none."""
    files = {task(path): path for path in shipped(agent)}
    if env not in files:
        if not files:
            raise InvalidSetting(f"no settings are shipped for '{agent}': leave --tuned out, or give --settings FILE")
        raise UnknownName(f"shipped file of {agent}'s settings for the environment", env, files)
    return files[env]


def read(path: str | os.PathLike[str]) -> Settings:
    """Reads a file of settings. Raises InvalidSetting if it is missing or not of that form."""
    try:
        with open(path, "rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise InvalidSetting(f"cannot read the settings {os.fspath(path)}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise InvalidSetting(f"{os.fspath(path)} is not valid TOML: {error}") from error
    for name in content:
        if name not in ("source", "run", "agent"):
            raise UnknownName(f"part of a settings file ({os.fspath(path)})", name, ("source", "[run]", "[agent]"))
    return Settings(str(content.get("source", "")), content.get("run", {}), content.get("agent", {}))
