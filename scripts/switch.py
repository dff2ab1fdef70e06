"""From data to the environment: what the rows of a run's tables say about the switch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Row = Mapping[str, Any]


class Switch(NamedTuple):
    """Evaluations around the switch, as rows."""

    before: Row
    """The last before the first environment step."""
    first: Row
    """The first after it, by which a drop is judged: the least of many would be lower even if nothing changed."""
    lowest: Row
    """The one with the smallest mean of those after the switch."""
    last: Row


def switch(evaluations: Sequence[Row]) -> Switch | None:
    """None unless there are evaluations on both sides."""
    before = [row for row in evaluations if not is_online(row)]
    online = [row for row in evaluations if is_online(row)]
    if not (before and online):
        return None
    return Switch(before[-1], online[0], min(online, key=lambda row: float(row["mean"])), online[-1])


def switch_clock(rows: Iterable[Row]) -> int | None:
    """The clock of the last row before the first environment step; None unless there are rows on both sides."""
    online = {int(row["clock"]): is_online(row) for row in rows}
    before = [clock for clock, after in online.items() if not after]
    return max(before) if 0 < len(before) < len(online) else None


def is_online(row: Row) -> bool:
    """Whether the environment has been stepped by then; a row that does not say so is of before."""
    return float(row.get("steps") or 0) > 0
