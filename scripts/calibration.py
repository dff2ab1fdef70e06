"""The picture of estimates beside true values."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..agents.core.files import write_atomically


def calibration(path: Path, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Draws one panel per estimator: a point per policy, with both intervals, and the line of perfect estimates."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from ..offline.selection import spearman

    figure = Figure(figsize=(3.6 * len(names), 3.8), layout="constrained")
    truth, across = interval(rows, "true")
    for number, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), number + 1)
        estimate, along = interval(rows, name)
        axes.errorbar(truth, estimate, yerr=along, xerr=across, fmt="o", markersize=4, linewidth=0.8, color="tab:blue")
        ends = [min(truth.min(), estimate.min()), max(truth.max(), estimate.max())]
        axes.plot(ends, ends, color="black", linewidth=0.8, linestyle="--")
        axes.set(title=f"{name}: rank correlation {spearman(estimate, truth):.2f}", xlabel="true value, 95% interval")
        axes.grid(alpha=0.3)
        if not number:
            axes.set_ylabel("estimate from data, 95% interval")
    image = io.BytesIO()
    FigureCanvasAgg(figure).print_png(image)
    write_atomically(path, image.getvalue())


def interval(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Values `[P]`, and how far their intervals reach down and up, `[2, P]`."""
    middle, low, high = (np.array([row[f"{name}{end}"] for row in rows], float) for end in ("", "_low", "_high"))
    return middle, np.nan_to_num(np.clip(np.stack([middle - low, high - middle]), 0.0, None))
