"""Run by `test_resume.resume_in_child` in a process of its own: goes on with all checkpoints of a folder and saves."""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path

import torch
from bellmark.agents.core import checkpoint
from bellmark.agents.core.loop import run
from bellmark.envs import remake


def go_on(path: Path) -> None:
    manifest, tensors = checkpoint.read(path)
    agent = checkpoint.restore(manifest, tensors)
    if manifest["extra"]["online"]:
        agent.env = remake(manifest["env"])
    agent.buffer = agent.make_buffer(manifest["buffer"]["columns"])
    in_the_middle = checkpoint.resume(agent, manifest, tensors)
    assert in_the_middle == (manifest.get("env_state") is not None)
    run(agent, agent.buffer, agent.env, until=manifest["extra"]["until"])
    agent.save(path.with_suffix(".done"), buffer=True, env=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for file in sorted(Path(sys.argv[1]).glob("*.bell")):
        try:
            go_on(file)
        except Exception:
            file.with_suffix(".error").write_text(json.dumps(traceback.format_exc()))
