"""Where the time of a run went."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..agents.core.status import Status

NAMES = {"hooks": "evaluation, saving and logging", "update": "updates"}
"""What the phases of `Status.seconds` are called, where that is not their own name."""
BOTTLENECK = 0.5
"""Share of acting, environment, buffer and updates together, from which the environment is the bottleneck."""


def breakdown(status: Status) -> str:
    """The share of each phase, the longest first. On a GPU what waits for it, acting above all, seems longer."""
    total = sum(status.seconds.values())
    phases = sorted(status.seconds.items(), key=lambda phase: -phase[1])
    parts = [f"{NAMES.get(name, name)} {seconds / total:.0%}" for name, seconds in phases if seconds >= 0.005 * total]
    return ", ".join(parts)


def hint(status: Status) -> str:
    """What to try where the environment takes more time than all the rest of the training, else ""."""
    training = {name: seconds for name, seconds in status.seconds.items() if name != "hooks"}
    share = training.get("environment", 0.0) / max(sum(training.values()), 1e-9)
    if status.env is None or share < BOTTLENECK:
        return ""
    remedies = {
        "sync": "--backend async --num-envs 8, or envpool",
        "async": "more --num-envs, or envpool",
    }
    remedy = remedies.get(status.env.backend, "more --num-envs")
    return f"the environment, not the learner, takes {share:.0%} of the training: try {remedy}"
