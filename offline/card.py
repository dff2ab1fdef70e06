"""What a data set holds, in numbers and words: its card."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..agents.core.buffer import Buffer
from .dataset import Dataset, without
from .trajectories import trajectories

AT_BOUND = 0.999
"""An action of this absolute value or above is at its bound."""
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def card(data: Dataset) -> dict[str, Any]:
    """`Dataset.describe`, and figures of the transitions to learn from, all plain values.

    `returns` and `lengths` are quantiles over the finished episodes of the file; `terminated` and `truncated` count
    ends of episodes, `left_off` those without one. `action` and `obs` have the least and the greatest value of each
    dimension, actions in [-1, 1] or counts of each choice; `problems` are sentences.
    """
    found, buffer = trajectories(data.buffer), data.buffer
    last = torch.as_tensor(found.rows[found.first + found.lengths - 1], device=buffer.device)
    terminated = int(buffer.terminated.view(-1)[last].sum())
    figures: dict[str, Any] = {
        "returns": _quantiles(data.episode_returns),
        "lengths": _quantiles(data.episode_lengths),
        "ends": {
            "terminated": terminated,
            "truncated": int(found.finished.sum()) - terminated,
            "left_off": int((~found.finished).sum()),
        },
        "reward": {"min": float(found.reward.min()), "max": float(found.reward.max())},
        "action": _actions(buffer),
        "obs": _ranges(part for part, _ in buffer.parts()) if not data.spec.is_image else {},
        "obs_shape": list(data.spec.obs_shape),
        "obs_dtype": data.spec.obs_dtype,
    }
    return data.describe() | figures | {"problems": problems(data, figures)}


def problems(data: Dataset, figures: dict[str, Any]) -> list[str]:
    """What one should know before training on these data, in sentences."""
    spec, total = data.spec, data.recorded
    kept = data.buffer.transitions + sum(data.split.get(key, 0) for key in ("validation_transitions",))
    found = []
    if "timeouts" not in data.boundaries and "truncations" not in data.boundaries:
        found.append(f"the file does not say where episodes were cut off: taken from {data.boundaries}")
    if "jumps" in data.boundaries:
        found.append(f"rows do not follow each other everywhere: episodes end at {data.boundaries}")
    if not data.split and kept < total:
        found.append(f"{total - kept} of {total} transitions are left out: the file does not have their successor")
    if data.episodes.unfinished:
        found.append(f"the last {data.episodes.unfinished} transitions are of an episode without an end")
    if figures["reward"]["min"] == figures["reward"]["max"]:
        found.append(f"every reward is {figures['reward']['min']:g}")
    ranges = {"obs": figures["obs"], "action": {} if spec.discrete else figures["action"]}
    for name, range in ranges.items():
        if range and (same := np.flatnonzero(np.equal(range["min"], range["max"])).tolist()):
            found.append(f"{name} never varies in {len(same)} of its dimensions: {', '.join(map(str, same[:20]))}")
    if not spec.discrete and figures["action"]["at_bound"] > 0.5:
        found.append(f"{100 * figures['action']['at_bound']:.0f} % of all action values are at their bounds")
    if spec.discrete and "counts" in figures["action"] and 0 in figures["action"]["counts"]:
        unused = [str(choice) for choice, count in enumerate(figures["action"]["counts"]) if not count]
        found.append(f"choices that never occur: {', '.join(unused[:20])}")
    if not data.env_id:
        found.append("no environment to evaluate in is known: name one with env_id")
    if data.missing_keywords:
        found.append(without(data))
    if data.reference is None:
        found.append("no reference returns are known, so returns have no D4RL score: name a task")
    return found


def _ranges(parts: Iterator[torch.Tensor]) -> dict[str, Any]:
    low, high = zip(*((part.amin(0), part.amax(0)) for part in parts), strict=True)
    return {"min": torch.stack(low).amin(0).flatten().tolist(), "max": torch.stack(high).amax(0).flatten().tolist()}


def _actions(buffer: Buffer) -> dict[str, Any]:
    if buffer.spec.discrete:
        chosen = buffer.action.flatten(0, 1)[buffer.valid_index()]
        return {"counts": chosen.bincount(minlength=buffer.spec.actions).tolist()} if chosen.ndim == 1 else {}
    actions = [action for _, action in buffer.parts()]
    bound = sum(int((action.abs() >= AT_BOUND).sum()) for action in actions)
    return {**_ranges(iter(actions)), "at_bound": bound / sum(action.numel() for action in actions)}


def _quantiles(values: np.ndarray) -> dict[str, float]:
    names = ("min", "10%", "25%", "median", "75%", "90%", "max")
    found = dict(zip(names, np.quantile(values, QUANTILES).tolist(), strict=True))
    return {"mean": float(values.mean()), "std": float(values.std()), **found}
