"""The last words of a run: how good, where everything is, what to type next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .progress import clock_time
from .switch import Switch, switch
from .times import breakdown, hint

if TYPE_CHECKING:
    from .training import Training

NEXT = {
    "a MuJoCo run": "bellmark train sac --env HalfCheetah-v5 --tuned --steps 100000",
    "an offline run": "bellmark fit iql --data halfcheetah-medium-v2",
}


def show(training: Training, title: str, unit: str, protocol: str = "") -> None:
    from ..envs import human_normalized

    folder, agent, rows = training.folder, training.agent, training.folder.evaluations.rows
    seconds = training.resumed["elapsed"]
    print(
        f"\n{title}: {agent.steps:,} environment steps, {agent.updates:,} updates, seed {agent.seed}, "
        f"{clock_time(seconds)} in all"
    )
    if rows:
        best = max(rows, key=lambda row: float(row["mean"]))
        print(
            f"  final evaluation  {score(rows[-1])}  ({rows[-1]['episodes']} episodes, deterministic, last checkpoint)"
        )
        print(f"  best evaluation   {score(best)}  (at {int(best['clock']):,} {unit}: {folder.best})")
        if (found := switch(rows)) is not None:
            print(around(found))
        env_id = agent.env.env_id if agent.env is not None else ""
        if (human := human_normalized(env_id, [float(rows[-1]["mean"])])) is not None:
            print(f"  human-normalised  {human.item():.3f}  (final evaluation; 0 is random play, 1 a person)")
        if protocol:
            print(f"  protocol          {protocol}")
    if training.status is not None:
        print(f"  time              {breakdown(training.status)}")
        if advice := hint(training.status):
            print(f"  hint              {advice}")
    print(f"  run folder        {folder}")
    print(f"  TensorBoard       tensorboard --logdir {folder}")
    print(f"  learning curve    {folder.curve}")
    print("\nnext:")
    for what, words in {"evaluate it": f"bellmark evaluate {folder}", **NEXT}.items():
        print(f"  {words:<66} # {what}")


def around(found: Switch) -> str:
    """What the switch from data to the environment did to the return, in lines."""
    before, *online = found
    names = ("mean", "normalized_mean") if before.get("normalized_mean") not in (None, "") else ("mean",)
    lines = [f"  before the switch {score(before)}  (last evaluation of the offline updates)"]
    for place, row in zip(("first", "lowest", "last"), online, strict=True):
        changes = ", ".join(change(before, row, name) for name in names)
        lines.append(f"  {place + ' online':<17} {score(row)}  (after {int(row['steps']):,} steps; {changes})")
    return "\n".join(lines)


def change(before: Mapping[str, Any], row: Mapping[str, Any], name: str) -> str:
    """How much more or less a row has than the one before the switch."""
    unit = " points of D4RL score" if name == "normalized_mean" else " of return"
    return f"{float(row[name]) - float(before[name]):+.1f}{unit}"


def score(row: Mapping[str, Any]) -> str:
    """Return, and D4RL score if there is one, with the standard deviation over episodes."""
    text = f"return {float(row['mean']):.1f} ± {float(row['std']):.1f}"
    if row.get("normalized_mean") not in (None, ""):
        text += f", D4RL score {float(row['normalized_mean']):.1f} ± {float(row['normalized_std']):.1f}"
    return text
