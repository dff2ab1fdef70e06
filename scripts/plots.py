"""The picture of a run."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..agents.core.checkpoint import write_atomically


def learning_curve(
    path: Path, title: str, unit: str, progress: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]]
) -> None:
    """Draws evaluations (mean, with one standard deviation over episodes) and training returns over the clock."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    training = columns(progress, "clock", "rollout/ep_rew_mean")
    if len(training[0]):
        axes.plot(*training, color="tab:orange", linewidth=1.0, label="training: mean of the last 100 episodes")
    clock, mean, std = columns(evaluations, "clock", "mean", "std")
    if len(clock):
        axes.fill_between(clock, mean - std, mean + std, color="tab:blue", alpha=0.2, linewidth=0)
        axes.plot(clock, mean, color="tab:blue", marker="o", markersize=3, label="evaluation: mean, band = 1 std")
    if axes.has_data():
        axes.legend()
    axes.set(title=title, xlabel=unit, ylabel="episode return")
    axes.grid(alpha=0.3)
    image = io.BytesIO()
    FigureCanvasAgg(figure).print_png(image)
    write_atomically(path, image.getvalue())


def columns(rows: Sequence[Mapping[str, Any]], *names: str) -> np.ndarray:
    """`[len(names), R]`: those columns of the rows that have all of them."""
    cells = [[row.get(name, "") for name in names] for row in rows]
    return np.array([[float(cell) for cell in row] for row in cells if "" not in row]).reshape(-1, len(names)).T
