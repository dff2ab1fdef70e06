"""D4RL's reference returns and the table that holds them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from bellmark.agents.core.errors import UnknownName
from bellmark.offline.scores import find, normalized_score, references


def test_table():
    table = references()
    assert len(table) == 187 and list(table) == sorted(table)
    row = table["halfcheetah-medium-v2"]
    assert (row.ref_min, row.ref_max) == (-280.178953, 12135.0)
    assert row.url == ("http://rail.eecs.berkeley.edu/datasets/offline_rl/gym_mujoco_v2/halfcheetah_medium-v2.hdf5")
    assert (row.task, row.max_episode_steps, row.env_id) == ("halfcheetah", 1000, "HalfCheetah-v4")
    assert (table["pen-human-v1"].env_id, table["pen-human-v1"].max_episode_steps) == (
        "gymnasium_robotics:AdroitHandPen-v1",
        100,
    )
    for row in table.values():
        assert np.isnan(row.ref_min) == (row.id == "carla-town-render-v0")
        assert row.max_episode_steps > 0 and not row.ref_min >= row.ref_max


def test_references_are_0_and_100_everywhere():
    for name, row in references().items():
        if not np.isnan(row.ref_min):
            assert normalized_score(name, [row.ref_min, row.ref_max]) == pytest.approx([0.0, 100.0])


def test_scores_are_per_episode():
    scores = normalized_score("hopper-medium-v2", [[0.0, 3234.3], [1606.9, -20.272305]])
    assert scores == pytest.approx(np.array([[0.62289, 100.0], [49.99676, 0.0]]), abs=1e-3)
    assert float(normalized_score("Hopper-v4", 3234.3)) == 100.0


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("halfcheetah_medium-zoo", "halfcheetah"),
        ("halfcheetah", "halfcheetah"),
        ("HalfCheetah-v4", "halfcheetah"),
        ("AdroitHandPen-v1", "pen"),
        ("ant-mine", "ant"),
        ("antmaze-umaze-mine", "antmaze"),
        ("bullet-hopper-mine", "bullet-hopper"),
    ],
)
def test_references_are_found_by_task_or_environment(name, task):
    found = find(name)
    assert found is not None and (found.id, found.task) == ("", task)


@pytest.mark.parametrize("name", ["maze2d-umaze", "HalfCheetah-v5", "mine", "halfcheetahs", "", "maze2d"])
def test_no_reference_is_guessed(name):
    assert find(name) is None
    with pytest.raises(UnknownName):
        normalized_score(name, [1.0])


def test_unknown_name_says_the_nearest():
    with pytest.raises(UnknownName, match=r"or evaluation environment 'HalfCheetah-v5'; did you mean HalfCheetah-v4"):
        normalized_score("HalfCheetah-v5", [1.0])


def test_nothing_heavy_is_imported_before_it_is_used():
    code = (
        "import sys, bellmark.offline as o; from bellmark.offline import normalized_score, references; "
        "assert o.references()['hopper-medium-v2'].task == 'hopper'; "
        "print(sorted({'h5py', 'rich', 'gymnasium', 'mujoco'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
