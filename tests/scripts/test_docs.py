"""docs/: the pages are what the command makes of code and evidence, links lead somewhere, the tutorial runs."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from bellmark.agents.core.agent import Agent
from bellmark.agents.core.registry import find_agents
from bellmark.scripts import docs

DOCS = docs.ROOT / "docs"
TUTORIAL = DOCS / "write-your-own-variant.md"
COMMITTED = {path.relative_to(docs.ROOT).as_posix(): path for path in DOCS.rglob("*.md") if path != TUTORIAL}
COMMITTED["README.md"] = docs.ROOT / "README.md"


@pytest.fixture(scope="module")
def generated():
    return docs.pages()


def test_the_committed_pages_are_the_generated_ones(generated):
    assert sorted(COMMITTED) == sorted(generated), "`make docs` brings them up to date"
    stale = [name for name, path in COMMITTED.items() if path.read_text(encoding="utf-8") != generated[name]]
    assert stale == [], "`make docs` brings them up to date"


def test_every_agent_is_in_the_index_once(generated):
    linked = re.findall(r"^\| \[(\w+)\]\(agents/\1\.md\)", generated["docs/README.md"], re.MULTILINE)
    assert sorted(linked) == sorted(find_agents())


def test_links_lead_somewhere():
    for path in DOCS.rglob("*.md"):
        links = re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8"))
        assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []


def test_recorded_curves_are_on_the_page_of_their_agent(generated):
    assert docs.curves().keys() == set(find_agents()), "an agent comes with a plan of runs in scripts/evidence"
    for name, found in docs.curves().items():
        text = generated[f"docs/agents/{name}.md"]
        assert all(f"`{curve.command}`, {len(curve.score)} seeds" in text for curve in found)
        assert "## Measured" in text


def rows(*points):
    return [
        {"clock": str(clock), "mean": str(mean), "normalized_mean": score, "episodes": "3"}
        for clock, mean, score in points
    ]


def test_a_curve_is_the_mean_over_seeds():
    seeds = [rows((10, 1.0, ""), (20, 3.0, "")), rows((12, 2.0, ""), (22, 7.0, ""), (30, 9.0, ""))]
    found = docs.curve(["train", "ppo"], seeds)
    assert found.command == "bellmark train ppo" and not found.normalized
    assert found.clock.tolist() == [11.0, 21.0] and found.score.tolist() == [[1.0, 3.0], [2.0, 7.0]]
    text, chart, numbers = docs.measured(found)
    assert "2 seeds, 3 episodes an evaluation" in text
    assert "  line [1.0, 3.0]\n  line [1.5, 5.0]\n  line [2.0, 7.0]\n" in chart and "11 --> 21" in chart
    assert numbers.splitlines()[-1] == "| 21 | 3.0 | 5.0 | 7.0 |" and "environment steps" in numbers


def test_a_curve_on_data_is_d4rls_score():
    found = docs.curve(["fit", "iql"], [rows((10, 1.0, "40.5"))])
    assert found.normalized and np.array_equal(found.score, [[40.5]])
    assert docs.measured(found)[2].startswith("| updates | lowest | mean D4RL score |")


@pytest.mark.parametrize(
    "words, phases",
    [
        (["fit", "iql", "--updates", "10", "--learn-steps", "5"], "updates, then environment steps"),
        (["fit", "rlpd", "--updates", "0", "--learn-steps", "5"], "environment steps"),
    ],
)
def test_a_curve_says_what_its_clock_counts(words, phases):
    assert docs.measured(docs.curve(words, [rows((10, 1.0, ""))]))[2].startswith(f"| {phases} | lowest |")


def test_evidence_that_comes_later_is_found(tmp_path, monkeypatch):
    entry = '[[entry]]\nname = "{}"\ncommand = ["train", "c51", "--env", "CartPole-v1"]\nseeds = [1, 2]\n'
    (tmp_path / "later.toml").write_text(entry.format("measured") + entry.format("planned"))
    head = "name,seed,clock,mean,episodes,normalized_mean\n"
    (tmp_path / "later-curves.csv").write_text(head + "measured,1,10,1.0,5,\nmeasured,2,10,4.0,5,\n")
    monkeypatch.setattr(docs, "FOLDER", tmp_path)
    ((agent, (found,)),) = docs.curves.__wrapped__().items()
    assert (agent, found.command) == ("c51", "bellmark train c51 --env CartPole-v1")
    assert found.score.tolist() == [[1.0], [4.0]] and found.episodes == 5


@pytest.fixture
def tutorial(tmp_path, monkeypatch):
    """The blocks of the tutorial as one module, which has been run; its agent is forgotten afterwards."""
    blocks = re.findall(r"^```python\n(.*?)^```", TUTORIAL.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    path = Path(tmp_path) / "tutorial.py"
    path.write_text("\n".join(blocks), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("tutorial", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "tutorial", module)
    find_agents()
    monkeypatch.setattr(Agent, "registry", {**Agent.registry})
    spec.loader.exec_module(module)
    return module, blocks


def test_the_tutorial_runs(tutorial):
    module, blocks = tutorial
    assert len(blocks) == 3 and Agent.registry["soft_td3"] is module.SoftTD3
    assert module.agent.config.pessimism == 1.0 and module.agent.steps == 100
    classes = blocks[0][blocks[0].index("@dataclass") :]
    assert len([line for line in classes.splitlines() if line.strip()]) <= 15, "as its title says"
