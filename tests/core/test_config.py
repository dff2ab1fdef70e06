"""Settings: what they accept, what they refuse and in which words, and that each is documented."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import math
import textwrap

import pytest
from bellmark.agents.core.config import Config, ReplayConfig, RolloutConfig, scheduled
from bellmark.agents.core.errors import InvalidSetting, UnknownName
from bellmark.agents.core.registry import agent_class, find_agents

AGENTS = sorted(find_agents())


def test_plain_values_become_the_settings_types():
    config = Config().override({"gamma": 1, "hidden": [32, 16], "batch_size": 8.0, "normalize_obs": True})
    assert (config.gamma, config.hidden, config.batch_size, config.normalize_obs) == (1.0, (32, 16), 8, True)
    assert [type(x) for x in (config.gamma, config.hidden, config.batch_size)] == [float, tuple, int]
    assert Config().gamma == 0.99, "the original stays as it was"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", True),
        ("batch_size", 2.5),
        ("batch_size", "8"),
        ("batch_size", math.inf),
        ("gamma", True),
        ("gamma", "0.9"),
        ("gamma", math.nan),
        ("gamma", None),
        ("normalize_obs", 1),
        ("normalize_obs", "yes"),
        ("hidden", 64),
        ("hidden", [64, "x"]),
        ("hidden", [64, True]),
        ("schedule", "quadratic"),
        ("schedule", 1),
    ],
)
def test_other_types_are_refused(name, value):
    with pytest.raises(InvalidSetting, match=f"the setting {name} must be of type"):
        Config().override({name: value})


@pytest.mark.parametrize(
    ("config", "name", "value"),
    [
        (Config(), "gamma", 1.01),
        (Config(), "gamma", -0.1),
        (Config(), "batch_size", 0),
        (Config(), "learning_rate", -1e-3),
        (Config(), "hidden", [64, 0]),
        (Config(), "max_grad_norm", -1.0),
        (ReplayConfig(), "buffer_size", 0),
        (ReplayConfig(), "start", -1),
        (ReplayConfig(), "train_every", 0),
        (ReplayConfig(), "update_ratio", 0.0),
        (ReplayConfig(), "n_step", 0),
        (RolloutConfig(), "rollout_length", 0),
        (RolloutConfig(), "epochs", 0),
        (RolloutConfig(), "gae_lambda", 1.5),
    ],
)
def test_values_that_make_no_sense_are_refused(config, name, value):
    with pytest.raises(InvalidSetting, match=f"the setting {name} = .* must "):
        config.override({name: value})


def test_a_misspelt_setting_is_told_the_nearest():
    with pytest.raises(UnknownName, match="no setting 'gama'; did you mean gamma"):
        Config().override({"gama": 0.9})
    with pytest.raises(UnknownName, match=r"no setting 'zzz'; known: batch_size, gamma"):
        Config().override({"zzz": 0.9})
    with pytest.raises(UnknownName, match="no agent 'td33'; did you mean td3"):
        agent_class("td33")


@pytest.mark.parametrize("name", AGENTS)
def test_settings_survive_json(name):
    config = agent_class(name).config
    changed = config.override({"gamma": 0.5, "hidden": [3, 4, 5], "schedule": "cosine"})
    for original in (config, changed):
        back = type(original).from_dict(json.loads(json.dumps(original.to_dict())))
        assert back == original and type(back) is type(original)
        for field in dataclasses.fields(original):
            assert type(getattr(back, field.name)) is type(getattr(original, field.name))


def documented(config_class):
    """The fields of this class (without its bases) that are followed by a docstring, and all of them."""
    body = ast.parse(textwrap.dedent(inspect.getsource(config_class))).body[0].body
    fields = {x.target.id: body[i + 1] if i + 1 < len(body) else None for i, x in enumerate(body) if _is_field(x)}
    is_text = lambda x: isinstance(x, ast.Expr) and isinstance(x.value, ast.Constant)  # noqa: E731
    return {name: after.value.value for name, after in fields.items() if is_text(after)}, set(fields)


def _is_field(node):
    return isinstance(node, ast.AnnAssign)


@pytest.mark.parametrize("name", AGENTS)
def test_every_setting_has_its_sentence_and_they_are_few(name):
    config_class = type(agent_class(name).config)
    for base in config_class.__mro__:
        if dataclasses.is_dataclass(base):
            texts, fields = documented(base)
            assert len(fields) <= 20
            assert texts.keys() == fields
            for field, text in texts.items():
                assert 10 < len(text) < 160 and text.endswith(".") and "\n" not in text, field


def test_schedules():
    assert [scheduled("constant", p) for p in (0, 0.5, 1)] == [1, 1, 1]
    assert [scheduled("linear", p) for p in (0, 0.25, 1)] == [1, 0.75, 0]
    assert [scheduled("cosine", p) for p in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert scheduled("cosine", 0.25) == pytest.approx(0.5 + math.sqrt(0.5) / 2)
