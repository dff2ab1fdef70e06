"""Atari scores on the scale of a person: 0 is a random policy, 1 a professional tester of games.

The references, in `atari_scores.csv` beside this file, are those of DQN Zoo (google-deepmind/dqn_zoo, atari_data.py):
games begin with up to 30 frames without action and are cut off after 30 minutes. Where a run has another protocol, as
with sticky actions, the scale is the same and the comparison loose.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources
from typing import Any

import numpy as np


@cache
def references() -> dict[str, tuple[float, float]]:
    """The mean returns of a random policy and of a person, by ALE's name of the game (`MsPacman`)."""
    text = resources.files(__package__).joinpath("atari_scores.csv").read_text(encoding="utf-8")
    return {row["game"]: (float(row["random"]), float(row["human"])) for row in csv.DictReader(text.splitlines())}


def human_normalized(env_id: str, returns: Any) -> np.ndarray | None:
    """(return - random) / (human - random), for the undiscounted returns of an id such as `ALE/MsPacman-v5`.

    None where there is no reference.
    """
    game = env_id.removeprefix("ALE/").rpartition("-v")[0]
    if not env_id.startswith("ALE/") or game not in references():
        return None
    random, human = references()[game]
    return (np.asarray(returns, np.float64) - random) / (human - random)
