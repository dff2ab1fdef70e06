"""Statistics over seeds, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

RESAMPLES = 10_000


def bootstrap_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean. With few values it is too narrow: state n beside it."""
    draws = np.random.default_rng(0).choice(np.asarray(values, np.float64), (RESAMPLES, len(values)))
    low, high = np.quantile(draws.mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per entry: the last evaluations' mean over seeds, range of the seeds, interval, number of seeds."""
    lines = [
        "| command (and `--seed`) | clock | return: mean over seeds | seeds' range | 95% interval | n | D4RL score |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name]
        means = [float(row["eval_mean"]) for row in own]
        low, high = bootstrap_interval(means)
        scores = [float(row["normalized_mean"]) for row in own if row.get("normalized_mean") not in ("", None)]
        score = f"{np.mean(scores):.1f} ({min(scores):.1f} to {max(scores):.1f})" if scores else ""
        clocks = sorted({int(row["clock"]) for row in own})
        command = str(own[0]["command"]).partition(" --seed ")[0]
        cells = [f"`{command}`", f"{clocks[0]:,}", f"{np.mean(means):.1f}", f"{min(means):.1f} to {max(means):.1f}"]
        cells += [f"[{low:.1f}, {high:.1f}]" if len(own) > 1 else "", str(len(own)), score]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
