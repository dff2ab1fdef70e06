"""`python -m bellmark.scripts.bench.scaling`: how the cost grows with ensembles, batches, buffers and environments."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...agents.core.batch import Step
from ...agents.core.buffer import Buffer
from ...agents.core.registry import agent_class
from ...agents.core.spec import Spec

SPEC = Spec((17,), 6, discrete=False, action_shape=(6,), action_low=(-1.0,) * 6, action_high=(1.0,) * 6)
"""HalfCheetah's sizes."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Measures and draws: seconds per SAC update, per sampled batch, per transition, each against one size."""

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


def filled(rows: int) -> Buffer:
    """A buffer of random transitions, written a block of columns at a time."""
    buffer = Buffer(SPEC, rows + 1)
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


def measure(seconds: float) -> dict[str, dict[int, float]]:
    def over(sizes: Iterable[int], work: Callable[[int], float]) -> dict[int, float]:
        return {size: work(size) for size in sizes}

    return {
        "critics in the ensemble": over((2, 5, 10, 20, 50, 100), lambda n: update_cost(seconds, critics=n)),
        "transitions in the batch": over((64, 256, 1024, 4096, 16384), lambda n: update_cost(seconds, batch_size=n)),
        "transitions in the buffer": over((10**4, 10**5, 10**6, 10**7), lambda n: sample_cost(seconds, n)),
        "environments": over((1, 4, 16, 64, 256), lambda n: step_cost(seconds, n)),
    }


WHAT = ("of an update", "of an update", "to draw a batch", "to act, per transition")


def draw(results: dict[str, dict[int, float]], path: Path) -> None:
    """Four panels, each relative to its first point, beside what grows in proportion."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 3.2), layout="constrained")
    for axes, (name, points), what in zip(figure.subplots(1, 4), results.items(), WHAT, strict=True):
        sizes, times = list(points), [points[size] / next(iter(points.values())) for size in points]
        axes.loglog(sizes, times, "k-o", label="measured")
        growth = [sizes[0] / size for size in sizes] if name == "environments" else [size / sizes[0] for size in sizes]
        axes.loglog(sizes, growth, "k:", label="in proportion")
        axes.set(xlabel=name, title=f"time {what}", ylabel=f"relative to that of {sizes[0]:,}")
        axes.legend()
    figure.savefig(path, dpi=90)


def main(argv: list[str] | None = None) -> int:
    import tyro

    arguments = tyro.cli(Arguments, args=argv, prog="python -m bellmark.scripts.bench.scaling")
    torch.set_num_threads(arguments.threads)
    path = Path(arguments.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    results = measure(arguments.seconds)
    path.write_text(json.dumps(results, indent=1), encoding="utf-8")
    draw(results, path.with_suffix(".png"))
    for name, points in results.items():
        print(name, {size: f"{seconds * 1e6:,.0f} us" for size, seconds in points.items()})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
