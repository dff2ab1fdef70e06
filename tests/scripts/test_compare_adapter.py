"""stable-baselines3 as a contestant where observations are no vectors: our environments, our CNN."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from bellmark.agents.core.errors import InvalidSetting
from bellmark.agents.core.registry import agent_class
from bellmark.agents.core.spec import Spec
from bellmark.envs import make

pytest.importorskip("stable_baselines3")
from bellmark.scripts.comparison import adapter, sb3


def test_its_transitions_are_ours():
    options = {"num_envs": 3, "autoreset": "same_step", "max_episode_steps": 7}
    with make("FrozenLake-v1", **options) as env, make("FrozenLake-v1", **options) as twin:
        theirs, rng, ends = adapter.Environments(env), np.random.default_rng(0), {False: 0, True: 0}
        theirs.seed(5)
        np.testing.assert_array_equal(theirs.reset(), twin.reset(5))
        for _ in range(60):
            action = rng.integers(4, size=3)
            obs, reward, done, infos = theirs.step(action)
            step = twin.step(action)
            np.testing.assert_array_equal(obs, step.obs)
            np.testing.assert_array_equal(reward, step.reward)
            np.testing.assert_array_equal(done, step.terminated | step.truncated)
            for column, info in enumerate(infos):
                assert ("terminal_observation" in info) == done[column]
                if done[column]:
                    np.testing.assert_array_equal(info["terminal_observation"], step.next_obs[column])
                    assert info["TimeLimit.truncated"] == step.truncated[column]
                    ends[bool(step.truncated[column])] += 1
        assert min(ends.values()) > 3, "episodes ended in one way only"


def test_rewards_are_clipped_where_the_setting_says_so():
    rewards = {}
    for clip in (False, True):
        with make("Pendulum-v1", 2, autoreset="same_step") as env:
            theirs = adapter.Environments(env, clip_reward=clip)
            theirs.reset()
            rewards[clip] = theirs.step(np.zeros((2, 1)))[1]
    assert (rewards[False] < 0).all() and (np.abs(rewards[False]) != 1).all()
    np.testing.assert_array_equal(rewards[True], [-1, -1])


@pytest.mark.parametrize("agent", ["dqn", "ppo"])
def test_it_learns_from_images_with_our_network(agent, here):
    pytest.importorskip("minatar")
    models = []  # in this game an episode ends whatever the policy does, which it need not in others
    build = sb3.build
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sb3, "build", lambda *a: models.append(build(*a)) or models[0])
        small = {"dqn": ["--start", "20", "--buffer-size", "64"], "ppo": ["--rollout-length", "32", "--epochs", "1"]}
        words = "--env MinAtar/SpaceInvaders-v1 --steps 64 --eval-episodes 1 --run run --clip-reward --threads 1"
        assert sb3.main([agent, *words.split(), *small[agent]]) == 0
    (model,) = models
    manifest = json.loads((here / "run" / "manifest.json").read_text())
    assert not any("clip_reward" in text or "hidden" in text for text in manifest["untranslated"])
    assert model.get_env().unwrapped.clip_reward and model.num_timesteps == 64 and model._n_updates > 0
    ours = agent_class(agent)(Spec.from_dict(manifest["spec"]))
    network, own = (model.policy.q_net, ours.q) if agent == "dqn" else (model.policy, ours.actor_critic)
    assert sum(p.numel() for p in network.parameters()) == sum(p.numel() for p in own.parameters())
    network.features_extractor.network.load_state_dict(own.body.state_dict())
    image = torch.randint(0, 2, (5, *ours.spec.obs_shape), dtype=torch.uint8) * 255
    extractor = (network.features_extractor,) if agent == "dqn" else ()
    torch.testing.assert_close(network.extract_features(image, *extractor), own.body(image))


def test_it_learns_where_observations_are_numbers(here, rows):
    """Its own environments give numbers, and our evaluations one-hot codes."""
    words = ["--steps", "40", "--eval-episodes", "1", "--start", "10", "--threads", "1"]
    assert sb3.main(["dqn", "--env", "FrozenLake-v1", *words, "--run", "number"]) == 0
    assert rows(here / "number" / "evaluations.csv")[-1]["clock"] == "40"


def test_what_it_has_no_like_for_is_refused():
    assert not adapter.needed(Spec((4,), 2, True))
    assert adapter.needed(Spec((4, 84, 84), 2, True, obs_dtype="uint8"))
    with pytest.raises(InvalidSetting, match="masks of actions"):
        adapter.needed(Spec((6,), 2, True, masked=True))
