"""What the reliability tests share: how often they try, and where they write down what they found.

`--full` and `--record FILE` are declared in tests/conftest.py, which pytest reads before it looks at its options.
`pytest tests/reliability --record FILE --collect-only -q` prints the table and runs nothing.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bellmark.scripts.run_folder import Table
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # processes.py
settings.register_profile("reliability", database=None, deadline=None)
settings.load_profile("reliability")
collect_ignore = [] if sys.platform == "linux" else ["test_kill.py", "test_disk.py", "test_soak.py"]

COLUMNS = ("what", "kind", "done", "survived", "lost", "note")


@pytest.fixture
def count(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """`count(small, full)` is `full` with `--full`, else `small`."""
    full_run = request.config.getoption("--full")
    return lambda small, full: full if full_run else small


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Writes one row of evidence, in the place of the row of the same `what` and `kind`; nothing without `--record`."""

    def write(what: str, kind: str, done: int, survived: int, lost: int, note: str = "") -> None:
        row = dict(zip(COLUMNS, (what, kind, done, survived, lost, note), strict=True))
        print(*row.values(), sep=" | ", flush=True)
        if path := request.config.getoption("--record"):
            with locked(path := Path(path)):
                table = Table(path, COLUMNS)
                table.read(lambda old: (old["what"], old["kind"]) != (what, kind))
                table.replace(sorted([*table.rows, row], key=lambda row: (row["what"], row["kind"])))

    return write


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps other processes from the folder of `path`."""
    folder = os.open(path.absolute().parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The evidence as a table in markdown."""
    if path := config.getoption("--record"):
        table = Table(Path(path))
        if table.path.exists():
            table.read(lambda row: True)
            terminalreporter.write_line(markdown(table))


def markdown(table: Table) -> str:
    lines = [table.columns, ["---"] * len(table.columns), *([row[c] for c in table.columns] for row in table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
