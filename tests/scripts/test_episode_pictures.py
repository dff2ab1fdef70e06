"""`bellmark evaluate --video` and `--values`."""

from __future__ import annotations

import sys

import bellmark as bm
import numpy as np
import pytest
import torch
from bellmark.agents.core.errors import InvalidSetting
from bellmark.envs import make
from bellmark.scripts.traces import Trace, checked, estimate, rendering, trace
from bellmark.scripts.values import over_estimation
from bellmark.scripts.video import captioned

SMALL = {"hidden": (8,)}


@pytest.fixture
def saved(here):
    """An agent that was never trained, in a file."""

    def save(name, env_id, **settings):
        agent = bm.make(name, env_id, seed=1, **SMALL, **settings)
        agent.save(here / "agent.bell")
        return agent

    return save


def a_trace(rewards, values, gamma=0.5, truncated=False):
    rewards = np.array(rewards)
    return Trace(rewards, rewards, np.array(values), gamma, truncated, [])


def test_returns_and_over_estimation():
    found = a_trace([1.0, 2.0, 4.0], [4.0, 4.0, 4.0])
    assert found.returns.tolist() == [3.0, 4.0, 4.0]
    assert over_estimation(found) == pytest.approx(1 / 3)
    cut = a_trace([1.0] * 8, [3.0] * 8, truncated=True)
    assert cut.known.tolist() == [True] * 4 + [False] * 4, "0.5^5 < 0.05 < 0.5^4"
    assert over_estimation(cut) == pytest.approx(3 - np.mean([2 - 0.5 ** (k - 1) for k in (8, 7, 6, 5)]))
    assert np.isnan(over_estimation(a_trace([1.0], [1.0], truncated=True)))


@pytest.mark.parametrize(("name", "env_id"), [("ppo", "CartPole-v1"), ("dqn", "CartPole-v1"), ("td3", "Pendulum-v1")])
def test_a_trace_is_what_evaluation_sees(name, env_id):
    agent = bm.make(name, env_id, seed=1, **SMALL)
    before = torch.get_rng_state()
    found = trace(agent, make(env_id), 7, deterministic=False)
    assert torch.equal(torch.get_rng_state(), before)
    from bellmark.envs import evaluate

    expected = evaluate(agent, make(env_id), 1, 7, deterministic=False)
    assert found.rewards.sum() == pytest.approx(expected.returns[0], rel=1e-5)
    assert len(found.values) == len(found.rewards) == expected.lengths[0]
    obs = np.random.default_rng(0).normal(size=(1, *agent.spec.obs_shape)).astype(np.float32)
    with torch.no_grad():
        seen = torch.as_tensor(obs)
        by_hand = {
            "ppo": lambda: agent.actor_critic.critic(seen),
            "dqn": lambda: agent.q(seen)[:, 1],
            "td3": lambda: agent.critic(seen, torch.ones(1, 1)).mean(),
        }[name]()
    action = np.ones((1, 1), np.float32) if name == "td3" else np.array([1])
    assert estimate(agent, obs, action) == [pytest.approx(float(by_hand))]


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_a_film(bellmark, here, saved, suffix):
    imageio = pytest.importorskip("imageio.v2")
    if suffix == "mp4":
        pytest.importorskip("imageio_ffmpeg")
    saved("ppo", "CartPole-v1")
    words = ("evaluate", "agent.bell", "--episodes", 1, "--seed", 3)
    status, out, _ = bellmark(*words, "--video", f"film.{suffix}", "--values", "values.svg")
    assert status == 0, out
    frames = np.stack(imageio.mimread(here / f"film.{suffix}", memtest=False))[..., :3]
    length = int(trace(bm.load(here / "agent.bell"), make("CartPole-v1"), 3).rewards.sum())
    assert len(frames) == length + 1
    assert frames.shape[1:] == (424, 600, 3)
    assert np.abs(np.diff(frames[:, :400].astype(int), axis=0)).max() > 50, "nothing moves"
    assert frames[0, 400:].max() > 128, "no text"
    text = (here / "values.svg").read_text()
    assert text.startswith("<?xml")


@pytest.mark.parametrize("env_id", ["Hopper-v5", "ALE/Pong-v5"])
def test_frames_of_mujoco_and_atari(env_id, monkeypatch):
    if env_id.startswith("ALE"):
        pytest.importorskip("ale_py")
    env, render = rendering(make(env_id).settings)
    picture = checked(env_id, render)
    env.reset(0)
    try:
        first = picture()
    except InvalidSetting as error:
        assert "MUJOCO_GL" in str(error)
        pytest.skip(f"no renderer here: {error}")
    assert first.std() > 5.0
    for _ in range(30):
        env.step(np.zeros((1, 3), np.float32) if env_id == "Hopper-v5" else np.array([2]))
    assert (picture() != first).any()


def test_a_frame_is_enlarged_and_captioned():
    frame = np.full((3, 101, 3), 200, np.uint8)
    found = captioned(frame, "return 1")
    assert found.shape == (12 + 24, 404, 3)
    assert (found[:12] == 200).all()
    assert not (found == captioned(frame, "return 2")).all()


def test_what_cannot_be_filmed(bellmark, here, saved, monkeypatch):
    saved("ppo", "CartPole-v1")
    assert "must end in .mp4 or .gif" in bellmark("evaluate", "agent.bell", "--video", "film.avi")[2]
    assert "must end in .png, .svg, .pdf" in bellmark("evaluate", "agent.bell", "--values", "v.txt")[2]
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(InvalidSetting, match=r"cannot be rendered without a screen .* set MUJOCO_GL to egl or osmesa"):
        checked("Own-v0", lambda: None)()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "bellmark[video]" in bellmark("evaluate", "agent.bell", "--video", "film.mp4")[2]


def test_an_agent_without_a_critic_has_no_values(bellmark, saved):
    saved("bc", "Pendulum-v1")
    status, _, err = bellmark("evaluate", "agent.bell", "--episodes", 1, "--values", "v.png")
    assert status == 1
    assert "no critic" in err
