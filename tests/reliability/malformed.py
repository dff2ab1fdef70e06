"""Malformed files by the hundred thousand, read in a process that may die of one.

Every case is made from its number alone, so that a failure can be repeated.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from audit import Audit
from bellmark.agents.core.errors import BellmarkError

INTEGERS = [0, 1, 2, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1]
MEMORY, GROWTH, SECONDS = 2**31, 2**30, 6.0
"""Bytes that a process may allocate beside what it has, bytes that it may use, and processor time for one case."""

Maker = Callable[[Random], bytes]


class Found(NamedTuple):
    """What became of the cases."""

    accepted: int
    refused: int
    wrong: list[str]
    """Numbers of cases, and what else than a BellmarkError came of them."""
    died: dict[int, str]
    """Cases that crashed the process or hung."""
    growth: int
    """Bytes by which reading one case raised the memory of the process at most."""


def mutated(content: bytes, rng: Random) -> bytes:
    """A copy with bits flipped, bytes or integers replaced, or pieces cut off, cut out, repeated or swapped."""
    changed = bytearray(content)
    for _ in range(rng.randrange(1, 6)):
        if len(changed) < 9:
            break
        place, other, length = rng.randrange(len(changed) - 8), rng.randrange(len(changed)), rng.randrange(1, 64)
        kind = rng.randrange(8)
        if kind <= 1:
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 2:
            changed[place] = rng.randrange(256)
        elif kind == 3:
            width = rng.choice([1, 2, 4, 8])
            value = rng.choice([*INTEGERS, len(content)]) % 2 ** (8 * width)
            changed[place : place + width] = value.to_bytes(width, "little")
        elif kind == 4 and rng.randrange(4) == 0:
            del changed[place:]
        elif kind == 5:
            del changed[place : place + length]
        elif kind == 6:
            changed[place:place] = changed[other : other + length]
        else:
            changed[place : place + length] = changed[other : other + length]
    return bytes(changed)


def case(makers: Sequence[Maker], number: int) -> bytes:
    return makers[number % len(makers)](Random(number))


def check(
    what: str,
    makers: Sequence[Maker],
    read: Callable[[Path], Any],
    folder: Path,
    wanted: int,
    record: Callable[..., None],
    is_refused: Callable[[int], bool] = lambda number: False,
) -> None:
    """Reads so many files, made in turn by the `makers`, writes down what was found, and asserts what must be.

    `is_refused` says whether the reader, as users have it, refuses a case of which the reading process died.
    """
    (folder / "empty").mkdir()
    found = campaign(makers, read, folder, wanted)
    died = [number for number in found.died if not is_refused(number)]
    lost = len(found.wrong) + len(died)
    note = f"{found.refused} refused, {found.accepted} harmless, memory +{found.growth // 2**20} MB"
    for end in sorted(set(found.died.values())):
        note += f", {[*found.died.values()].count(end)} {end} in a process of their own"
    record(what=what, kind="fuzz", done=wanted, survived=wanted - lost, lost=lost, note=note)
    assert not found.wrong and not died, (found.wrong[:20], died)
    assert found.growth < GROWTH
    assert found.refused > wanted / 4 and (found.accepted or wanted < 100), "cases that say nothing"
    assert os.listdir(folder / "empty") == [] and sorted(os.listdir(folder)) == ["case.zip", "empty"]


def campaign(makers: Sequence[Maker], read: Callable[[Path], Any], folder: Path, wanted: int) -> Found:
    """Reads every case in another process, and goes on in a new one after a case of which it died."""
    context = multiprocessing.get_context("fork")
    tally = context.RawArray("q", 4)  # number of the case that is being read, accepted, refused, growth in KiB
    log, died = folder / "wrong.jsonl", {}
    log.touch()
    while tally[0] < wanted:
        process = context.Process(target=_read_all, args=(makers, read, folder, wanted, tally))
        process.start()
        process.join()
        if tally[0] < wanted:
            died[tally[0]] = "hung" if process.exitcode == -signal.SIGPROF else "crashed"
            tally[0] += 1
    wrong = [json.loads(line) for line in log.read_text().splitlines()]
    log.unlink()
    return Found(tally[1], tally[2], wrong, died, tally[3] * 1024)


def _read_all(makers: Sequence[Maker], read: Callable[[Path], Any], folder: Path, wanted: int, tally: Any) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # a C library's complaints
    os.chdir(folder / "empty")
    sys.dont_write_bytecode = True
    path, audit, before = folder / "case.zip", Audit(), _memory("VmRSS")
    while tally[0] < wanted:
        wrong: list[str] = []
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # ends the process
        try:
            path.write_bytes(case(makers, tally[0]))
            Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of the memory so far
            before = _memory("VmRSS")
            audit.armed = True
            read(path)
            tally[1] += 1
        except BellmarkError:
            tally[2] += 1
        except BaseException as error:
            wrong.append(f"{error!r}"[:500])
        audit.armed = False
        with (folder / "wrong.jsonl").open("a") as file:
            own = ("/dev/null", "bellmark.offline.hdf5")  # the process that the reader of HDF5 files starts
            wrong += [event for event in audit.seen if not any(word in event for word in own)]
            file.writelines(f"{json.dumps(f'{tally[0]}: {text}')}\n" for text in wrong)
        audit.seen.clear()
        tally[3] = max(tally[3], _memory("VmHWM") - before)
        tally[0] += 1
    os._exit(0)


def _memory(field: str) -> int:
    """What Linux says of this process, in KiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{field}:")[2].split(maxsplit=1)[0])
