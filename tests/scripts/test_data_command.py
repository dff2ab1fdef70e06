"""`bellmark data`: figures of a hand-made file, its problems, the picture, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from bellmark.scripts.main import main


@pytest.fixture
def path(tmp_path):
    """Episodes of 3 (terminated), 2 (cut off) and 1 (left off) steps, reward 1; the second observation never varies."""
    obs = np.stack([np.arange(6.0), np.full(6, 7.0)], 1).astype(np.float32)
    np.savez(
        tmp_path / "mine.npz",
        observations=obs,
        actions=np.array([[-1.0, 0.5], [1, 0.5], [1, 0.5], [-1, 0.5], [1, 0.5], [0.25, 0.5]], np.float32),
        rewards=np.ones(6),
        terminals=np.arange(6) == 2,
        timeouts=np.arange(6) == 4,
    )
    return tmp_path / "mine.npz"


def test_the_card_by_hand(path, capsys):
    assert main(["data", str(path), "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert (card["recorded"], card["transitions"], card["episodes"]) == (6, 4, 2)
    assert card["ends"] == {"terminated": 1, "truncated": 1, "left_off": 0}
    assert (card["returns"]["min"], card["returns"]["max"], card["lengths"]["mean"]) == (2.0, 3.0, 2.5)
    assert card["action"] == {"min": [-1.0, 0.5], "max": [1.0, 0.5], "at_bound": 0.5}
    assert card["obs"] == {"min": [0.0, 7.0], "max": [3.0, 7.0]}
    said = "\n".join(card["problems"])
    for words in (
        "2 of 6 transitions are left out: the file does not have their successor",
        "the last 1 transitions are of an episode without an end",
        "every reward is 1",
        "obs never varies in 1 of its dimensions: 1",
        "action never varies in 1 of its dimensions: 1",
        "no environment to evaluate in",
        "no reference returns are known",
    ):
        assert words in said
    assert len(card["problems"]) == 7


def test_text_and_picture(path, capsys, tmp_path):
    picture = tmp_path / "returns.png"
    assert main(["data", str(path), "--picture", str(picture), "--validation", "0.5"]) == 0
    text = capsys.readouterr().out
    assert "1 terminated" in text or "0 terminated" in text
    assert "validation episodes 1" in text and "note: every reward is 1" in text
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_read_is_said(path, capsys, tmp_path):
    assert main(["data"]) == 2 and "say which data set" in capsys.readouterr().err
    assert main(["data", str(path), "--bogus"]) == 2
    (tmp_path / "bad.npz").write_bytes(path.read_bytes()[:300])
    capsys.readouterr()
    assert main(["data", str(tmp_path / "bad.npz")]) == 1
    assert "truncated or damaged" in capsys.readouterr().err
