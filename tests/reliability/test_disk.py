"""A disk that refuses: the training goes on, nothing that was there is lost, and the run can be resumed afterwards."""

from __future__ import annotations

import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import processes
import pytest
from bellmark.agents.core import checkpoint
from bellmark.agents.core.errors import BellmarkError
from recovery import RUNS, compare, go_on, rows, undisturbed

RUN = RUNS["ppo"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run with enough space, in a working folder of its own."""
    here = tmp_path_factory.mktemp("disk")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        yield undisturbed("ppo", here)


def check(whole: Path, folder: Path, status: int) -> list[str]:
    """What is left is whole and says what is missing; the run can be resumed. Gives what could not be written."""
    said = folder.with_suffix(".log").read_text().replace("TensorBoard events", "events")
    warned = re.findall(r"warning: cannot write \S+/(\S+) \(", said)
    missing = said.partition("error: could not write ")[2].partition(": the last attempt")[0]
    lost = [Path(name).name for name in missing.split(", ") if name]
    if not folder.exists():
        assert re.search("^error: cannot make the run folder", said, re.MULTILINE)
        return ["manifest.json"]
    assert status == bool(lost)
    assert "final evaluation" in said, "the training did not go on to its end"
    assert {*lost} <= {*warned}
    for path in folder.glob("*.bell"):
        assert checkpoint.read(path)[1]
    for name in ("progress.csv", "evaluations.csv"):
        if (folder / name).exists():
            found = rows(folder / name, whole_file=False)  # perhaps without columns that turned up on the full disk
            assert found == [
                {column: row[column] for column in got} for got, row in zip(found, rows(whole / name), strict=False)
            ]
    shutil.rmtree(folder.with_name("resumed"), ignore_errors=True)
    shutil.copytree(folder, folder.with_name("resumed"))
    go_on("ppo", folder.with_name("resumed"))
    finished = "is finished" in folder.with_name("resumed.log").read_text()
    compare(whole, folder.with_name("resumed"), lost=lost if finished else ())
    folder.with_name("resumed.log").unlink()
    return lost


@pytest.mark.parametrize("file", ["manifest.json", "progress.csv", "best.bell", "last.bell", "events"])
def test_a_file_that_cannot_grow(whole, count, record, file):
    """No file may be larger than that one is in the middle of the run."""
    if file in ("best.bell", "events") and not count(0, 1):
        pytest.skip("with --full only")
    sizes = {path.name.partition(".out.")[0]: path.stat().st_size for path in whole.folder.iterdir()}
    folder = whole.folder.with_name(f"limited-{file}")
    limit = partial(processes.limit_files, sizes[file] * 3 // 4)
    status = processes.run([*RUN, "--run", folder.name], folder.with_suffix(".log"), limit)
    assert file in check(whole.folder, folder, status)
    said = folder.with_suffix(".log").read_text()
    assert said.count(f"{file} (File too large); what was there is intact") == (file != "manifest.json"), "warned once"
    record("file too large", file, 1, 1, 0, "RLIMIT_FSIZE")


def test_full_disk(whole, count, record):
    broken, refused, sizes = [], set(), np.linspace(8192, 120_000, count(2, 40)).astype(int)
    for size in sizes:
        folder, disk = whole.folder.with_name(f"copy-{size}"), whole.folder.with_name(f"disk-{size}")
        disk.mkdir()
        small = partial(processes.small_disk, disk, int(size), folder.with_name("all"))
        status = processes.run([*RUN, "--run", disk / "run"], folder.with_suffix(".log"), small)
        if "unshare: " in folder.with_suffix(".log").read_text():
            pytest.skip("this system lets nobody but root make a small disk")
        if (folder.with_name("all") / "run").exists():
            (folder.with_name("all") / "run").rename(folder)
        shutil.rmtree(folder.with_name("all"))
        try:
            refused |= {*check(whole.folder, folder, status)}
        except (AssertionError, BellmarkError) as error:
            broken.append(f"{size}: {error}")
    assert {"last.bell", "best.bell"} <= refused
    note = f"tmpfs of 8 to 120 kB; could not be written at the end: {', '.join(sorted(refused))}"
    record("disk full", "ppo", len(sizes), len(sizes) - len(broken), len(broken), note)
    assert broken == []


def test_folder_that_cannot_be_written_any_more(whole, count, record):
    broken, moments = [], np.linspace(15, 55, count(1, 30)).astype(int)
    for row in moments:
        folder = whole.folder.with_name(f"denied-{row}")
        log, table = folder.with_suffix(".log"), folder / "progress.csv"
        process = processes.start([*RUN, "--run", folder.name], log, processes.obey_permissions)
        while process.is_alive() and not (table.exists() and table.read_text().count("\n") > row):
            process.join(0.002)
        folder.chmod(0o500)
        process.join()
        folder.chmod(0o700)
        if "unshare: " in log.read_text():
            pytest.skip("this system does not let root give up its power")
        try:
            assert "last.bell" in check(whole.folder, folder, process.exitcode)
            assert "Permission denied" in log.read_text()
        except (AssertionError, BellmarkError) as error:
            broken.append(f"{folder}: {error}")
    record("permission denied during the run", "ppo", len(moments), len(moments) - len(broken), len(broken))
    assert broken == []
