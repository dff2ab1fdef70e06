"""Pictures of runs."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..agents.core.files import write_atomically
from .switch import switch_clock

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#000000", "#cc79a7", "#56b4e9", "#8c6d00", "#777777")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (7, 2, 1, 2)), (0, (3, 1)), (0, (7, 2, 1, 2, 1, 2)), (0, (1, 4)))
MARKERS = "os^Dv*PX<>"


def style(place: int) -> dict[str, Any]:
    """How the curve at that place is drawn, also without colour: no two of 70 have the same dashes and marker."""
    look = {"color": COLOURS[place % len(COLOURS)], "linestyle": DASHES[place % len(DASHES)]}
    return look | {"marker": MARKERS[place % len(MARKERS)], "linewidth": 1.6, "markersize": 5}


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
    if (switched := switch_clock([*progress, *evaluations])) is not None:
        axes.axvline(switched, color="0.3", linestyle="--", linewidth=1.0, label="switch from data to the environment")
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

    A curve looks the same in all of them.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "bellmark"}):
        figure = Figure(figsize=(7, 3.6 * len(drawn) + 0.4), layout="constrained")
        rows = figure.subplots(len(drawn), squeeze=False)[:, 0]
        names = list(dict.fromkeys(curve.name for curves in drawn.values() for curve in curves))
        for axes, (metric, curves) in zip(rows, drawn.items(), strict=True):
            for curve in curves:
                look = style(names.index(curve.name))
                axes.fill_between(curve.x, curve.low, curve.high, color=look["color"], alpha=0.2, linewidth=0)
                axes.plot(curve.x, curve.y, markevery=0.1, label=curve.name, **look)
            axes.set(xlabel=unit, ylabel=metric)
            axes.grid(alpha=0.3)
            axes.legend(fontsize="small", handlelength=4)
        image, form = io.BytesIO(), path.suffix[1:]
        date = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form)
        figure.savefig(image, format=form, metadata=date)
    write_atomically(path, image.getvalue())


def columns(rows: Sequence[Mapping[str, Any]], *names: str) -> np.ndarray:
    """`[len(names), R]`: those columns of the rows that have all of them."""
    cells = [[row.get(name, "") for name in names] for row in rows]
    return np.array([[float(cell) for cell in row] for row in cells if "" not in row]).reshape(-1, len(names)).T
