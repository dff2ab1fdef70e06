"""The state of the Arcade Learning Environment. ale_py is imported only where an environment has done so already."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from ..agents.core.errors import InvalidCheckpoint
from .plain import Obstacle


def belongs(value: Any) -> bool:
    """Whether a value is ALE's own: the emulator, or the list of the game's actions."""
    if type(value) is list and value:
        value = value[0]
    return type(value).__module__.partition(".")[0] == "ale_py"


def found(env: Any) -> bool:
    """Whether an environment holds an emulator, under the name that ALE's gymnasium environment gives it."""
    ale_py = sys.modules.get("ale_py")
    return ale_py is not None and isinstance(vars(env).get("ale"), ale_py.ALEInterface)


def take(env: Any) -> dict[str, np.ndarray]:
    """What the emulator's next frame depends on, with its random stream. Raises Obstacle for its sticky actions."""
    if env.ale.getFloat("repeat_action_probability") > 0.0:
        raise Obstacle(
            "ALE's state leaves out the action that its sticky actions may repeat: take an id such as ALE/Pong-v5, or "
            "set repeat_action_probability to 0"
        )
    return {"state": np.frombuffer(env.ale.cloneSystemState().__getstate__(), np.uint8).copy()}


def put_back(env: Any, saved: dict[str, np.ndarray]) -> None:
    """Raises InvalidCheckpoint if the state is damaged, of another game, or of another version of ALE.

    The screen is that of before until the next frame.
    """
    import ale_py

    try:
        env.ale.restoreSystemState(ale_py.ALEState(saved["state"].tobytes()))
    except Exception as error:  # the emulator's own errors arrive as SystemError, and others
        raise InvalidCheckpoint(
            f"the state of the emulator is damaged, or of another game, or not of ALE {ale_py.__version__}: use the "
            "game and the version that wrote it."
        ) from error
