"""A training that needs more memory than it may have ends with a checkpoint and a word."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from bellmark.agents.core import checkpoint
from bellmark.agents.core.errors import OutOfMemory
from bellmark.scripts import memory

HOARD = """
import gymnasium, numpy as np

class Hoard(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))
    action_space = gymnasium.spaces.Discrete(2)
    kept = []

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        Hoard.kept.append(np.ones(SIZE))
        return np.zeros(2, np.float32), 1.0, False, False, {}

gymnasium.register("Hoard-v0", Hoard)
"""


@pytest.mark.parametrize(
    ("size", "text"), [(500_000, "of address space are in use"), (100_000_000, "not enough memory")]
)
def test_memory_runs_out(here, bellmark, size, text):
    """Little by little, so that it is noticed before; and all at once, so that only the last checkpoint is left."""
    (here / "hoard.py").write_text(HOARD.replace("SIZE", str(size // 8)))
    words = ["train", "ppo", "--env", "hoard:Hoard-v0", "--steps", 10_000, "--rollout-length", 32, "--hidden", 8]
    words += ["--eval-episodes", 0, "--log-every", 5, "--checkpoint-every", 5, "--run", "run"]
    code = (
        "import resource, sys; from bellmark.scripts.main import main; from bellmark.scripts import memory, training; "
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize(); "
        "resource.setrlimit(resource.RLIMIT_AS, (used + 700_000_000,) * 2); sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert text in done.stderr.splitlines()[-1]
    assert "bellmark resume run" in done.stderr or "the last good checkpoint is run/last.bell" in done.stderr
    assert "Traceback" not in done.stderr
    steps = checkpoint.read(here / "run" / "last.bell")[0]["counters"]["steps"]
    assert steps > 100 if size < 1_000_000 else steps == 5
    assert bellmark("resume", "run", "--steps", steps)[0] == 0


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (np.exceptions.AxisError("x"), False),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("shapes differ"), False),
        (OutOfMemory("x"), True),
    ],
)
def test_what_tells_that_memory_ran_out(error, expected):
    assert memory.is_out_of_memory(error) is expected


def test_torch_says_it_in_these_words():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert memory.is_out_of_memory(caught.value)


def test_usage_is_in_bytes():
    """An array of a gigabyte that is written to adds a gigabyte."""
    (what, before, limit), *_ = memory.usage()
    array = np.ones(2**27)
    _, after, _ = memory.usage()[0]
    assert what == "memory"
    assert 0.95 < (after - before) / array.nbytes < 1.1
    assert after < limit


@pytest.mark.parametrize(("size", "said"), [(2_000_000, True), (1000, False)])
def test_large_buffers_are_announced_in_python_as_well(size, said):
    program = f"import bellmark; bellmark.make('dqn', 'CartPole-v1', buffer_size={size}).make_buffer(1)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (f"a buffer of {size + 1:,} rows x 1 columns x" in done.stderr) == said


def test_large_buffers_are_announced_before_they_take_memory(capsys):
    from bellmark.agents.core.buffer import Buffer
    from bellmark.agents.core.spec import Spec
    from bellmark.scripts.memory import announced

    spec = Spec((3,), 2, True)
    with announced():
        Buffer(spec, 1_000, 2)
        Buffer(spec, 1_000_000, 2)
    Buffer(spec, 1_000_000, 2)
    assert capsys.readouterr().out == "note: a buffer of 1,000,000 rows x 2 columns x 27 bytes = 0.1 GB\n"
