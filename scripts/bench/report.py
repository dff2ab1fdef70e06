"""What `bellmark bench` found, in words and tables: on the console, in docs/speed.md and in the README."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..pages import table as markdown
from .jobs import JOBS

NAMES = {
    "sb3": "stable-baselines3",
    "sbx": "SBX (JAX)",
    "ours-eager": "ours without `--compile`",
    "ours-unrecorded": "ours without CUDA graphs",
    "ours-2": "2 critics",
    "import-torch": "`import torch`",
    "sb3-dqn": "stable-baselines3's DQN",
    "sb3-qrdqn": "sb3-contrib's QR-DQN",
}
INTRO = """Made by `make docs` from [scripts/evidence/bench.json](../scripts/evidence/bench.json), which `bellmark
bench` writes. All contestants of a job do the same work in turn, block by block, in processes of their own
on the same core. A ratio is the median over pairs of neighbouring blocks, with the range over pairs; above
1 we are faster. Networks, batches and replay sizes are equal; compile time is in the warm-up, not in the
blocks. Peak memory is that of a process whose replay buffer is full, where that was measured. The products
are the matrix products of an update alone, the environment alone takes random actions: the per cent of these
floors that we reach."""
TWO = """The same with two threads on two cores
([scripts/evidence/bench-two-threads.json](../scripts/evidence/bench-two-threads.json)): products are shared among the
cores, what lies between them is not."""
HEADS = """Frames per second on ALE/Pong-v5 of agents with other heads and networks than DQN's (four frames a step,
plain updates). IQN and FQF pass each observation on with 64 and 32 quantile fractions; Rainbow's layers are
noisy and twice as wide."""


def read(path: Path) -> dict[str, Any]:
    """What a file holds, in the order of the jobs, with their present titles and targets."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    present = {job.name: {"title": job.title, "targets": job.targets} for job in JOBS if job.name in found}
    return {name: found[name] | words for name, words in present.items()}


def page(results: Mapping[str, Any], two: Mapping[str, Any]) -> str:
    """docs/speed.md: `results` with one thread, and with `two`."""
    one, both = (table({job: found[job] for job in found if job != "value-pong"}) for found in (results, two))
    parts = ["# Speed and memory", INTRO, "## One thread", one, "## Two threads", TWO, both]
    if "value-pong" in results:
        parts += ["## Value-based agents", HEADS, frames(results["value-pong"])]
    return "\n\n".join(parts) + "\n"


def summary(results: Mapping[str, Any], two: Mapping[str, Any]) -> str:
    """The README's table: our ratios to other libraries with one thread and with `two`."""
    rows = []
    for job, result in results.items():
        (_, first), *others = result["contestants"].items()
        for name, other in others:
            if result["targets"] and not name.startswith("ours-eager"):
                memory = against(first, other, "peak_bytes", "MB", 1e6)
                found = two.get(job, {}).get("contestants", {})
                second = ratio(next(iter(found.values())), found[name]) if name in found else ""
                aim = str(result["targets"].get(name, ""))
                rows.append((result["title"], NAMES.get(name, name), ratio(first, other), second, aim, memory))
    return markdown(("job", "against", "ratio with one thread", "with two", "our aim", "peak memory"), rows)


def table(results: Mapping[str, Any]) -> str:
    """Everything, a line for each contestant that ours is compared with."""
    header = ["job", "against", "ratio (median; range over pairs)", "target", "peak memory", "replay", "first step"]
    rows = []
    for result in results.values():
        (_, first), *others = result["contestants"].items()
        shares = ", ".join(f"{phase} {share:.0%}" for phase, share in phases(first).items())
        for name, other in others:
            aim = str(result["targets"].get(name, ""))
            cells = [result["title"], NAMES.get(name, name), ratio(first, other), aim]
            for what, unit, scale in (("peak_bytes", "MB", 1e6), ("replay_bytes", "MB", 1e6)):
                cells.append(against(first, other, what, unit, scale))
            cells.append(against(first, other, "first_step_seconds", "s", 1.0))
            cells.append(f"{first['warmup']['seconds']:.1f} against {other['warmup']['seconds']:.1f} s")
            rows.append([*cells, shares])
    return markdown([*header, "warm-up", "where our time goes"], rows)


def frames(result: Mapping[str, Any]) -> str:
    """Frames per second of every contestant on Atari, and its speed over each of another library."""
    found = result["contestants"]
    peers = [name for name in found if not name.startswith("ours")]
    rows = [
        (NAMES.get(name, name.removeprefix("ours-")), f"{4 * own['rate']:.0f}", *(ratio(own, found[p]) for p in peers))
        for name, own in found.items()
    ]
    return markdown(("agent", "frames per second", *(f"against {NAMES[peer]}" for peer in peers)), rows)


def ratios(first: Mapping[str, Any], other: Mapping[str, Any]) -> list[float]:
    """How many times as fast `first` is, for each pair of neighbouring blocks."""
    pairs = zip(first["blocks"], other["blocks"], strict=True)
    return [theirs["seconds"] / ours["seconds"] for ours, theirs in pairs]


def ratio(first: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The median of the ratios, and their range."""
    found = ratios(first, other)
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def phases(result: Mapping[str, Any]) -> dict[str, float]:
    """Shares of the time, and what the matrix products, and the environments, would take alone of theirs."""
    if "limits" not in result:
        return {}
    sums: dict[str, float] = {}
    for block in result["blocks"]:
        for phase, seconds in block["phases"].items():
            sums[phase] = sums.get(phase, 0.0) + seconds
    shares = {phase: seconds / sum(sums.values()) for phase, seconds in sums.items()}
    updates, steps = (sum(block[what] for block in result["blocks"]) for what in ("updates", "count"))
    shares["products alone in the update"] = result["limits"]["floor_seconds"] * updates / sums["update"]
    if "environment" in sums:
        alone = steps / result["limits"]["environment_alone"]
        shares["environment alone in its share"] = alone / sums["environment"]
    return shares


def against(first: Mapping[str, Any], other: Mapping[str, Any], name: str, unit: str, scale: float) -> str:
    """The greatest figure of that name of both, if both have one."""
    blocks = [[*result["blocks"], result.get("full", {})] for result in (first, other)]
    found = [[block[name] / scale for block in done if name in block] for done in blocks]
    if not all(found):
        return ""
    ours, theirs = (f"{most:,.0f}" if most >= 100 else f"{most:.3g}" for most in map(max, found))
    return f"{ours} against {theirs} {unit}"
