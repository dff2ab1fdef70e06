"""How a command can end, beside well."""

from __future__ import annotations

from ..agents.core.errors import BellmarkError

FAILED, USAGE_ERROR, INTERRUPTED = 1, 2, 130
"""Exit statuses."""


class UsageError(BellmarkError):
    """The command line makes no sense."""


class SaveFailed(BellmarkError):
    """The last attempt to save failed, so the end of the training is not on the disk."""
