"""The errors that a user can meet. Each message is one sentence that says what was wrong, and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST = 4000
"""Characters of a message."""


class BellmarkError(Exception):
    """Base of every error that this project raises on purpose. Whatever a file put into its message, it can be read."""

    def __init__(self, message: str = ""):
        if len(message) > LONGEST:
            message = f"{message[: LONGEST // 2]} ... {message[-LONGEST // 2 :]}"
        super().__init__("".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in message))


class UnknownName(BellmarkError, KeyError):
    """An agent, setting, data set or environment of that name does not exist."""

    def __init__(self, what: str, name: str, known: Iterable[str]):
        known, name = sorted(known), name[:100]  # comparing long names takes minutes
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
        super().__init__(f"there is no {what} '{name}'; {hint}")

    def __str__(self) -> str:
        return str(self.args[0])


class InvalidSetting(BellmarkError, ValueError):
    """A setting has a value that makes no sense, alone or beside the others."""


class UnsupportedSpace(BellmarkError, TypeError):
    """An agent cannot use this observation or action space."""


class InvalidMask(BellmarkError, ValueError):
    """A mask of actions has the wrong size, or allows none."""


class MissingExtra(BellmarkError, ImportError):
    """A package that only some uses need is not installed."""

    def __init__(self, package: str, extra: str):
        super().__init__(f"this needs the package '{package}', which is not installed: pip install 'bellmark[{extra}]'")


class InvalidData(BellmarkError, ValueError):
    """A data file is truncated, foreign or inconsistent."""


class InvalidCheckpoint(BellmarkError, ValueError):
    """A checkpoint is truncated, foreign, or of a newer format."""


class NotFinite(BellmarkError, FloatingPointError):
    """NaN or infinity in an observation, a reward, an action or a loss."""


class EnvironmentFailed(BellmarkError, RuntimeError):
    """An environment crashed or hung, more often than it may be restarted."""


class RunExists(BellmarkError, FileExistsError):
    """The run folder holds a run already."""


class RunInUse(BellmarkError, RuntimeError):
    """Another process works in the run folder."""


class OutOfMemory(BellmarkError, MemoryError):
    """The memory is used up, or nearly."""
