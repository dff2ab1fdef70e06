"""What tasks are called: as commands say it, quoted or not, and back to the environment or data set."""

from __future__ import annotations

import pytest
from bellmark.scripts.tasks import options_in, task_in, without_changes


@pytest.mark.parametrize(
    ("command", "task", "place"),
    [
        ("bellmark train dqn --env A-v1 --tuned", "A-v1", "A-v1"),
        ("bellmark train dqn --tuned --env=A-v1", "A-v1", "A-v1"),
        ("bellmark train dqn --env A-v1 --env-kwargs N = 12, noops = 3 --steps 9", "A-v1 (N=12, noops=3)", "A-v1"),
        ("bellmark train dqn --env A-v1 --env_kwargs 'N=12,  noops =3'", "A-v1 (N=12,  noops=3)", "A-v1"),
        ("bellmark fit iql --data b/set.hdf5 --learn-steps 9 --seed 1", "b/set.hdf5, then online", "b/set.hdf5"),
        ("bellmark fit iql --data set.hdf5 --learn-steps 0", "set.hdf5", "set.hdf5"),
        ("bellmark fit iql --data 'my set (2).hdf5' --updates 3", "my set (2).hdf5", "my set (2).hdf5"),
        ("python train.py", "", ""),
    ],
)
def test_the_task_of_a_command(command, task, place):
    assert task_in(command) == task
    assert without_changes(task) == place


def test_an_option_ends_where_the_next_begins():
    words = "bellmark train td3 --compile --reward-shift -1 --hidden 64 64 --seed 1"
    assert options_in(words) == {"compile": "", "reward_shift": "-1", "hidden": "64 64", "seed": "1"}
