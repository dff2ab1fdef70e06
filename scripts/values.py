"""The picture of what an agent thought that its episode was worth, beside what came: over-estimation at a glance."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from ..agents.core.errors import InvalidSetting
from ..agents.core.files import write_atomically
from .traces import Trace

FORMATS = (".png", ".svg", ".pdf")


def require(path: str) -> None:
    """Raises InvalidSetting for a file that is no picture."""
    if Path(path).suffix not in FORMATS:
        raise InvalidSetting(f"--values {path} must end in {', '.join(FORMATS)}")


def over_estimation(found: Trace) -> float:
    """Mean of value less discounted return, where the return is known; NaN where none is."""
    known = found.known
    return float((found.values - found.returns)[known].mean()) if known.any() else float("nan")


def draw(path: Path, found: Trace, title: str, with_entropy: bool) -> None:
    """Values and returns over the steps, the difference shaded. Raises InvalidSetting for an agent without values."""
    from matplotlib.figure import Figure

    if not len(found.values):
        raise InvalidSetting("this agent has no critic whose values could be drawn: leave --values out")
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    steps, returns = np.arange(len(found.values)), np.where(found.known, found.returns, np.nan)
    axes.plot(steps, found.values, color="tab:red", label="value estimate" + ", entropy included" * with_entropy)
    axes.plot(steps, returns, color="black", linestyle="--", label=f"discounted return that came (gamma {found.gamma})")
    axes.fill_between(steps, found.values, returns, color="tab:red", alpha=0.15, linewidth=0)
    if found.truncated:
        axes.plot(
            steps, np.where(found.known, np.nan, found.returns), color="0.6", linestyle=":", label="cut off early"
        )
    excess = over_estimation(found)
    word = "over" if excess >= 0 else "under"
    unknown = "the episode was cut off too early to tell"
    axes.set(xlabel="step of the episode", ylabel="discounted return\n(in the units that the agent learns from)")
    axes.set_title(f"{title}\n" + (f"{word}-estimation: {abs(excess):.3g} on average" if excess == excess else unknown))
    axes.legend()
    axes.grid(alpha=0.3)
    image = io.BytesIO()
    figure.savefig(image, format=path.suffix[1:])
    write_atomically(path, image.getvalue())
