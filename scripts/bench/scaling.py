"""`python -m bellmark.scripts.bench.scaling`: how the cost grows with ensembles, batches, buffers and environments."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ...agents.core.batch import Step
from ...agents.core.buffer import Buffer
from ...agents.core.errors import UnknownName
from ...agents.core.prioritized import Prioritized
from ...agents.core.registry import agent_class
from ...agents.core.sampling import Sampler
from ...agents.core.spec import Spec

SPEC = Spec((17,), 6, discrete=False, action_shape=(6,), action_low=(-1.0,) * 6, action_high=(1.0,) * 6)
"""HalfCheetah's sizes."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Measures and draws: seconds per SAC update, per sampled batch, per transition, each against one size."""

    only: tuple[str, ...] = ()
    """Curves to measure, named as in the file, which keeps the others; all if none is given."""
    seconds: float = 1.0
    """Time to spend on each point, after a warm-up."""
    threads: int = 1
    """Threads of torch."""
    out: str = "runs/scaling.json"
    """File for the figures; the picture has the same name and ends in .png."""


def cost(work: Callable[[], Any], seconds: float) -> float:
    """Median seconds of one call."""
    work()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def filled(rows: int, sampler: Sampler | None = None) -> Buffer:
    """A buffer of random transitions, written a block of columns at a time."""
    buffer = Buffer(SPEC, rows + 1, sampler=sampler)
    for name in ("obs", "action", "reward"):
        values = getattr(buffer, name)
        values[:rows] = torch.randn(1, *values.shape[1:])
    buffer.valid[:rows] = True
    buffer._share_with_host()
    buffer.head[0], buffer.written, buffer.transitions = rows, rows + 1, rows
    return buffer


def update_cost(seconds: float, **settings: Any) -> float:
    kind = agent_class("sac")
    agent = kind(SPEC, kind.config.override(settings))
    (batch,) = agent.sample(filled(2000))
    return cost(lambda: agent.step(batch), seconds)


def sample_cost(seconds: float, rows: int) -> float:
    buffer = filled(rows)
    return cost(lambda: buffer.sample(256, 0.99), seconds)


def prioritized_cost(seconds: float, rows: int) -> float:
    """A batch by priority, with its weights, and then its errors, random ones, as new priorities."""
    buffer, errors = filled(rows, Prioritized()), torch.rand(256)

    def work() -> None:
        buffer.sampler.report(buffer, buffer.sample(256, 0.99).row, errors)

    return cost(work, seconds)


def step_cost(seconds: float, columns: int) -> float:
    """Acting and storing per transition, without an environment."""
    kind = agent_class("sac")
    agent = kind(SPEC, kind.config)
    buffer, rng = Buffer(SPEC, 1000, columns), np.random.default_rng(0)
    obs = rng.standard_normal((columns, 17), np.float32)
    buffer.begin(obs)
    never = np.zeros(columns, bool)
    step = Step(obs, np.zeros(columns, np.float32), never, never, ~never, obs)
    return cost(lambda: buffer.add(agent.act_on(obs, explore=True), step), seconds) / columns


class Curve(NamedTuple):
    """What grows, and what is timed."""

    sizes: tuple[int, ...]
    what: str
    work: Callable[[float, int], float]
    """Seconds to spend, and a size, to the seconds that it takes."""


BUFFERS = (10**4, 10**5, 10**6, 10**7)
CURVES = {
    "critics in the ensemble": Curve(
        (2, 5, 10, 20, 50, 100), "of an update", lambda seconds, n: update_cost(seconds, critics=n)
    ),
    "transitions in the batch": Curve(
        (64, 256, 1024, 4096, 16384), "of an update", lambda seconds, n: update_cost(seconds, batch_size=n)
    ),
    "transitions in the buffer": Curve(BUFFERS, "to draw a batch", sample_cost),
    "transitions, prioritized": Curve(BUFFERS, "to draw, weigh and report", prioritized_cost),
    "environments": Curve((1, 4, 16, 64, 256), "to act, per transition", step_cost),
}


def measure(path: Path, seconds: float, names: Iterable[str]) -> dict[str, dict[int, float]]:
    """Seconds by size for each curve, in the order of CURVES: measured, or as the file has it if not among `names`."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    names, results = [*names] or [*CURVES], dict[str, dict[int, float]]()
    for name in names:
        if name not in CURVES:
            raise UnknownName("curve", name, CURVES)
    for name, curve in CURVES.items():
        if name in names:
            results[name] = {size: curve.work(seconds, size) for size in curve.sizes}
        elif name in known:
            results[name] = {int(size): value for size, value in known[name].items()}
    return results


def draw(results: dict[str, dict[int, float]], path: Path) -> None:
    """A panel for each curve, relative to its first point, beside what grows in proportion."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * len(results), 3.2), layout="constrained")
    panels = figure.subplots(1, len(results), squeeze=False)[0]
    for axes, (name, points) in zip(panels, results.items(), strict=True):
        sizes, times = list(points), [points[size] / next(iter(points.values())) for size in points]
        axes.loglog(sizes, times, "k-o", label="measured")
        growth = [sizes[0] / size for size in sizes] if name == "environments" else [size / sizes[0] for size in sizes]
        axes.loglog(sizes, growth, "k:", label="in proportion")
        axes.set(xlabel=name, title=f"time {CURVES[name].what}", ylabel=f"relative to that of {sizes[0]:,}")
        axes.legend()
    figure.savefig(path, dpi=90)


def main(argv: list[str] | None = None) -> int:
    import tyro

    arguments = tyro.cli(Arguments, args=argv, prog="python -m bellmark.scripts.bench.scaling")
    torch.set_num_threads(arguments.threads)
    path = Path(arguments.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    results = measure(path, arguments.seconds, arguments.only)
    path.write_text(json.dumps(results, indent=1), encoding="utf-8")
    draw(results, path.with_suffix(".png"))
    for name, points in results.items():
        print(name, {size: f"{seconds * 1e6:,.0f} us" for size, seconds in points.items()})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
