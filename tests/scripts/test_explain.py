"""`bellmark explain`: all of it comes from docstrings and settings, nothing is lost, nothing said twice."""

import dataclasses

import pytest
from bellmark.agents.core.config import Bounds, Config, ReplayConfig, Schedule
from bellmark.agents.core.registry import agent_class, find_agents
from bellmark.agents.value_based.c51 import C51Config
from bellmark.agents.value_based.dqn import DQNConfig
from bellmark.scripts.pages import Setting, allowed, changed, overridden, page, papers, prose, read, settings, table

every_name = pytest.mark.parametrize("name", sorted(find_agents()))


class Toy:
    """Toy (Nobody 2020, arXiv 2001.00001): one clause.

        y = r + x    (arXiv
                      2002.00002)

    It has a _name_ and a*b. Departures from the paper: none
    of note, as in arXiv 2001.00001.

    Last words.
    """


def test_a_docstring_falls_into_its_parts():
    text = read(Toy)
    assert text.about == "Toy (Nobody 2020, arXiv 2001.00001): one clause."
    assert text.equations == ["    y = r + x    (arXiv\n                  2002.00002)"]
    assert text.body == [*text.equations, "It has a _name_ and a*b.", "Last words."]
    assert text.departures == ["Departures from the paper: none\nof note, as in arXiv 2001.00001."]
    assert papers(Toy) == ["2001.00001", "2002.00002"]


@every_name
def test_every_setting_is_shown_once_with_its_value_and_sentence(name):
    config = agent_class(name).config
    groups = [*settings(config)]
    shown = [setting for _, group in groups for setting in group]
    assert sorted(setting.name for setting in shown) == sorted(field.name for field in dataclasses.fields(config))
    assert all(getattr(config, setting.name) == setting.value and setting.meaning for setting in shown)
    owners = [owner for owner, _ in groups]
    assert owners == [owner for owner in type(config).__mro__ if owner in owners], "nearest first"
    text = page(name)
    for owner, group in groups:
        assert f"### `{owner.__name__}`" in text
        assert all(f"| `{setting.name}` | " in text for setting in group)


@every_name
def test_the_page_has_all_words_of_the_docstring(name):
    kind = agent_class(name)
    plain = page(name).replace("\\", "")
    for number in papers(kind):
        plain = plain.replace(f"[arXiv {number}](https://arxiv.org/abs/{number})", f"arXiv {number}")
    assert [word for word in (kind.__doc__ or "").split() if word not in plain.split()] == []


def test_settings_are_grouped_by_the_class_that_says_what_they_mean():
    groups = {owner: [setting.name for setting in group] for owner, group in settings(agent_class("rainbow").config)}
    assert [*groups] == [C51Config, DQNConfig, ReplayConfig, Config]
    assert groups[C51Config] == ["value_low", "value_high", "atoms"]
    assert "learning_rate" in groups[DQNConfig] and "gamma" in groups[Config]
    (shown,) = [
        s for _, group in settings(agent_class("rainbow").config) for s in group if s.name == "priority_exponent"
    ]
    start = "How far errors decide where draws are prioritized"
    assert shown == Setting("priority_exponent", 0.5, "number in [0, 1]", shown.meaning)
    assert shown.meaning.startswith(start)


@pytest.mark.parametrize(
    ("name", "parent", "methods"),
    [("td3_bc", "td3", {"actor_loss"}), ("c51", "dqn", {"head"}), ("rainbow", "c51", set())],
)
def test_what_a_variant_overrides(name, parent, methods):
    assert overridden(agent_class(name), agent_class(parent)).keys() == methods
    text = page(name)
    assert f"## What it changes of {parent}" in text
    assert all(f"- `{method}`" in text for method in methods)


def test_what_a_variant_sets():
    rainbow, c51 = agent_class("rainbow").config, agent_class("c51").config
    assert changed(rainbow, c51) == {
        **dict.fromkeys(("double", "dueling", "noisy"), (True, False)),
        "n_step": (3, 1),
        "replay": ("prioritized", "uniform"),
        "priority_exponent": (0.5, 0.6),
    }
    assert "| `n_step` | `3` | `1` |" in page("rainbow")
    assert "`Rainbow` → `c51` → `dqn` → `ReplayAgent` → `Agent`" in page("rainbow")


def test_a_variant_without_equations_shows_those_of_its_parent():
    (equations,) = read(agent_class("dqn")).equations
    assert not read(agent_class("noisy_dqn")).equations
    assert equations.splitlines()[-1].strip() in page("noisy_dqn")


def test_shared_equations_are_shown():
    assert "## Shared: NoveltyAgent" in page("ppo_rnd") and "which is also fhat's loss" in page("ppo_rnd")


def test_values_in_words():
    hints = {
        Schedule: "constant, linear, cosine",
        bool: "True or False",
        tuple[int, ...]: "positive numbers",
        int: "whole number",
    }
    for hint, words in hints.items():
        assert allowed(hint) == words
    from typing import Annotated

    assert allowed(Annotated[float, Bounds(0.0, low_included=False)]) == "number above 0"


def test_marks_of_markdown_are_escaped_outside_of_code():
    assert prose("a* <x> `a*` b_c\n- 1") == r"a\* \<x> `a*` b_c" + "\n" + r"\- 1"
    assert table(["x"], [["a|b\nc"]]) == "| x |\n| --- |\n| a\\|b c |"


def test_in_a_pipe_it_is_plain(bellmark):
    status, out, _ = bellmark("explain", "td3")
    assert status == 0 and out == page("td3") and "\x1b" not in out


def test_on_a_terminal_it_is_rich(bellmark, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    status, out, _ = bellmark("explain", "td3")
    assert status == 0 and "\x1b[" in out and "critic" in out and "| ---" not in out


def test_an_unknown_agent(bellmark):
    status, _, error = bellmark("explain", "rainbo")
    assert status == 2 and "rainbow" in error
