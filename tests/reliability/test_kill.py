"""A run that is killed at any moment, as often as one likes, and resumed is the run that was never killed."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
from bellmark.agents.core.errors import BellmarkError
from recovery import EVERY, RUNS, Whole, check_what_is_left, compare, go_on, undisturbed

MOMENTS: dict[str, tuple[str, ...]] = {
    "at random moments": (),
    "when a file is changed": processes.CHANGES,
    "before a file is on the disk, which tears it": ("fsync",),
}
"""What the process is doing when it is killed."""


@pytest.fixture(scope="module", params=RUNS)
def whole(request, tmp_path_factory):
    """A run that is not killed, in a working folder of its own."""
    here = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        yield undisturbed(request.param, here)


@pytest.mark.parametrize("moment", MOMENTS)
def test_kill(whole, count, record, moment):
    name, rng = whole.name, np.random.default_rng(0)
    wanted = count(int(name == "ppo" or moment == "when a file is changed"), 40)
    if not wanted:
        pytest.skip("with --full only")
    trials, kills, repeated, broken, began = 0, 0, 0, [], time.perf_counter()
    while kills < wanted:
        trials += 1
        folder = whole.folder.with_name(f"killed-{trials}")
        try:
            ticks = kill(whole, folder, rng, moment, count(1, 3))
            assert max(ticks, default=0) <= EVERY + 2, f"{ticks} ticks are lost, with a checkpoint every {EVERY}"
            kills, repeated = kills + len(ticks), max([repeated, *ticks])
            go_on(name, folder, fresh=(name, moment, trials) == ("ppo", "at random moments", 1))
            compare(whole.folder, folder)
            shutil.rmtree(folder)
        except (AssertionError, BellmarkError) as error:
            kills += 1
            broken.append(f"{folder}: {error}")
    rate = kills / (time.perf_counter() - began)
    note = f"at most {repeated} clock ticks repeated, checkpoint every {EVERY}; {rate:.1f} kills per second"
    record(f"kill -9 {moment}", name, kills, kills - len(broken), len(broken), note)
    assert broken == []


def kill(whole: Whole, folder: Path, rng: Any, moment: str, most: int) -> list[int]:
    """Begins a run, kills it, resumes it, and so on, up to `most` times. Gives the ticks that each kill has cost."""
    ticks, log = [], folder.with_suffix(".log")
    for _ in range(rng.integers(1, most + 1)):
        words = ["resume", folder.name] if ticks else [*RUNS[whole.name], "--run", folder.name]
        among = MOMENTS[moment]
        if not among:
            process = processes.start(words, log)
            process.join(rng.uniform(0, whole.seconds))
            process.kill()
            process.join()
            status = process.exitcode
        else:
            at = rng.integers(1, sum(whole.changes[name] for name in among) + 1)
            status = processes.run(words, log, processes.kill, int(at), among)
        if status != -9:  # it had ended, or there was no checkpoint to resume
            break
        ticks.append(check_what_is_left(folder))
    return ticks
