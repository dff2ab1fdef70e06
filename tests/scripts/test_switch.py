"""The switch from data to the environment: it is evaluated soon, reported, drawn, and a table of the results."""

from __future__ import annotations

import matplotlib.backends.backend_agg
import pytest
from bellmark.scripts import results
from bellmark.scripts.plots import learning_curve
from bellmark.scripts.report import around
from bellmark.scripts.switch import switch, switch_clock


def evaluation(clock, steps, mean, **others):
    return {"clock": clock, "steps": steps, "updates": clock, "mean": mean, "std": 1.0, **others}


ROWS = [
    evaluation(50, 0, 30.0),
    evaluation(100, 0, 20.0),
    evaluation(110, 10, 4.0),
    evaluation(200, 100, 2.5),
    evaluation(300, 200, 25.0),
]


def test_what_is_around_the_switch():
    assert [row["clock"] for row in switch(ROWS)] == [100, 110, 200, 300]
    assert switch_clock(ROWS) == 100
    silent = [{name: value for name, value in row.items() if name != "steps"} for row in ROWS]
    for one_side in (ROWS[:2], ROWS[2:], [], silent):
        assert switch(one_side) is None
        assert switch_clock(one_side) is None


def test_the_report_says_what_the_switch_cost():
    lines = around(switch(ROWS)).splitlines()
    assert [line.split("  ")[1] for line in lines] == [
        "before the switch return 20.0 ± 1.0",
        "first online",
        "lowest online",
        "last online",
    ]
    assert lines[1].endswith("return 4.0 ± 1.0  (after 10 steps; -16.0 of return)")
    assert lines[2].endswith("return 2.5 ± 1.0  (after 100 steps; -17.5 of return)")
    assert lines[3].endswith("return 25.0 ± 1.0  (after 200 steps; +5.0 of return)")
    scored = [row | {"normalized_mean": str(2 * row["mean"]), "normalized_std": "2"} for row in ROWS]
    assert "(after 100 steps; -17.5 of return, -35.0 points of D4RL score)" in around(switch(scored))


@pytest.mark.parametrize("online", [True, False])
def test_the_picture_marks_the_switch(tmp_path, monkeypatch, online):
    figures = []

    class Canvas:
        def __init__(self, figure):
            figures.append(figure)

        def print_png(self, image):
            image.write(b"png")

    monkeypatch.setattr(matplotlib.backends.backend_agg, "FigureCanvasAgg", Canvas)
    progress = [{"clock": str(row["clock"]), "steps": str(row["steps"])} for row in ROWS]
    rows = ROWS if online else ROWS[:2]
    learning_curve(tmp_path / "curve.png", "a", "updates", progress[: len(rows)], rows)
    (axes,) = figures[0].axes
    marks = [line for line in axes.lines if "switch" in line.get_label()]
    assert [list(line.get_xdata()) for line in marks] == ([[100, 100]] if online else [])
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert ("switch from data to the environment" in texts) == online


def test_results_have_a_table_of_the_switch(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    (tmp_path / "published.csv").write_text("plan,task,who,at,mean,spread,seeds,source,note\n")
    commands = {"on": '"--learn-steps", "200"', "off": '"--eval-every", "9"'}
    (tmp_path / "p.toml").write_text(
        "# About.\n\n"
        + "".join(
            f'[[entry]]\nname = "{name}"\ncommand = ["fit", "iql", "--data", "d.hdf5", {words}]\nseeds = [1, 2]\n'
            for name, words in commands.items()
        )
    )
    head, end = "name,seed,clock,eval_mean,normalized_mean,seconds\n", "300,25.0,,1\n"
    (tmp_path / "p.csv").write_text(head + "".join(f"{name},{seed},{end}" for name in commands for seed in (1, 2)))
    assert len(results.section(tmp_path / "p.toml")) == 3, "no curves"
    curves = [f"on,1,{row['clock']},{row['steps']},{row['mean']}" for row in ROWS]
    curves += [f"on,2,{row['clock']},{row['steps']},{2 * row['mean']}" for row in ROWS]
    curves += [f"off,1,{row['clock']},0,{row['mean']}" for row in ROWS]
    (tmp_path / "p-curves.csv").write_text("\n".join(["name,seed,clock,steps,mean", *curves]) + "\n")
    parts = results.section(tmp_path / "p.toml")
    assert parts[3] == results.SWITCHES
    assert parts[4].splitlines() == [
        "| agent | task | before the switch | first online | drop | lowest online | last |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| [iql](agents/iql.md) | d, then online | 30.0 [-97.1, 157.1] (2) | 6.00 [-19.41, 31.41] (2) | "
        "24.0 [-77.6, 125.6] (2) | 3.75 [-12.13, 19.63] (2) | 37.5 [-121.3, 196.3] (2) |",
    ]


def test_it_is_evaluated_soon_after_the_switch_and_resumes_exactly(bellmark, rows, here, stopped, runs, recording):
    words = [*runs["iql"], "--eval-every", 100, "--log-every", 40, "--checkpoint-every", 100]
    status, out, _ = bellmark(*words, "--run", "whole")
    assert status == 0
    assert "before the switch return" in out and "lowest online" in out
    clocks = [int(row["clock"]) for row in rows(here / "whole" / "evaluations.csv")]
    assert clocks == [100, 150, 160, 250, 300], "a tenth of an interval after the switch at 150"
    with stopped(5, 1000):
        assert bellmark(*words, "--run", "parts")[0] == 130
    with stopped(25):
        assert bellmark("resume", "parts")[0] == 130
    assert bellmark("resume", "parts")[0] == 0
    found, expected = (
        [(row["clock"], row["returns"]) for row in rows(here / name / "evaluations.csv")] for name in ("parts", "whole")
    )
    assert found == expected
