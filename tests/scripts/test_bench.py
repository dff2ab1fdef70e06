"""`bellmark bench`: contestants do the same work in blocks, and what is reported follows from the blocks."""

from __future__ import annotations

import dataclasses
import json
import mmap
import resource
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from bellmark.agents.core.errors import UnknownName
from bellmark.scripts import bench
from bellmark.scripts.bench import report
from bellmark.scripts.bench.jobs import JOBS
from bellmark.scripts.bench.protocol import fill

MEGABYTES = 200


def result(seconds, peak, phases=None, **more):
    blocks = [{"count": 10, "seconds": s, "peak_bytes": peak, "updates": 10, "phases": phases or {}} for s in seconds]
    return {"blocks": blocks, "warmup": {"seconds": 1.0}, "rate": 10 / seconds[0], **more}


def job():
    ours = result(
        [1.0, 2.0, 1.0], 3e8, {"acting": 0.25, "update": 0.75}, limits={"floor_seconds": 0.03}, full={"peak_bytes": 4e8}
    )
    theirs = result([3.0, 2.0, 5.0], 2e8, full={"peak_bytes": 5e8})
    return {"title": "a job", "targets": {"sb3": 2.0}, "contestants": {"ours": ours, "sb3": theirs, "ours-eager": ours}}


def test_a_ratio_is_the_median_over_pairs_of_blocks():
    ours, theirs = list(job()["contestants"].values())[:2]
    assert report.ratio(ours, theirs) == "3.00 (1.00 to 5.00)"


def test_memory_is_that_of_a_full_buffer():
    ours, theirs = list(job()["contestants"].values())[:2]
    assert report.against(ours, theirs, "peak_bytes", "MB", 1e6) == "400 against 500 MB"
    assert report.against(ours, theirs, "replay_bytes", "MB", 1e6) == "", "not measured"


def test_where_the_time_goes():
    found = report.phases(job()["contestants"]["ours"])
    assert found["acting"] == pytest.approx(0.25) and found["update"] == pytest.approx(0.75)
    assert found["products alone in the update"] == pytest.approx(30 * 0.03 / (3 * 0.75))
    online = result(
        [1.0], 3e8, {"environment": 0.5, "update": 0.5}, limits={"floor_seconds": 0, "environment_alone": 40}
    )
    assert report.phases(online)["environment alone in its share"] == pytest.approx((10 / 40) / 0.5)


def test_the_summary_has_other_libraries_and_the_table_has_all():
    for two, shown in (({}, ""), ({"a": job()}, "3.00 (1.00 to 5.00)")):
        assert report.summary({"a": job()}, two).splitlines()[2:] == [
            f"| a job | stable-baselines3 | 3.00 (1.00 to 5.00) | {shown} | 2.0 | 400 against 500 MB |"
        ]
    rows = report.table({"a": job()}).splitlines()[2:]
    assert len(rows) == 2 and "ours without `--compile` | 1.00 (1.00 to 1.00)" in rows[1]


def test_frames_are_four_a_step():
    rows = report.frames({"contestants": {"ours-c51": result([1.0], 0), "sb3-dqn": result([2.0], 0)}}).splitlines()[2:]
    assert rows == [
        "| c51 | 40 | 2.00 (2.00 to 2.00) |",
        "| stable-baselines3's DQN | 20 | 1.00 (1.00 to 1.00) |",
    ]


def test_a_file_is_read_in_the_order_of_the_jobs(tmp_path):
    names = [JOBS[3].name, JOBS[0].name]
    (tmp_path / "bench.json").write_text(json.dumps({name: {} for name in names}))
    found = report.read(tmp_path / "bench.json")
    assert list(found) == names[::-1] and found[JOBS[0].name]["targets"] == {"sb3": 3.0}
    assert report.read(tmp_path / "none.json") == {}


def resident():
    """Megabytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_what_is_never_written_to_takes_no_memory_until_it_is_filled():
    array = np.frombuffer(mmap.mmap(-1, MEGABYTES << 20), np.uint8)  # new pages, whatever this process had before
    array[5], before = 7, resident()
    fill([array])
    assert resident() - before == pytest.approx(MEGABYTES, rel=0.1)
    assert array[5] == 7 and not array[6:].any()


def test_contestants_do_the_work_and_tell_their_memory_when_full(capfd):
    (dqn,) = bench.chosen(["dqn-cartpole-1"])
    words = {"shared": {**dqn.shared, "settings": {"buffer_size": 1_000_000}}, "warmup": 150, "block": 60}
    small = dataclasses.replace(dqn, contestants={"ours": {}, "sb3": {}}, **words)
    found = bench.measure(small, 2, 1, {})["contestants"]
    for name, own in found.items():
        assert [block["count"] for block in own["blocks"]] == [60, 60] and own["rate"] > 0, name
        assert own["full"]["peak_bytes"] > own["blocks"][-1]["peak_bytes"] + 0.8 * own["blocks"][0]["replay_bytes"], (
            name
        )
    assert all(block["updates"] == 15 for block in found["ours"]["blocks"])
    assert found["ours"]["limits"]["operators"] > 20 and found["ours"]["ratio"] == 1.0
    assert "ratio" in capfd.readouterr().err


def test_on_a_gpu_every_contestant_is_there_and_ours_without_graphs_as_well():
    (td3, critics) = bench.chosen(["td3-halfcheetah-1", "sac-critics"])
    there = td3.on("cuda")
    assert there.shared == td3.shared | {"device": "cuda"} and td3.shared["device"] == "cpu"
    assert list(there.contestants) == [*td3.contestants, "ours-unrecorded"]
    assert there.targets["ours-eager"] == 5.0 and "ours-eager" not in td3.targets
    assert td3.on("cpu") == td3 and critics.on("cuda").contestants == critics.contestants


def test_what_is_left_out_is_left_out(monkeypatch):
    from bellmark.agents.core import graph
    from bellmark.scripts.bench.run_ours import compile_as

    monkeypatch.setattr(graph, "recordable", lambda given: True)
    compiled = []
    agent = SimpleNamespace(compile_updates=lambda: compiled.append(graph.recordable([])))
    for words in ({}, {"compile": True}, {"compile": True, "record": False}):
        compile_as(words, agent)
    assert compiled == [True, False]


def test_a_job_that_is_not_there_is_refused():
    with pytest.raises(UnknownName, match="ppo-cartpole-8"):
        bench.chosen(["ppo-cartpole"])
