"""`bellmark fit --validation`: the loss on what is set aside is logged and changes nothing."""

from __future__ import annotations

import bellmark as bm
import pytest
import torch
from bellmark.offline.bc import BC

FIT = ["fit", "bc", "--data", "pendulum.hdf5", "--env-id", "Pendulum-v1", "--validation", 0.5, "--updates", 60]
FIT += ["--hidden", 8, "--log-every", 20]


def state(folder):
    return bm.load(folder / "last.bell").state()


@pytest.mark.parametrize("episodes", [0, 1])
def test_the_loss_on_what_is_set_aside_is_logged(bellmark, rows, here, recording, monkeypatch, episodes):
    words = [*FIT, "--eval-episodes", episodes, "--eval-every", 30]
    assert bellmark(*words, "--run", "run")[0] == 0
    progress = rows(here / "run" / "progress.csv")
    assert [int(row["clock"]) for row in progress] == [20, 40, 60]
    data = bm.dataset(recording, env_id="Pendulum-v1", validation=0.5)
    loss = bm.load(here / "run" / "last.bell").validate(data.validation)["actor_loss"].item()
    assert float(progress[-1]["validation/actor_loss"]) == pytest.approx(loss, rel=1e-5)
    assert loss != pytest.approx(float(progress[-1]["train/actor_loss"]), rel=1e-5)
    monkeypatch.delattr(BC, "validate")
    assert bellmark(*words, "--run", "without")[0] == 0
    assert "validation/actor_loss" not in rows(here / "without" / "progress.csv")[0]
    with_it, without = state(here / "run"), state(here / "without")
    assert all(torch.equal(value, without[name]) for name, value in with_it.items())


def test_it_goes_on_after_a_resume(bellmark, rows, here, stopped, recording):
    words = [*FIT, "--eval-episodes", 0, "--checkpoint-every", 10]
    assert bellmark(*words, "--run", "whole")[0] == 0
    with stopped(35):
        assert bellmark(*words, "--run", "parts")[0] == 130
    assert bellmark("resume", "parts")[0] == 0
    whole, parts = (
        [(row["clock"], row["validation/actor_loss"]) for row in rows(here / name / "progress.csv")]
        for name in ("whole", "parts")
    )
    assert whole == parts
