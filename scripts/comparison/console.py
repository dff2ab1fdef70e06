"""The comparison in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..statistics import AGGREGATES, Estimate, student_from
from .page import interval
from .summary import Summary

SHOWN = 8
"""Most published scores of a task."""
WIDE = 80
"""Columns of a terminal in which every number fits; in a narrower one they are broken, but whole."""


def show(s: Summary) -> None:
    """Tables of results, aggregates and published scores, and the warnings."""
    from rich.console import Console
    from rich.table import Table

    console = Console()

    def table(title: str, columns: tuple[str, ...], lines: Sequence[tuple[str, ...]], names: int = 1) -> None:
        if lines:
            found = Table(title=title, title_justify="left")
            for place, column in enumerate(columns):
                whole = place >= names and console.width >= WIDE
                found.add_column(column, justify="right" if place else "left", overflow="fold", no_wrap=whole)
            for line in lines:
                found.add_row(*line)
            console.print(found, markup=False)

    for task in s.tasks:
        present = [c for c in s.contestants if (c, task) in s.scores]
        lines = [
            (c, interval(s.means[c, task]), interval(s.iqms[c, task]), str(len(s.scores[c, task]))) for c in present
        ]
        table(f"{task}: {s.which} evaluation", ("contestant", "mean [95%]", "IQM [95%]", "runs"), lines)
        scores = [row for row in s.published if row.env == task]
        shown = [
            (row.contestant, interval(student_from(row.mean, row.deviation, row.seeds)), str(row.seeds or "?"))
            for row in scores[:SHOWN]
        ]
        table(f"{task}: published", ("contestant", "mean [95%]", "runs"), shown)
        if scores[SHOWN:]:
            console.print(f"and {len(scores) - SHOWN} more, in the report", highlight=False)
    means = [(c, *(score(s.aggregates[c, name]) for name in AGGREGATES)) for c in s.ranked]
    table(f"normalised scores over {len(s.common)} task(s) [95%]", ("contestant", *AGGREGATES), means)
    over = [(one, other, interval(estimate)) for (one, other), estimate in s.improvements.items()]
    table(
        "probability of improvement [95%]", ("contestant", "over", "probability"), over if len(s.ranked) < 5 else [], 2
    )
    for text in s.warnings:
        console.print(f"warning: {text}", markup=False, highlight=False)


def score(e: Estimate) -> str:
    """A normalised score above its interval, so that four of them stand side by side."""
    return f"{e.value:.2f}\n" + (f"[{e.low:.2f}, {e.high:.2f}]" if np.isfinite(e.low) else "(no interval)")
