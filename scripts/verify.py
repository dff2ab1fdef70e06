"""`bellmark resume RUN --verify`: repeats the last part of a run and compares."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from ..agents.core import checkpoint, loop
from ..agents.core.errors import InvalidCheckpoint
from . import differences
from .hooks import Stop
from .resume import Arguments, Saved, load_data, planned, put_back, read
from .run_folder import RunFolder


def verify(arguments: Arguments) -> int:
    """From previous.bell to the clock of last.bell, without a word to the run folder. Returns 0 for the same bits.

    Raises InvalidCheckpoint where one of the two is missing, or where an environment cannot be put back.
    """
    folder = RunFolder(arguments.run)
    manifest = folder.manifest()
    folder.lock.refuse()
    options = planned(manifest, arguments)
    torch.set_num_threads(options.threads)
    begin, goal = read(folder.previous, options.device), read(folder.last, options.device)
    if goal.extra.get("until") is None:
        raise InvalidCheckpoint(f"{goal.path} was written by an older version, which did not note what this needs")
    if options.compile:
        begin.agent.compile_updates()
    first, end = begin.extra["clock"], goal.extra["clock"]
    data = load_data(options, manifest)
    if not put_back(begin, arguments.env, data):
        reason = begin.manifest.get("resume", "its environment has no state that can be saved")
        raise InvalidCheckpoint(f"{folder} cannot be repeated exactly, since a resumed run begins {reason}")
    with TemporaryDirectory() as place:
        try:
            replay(begin, goal, options, data)
            online = goal.extra["phase"] == "learn"
            path = Path(place) / "replay.bell"
            checkpoint.save(path, begin.agent, buffer=online, env=online, sampler=True)
        finally:
            if begin.agent.env is not None:
                begin.agent.env.close()
        found = differences.checkpoints(checkpoint.read(path), (goal.manifest, goal.tensors))
    what = f"{end - first:,} steps from {first:,} to {end:,}, {len(goal.tensors)} tensors"
    return differences.verdict(what, found, {**goal.manifest, "machine": goal.extra.get("machine")})


def replay(begin: Saved, goal: Saved, options: Any, data: Any) -> None:
    """Trains the agent of `begin` up to the clock of `goal`, across the end of the data if that lies between."""
    agent, phase, until = begin.agent, goal.extra["phase"], goal.extra["until"]
    if begin.extra["phase"] == "fit":
        end = until if phase == "fit" else options.updates
        loop.fit(agent, data, end - agent.updates, hooks=[Stop(goal.manifest["counters"]["updates"])])
    if phase == "learn":
        loop.learn(agent, until - agent.steps, hooks=[Stop(goal.manifest["counters"]["steps"])])
