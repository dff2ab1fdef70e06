"""For every test: one thread, a seed of its own for torch's and numpy's generators, and no learning test by default."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for numpy, and for the processes that tests start

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent / "agents"))  # helpers and checks, which the mutants use as well
torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="reliability tests: as often as the evidence needs, for hours")
    parser.addoption("--record", metavar="FILE", help="reliability tests: write what was found to this CSV file")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "learn" in (config.getoption("markexpr", "") or ""):
        return
    skip = pytest.mark.skip(reason="trains for minutes: run with -m learn")
    for item in items:
        if "learn" in item.keywords and item.get_closest_marker("learn"):
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def fresh_seed() -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  the package must not use it: tests compare its state before and after
