"""MinAtar's five games as gymnasium environments (Young and Tian 2019, arXiv 1903.03176).

Registered as `MinAtar/Breakout-v1` and so on: v1 offers the actions that have an effect in the game, v0 all six.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

import gymnasium
import numpy as np

from ..agents.core.errors import MissingExtra

GAMES = {
    "Asterix": "asterix",
    "Breakout": "breakout",
    "Freeway": "freeway",
    "Seaquest": "seaquest",
    "SpaceInvaders": "space_invaders",
}
LONGEST = 10_000
"""Frames after which an episode is cut off."""
PROTOCOL = {"sticky_actions": 0.1, "difficulty_ramping": True}
"""The published settings, which are also the package's own."""


class MinAtar(gymnasium.Env):
    """One game: observations `[C, 10, 10]` uint8, 255 where channel C's object is and 0 elsewhere.

    The rules, the rewards and, for one seed, the episodes are those of the package `minatar`, but for one thing: the
    registered games are truncated after 10,000 frames, since one action held in Seaquest may never end the published
    game. Freeway ends after 2500 frames, and the game calls that terminal.
    """

    def __init__(self, game: str, minimal_actions: bool, sticky_actions: float = 0.1, difficulty_ramping: bool = True):
        """`sticky_actions` is the probability that the action before is repeated in place of the chosen one.

        `difficulty_ramping` makes Asterix, Seaquest and SpaceInvaders faster as an episode goes on.
        Raises MissingExtra.
        """
        self.env = _load(game)(ramping=difficulty_ramping)
        self.sticky_actions, self.last_action = sticky_actions, 0
        self.choices = self.env.minimal_action_set() if minimal_actions else list(range(6))
        self.action_space = gymnasium.spaces.Discrete(len(self.choices))
        shape = tuple(self.env.state_shape())
        self.observation_space = gymnasium.spaces.Box(0, 255, (shape[-1], *shape[:-1]), np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        if seed is not None:  # the games call the methods of numpy's older generator
            self.env.random = np.random.RandomState(seed % 2**32)
            self.last_action = 0  # no action, as in a new environment: the first step may repeat it
        self.env.reset()
        return self._observe(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self.env.random.rand() >= self.sticky_actions:
            self.last_action = self.choices[action]
        reward, terminated = self.env.act(self.last_action)
        return self._observe(), float(reward), bool(terminated), False, {}

    def _observe(self) -> np.ndarray:
        return np.multiply(self.env.state().transpose(2, 0, 1), 255, dtype=np.uint8)


def _load(game: str) -> Any:
    """The class of a game. `minatar` warns that it cannot draw without seaborn; here it draws nothing."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        return importlib.import_module(f"minatar.environments.{game}").Env
    except ImportError as error:
        raise MissingExtra("minatar", "minatar") from error
    finally:
        logging.disable(disabled)


for _name, _game in GAMES.items():
    for _version in (0, 1):
        gymnasium.register(
            f"MinAtar/{_name}-v{_version}",
            entry_point=f"{__name__}:MinAtar",
            max_episode_steps=LONGEST,
            kwargs={"game": _game, "minimal_actions": bool(_version)},
        )
