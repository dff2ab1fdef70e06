"""Environments: gymnasium, envpool and ALE behind one vector interface, probe environments, and evaluation.

Importing this package imports neither gymnasium nor torch: each name is fetched when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .atari_scores import human_normalized
    from .evaluation import Evaluation, evaluate
    from .making import for_evaluation, make, remake
    from .vector import Episode, VectorEnv

__all__ = ["Episode", "Evaluation", "VectorEnv", "evaluate", "for_evaluation", "human_normalized", "make", "remake"]

_HOME = {
    "Episode": "vector",
    "Evaluation": "evaluation",
    "VectorEnv": "vector",
    "evaluate": "evaluation",
    "for_evaluation": "making",
    "human_normalized": "atari_scores",
    "make": "making",
    "remake": "making",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
