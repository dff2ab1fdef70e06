"""Pictures of runs."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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


class Curve(NamedTuple):
    """One curve with a band, all `[R]`."""

    name: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray


def panels(path: Path, drawn: Mapping[str, Sequence[Curve]], unit: str) -> None:
    """Draws axes below each other, one for each name of `drawn`; the file's suffix decides the format.

    Curves differ in their dashes as well, so that they can be told apart in black and white.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "bellmark"}):
        figure = Figure(figsize=(7, 3.6 * len(drawn) + 0.4), layout="constrained")
        rows = figure.subplots(len(drawn), squeeze=False)[:, 0]
        for axes, (name, curves) in zip(rows, drawn.items(), strict=True):
            for i, curve in enumerate(curves):
                colour, dashes = f"C{i % 10}", ("-", "--", "-.", ":")[i % 4]
                axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0)
                axes.plot(curve.x, curve.y, color=colour, linestyle=dashes, label=curve.name)
            axes.set(xlabel=unit, ylabel=name)
            axes.grid(alpha=0.3)
            axes.legend(fontsize="small")
        image, form = io.BytesIO(), path.suffix[1:]
        date = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form)
        figure.savefig(image, format=form, metadata=date)
    write_atomically(path, image.getvalue())


def columns(rows: Sequence[Mapping[str, Any]], *names: str) -> np.ndarray:
    """`[len(names), R]`: those columns of the rows that have all of them."""
    cells = [[row.get(name, "") for name in names] for row in rows]
    return np.array([[float(cell) for cell in row] for row in cells if "" not in row]).reshape(-1, len(names)).T
