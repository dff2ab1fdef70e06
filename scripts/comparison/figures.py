"""The pictures of a comparison as SVG for a page; lines differ by dashes and markers, not by colour alone."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import statistics
from ..plots import style
from .summary import Summary

PUBLISHED = (":", "--", "-.")
"""Dashes of published scores, which have no markers; there are no more of them in one picture."""


def pieces(name: str) -> list[str]:
    """The name of a contestant, cut where a line may break: after a colon, or a comma that is not within brackets."""
    return re.findall(r"(?:\[[^\]]*\]|[^:,])+[:,]?|[:,]", name)


def filled(name: str, width: int = 16) -> str:
    """The pieces of a name on lines of that width, where they fit."""
    lines = [""]
    for piece in pieces(name):
        lines += [""] if lines[-1] and len(lines[-1] + piece) > width else []
        lines[-1] += piece
    return "\n".join(lines)


class Picture:
    """An SVG, when it is closed."""

    def __init__(self, axes: Any):
        self.axes, self.svg = axes, ""


@contextmanager
def picture(name: str, about: str, height: float = 3.4) -> Iterator[Picture]:
    """Axes to draw on, as wide as a telephone; ids in the SVG begin with `name`, `about` is read out."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 10}):
        figure = Figure(figsize=(4.6, height), layout="constrained")
        found = Picture(figure.add_subplot())
        found.axes.grid(alpha=0.3)
        yield found
        text = io.StringIO()
        FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None, "Creator": None})
    found.svg = inline(text.getvalue(), name, about)


def inline(svg: str, name: str, about: str) -> str:
    """A matplotlib SVG for the middle of a page: ids made unique, no size in points, a text for who cannot see it."""
    from html import escape

    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    head, _, rest = svg.partition(">")
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    return f'{head} role="img" aria-label="{escape(about, quote=True)}">{rest}'


def legend(axes: Any) -> None:
    """Below the axes, with the dashes visible."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.figure.legend(handles, labels, loc="outside lower center", ncols=1, handlelength=4, frameon=False)


def learning_curves(s: Summary) -> dict[str, str]:
    """By task."""
    found = {}
    for place, task in enumerate(s.tasks):
        present = [c for c in s.contestants if (c, task) in s.scores]
        about = f"Learning curves in {task}: {', '.join(present)}; the table of results has the final numbers"
        with picture(f"curve{place}", about, 3.0 + 0.22 * len(present)) as p:
            for c in present:
                clock, mean, half = s.curve(c, task)
                look = style(s.contestants.index(c))
                runs = len(s.scores[c, task])
                p.axes.plot(clock, mean, label=f"{c} ({runs} {'runs' if runs > 1 else 'run: no interval'})", **look)
                if runs > 1:
                    p.axes.fill_between(clock, mean - half, mean + half, color=look["color"], alpha=0.15, linewidth=0)
                    for edge in (mean - half, mean + half):
                        p.axes.plot(clock, edge, color=look["color"], linestyle=look["linestyle"], linewidth=0.5)
            for row, dashes in zip((row for row in s.published if row.env == task), PUBLISHED, strict=False):
                p.axes.axhline(
                    row.mean, color="#555555", linestyle=dashes, linewidth=1, label=f"published: {row.contestant}"
                )
            unit = next((run.unit for run in s.runs if run.env == task), "steps")
            p.axes.set(title=task, xlabel=unit, ylabel="mean over evaluation episodes")
            legend(p.axes)
        found[task] = p.svg
    return found


def aggregates(s: Summary) -> dict[str, str]:
    """By aggregate: estimates with intervals, one line per contestant."""
    found = {}
    for place, name in enumerate(statistics.AGGREGATES):
        words = [f"{c} {s.aggregates[c, name].value:.3g}" for c in s.ranked]
        with picture(f"aggregate{place}", f"{name}: {', '.join(words)}", 0.9 + 0.4 * len(s.ranked)) as p:
            for line, c in enumerate(s.ranked):
                value, low, high = s.aggregates[c, name]
                look = style(s.contestants.index(c))
                if np.isfinite(low):
                    p.axes.plot([low, high], [line, line], color=look["color"], linewidth=5, alpha=0.4)
                p.axes.plot([value], [line], color=look["color"], marker=look["marker"], markersize=8)
            better = "lower" if name == "optimality gap" else "higher"
            p.axes.figure.suptitle(f"{name} ({better} is better)", fontsize=11)
            p.axes.set_yticks(range(len(s.ranked)), [filled(c) for c in s.ranked], fontsize=9)
            p.axes.set_ylim(len(s.ranked) - 0.5, -0.5)
        found[name] = p.svg
    return found


def profiles(s: Summary) -> str:
    """Share of runs above each score."""
    about = f"Performance profiles of {', '.join(s.ranked)}: the share of runs whose score is above each level"
    with picture("profile", about, 3.0 + 0.22 * len(s.ranked)) as p:
        for c in s.ranked:
            share, low, high = s.profiles[c]
            look = style(s.contestants.index(c))
            p.axes.plot(s.levels, share, label=c, markevery=10, drawstyle="steps-post", **look)
            p.axes.fill_between(s.levels, low, high, step="post", color=look["color"], alpha=0.12, linewidth=0)
        p.axes.set(xlabel="normalised score", ylabel="share of runs above", ylim=(-0.02, 1.02))
        legend(p.axes)
    return p.svg
