"""Checkpoints of every format that there has been are read for ever: those in tests/fixtures, as they were written.

When FORMAT grows, run tests/fixtures/make.py once: it adds files of the new format. Never make the old ones again, and
never change what is expected of them: a test that fails here means that somebody's file can no longer be read.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import bellmark
import numpy as np
import pytest
import torch
from bellmark.agents.core import checkpoint
from bellmark.agents.core.loop import run
from bellmark.envs import remake

FIXTURES = Path(__file__).parents[1] / "fixtures"
sys.path.insert(0, str(FIXTURES))
from make import EXPECTED, describe, digest  # noqa: E402

FILES = json.loads(EXPECTED.read_text())


def test_every_format_has_its_files():
    assert {name.partition("-")[0] for name in FILES} == {f"format{n + 1}" for n in range(checkpoint.FORMAT)}
    assert FILES.keys() == {path.name for path in FIXTURES.glob("*.bell")}
    for name in FILES:
        manifest, _ = checkpoint.read(FIXTURES / name)
        assert name.startswith(f"format{manifest['format']}-")


@pytest.mark.parametrize("name", FILES)
def test_it_gives_the_agent_that_was_saved(name):
    found = describe(bellmark.load(FIXTURES / name))
    expected = {key: FILES[name][key] for key in found}
    np.testing.assert_allclose(found.pop("action"), expected.pop("action"), rtol=1e-4, atol=1e-6)
    assert found == expected


@pytest.mark.parametrize("name", FILES)
def test_it_goes_on_where_it_was(name):
    manifest, tensors = checkpoint.read(FIXTURES / name)
    agent = checkpoint.restore(manifest, tensors)
    with remake(manifest["env"]) as agent.env:
        agent.buffer = agent.make_buffer(agent.env.num_envs)
        assert checkpoint.resume(agent, manifest, tensors), "in the middle of its episodes"
        assert digest(agent.buffer.state()[0]) == FILES[name]["buffer"]
        assert agent.env.obs.tolist() == FILES[name]["obs"]
        assert torch.equal(torch.get_rng_state(), tensors["random.torch"])
        before = agent.updates
        run(agent, agent.buffer, agent.env, until=80)
        assert agent.steps >= 80 and agent.updates > before
