"""Whatever stands in a run folder's manifest.json and tables, commands end with one line and import nothing."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bellmark.envs
import numpy as np
import pytest
from bellmark.envs.evaluation import Evaluation
from bellmark.scripts.main import main
from bellmark.scripts.training import Training
from recovery import RUNS, write_data

VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    3,
    2**70,
    -0.5,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "evil:Evil-v0",
    "../x",
]
VALUES += [[], ["x"], [2**70], [[]], {}, {"a": 1}, {"env_id": "evil:Evil-v0"}, "\x00", "1" * 5000, [{"clock": 1}]]
COMMANDS = (["resume"], ["resume", "--steps", "700"], ["resume", "--verify"], ["rerun", "--into", "again"])
COMMANDS += (["evaluate", "--episodes", "1"],)
EVIL = "from pathlib import Path; Path(__file__).with_suffix('.ran').touch()"


@pytest.fixture(scope="module", params=["ppo", "iql"])
def folder(request, tmp_path_factory) -> Iterator[Path]:
    """A run folder, in a working folder where a module waits to be imported."""
    here = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.syspath_prepend(here)
        (here / "evil.py").write_text(EVIL)
        write_data(here / "pendulum.hdf5")
        assert main([str(word) for word in RUNS[request.param]] + ["--run", "run"]) == 0
        for name in ("learn", "fit"):
            patch.setattr(Training, name, lambda *arguments: True)
        patch.setattr(Training, "end", lambda *arguments: 0)
        found = Evaluation(np.ones(1), np.ones(1, np.int64))
        patch.setattr(bellmark.envs, "evaluate", lambda *arguments, **options: found)
        patch.setattr("bellmark.agents.core.loop.run", lambda *arguments, **options: None)
        shutil.copytree("run", "good")
        yield here / "run"


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Where there is something, from the outside to the inside."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def mutated(manifest: dict[str, Any], rng: random.Random) -> bytes:
    """Another value in one or two places, or none, or bytes that are no longer JSON."""
    manifest = copy.deepcopy(manifest)
    for _ in range(rng.choice([1, 1, 2])):
        *path, last = rng.choice([*places(manifest)][1:])
        owner = manifest
        for key in path:
            owner = owner[key]
        if rng.random() < 0.15:
            del owner[last]
        else:
            owner[last] = rng.choice(VALUES)
    content = json.dumps(manifest).encode()
    if rng.random() < 0.1:
        at = rng.randrange(len(content))
        content = rng.choice(
            [content[:at], content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :], b"[" * 100_000]
        )
    return content


def test_manifest(folder, count, record, request):
    rng, trials = random.Random(0), count(40, 5000)
    manifest, ended = json.loads((folder / "manifest.json").read_text()), {0: 0, 1: 0}
    for trial in range(trials):
        content = mutated(manifest, rng)
        (folder / "manifest.json").write_bytes(content)
        check(folder, COMMANDS[trial % len(COMMANDS)], content, ended)
    assert min(ended.values()) > trials / 20
    kind = f"manifest.json ({manifest['kind']})"
    record("malformed input", kind, trials, trials, 0, f"{ended[1]} refused by a BellmarkError, {ended[0]} harmless")


@pytest.mark.parametrize("table", ["progress.csv", "evaluations.csv"])
def test_tables(folder, count, record, table):
    rng, trials = random.Random(0), count(8, 1000)
    good, ended = (folder.with_name("good") / table).read_bytes(), {0: 0, 1: 0}
    for _ in range(trials):
        at, way = rng.randrange(len(good)), rng.randrange(4)
        middle = [b"", bytes([rng.randrange(256)]), b"\n" * 3, b",nan,-1,\x00"][way]
        content = good[:at] + middle + good[rng.choice([at, at + 1, len(good)]) :]
        (folder / table).write_bytes(content)
        check(folder, ["resume", "--steps", "700"], content, ended)
    kind = f"{table} ({json.loads((folder / 'manifest.json').read_text())['kind']})"
    record("malformed input", kind, trials, trials, 0, f"{ended[1]} refused by a BellmarkError, {ended[0]} harmless")


def check(folder: Path, command: list[str], content: bytes, ended: dict[int, int]) -> None:
    """Runs the command on the run folder as it is, and puts back what is good."""
    said, out = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(out):
            status = main([command[0], "run", *command[1:]])
    except BaseException as error:
        raise AssertionError(f"{command}: {error!r} for {content[:3000]!r}") from error
    finally:
        shutil.rmtree("again", ignore_errors=True)
        shutil.rmtree("run")
        shutil.copytree("good", "run")
    assert status in (0, 1)
    assert said.getvalue().count("\n") == (status and not out.getvalue().startswith("not the same")), said.getvalue()
    ended[status] += 1
    assert "evil" not in sys.modules
    assert not folder.with_name("evil.ran").exists()
