"""Zip files of stable-baselines3 that are refused, each with the reason, and pickles in them that are not run."""

from __future__ import annotations

import base64
import io
import json
import pickle
import struct
import warnings
import zipfile
from pathlib import Path

import bellmark
import numpy as np
import pytest
import torch
from bellmark.agents.core.errors import InvalidCheckpoint

sb3 = pytest.importorskip("stable_baselines3")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model that was never trained, and its file."""
    path = tmp_path_factory.mktemp("zips") / "sound.zip"
    settings = {"n_steps": 8, "batch_size": 8, "policy_kwargs": {"net_arch": [24, 16]}}
    model = sb3.PPO("MlpPolicy", "CartPole-v1", device="cpu", **settings)
    model.save(path)
    return model, path


def rewritten(path, target, data=None, policy=None, compression=zipfile.ZIP_STORED, extra=()):
    """A copy with other settings (a function of the old) or other tensors (a function of the old file's content)."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", compression) as new, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of zipfile, that a name is there twice
        for name in old.namelist():
            content = old.read(name)
            if name == "data" and data:
                settings = json.loads(content)
                changed = data(settings) or settings
                content = changed if isinstance(changed, str) else json.dumps(changed)
            if name == "policy.pth" and policy:
                content = policy(content)
            if content is not None:
                new.writestr(name, content)
        for name in extra:
            new.writestr(name, b"")
    return target


def tensors(change=lambda state: None, **values):
    """An edit of the state dict; `__` stands for a dot in a name."""

    def edit(content):
        state = torch.load(io.BytesIO(content), weights_only=True)
        change(state)
        state |= {name.replace("__", "."): value for name, value in values.items()}
        torch.save(state, file := io.BytesIO())
        return file.getvalue()

    return {"policy": edit}


def instructions(change):
    """A sound torch file but for its instructions for building the tensors: new ones, or a function of the old."""

    def edit(content):
        file = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
            for name in old.namelist():
                content = old.read(name)
                if name.endswith("data.pkl"):
                    content = change(content) if callable(change) else change
                new.writestr(name, content)
        return file.getvalue()

    return {"policy": edit}


def legacy(content):
    torch.save({"a": torch.zeros(2)}, file := io.BytesIO(), _use_new_zipfile_serialization=False)
    return file.getvalue()


def kwargs(**values):
    return {"data": lambda s: s["policy_kwargs"].update(values)}


def obs_space(**values):
    return {"data": lambda s: s["observation_space"].update(values)}


def policy_class(module, name):
    new = {"__module__": module, "__init__": f"<function {name}.__init__ at 0x7f>"}
    return {"data": lambda s: s["policy_class"].update(new)}


BYTEARRAY = b"\x80\x02cbuiltins\nbytearray\n\x8a\x06" + b"\xff" * 5 + b"\x00\x85R."  # of 2^40 bytes
REFUSED = {
    "no settings": ({"data": lambda s: [1]}, "its settings are no table"),
    "settings twice": ({"data": lambda s: '{"gamma": 0.9, "gamma": 0.8}'}, "it has a key twice"),
    "no algorithm": ({"data": lambda s: {"gamma": 0.99}}, "damaged or no file of stable-baselines3"),
    "ARS": (policy_class("sb3_contrib.ars.policies", "ARSPolicy"), "no agent has the policy sb3_contrib.ars"),
    "PPO as TQC": (policy_class("sb3_contrib.tqc.policies", "TQCPolicy"), "it lacks 'actor.latent_pi'"),
    "images": (policy_class("stable_baselines3.common.policies", "ActorCriticCnnPolicy"), "no agent has the policy"),
    "own policy class": (policy_class("__main__", "ActorCriticPolicy"), "no agent has the policy __main__.Actor"),
    "exploration": ({"data": lambda s: s.update(use_sde=True)}, "state-dependent exploration"),
    "extractor": (kwargs(features_extractor_class="<class 'x.Y'>"), "changed by ['features_extractor_class']"),
    "activation": (kwargs(activation_fn="<class 'torch.nn.modules.activation.CELU'>"), "can have ReLU, Tanh"),
    "space kind": (obs_space(**{":type:": "<class 'gymnasium.spaces.dict.Dict'>"}), "its observation space Dict[4]"),
    "image space": (obs_space(_shape=[1, 2, 2], dtype="uint8"), "does not go with networks of 4 values"),
    "other size": (obs_space(_shape=[10**12]), "does not go with networks of 4 values"),
    "text times numbers": (obs_space(_shape=[3] * 60 + ["a"]), "does not go with networks of 4 values"),
    "counted from 1": ({"data": lambda s: s["action_space"].update(start="1")}, "its action space Discrete[] does"),
    "gamma": ({"data": lambda s: s.update(gamma=2.0)}, "gamma"),
    "no tensors": ({"policy": lambda content: None}, "it lacks ['policy.pth']"),
    "old tensors": ({"policy": legacy}, "format before torch 1.6"),
    "layer norm": (tensors(mlp_extractor__policy_net__1__weight=torch.ones(24)), "parts"),
    "layer missing": (tensors(lambda s: s.pop("action_net.weight")), "it lacks 'action_net'"),
    "bias missing": (tensors(lambda s: s.pop("value_net.bias")), "value_net.bias"),
    "widths": (tensors(mlp_extractor__value_net__2__weight=torch.ones(9, 24)), "not fit"),
    "value of two": (tensors(value_net__bias=torch.ones(2)), "a layer has the shape [2]"),
    "NaN": (tensors(lambda s: s["value_net.bias"].fill_(torch.nan)), "NaN or infinity"),
    "precision": (tensors(value_net__bias=torch.ones(1).double()), "torch DoubleStorage"),
    "stretched": (tensors(value_net__bias=torch.ones(1).expand(10**9)), "less than their shapes need"),
    "storage": (instructions(lambda old: old.replace(b"K\x01t", b"K\x09t", 1)), "its tensors state other sizes"),
    "code": (instructions(b"cos\nsystem\n(X\x02\x00\x00\x00lstR."), "os system"),
    "memory": (instructions(BYTEARRAY), "bytearray"),
    "instructions": (instructions(b"\x80\x02K\x01."), "damaged or no file"),
    "compressed": ({"compression": zipfile.ZIP_DEFLATED}, "compressed or encrypted"),
    "twice": ({"extra": ("data",)}, "same name twice"),
    "elsewhere": ({"extra": ("../data",)}, "names that lead elsewhere"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_said(model, tmp_path, case):
    changes, message = REFUSED[case]
    path = rewritten(model[1], tmp_path / "model.zip", **changes)
    with pytest.raises(InvalidCheckpoint) as error:
        bellmark.load(path)
    assert message in str(error.value) and "model.zip" in str(error.value)
    assert "weights_only" not in str(error.value), "torch's advice to run the file's code is not passed on"


@pytest.mark.parametrize("rate", [None, "0.1", True, -0.1, 1.5, float("nan"), {":serialized:": "gASVA=="}])
def test_a_share_of_random_actions_that_is_none_is_refused(tmp_path, rate):
    sb3.DQN("MlpPolicy", "CartPole-v1", device="cpu", buffer_size=10).save(tmp_path / "sound.zip")
    assert bellmark.load(tmp_path / "sound.zip").epsilon == 0.0
    path = rewritten(tmp_path / "sound.zip", tmp_path / "model.zip", data=lambda s: s.update(exploration_rate=rate))
    with pytest.raises(InvalidCheckpoint, match=r"exploration_rate is .*number in"):
        bellmark.load(path)


def test_entries_that_overlap_are_refused(model, tmp_path):
    """The second entry of the table points at the first one's content."""
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", b"{}" + b" " * 1000)
        archive.writestr("policy.pth", b"")
    content = bytearray(path.read_bytes())
    size, place = struct.pack("<II", 1002, 1002), content.rfind(b"PK\x01\x02")
    content[place + 20 : place + 28] = size
    path.write_bytes(content)
    with pytest.raises(InvalidCheckpoint, match="its entries overlap"):
        bellmark.load(path)


def test_foreign_and_absent_files(tmp_path):
    (tmp_path / "text.zip").write_text("<html>")
    (tmp_path / "folder.zip").mkdir()
    for name in ("text.zip", "folder.zip", "absent.zip"):
        with pytest.raises(InvalidCheckpoint, match=name):
            bellmark.load(tmp_path / name)


def test_pickled_blobs_are_never_decoded(model, tmp_path):
    """Every blob and every other pickle is replaced by one that writes a file."""
    model, path = model
    witness = tmp_path / "witness"
    blob = pickle.dumps(Touch(witness))
    pickle.loads(blob)
    assert witness.exists(), "the planted pickle does nothing"
    witness.unlink()

    def plant(settings):
        for value in settings.values():
            if isinstance(value, dict) and ":serialized:" in value:
                value[":serialized:"] = base64.b64encode(blob).decode()

    planted = rewritten(path, tmp_path / "planted.zip", data=plant)
    obs = np.random.default_rng(0).normal(size=(50, 4))
    found, expected = (agent.predict(obs, deterministic=True)[0] for agent in (bellmark.load(planted), model))
    assert np.array_equal(found, expected)
    assert not witness.exists()
    with pytest.raises(InvalidCheckpoint):
        bellmark.load(rewritten(path, tmp_path / "worse.zip", **instructions(blob)))
    assert not witness.exists()


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)
