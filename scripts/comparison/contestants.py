"""Who is compared: what the words of the command line mean."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from ...agents.core.errors import UnknownName
from ..outcome import UsageError

SB3 = ("a2c", "ddpg", "dqn", "ppo", "sac", "td3")
"""Agents of ours that stable-baselines3 has as well."""


class Contestant(NamedTuple):
    """An agent to train, ours or stable-baselines3's, or a path to read."""

    label: str
    library: str
    """bellmark or sb3; "" for a path."""
    agent: str = ""
    settings: tuple[str, ...] = ()
    """Words of `bellmark train`."""
    path: Path | None = None


def parse(word: str) -> Contestant:
    """`td3`, `td3:actor_delay=1,hidden=[64,64]`, `sb3:td3`, `sb3:td3:tau=0.01`, a path; each may begin with `name=`.

    What is neither an agent nor has a colon is a path. Raises UsageError.
    """
    from ...agents.core.registry import find_agents

    match = re.fullmatch(r"([\w .()+-]+)=([^=].*)", word.partition(":")[0])
    label, rest = (match[1], word[len(match[1]) + 1 :]) if match else ("", word)
    known = sorted(find_agents())
    library, name = ("sb3", rest.removeprefix("sb3:")) if rest.startswith("sb3:") else ("bellmark", rest)
    agent, _, settings = name.partition(":")
    if library == "bellmark" and agent not in known and (Path(rest).exists() or "/" in rest or rest.endswith(".csv")):
        return Contestant(label, "", path=Path(rest))
    if agent not in (known if library == "bellmark" else SB3):
        what = "agent" if library == "bellmark" else "agent for stable-baselines3"
        raise UsageError(f"{UnknownName(what, agent, known if library == 'bellmark' else SB3)}; and no path '{rest}'")
    return Contestant(label or rest, library, agent, words(settings))


def words(settings: str) -> tuple[str, ...]:
    """`a=1,b=[2,3],c=true` as words of `bellmark train`: `--a 1 --b 2 3 --c`."""
    found: list[str] = []
    for part in re.split(r",(?![^\[]*\])", settings) if settings else []:
        name, equals, text = part.partition("=")
        if not equals or not re.fullmatch(r"\w+", name.strip()):
            raise UsageError(f"'{part}' is no setting: write contestants as agent:name=value,name=value")
        value, option = _value(text), name.strip().replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{option}" if value else f"--no-{option}")
        else:
            found += [f"--{option}", *(str(item) for item in (value if isinstance(value, list) else [value]))]
    return tuple(found)


def _value(text: str) -> Any:
    """A value of TOML, or the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
