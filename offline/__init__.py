"""Data sets and the learners that use them. Nothing heavy is imported before it is used.

`bellmark.dataset(name_or_path)` is the way in; here are the names around it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dataset import Dataset as Dataset
    from .dataset import Options as Options
    from .scores import normalized_score as normalized_score
    from .scores import references as references

_HOME = {"Dataset": "dataset", "Options": "dataset", "normalized_score": "scores", "references": "scores"}

__all__ = ["Dataset", "Options", "normalized_score", "references"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
