"""The README keeps its word: links lead somewhere, commands and settings exist, the variant is the one in the file."""

import re
import shlex
from pathlib import Path

import pytest
from bellmark.scripts.main import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = "\n".join(re.findall(r"^```\n(.*?)^```", README, re.MULTILINE | re.DOTALL))
LINES = [line.partition("#")[0].strip() for line in SHELL.splitlines()]
TABLE = [f"{command} --seed 1" for command in re.findall(r"^\| `(bellmark [^`]+)`", README, re.MULTILINE)]


def test_links_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert len(links) >= 6
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("line", [line for line in LINES + TABLE if line.startswith("bellmark ")])
def test_commands_and_their_settings_exist(line, capsys):
    words = shlex.split(line)[1:]
    assert words[0] in COMMANDS
    assert main([*words, "--help"]) == 0, capsys.readouterr().err
    assert "usage" in capsys.readouterr().out


def test_make_targets_exist():
    targets = {line.split()[1] for line in LINES if line.startswith("make ")}
    assert {"demo", "test"} <= targets
    defined = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert targets <= defined


def test_the_variant_is_the_one_in_the_file():
    block = next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "class TD3BC" in block)
    code = (ROOT / "offline" / "td3_bc.py").read_text(encoding="utf-8").replace(": Batch) -> Tensor", ")")
    code = code.replace("config: TD3BCConfig = ", "config = ")
    missing = [line for line in block.splitlines() if line.strip() and line.strip() not in code]
    assert missing == []
