"""How a command can end, beside well."""

from __future__ import annotations

import os
from typing import TextIO

from ..agents.core.errors import BellmarkError

FAILED, USAGE_ERROR, INTERRUPTED = 1, 2, 130
"""Exit statuses."""


class UsageError(BellmarkError):
    """The command line makes no sense."""


class SaveFailed(BellmarkError):
    """The last attempt to save failed, so the end of the training is not on the disk."""


def discard(stream: TextIO) -> None:
    """What is still to be written there goes nowhere: its reader has gone, and Python must not fail to flush it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
