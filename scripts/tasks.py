"""What a task is called: its environment or data set, with what makes it another task than that alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

OPTION = re.compile(r"--([a-z][a-z_-]*)(?:[ =](.*?))??(?=\s--[a-z]|\s*$)")
"""An option in a command, and its text up to the next option, quoted or not."""


def task_name(name: str, options: Mapping[str, Any]) -> str:
    """An environment or data set, what its environment is made with, and whether it goes on online after the data."""
    changes = re.sub(r"\s*=\s*", "=", str(options.get("env_kwargs") or "").strip())
    online = str(options.get("learn_steps", 0)) != "0"
    return name + (f" ({changes})" if changes else "") + (", then online" if online else "")


def without_changes(task: str) -> str:
    """The environment or data set in what `task_name` gave."""
    return re.sub(r"( \([^()]*=.*\))?(, then online)?$", "", task)


def task_in(command: str) -> str:
    """The task of a recorded command; "" where it has none."""
    options = options_in(command)
    return task_name(options.get("env") or options.get("data", ""), options)


def task_of(command: Sequence[str], normalized: bool) -> str:
    """The task of a plan's command as a heading, its data set by the name of the file alone."""
    options = options_in(" ".join(command))
    return task_name(options.get("env") or Path(options["data"]).stem, options) + ", D4RL score" * normalized


def options_in(command: str) -> dict[str, str]:
    """The options of a command with their texts."""
    return {name.replace("-", "_"): re.sub(r"^'(.*)'$", r"\1", text) for name, text in OPTION.findall(command)}
