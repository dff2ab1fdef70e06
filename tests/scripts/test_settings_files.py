"""Files of settings that are none: each error says what is wrong."""

from __future__ import annotations

import pytest
from bellmark.agents.core.errors import InvalidSetting, UnknownName
from bellmark.agents.core.registry import find_agents
from bellmark.agents.on_policy.ppo import PPOConfig
from bellmark.scripts import arguments, tuned
from bellmark.scripts.main import main
from bellmark.scripts.train import Options

BAD = {
    "not UTF-8": (b"\xff\xfe", "is not valid TOML"),
    "no TOML": (b"[run", "is not valid TOML"),
    "nested": (b"a = " + b"[" * 5000 + b"]" * 5000, "is not valid TOML"),
    "too many digits": (b"[agent]\ngamma = " + b"9" * 5000, "is not valid TOML"),
    "too large": (b"#" * 20_000, "has more than 16,384 bytes"),
    "run is no table": (b"run = 3", "'run' must be a table [run]"),
    "agents are many": (b"[[agent]]\ngamma = 1", "'agent' must be a table [agent]"),
    "source is no text": (b"source = 1", "'source' must be a text"),
    "tasks are no texts": (b"tasks = ['a', 1]", "'tasks' must be a list of texts"),
    "tasks are no list": (b"tasks = 'a'", "'tasks' must be a list of texts"),
    "beyond 64 bits": (b"[agent]\nbatch_size = 0x" + b"f" * 17, "the setting batch_size must be a number"),
    "date": (b"[agent]\ngamma = 1979-05-27", "the setting gamma must be a number"),
    "table": (b"[agent.hidden]\na = 1", "the setting hidden must be a number"),
    "nested list": (b"[agent]\nhidden = [[64]]", "the setting hidden must be a number"),
    "not a number": (b"[agent]\nbatch_size = nan", "batch_size must be of type int, not nan"),
    "infinite": (b"[agent]\nrollout_length = inf", "rollout_length must be of type int, not inf"),
    "type": (b"[agent]\nschedule = 3", "schedule must be of type"),
    "run option": (b"[run]\nsteps = 1.5", "the run option steps must be of type int, not 1.5"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said(tmp_path, case):
    content, message = BAD[case]
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(InvalidSetting) as error:
        arguments.with_settings("ppo", "env", Options(env="CartPole-v1"), PPOConfig(), ["--settings", str(path)])
    assert message in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InvalidSetting, match="Is a directory"):
        tuned.read(tmp_path)
    with pytest.raises(InvalidSetting, match="No such file"):
        tuned.read(tmp_path / "absent.toml")
    (tmp_path / "mine.toml").write_text("[agnet]")
    with pytest.raises(UnknownName, match="did you mean agent"):
        tuned.read(tmp_path / "mine.toml")


def test_what_is_right_is_read(tmp_path):
    (tmp_path / "mine.toml").write_text('source = "é"\n[run]\nsteps = 5\n[agent]\nhidden = [8, 4]\nclip = 1')
    assert tuned.read(tmp_path / "mine.toml") == ("é", {"steps": 5}, {"hidden": [8, 4], "clip": 1}, {}, [])


@pytest.mark.parametrize("name", find_agents())
@pytest.mark.parametrize("command", ["fit", "train"])
def test_every_agent_has_a_command_line(capsys, name, command):
    """An agent whose setting has the name of one of the command's options would have none."""
    assert main([command, name, "--help"]) == 0
    assert {"--seed", "--gamma"} <= set(capsys.readouterr().out.split())


def test_options_of_the_data_come_from_the_file_and_the_command_line_beats_them(tmp_path):
    from bellmark.offline import Options as DataOptions

    words = ["--data", "antmaze-umaze-v0", "--tuned"]
    assert arguments.with_data_settings("iql", DataOptions(), words).reward_shift == -1.0
    (tmp_path / "mine.toml").write_text("[data]\nreward_shift = 2.0")
    words += ["--settings", str(tmp_path / "mine.toml")]
    assert arguments.with_data_settings("iql", DataOptions(), words).reward_shift == 2.0
    (tmp_path / "mine.toml").write_text("[data]\nreward_shft = 2.0")
    with pytest.raises(UnknownName, match="did you mean reward_shift"):
        arguments.with_data_settings("iql", DataOptions(), words)
