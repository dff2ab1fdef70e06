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
    tasks = tuned.tasks(path)
    if set(tasks) <= {*references()}:
        options = dataclasses.replace(fit.Options(data="x"), **settings.run)
        assert options.updates + options.learn_steps >= 10_000
        assert set(settings.data) <= set(dataclasses.asdict(dataclasses.replace(DataOptions(), **settings.data)))
    else:
        assert dataclasses.replace(train.Options(env="x"), **settings.run).steps >= 10_000
        namespaces = {"ALE", *(known.namespace for known in gymnasium.registry.values())}
        assert {*tasks} <= {*gymnasium.registry, *namespaces}
        assert not settings.data
    assert all(tuned.find(kind.name, task) == path for task in tasks), "two files are for the same task"


def test_the_promised_settings_are_shipped():
    found = {f"{agent_of(path)}/{task}" for path in SHIPPED for task in tuned.tasks(path)}
    assert found >= {
        *("ppo/CartPole-v1", "ppo/LunarLander-v3", "dqn/CartPole-v1"),
        *("sac/Pendulum-v1", "td3/Pendulum-v1", "sac/HalfCheetah-v5", "td3/HalfCheetah-v5"),
        *(f"{agent}/{task}" for agent in (*PUBLISHED, *PER_SET) for task in LOCOMOTION),
    }


LOCOMOTION = [
    f"{env}-{kind}-v2"
    for env in ("halfcheetah", "hopper", "walker2d")
    for kind in ("medium", "medium-replay", "medium-expert")
]
COMMON = {"gamma": 0.99, "learning_rate": 3e-4, "batch_size": 256, "normalize_obs": True, "schedule": "constant"}
PUBLISHED = {
    "bc": {**COMMON, "hidden": (256, 256)},
    "top_bc": {**COMMON, "hidden": (256, 256), "fraction": 0.1},
    "td3_bc": COMMON
    | {"hidden": (256, 256), "tau": 0.005, "critics": 2, "actor_delay": 2, "alpha": 2.5}
    | {"target_noise": 0.2, "target_noise_clip": 0.5},
    "awac": {**COMMON, "hidden": (256, 256, 256), "tau": 0.005, "advantage_temperature": 0.3333, "max_weight": 100.0},
}
"""One setting for all nine sets of CORL's table."""
PER_SET = {
    "rebrac": (
        ("actor_penalty", "critic_penalty"),
        [
            *((0.001, 0.01), (0.01, 0.001), (0.01, 0.1)),
            *((0.01, 0.001), (0.05, 0.5), (0.1, 0.01)),
            *((0.05, 0.1), (0.05, 0.01), (0.01, 0.01)),
        ],
    ),
    "edac": (("critics", "diversity"), [*[(10, 1), (10, 1), (10, 5)], *[(50, 1)] * 3, *[(10, 1), (10, 1), (10, 5)]]),
    "sac_n": (("critics",), [(n,) for n in (10, 10, 10, 500, 200, 200, 20, 20, 20)]),
    "decision_transformer": (("target_return",), [(n,) for n in (12_000, 3_600, 5_000) for _ in range(3)]),
    "iql": (("inverse_temperature", "expectile"), [(3.0, 0.7)] * 9),
    "cql": (("penalty_weight", "actor_learning_rate"), [(10.0, 3e-5)] * 9),
}
"""Settings and their values on the nine sets, in the order of LOCOMOTION."""


@pytest.mark.parametrize("agent", [*PUBLISHED, *PER_SET])
def test_settings_of_the_published_results_are_those_that_were_published(agent):
    for place, data in enumerate(LOCOMOTION):
        path = tuned.find(agent, data)
        config = agent_class(agent).config.override(tuned.read(path).agent)
        names, values = PER_SET.get(agent, ((), ()))
        expected = PUBLISHED.get(agent) or dict(zip(names, values[place], strict=True))
        assert {name: getattr(config, name) for name in expected} == expected, data
        updates = {"edac": 3_000_000, "sac_n": 3_000_000, "decision_transformer": 100_000}.get(agent, 1_000_000)
        assert tuned.read(path).run["updates"] == updates


def test_one_file_for_several_data_sets(bellmark):
    options = fit.Options(data="halfcheetah-medium-v2")
    words = ["--data", "halfcheetah-medium-v2", "--tuned"]
    options, config = arguments.with_settings("awac", "data", options, agent_class("awac").config, words)
    assert (options.updates, config.advantage_temperature) == (1_000_000, 0.3333)
    status, _, err = bellmark("fit", "awac", "--data", "pen-human-v1", "--tuned")
    assert status == 1 and "no shipped file of awac's settings" in err
