"""`python -m bellmark.scripts.bench.scaling`: curves that are asked for are measured, the others kept."""

from __future__ import annotations

import json

import pytest
from bellmark.agents.core.errors import UnknownName
from bellmark.scripts.bench import scaling


def test_what_is_asked_for_is_measured_and_the_rest_is_kept(tmp_path, monkeypatch):
    curves = {
        "a": scaling.Curve((1, 10), "of a", lambda seconds, n: seconds * n),
        "environments": scaling.Curve((1, 10), "of b", lambda seconds, n: 1.0 / n),
    }
    monkeypatch.setattr(scaling, "CURVES", curves)
    path = tmp_path / "scaling.json"
    assert scaling.main(["--out", str(path), "--seconds", "2.0", "--only", "environments"]) == 0
    assert json.loads(path.read_text()) == {"environments": {"1": 1.0, "10": 0.1}}
    assert scaling.main(["--out", str(path), "--seconds", "2.0", "--only", "a"]) == 0
    assert json.loads(path.read_text()) == {"a": {"1": 2.0, "10": 20.0}, "environments": {"1": 1.0, "10": 0.1}}
    assert path.with_suffix(".png").stat().st_size > 1000
    with pytest.raises(UnknownName, match="environments"):
        scaling.measure(path, 1.0, ["environment"])


@pytest.mark.parametrize("name", ["transitions in the buffer", "transitions, prioritized", "environments"])
def test_every_curve_can_be_measured(name):
    assert scaling.CURVES[name].work(0.0, 64) > 0.0
