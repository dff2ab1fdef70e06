"""What the C library does with memory that an update frees."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from bellmark.agents.core import memory
torch.set_num_threads(1)
if sys.argv[1] == "keep":
    memory.keep_freed()

def update():
    parts = [torch.zeros(2_000_000) for _ in range(10)]  # 8 MB each

for _ in range(3):
    update()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    update()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 10)
"""


def faults(how: str) -> float:
    """Pages that the system brings in during one update of ten tensors of 8 MB, in a process of its own.

    What the C library does unasked there depends on chance, so it is told to give all back.
    """
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
    command = [sys.executable, "-c", FAULTS, how]
    return float(subprocess.run(command, capture_output=True, check=True, text=True, env=env).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library can be told")
def test_freed_memory_is_used_again_without_the_system():
    assert faults("keep") < 100
    assert faults("default") > 1000  # else the test above says nothing


def test_a_training_asks_for_it(monkeypatch):
    import bellmark
    from bellmark.agents.core import loop

    calls = []
    monkeypatch.setattr(loop, "keep_freed", lambda: calls.append(1))
    agent = bellmark.make("dqn", "CartPole-v1", start=4)
    agent.learn(8)
    assert calls
