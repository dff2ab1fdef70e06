"""`bellmark export`: an ONNX file and a zip of stable-baselines3 act as the agent does."""

from __future__ import annotations

import bellmark as bm
import numpy as np
import pytest
import torch
from bellmark.agents.core.errors import BellmarkError, InvalidSetting
from bellmark.scripts import onnx_policy
from bellmark.scripts.onnx_policy import Policy
from helpers import build


def an_agent(name, env_id, **settings):
    agent = bm.make(name, env_id, seed=1, hidden=(8,), **settings)
    with torch.no_grad():
        for path, parameter in agent.named_parameters():
            parameter.add_((0.1 if path.endswith("bias") else 0.5) * torch.randn_like(parameter))
    if agent.obs_normalizer is not None:
        agent.obs_normalizer.update(torch.randn(100, *agent.spec.obs_shape) * 3.0 + 2.0)
    return agent


CASES = {
    "ppo": ("Pendulum-v1", {"normalize_obs": True}),
    "sac": ("Pendulum-v1", {"normalize_obs": True}),
    "dqn": ("CartPole-v1", {}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_file_acts_as_the_agent(bellmark, here, name):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    env_id, settings = CASES[name]
    agent = an_agent(name, env_id, **settings)
    agent.save(here / "agent.bell")
    status, out, err = bellmark("export", "agent.bell", "--onnx", "agent.onnx")
    assert status == 0, err
    assert "compared in onnxruntime" in out
    session = runtime.InferenceSession(str(here / "agent.onnx"))
    obs = np.random.default_rng(3).normal(2.0, 3.0, size=(37, *agent.spec.obs_shape)).astype(np.float32)
    for batch in (obs, obs[:1]):
        (found,) = session.run(["action"], {"obs": batch})
        expected, _ = agent.predict(batch, deterministic=True)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert len(np.unique(session.run(None, {"obs": obs})[0].round(3))) > 1


def test_a_file_that_acts_otherwise_is_not_written(here, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    forward = Policy.forward
    monkeypatch.setattr(Policy, "forward", lambda self, obs: 1.01 * forward(self, obs))
    with pytest.raises(BellmarkError, match="would act otherwise"):
        onnx_policy.export(an_agent("td3", "Pendulum-v1"), here / "agent.onnx")
    assert not (here / "agent.onnx").exists()


def test_a_model_of_stable_baselines3(bellmark, here):
    sb3 = pytest.importorskip("stable_baselines3")
    agent = an_agent("td3", "Pendulum-v1")
    agent.save(here / "agent.bell")
    status, out, _ = bellmark("export", "agent.bell", "--sb3", "model.zip")
    assert status == 0
    assert "stable_baselines3.TD3.load reads it" in out
    obs = np.random.default_rng(3).normal(size=(37, 3)).astype(np.float32)
    expected, _ = agent.predict(obs, deterministic=True)
    found, _ = sb3.TD3.load("model.zip").predict(obs, deterministic=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_cannot_be_exported(bellmark, here, monkeypatch):
    an_agent("dqn", "CartPole-v1").save(here / "agent.bell")
    status, _, err = bellmark("export", "agent.bell")
    assert status == 2
    assert "--onnx FILE or --sb3 FILE.zip" in err
    with pytest.raises(InvalidSetting, match="acts on a memory"):
        onnx_policy.export(build("recurrent_ppo", True), here / "agent.onnx")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "bellmark[onnx]" in bellmark("export", "agent.bell", "--onnx", "agent.onnx")[2]
