"""Views of one data set: episodes that are set aside, the best of the others, and how often each is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..agents.core.buffer import Buffer
from ..agents.core.errors import InvalidData
from .options import Options
from .trajectories import Trajectories, select, trajectories
from .weighting import weighted


def split(buffer: Buffer, chosen: Options) -> tuple[Buffer, Buffer | None, dict[str, Any]]:
    """The transitions to learn from, those set aside (or None), and the numbers of both. Nothing is copied.

    First `round(validation E)` of the E episodes, at least one, are set aside at random; then the best of the others
    are kept; then these are weighted. Returns are those of the rewards in the file: a shift of the rewards would make
    long episodes better or worse. Raises InvalidData if no episode remains to learn from.
    """
    if chosen.validation == 0 and chosen.top_episodes == 1 and chosen.weighting == "none":
        return buffer, None, {}
    found = _in_file(buffer, chosen)
    count = len(found.first)
    order = np.random.default_rng(chosen.split_seed).permutation(count)
    aside = np.sort(order[: max(round(chosen.validation * count), 1)]) if chosen.validation else order[:0]
    kept = np.setdiff1d(np.arange(count), aside)
    if not len(kept):
        raise InvalidData(f"all {count} episodes would be set aside: lower validation = {chosen.validation}")
    training, validation = buffer, None
    if len(aside):
        validation, training = (select(buffer, found.transitions(numbers)) for numbers in (aside, kept))
    if chosen.top_episodes < 1:
        found = _in_file(training, chosen)
        training = select(buffer, found.transitions(found.best(chosen.top_episodes)))
    found = _in_file(training, chosen)
    if chosen.weighting != "none":
        training = weighted(training, found, chosen.weighting, chosen.weighting_temperature)
    numbers: dict[str, Any] = {
        "episodes": len(found.first),
        "transitions": training.transitions,
        "validation_episodes": len(aside),
        "validation_transitions": validation.transitions if validation is not None else 0,
        "left_out_episodes": count - len(aside) - len(found.first),
    }
    return training, validation, numbers


def _in_file(buffer: Buffer, chosen: Options) -> Trajectories:
    """The episodes, with the rewards of the file up to a positive factor."""
    found = trajectories(buffer)
    sign = -1.0 if chosen.reward_scale < 0 else 1.0
    return found._replace(reward=sign * (found.reward - chosen.reward_shift))
