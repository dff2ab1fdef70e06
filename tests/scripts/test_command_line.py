"""Names, help, precedence, settings files, exit statuses."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys

import pytest
from bellmark.agents.core.registry import agent_class, find_agents
from bellmark.offline import Options as DataOptions
from bellmark.offline import references
from bellmark.scripts import arguments, fit, train, tuned


def test_help_is_shown_without_importing_anything_heavy():
    code = (
        "import sys; from bellmark.scripts.main import main; assert main(['--help']) == 0; "
        "print(sorted({'torch', 'gymnasium', 'tyro', 'rich', 'numpy', 'tensorboard', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
    for command in ("train", "fit", "evaluate", "resume", "rerun", "agents"):
        assert f"  {command} " in done.stdout


@pytest.mark.parametrize("name", sorted(find_agents()))
def test_every_setting_of_every_agent_is_in_its_help_with_a_sentence(bellmark, name):
    status, out, _ = bellmark("train", name, "--help")
    assert status == 0
    text = " ".join(out.replace("│", " ").split())
    options = {field.name for field in dataclasses.fields(train.Options)}
    for field in dataclasses.fields(agent_class(name).config):
        option = f"--{field.name.replace('_', '-')}"
        assert option in text
        assert field.name not in options, "an option and a setting have the same name"
        following = text.split(f" {option}", 1)[1].split("(default:", 1)[0]
        assert re.search(r"[\])`a-zA-Z0-9]\. $", following), f"{option} has no sentence of help"


@pytest.mark.parametrize(
    ("words", "expected", "code"),
    [
        (["evaluat"], "no command 'evaluat'; did you mean evaluate?", 2),
        (["train"], "say which agent: bellmark train AGENT", 2),
        (["train", "pp0"], "no agent 'pp0'; did you mean ppo?", 2),
        (["train", "ppo", "--env", "CartPole-v1", "--lerning-rate", "1"], "did you mean learning-rate?", 2),
        (["train", "ppo", "--env", "CartPol-v1"], "no environment 'CartPol-v1'; did you mean CartPole-v1", 1),
        (["train", "ppo", "--env", "CartPole-v1", "--gamma", "3"], "gamma = 3.0 must be in [0, 1]", 1),
        (["train", "ppo", "--env", "CartPole-v1", "--num-envs", "0"], "num_envs = 0 must be at least 1", 1),
        (["train", "ppo", "--env", "CartPole-v1", "--device", "gpu"], "the device 'gpu' cannot be used", 1),
        (["train", "ppo", "--env", "CartPole-v1", "--threads", "9999"], "threads = 9999 must be at most 1024", 1),
        (["train", "dqn", "--env", "Pendulum-v1"], "take td3, sac or ppo", 1),
        (["train", "ppo", "--env", "Acrobot-v1", "--tuned"], "known: ALE, CartPole-v1, HalfCheetah-v5", 1),
        (["train", "ppo", "--env", "CartPole-v1", "--settings", "none.toml"], "cannot read the settings none.toml", 1),
        (["evaluate", "nowhere"], "no checkpoint nowhere", 1),
        (["resume", "nowhere"], "nowhere is no run folder", 1),
        (["rerun", "nowhere"], "nowhere is no run folder", 1),
    ],
)
def test_bad_input_is_one_line_with_the_remedy(bellmark, here, words, expected, code):
    status, _, err = bellmark(*words)
    assert (status, err.count("\n")) == (code, 1)
    assert err.startswith("error: ")
    assert expected in err
    assert list(here.iterdir()) == [], "something was left behind"


def test_a_value_of_the_wrong_type_is_a_usage_error(bellmark):
    status, _, err = bellmark("train", "ppo", "--env", "CartPole-v1", "--steps", "many")
    assert status == 2
    assert "--steps" in err


def test_traceback_shows_where_an_error_came_from(bellmark, monkeypatch):
    with pytest.raises(Exception, match="no run folder"):
        bellmark("resume", "nowhere", "--traceback")
    monkeypatch.setenv("BELLMARK_TRACEBACK", "1")
    with pytest.raises(Exception, match="no run folder"):
        bellmark("resume", "nowhere")


def test_agents_lists_what_each_can_do(bellmark):
    status, out, _ = bellmark("agents", "--json")
    found = {row["name"]: row for row in json.loads(out)}
    assert status == 0
    assert found["ppo"]["actions"] == ["discrete", "continuous"]
    assert found["dqn"]["actions"] == ["discrete"]
    assert found["td3"]["actions"] == ["continuous"]
    assert found["ppo"]["learns"] == ["online"]
    assert found["iql"] == found["iql"] | {"file": "offline/iql.py", "learns": ["online", "from data"]}
    assert all(row["about"] for row in found.values())
    assert "td3_bc" in bellmark("agents")[1]


def parsed(words: list[str]):
    import tyro

    options = train.Options(env=tyro.MISSING)
    options, config = arguments.with_settings("ppo", "env", options, agent_class("ppo").config, words)
    return arguments.parse("bellmark train ppo", words, options, config)


def test_the_command_line_beats_the_file_and_the_file_the_defaults(here):
    (here / "mine.toml").write_text('source = "me"\n[run]\nsteps = 7\n[agent]\ngamma = 0.5\nhidden = [3]\nclip = 1\n')
    words = ["--env", "CartPole-v1", "--settings", "mine.toml", "--gamma", "0.25", "--no-normalize-obs"]
    options, config = parsed(words)
    assert (options.steps, options.num_envs) == (7, 1)
    assert (config.gamma, config.hidden, config.clip, config.epochs) == (0.25, (3,), 1.0, 10)
    options, config = parsed(["--env=CartPole-v1", "--tuned", "--settings", "mine.toml", "--steps", "9"])
    assert (options.steps, options.num_envs) == (9, 8), "tuned first, then the file, then the command line"
    assert (config.gamma, config.gae_lambda) == (0.5, 0.8)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[agent]\ngama = 1\n", "no setting 'gama'; did you mean gamma?"),
        ("[run]\nstep = 1\n", "no run option (in mine.toml) 'step'; did you mean steps"),
        ('[run]\nsteps = "1"\n', "steps must be of type int"),
        ("[agents]\n", "no part of a settings file"),
        ("gamma 1", "mine.toml is not valid TOML"),
    ],
)
def test_a_bad_settings_file_is_refused(bellmark, here, content, expected):
    (here / "mine.toml").write_text(content)
    status, _, err = bellmark("train", "ppo", "--env", "CartPole-v1", "--settings", "mine.toml")
    assert status == 1
    assert expected in err


SHIPPED = tuned.shipped()


def agent_of(path):
    return path.relative_to(tuned.FOLDER).parts[0]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{agent_of(path)}-{path.stem}")
def test_shipped_settings_are_valid_and_say_where_they_come_from(path):
    import gymnasium

    settings = tuned.read(path)
    assert settings.source
    kind = agent_class(agent_of(path))
    assert set(settings.agent) <= set(kind.config.override(settings.agent).to_dict())
    task = tuned.task(path)
    if task in references():
        options = dataclasses.replace(fit.Options(data="x"), **settings.run)
        assert options.updates + options.learn_steps >= 10_000
        assert set(settings.data) <= set(dataclasses.asdict(dataclasses.replace(DataOptions(), **settings.data)))
    else:
        assert dataclasses.replace(train.Options(env="x"), **settings.run).steps >= 10_000
        namespaces = {"ALE", *(known.namespace for known in gymnasium.registry.values())}
        assert task in gymnasium.registry or task in namespaces
        assert not settings.data
    assert tuned.find(kind.name, tuned.task(path)) == path


def test_the_promised_settings_are_shipped():
    found = {f"{agent_of(path)}/{tuned.task(path)}" for path in SHIPPED}
    assert found >= {
        *("ppo/CartPole-v1", "ppo/LunarLander-v3", "dqn/CartPole-v1"),
        *("sac/Pendulum-v1", "td3/Pendulum-v1", "sac/HalfCheetah-v5", "td3/HalfCheetah-v5"),
    }
