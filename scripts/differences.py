"""Whether two runs are the same, bit for bit, and where they are not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from .manifest import now_and_then
from .outcome import FAILED
from .run_folder import read_rows

SHOWN = 20
"""Differences that are listed."""

DECISIVE = ("agent", "settings", "spec", "seed", "counters", "env", "buffer", "env_state")
"""What decides the future in the manifest of a checkpoint."""
MEASURED = ("time/fps", "time/time_elapsed", "seconds")
"""Columns that depend on the speed of the machine."""


def checkpoints(
    one: tuple[Mapping[str, Any], Mapping[str, Tensor]], other: tuple[Mapping[str, Any], Mapping[str, Tensor]]
) -> list[str]:
    """How `one`, a manifest and its tensors, differs from `other`, in words; empty if they are the same bits."""
    found = []
    for name in DECISIVE:
        pair = [dict(leaves(manifest.get(name), name)) for manifest, _ in (one, other)]
        for key in sorted({*pair[0], *pair[1]}):
            values = [leaf.get(key, "missing") for leaf in pair]
            if values[0] != values[1]:
                found.append(f"{key} is {values[0]:.60}, not {values[1]:.60}")
    for name in sorted({*one[1], *other[1]}):
        a, b = one[1].get(name), other[1].get(name)
        if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
            shapes = ["missing" if t is None else f"{t.dtype} {list(t.shape)}".removeprefix("torch.") for t in (a, b)]
            found.append(f"{name} is {shapes[0]}, not {shapes[1]}")
        elif not same_bits(a, b):
            found.append(f"{name} differs by up to {(a.double() - b.double()).abs().max():.3g}")
    return found


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Like `equal`, but a NaN is like itself, and 0.0 is not like -0.0."""
    import torch

    return torch.equal(*(value.cpu().contiguous().view(-1).view(torch.uint8) for value in (a, b)))


def leaves(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """The plain values in a nested one, as JSON, with dotted names."""
    items = value if isinstance(value, Mapping) else dict(enumerate(value)) if isinstance(value, list) else None
    if items is not None:
        for key, item in items.items():
            yield from leaves(item, f"{name}.{key}")
    else:
        yield name, json.dumps(value)


def tables(one: Path, other: Path, until: int) -> tuple[int, list[str]]:
    """The number of rows of two CSV files up to the clock `until`, and how the first differs from the second."""
    pair = []
    for path in (one, other):
        rows = read_rows(path)[1] if path.exists() else []
        rows = [row for row in rows if row["clock"].isdecimal() and int(row["clock"]) <= until]
        pair.append([{key: cell for key, cell in row.items() if key not in MEASURED} for row in rows])
    clocks = [[row["clock"] for row in rows] for rows in pair]
    if clocks[0] != clocks[1]:
        return len(pair[0]), [f"{one.name} has other rows: {len(pair[0])}, not {len(pair[1])}"]
    found = [
        f"{one.name}, clock {a['clock']}: {key} is {a.get(key, '')}, not {b.get(key, '')}"
        for a, b in zip(*pair, strict=True)
        for key in {**a, **b}
        if a.get(key, "") != b.get(key, "")
    ]
    return len(pair[0]), found


def verdict(what: str, found: Sequence[str], then: Mapping[str, Any]) -> int:
    """Says whether all is the same, where not, and what differs now from the manifest of `then`. The exit status."""
    print(f"the same bits: {what}" if not found else f"not the same ({len(found)} differences): {what}")
    for line in (*found[:SHOWN], *now_and_then(then)):
        print(f"  {line}")
    return FAILED if found else 0
