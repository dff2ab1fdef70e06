"""The success rate of goal tasks: in logs, evaluations and their summaries, and in runs that began without it."""

from __future__ import annotations

import json

import numpy as np
import pytest

BITS = ["train", "dqn", "--env", "bellmark/BitFlipping-v0", "--env-kwargs", "size = 3", "--steps", 300, "--hidden", 8]
BITS += ["--start", 50, "--batch-size", 16, "--buffer-size", 400, "--replay", "hindsight", "--log-every", 50]
BITS += ["--eval-every", 100, "--eval-episodes", 7, "--run", "bits"]


def share(row):
    """Of its episodes, those without a reward of -1 at the end."""
    returns, lengths = (np.array(row[name].split(), float) for name in ("returns", "lengths"))
    return (returns > -lengths).mean()


@pytest.fixture
def run(bellmark, here):
    status, out, _ = bellmark(*BITS)
    assert status == 0
    return here / "bits", out


def test_a_goal_task_has_a_success_rate(run, rows, bellmark, here):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, out = run
    evaluations = rows(folder / "evaluations.csv")
    found = [float(row["success_rate"]) for row in evaluations]
    assert found == [share(row) for row in evaluations] and max(found) > 0
    assert f", success rate {found[0]:.2f}" in out
    events = EventAccumulator(str(folder))
    events.Reload()
    assert [event.value for event in events.Scalars("eval/success_rate")] == pytest.approx(found)
    rollouts = [row["rollout/success_rate"] for row in rows(folder / "progress.csv")]
    assert 0 < float(rollouts[-1]) <= 1 and events.Scalars("rollout/success_rate")[-1].value > 0

    status, out, _ = bellmark("evaluate", folder, "--episodes", 7, "--json", here / "result.json")
    assert status == 0
    result = json.loads((here / "result.json").read_text())
    returns, lengths = np.array(result["returns"]), np.array(result["lengths"])
    assert result["successes"] == (returns > -lengths).tolist()
    assert result["success_rate"] == (returns > -lengths).mean()
    assert f"successes   {result['success_rate']:.2f} of" in out


def test_a_run_from_before_goes_on_and_gets_the_column(run, rows, bellmark):
    folder, _ = run
    for name in ("evaluations.csv", "progress.csv"):
        table = rows(folder / name)
        columns = [column for column in table[0] if "success_rate" not in column]
        lines = [",".join(columns), *(",".join(row[column] for column in columns) for row in table)]
        (folder / name).write_text("\n".join(lines) + "\n")
    assert bellmark("resume", folder, "--steps", 400)[0] == 0
    evaluations = rows(folder / "evaluations.csv")
    assert [row["success_rate"] for row in evaluations[:-1]] == [""] * 3
    assert float(evaluations[-1]["success_rate"]) == share(evaluations[-1])


def test_other_tasks_have_none(bellmark, small_ppo, here, rows):
    status, out, _ = bellmark(*small_ppo, "--run", "plain")
    assert status == 0 and "success" not in out
    for name in ("evaluations.csv", "progress.csv"):
        assert not [column for column in rows(here / "plain" / name)[0] if "success" in column]
    status, out, _ = bellmark("evaluate", "plain", "--episodes", 2)
    assert status == 0 and "success" not in out
