"""`bellmark data DATA`: the card of a data set."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..agents.core.files import write_atomically
from . import arguments
from .outcome import UsageError

if TYPE_CHECKING:
    from ..offline import Dataset

FORM = "bellmark data DATA ..., where DATA is a D4RL id, a local Minari id, or the path of an HDF5 or npz file"
BINS, WIDTH = 12, 40


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What a data set holds, and what is odd about it."""

    json: bool = False
    """Print JSON instead of text."""
    picture: str = ""
    """Write a histogram of the episodes' returns to this file (PNG)."""


def main(argv: list[str]) -> int:
    from ..offline import Options as DataOptions

    if argv[1:] and argv[1] in ("-h", "--help"):
        arguments.parse(FORM.partition(" ...")[0], ["--help"], Arguments(), DataOptions())
    if len(argv) < 2 or argv[1].startswith("-"):
        raise UsageError(f"say which data set: {FORM}")
    chosen, options = arguments.parse(f"bellmark data {argv[1]}", argv[2:], Arguments(), DataOptions())
    return show(argv[1], chosen, options)


def show(name: str, chosen: Arguments, options: Any) -> int:
    import dataclasses

    from .. import dataset
    from ..offline.card import card

    data = dataset(name, **dataclasses.asdict(options))
    found = card(data)
    if chosen.picture:
        histogram(Path(chosen.picture), f"{data.id}: {len(data.episode_returns)} episodes", data)
    if chosen.json:
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(lines(data, found)))
        if chosen.picture:
            print(f"picture: {chosen.picture}")
    return 0


def lines(data: Dataset, found: dict[str, Any]) -> list[str]:
    """The card as text."""
    ends, split, spec = found["ends"], found["split"], data.spec
    text = [
        f"{found['id']}  ({found['path']})",
        f"  sha256        {found['sha256']}",
        f"  transitions   {found['transitions']:,} of {found['recorded']:,} in the file",
        f"  episodes      {found['episodes']:,} finished in the file, by {found['boundaries']}",
        "  ends          {terminated:,} terminated, {truncated:,} cut off, {left_off:,} left off".format(**ends),
        f"  returns       {_spread(found['returns'])}",
        f"  lengths       {_spread(found['lengths'])}",
        f"  rewards       {found['reward']['min']:g} to {found['reward']['max']:g} after the options",
        f"  observations  {found['obs_dtype']} {tuple(found['obs_shape'])}{_range(found['obs'])}",
    ]
    if spec.discrete:
        counts = found["action"].get("counts", [])
        text.append(f"  actions       {spec.actions} choices, {' '.join(map(str, counts[:20]))} times")
    else:
        bound = 100 * found["action"]["at_bound"]
        text.append(f"  actions       {spec.actions} in [-1, 1]{_range(found['action'])}, {bound:.1f} % at the bounds")
        pairs = zip(found["action"]["min"], found["action"]["max"], strict=True)
        text += [f"    {i:>3}         {low:+.3f} to {high:+.3f}" for i, (low, high) in enumerate(pairs) if i < 20]
    if split:
        text.append(
            "  split         " + ", ".join(f"{key.replace('_', ' ')} {value:,}" for key, value in split.items())
        )
    text.append(f"  protocol      {found['protocol']}")
    if data.reference is not None:
        text.append(f"  mean score    {data.normalized(data.episode_returns).mean():.1f}")
    text += ["  return        episodes", *bars(data.episode_returns)]
    return text + [f"  note: {problem}" for problem in found["problems"]]


def bars(values: np.ndarray) -> Sequence[str]:
    """A histogram in letters."""
    counts, edges = np.histogram(values, BINS)
    return [
        f"  {edge:>12.5g}  {'#' * round(WIDTH * count / counts.max())} {count}"
        for edge, count in zip(edges[:-1], counts, strict=True)
    ]


def _spread(figures: dict[str, float]) -> str:
    ends = f"{figures['min']:g} to {figures['max']:g}"
    return f"{ends}, median {figures['median']:g}, mean {figures['mean']:g}, standard deviation {figures['std']:g}"


def _range(figures: dict[str, Any]) -> str:
    return f", values from {min(figures['min']):g} to {max(figures['max']):g}" if figures else ""


def histogram(path: Path, title: str, data: Dataset) -> None:
    """Draws how many episodes have which return, and what 0 and 100 are, if references are known."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.hist(data.episode_returns, bins=min(max(len(data.episode_returns) // 5, 10), 60), color="tab:blue")
    if data.reference is not None:
        for score, value in ((0, data.reference.ref_min), (100, data.reference.ref_max)):
            axes.axvline(value, color="tab:gray", linestyle="--", label=f"D4RL score {score}: {value:.0f}")
        axes.legend()
    axes.set(title=title, xlabel="episode return", ylabel="episodes")
    axes.grid(alpha=0.3)
    image = io.BytesIO()
    FigureCanvasAgg(figure).print_png(image)
    write_atomically(path, image.getvalue())
