"""What `bellmark doctor` reports of an environment beyond its spaces, a sentence for each finding."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..agents.core.spec import Spec
from .random_play import Play, Report, flat

LARGE = 100.0
"""Size of observations and of rewards from which normalising them is worth trying."""
MOST = 5
"""Episodes, at least, that all end alike before that is worth a word."""
SLOW = 1000
"""Steps per second of one process, with two environments, below which several processes are worth it."""


def episodes(env: Any, found: Play, report: Report) -> None:
    """How they end."""
    if not found.ends:
        limit = getattr(env.spec, "max_episode_steps", None)
        limit_text = f"its limit is {limit:,} steps" if limit else "it has no time limit: give it max_episode_steps"
        report("note", "episodes", f"none ended within {len(found.actions):,} random steps; {limit_text}")
        return
    lengths = np.array([length for length, *_ in found.ends])
    terminated, truncated = (np.array([end[i] for end in found.ends]) for i in (2, 3))
    counts = f"{terminated.sum()} terminated, {(truncated & ~terminated).sum()} were truncated"
    report("ok", "episodes", f"{len(lengths)} of {lengths.min()} to {lengths.max()} steps; {counts}")
    if len(lengths) >= MOST and terminated.all() and len(set(lengths)) == 1 and lengths[0] > 1:
        report(
            "note",
            "truncation",
            f"every episode terminated after exactly {lengths[0]} steps: a time limit must be `truncated`, or values "
            "are learnt as if nothing came after it",
        )
    if (terminated & truncated).any():
        report("note", "truncation", "some ends are terminated and truncated at once; terminated counts")
    if (lengths == 1).all():
        report("note", "episodes", "each is one step long: nothing depends on the future")


def rewards(env: Any, found: Play, report: Report) -> None:
    """Their scale."""
    values = found.rewards
    text = f"mean {values.mean():.3g}, standard deviation {values.std():.3g}, {values.min():.3g} to {values.max():.3g}"
    if np.abs(values).max() > LARGE:
        report("note", "rewards", f"{text}: large; scale them down, or try normalize_reward (ppo)")
    elif values.std() == 0.0 and len({total for _, total, *_ in found.ends}) < 2:
        report("note", "rewards", f"all are {values[0]:g} under random actions: exploration will find it hard to learn")
    else:
        report("ok", "rewards", text)


def observations(env: Any, found: Play, report: Report) -> None:
    """Their scale."""
    if np.asarray(found.obs[0]).ndim == 3 or np.asarray(found.obs[0]).dtype == object:
        return
    values = np.stack([flat(obs) for obs in found.obs])
    if len(still := np.flatnonzero(values.std(0) == 0.0)):
        report("note", "observations", f"{len(still)} of {values.shape[1]} dimensions never change ({still[:8]})")
    if np.abs(values).max() > LARGE:
        worst = np.abs(values).max(0).argmax()
        text = f"dimension {worst} reaches {np.abs(values[:, worst]).max():.3g}: try normalize_obs"
        report("note", "observations", text)


def seeding(create: Callable[[], Any], found: Play, seed: int, report: Report) -> None:
    """The same seed and actions must give the same stream; another seed should give another."""

    def stream(seed: int) -> list[np.ndarray]:
        env = create()
        seen = [flat(env.reset(seed=seed)[0])]
        for action in found.actions[:200]:
            obs, reward, terminated, truncated, _ = env.step(action)
            seen.append(np.append(flat(obs), float(reward)))
            if terminated or truncated:
                seen.append(flat(env.reset()[0]))
        env.close()
        return seen

    try:
        first, again, other = stream(seed), stream(seed), stream(seed + 1)
    except Exception as error:
        report("wrong", "seeding", f"a second environment with the same actions raises {error!r}")
        return
    if not _same(first, again):
        where = next((i for i, (a, b) in enumerate(zip(first, again, strict=False)) if not np.array_equal(a, b)), 0)
        report(
            "wrong",
            "seeding",
            f"the same seed and actions give another stream from observation {where} on: draw from self.np_random "
            "alone, after super().reset(seed=seed)",
        )
    elif _same(first, other):
        report("note", "seeding", "another seed gives the same stream: nothing in it is random, or the seed is ignored")
    else:
        report("ok", "seeding", "the same seed gives the same stream, another seed another")


def _same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return len(a) == len(b) and all(map(np.array_equal, a, b))


def training(create: Callable[[], Any], spec: Spec, steps: int, report: Report) -> None:
    """As agents meet it: two at once, reset automatically; speed; whether a run can be resumed exactly."""
    import torch

    from ..agents.core.masks import random_actions
    from ..envs import make

    count = 0
    try:
        with make(create, 2) as env:
            obs, began = env.reset(0), time.perf_counter()
            while count < steps:
                step = env.step(random_actions(spec, torch.from_numpy(obs)).numpy())
                obs, count = step.obs, count + int(step.valid.sum())
            rate, ended, reason = count / (time.perf_counter() - began), len(env.pop_episodes()), env.obstacle()
    except Exception as error:
        report("wrong", "autoreset", f"two at once, reset automatically, fail after {count} steps: {error!r}")
        return
    report("ok", "autoreset", f"{ended} episodes of two environments at once")
    slow = rate < SLOW
    advice = ": slow; train with --backend async and several --num-envs" if slow else ""
    report("note" if slow else "ok", "speed", f"{rate:,.0f} steps/s in one process{advice}")
    if reason:
        report("note", "resuming", f"a resumed run begins new episodes: {reason}")
