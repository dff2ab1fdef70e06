"""docs/results.md: cells are what the raw rows say, tasks are kept apart, aggregates are of complete agents alone."""

import csv

import numpy as np
import pytest
from bellmark.scripts import results
from bellmark.scripts.results import Entry, aggregate, matrix, task_of

HEAD = "name,seed,clock,eval_mean,normalized_mean,seconds"


def plan(folder, entries, rows):
    """A plan of `(name, command)` with its rows."""
    path = folder / "tried.toml"
    tables = [f'[[entry]]\nname = "{name}"\ncommand = {command}\nseeds = [1, 2]\n' for name, command in entries]
    tables[1] += 'label = "gently"\n'
    path.write_text("# What this is,\n# and why.\n\nremarks = 'It is so.'\n" + "\n".join(tables))
    path.with_suffix(".csv").write_text("\n".join([HEAD, *rows]) + "\n")
    return path


def test_a_section_says_what_the_rows_say(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    (tmp_path / "published.csv").write_text(
        "plan,task,who,at,mean,spread,seeds,source,note\ntried,A-v1,peer,1000000,2.5,0.5,3,page,older\nother,,,,,,,,\n"
    )
    entries = [
        ("dqn-a", ["train", "dqn", "--env", "A-v1"]),
        ("bc-a", ["fit", "bc", "--data", "folder/a.hdf5"]),
        ("later", ["train", "c51", "--env", "A-v1"]),
    ]
    rows = ["dqn-a,1,9996,1.0,,3", "bc-a,1,2000,7.0,40,6", "dqn-a,2,9996,2.0,,3", "bc-a,2,2000,8.0,60,10"]
    parts = results.section(plan(tmp_path, entries, rows))
    assert parts[:2] == ["## tried", "What this is, and why."]
    assert parts[2].splitlines() == [
        "| agent | A-v1, 10,000 | a, D4RL score, 2,000 | seconds for 1,000 updates |",
        "| --- | --- | --- | --- |",
        "| [dqn](agents/dqn.md) | 1.50 [-4.85, 7.85] (2) |  |  |",
        "| [bc](agents/bc.md), gently |  | 50.0 [-77.1, 177.1] (2) | 3.0 |",
    ]
    assert parts[3] == "It is so."
    assert parts[4].splitlines()[2:] == ["| A-v1 | peer | 1,000,000 | 2.5 ± 0.5 | 3 | page; older |"]
    (tmp_path / "tried.csv").unlink()
    assert results.section(tmp_path / "tried.toml") == [], "a plan without results has no section"


def test_evaluations_at_different_clocks_say_when():
    entries = [Entry("sac", "H", clock, np.array([score]), np.nan) for clock, score in ((100_000, 5.0), (30_000, 12.0))]
    assert "| H |" in matrix(entries) and "| 5.00 (1) at 100,000; 12.0 (1) at 30,000 |" in matrix(entries)


@pytest.mark.parametrize(
    "command, task",
    [
        (["train", "dqn", "--env", "A-v1", "--tuned"], "A-v1"),
        (["train", "dqn", "--env", "A-v1", "--env-kwargs", "size=4"], "A-v1 (size=4)"),
        (["fit", "iql", "--data", "set.hdf5", "--learn-steps", "9"], "set, then online"),
    ],
)
def test_tasks_that_differ_have_different_names(command, task):
    assert task_of(command, False) == task and task_of(command, True) == f"{task}, D4RL score"


def test_an_aggregate_is_of_scaled_scores_of_agents_with_all_tasks():
    entries = [
        Entry("dqn", "A", 1, np.array([2.0, 4.0]), np.nan),
        Entry("dqn", "B", 1, np.array([-50.0, -10.0]), np.nan),
        Entry("c51", "A", 1, np.array([9.0, 9.0]), np.nan),
    ]
    ((agent, text),) = aggregate(entries, {"A": [0.0, 4.0], "B": [-50.0, 50.0]})
    assert agent == "dqn"
    assert text.startswith("0.45 [") and text.endswith("(2)"), "the middle two of 0.5, 1, 0 and 0.4"


def test_sample_efficiency_is_the_area_under_the_curve_at_what_all_were_evaluated_at(tmp_path):
    """By hand: areas sac 1, 3 and crossq 4, 4 at 1,000 and 2,000; sac ends there at 3 on average."""
    head = "name,seed,clock,mean\n"
    runs = {
        "sac-a,1": [(1000, 0.0), (2000, 2.0), (3000, 50.0)],
        "sac-a,2": [(1000, 2.0), (2000, 4.0), (3000, 60.0)],
        "crossq-a,1": [(500, -70.0), (1000, 3.0), (1500, 80.0), (2000, 5.0)],
        "crossq-a,2": [(500, -60.0), (1000, 2.5), (1500, 70.0), (2000, 5.5), (3000, 9.0)],
    }
    rows = {agent: [f"{agent},{c},{m}" for c, m in points] for agent, points in runs.items()}
    files = {"first": "sac", "second": "crossq"}
    for name, agent in files.items():
        path = plan(tmp_path, [(f"{agent}-a", ["train", agent, "--env", "A"]), (f"x-{name}", ["train", "ppo"])], [])
        path.rename(tmp_path / f"{name}.toml")
        own = [line for key, lines in rows.items() if key.startswith(agent) for line in lines]
        (tmp_path / f"{name}-curves.csv").write_text(head + "\n".join(own) + "\n")
    wanted = {"title": "A.", "plans": ["second"], "entries": ["sac-a", "crossq-a", "x-second"]}
    text, title, found = results.efficiencies(tmp_path / "first.toml", [wanted])
    assert text == results.EFFICIENCY and title == "A."
    assert found.splitlines() == [
        "| agent | mean of evaluations up to 2,000 | more | reached 3 at |",
        "| --- | --- | --- | --- |",
        "| [sac](agents/sac.md) | 2.00 [-10.71, 14.71] (2) |  | never, 2,000 |",
        "| [crossq](agents/crossq.md) | 4.00 [4.00, 4.00] (2) | 2.00 [-10.71, 14.71] (2) | 1,000, 2,000 |",
    ]
    assert results.efficiencies(tmp_path / "first.toml", [{"title": "A.", "entries": ["sac-a", "crossq-a"]}]) == []
    head = ("name", "seed", "clock", "mean")
    apart = [dict(zip(head, row.split(","), strict=True)) for row in ("sac-a,1,1000,1", "crossq-a,1,1500,1")]
    planned = [{"name": row["name"], "command": ["train", row["name"][:-2]]} for row in apart]
    assert results.efficiency(["sac-a", "crossq-a"], planned, apart) == "", "never evaluated at the same clock"


def test_published_figures_are_of_plans_that_exist():
    with (results.FOLDER / "published.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["plan"] for row in rows} <= {path.stem for path in results.FOLDER.glob("*.toml")}
    assert all(row["who"] and row["source"] and float(row["mean"]) for row in rows)
