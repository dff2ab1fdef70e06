"""Malformed settings in TOML and zips of stable-baselines3: only our own errors come out, nothing is written or run."""

from __future__ import annotations

import io
import json
import warnings
import zipfile

import bellmark
import numpy as np
import pytest
from bellmark.agents.on_policy.ppo import PPOConfig
from bellmark.scripts import arguments
from bellmark.scripts.train import Options
from malformed import check, mutated
from mutations import damage

TOML = """source = "a paper"
[run]
steps = 100_000
num_envs = 8
[agent]
learning_rate = 3e-4
hidden = [64, 64]
schedule = "linear"
normalize_obs = true
"""
WORDS = ["source", "run", "agent", "steps", "hidden", "gamma", "schedule", "[run]", "[agent]", "[[agent]]", "[agent.a]"]
WORDS += [" = ", "=", ".", ",", "[", "]", "{", "}", '"', '"""', "'", "\n", "\n", "#", "\\u0000", "\\ud800", "é", "0x"]
WORDS += [
    "true",
    "nan",
    "-inf",
    "1e999",
    "1979-05-27",
    "07:32:00",
    "9" * 20,
    "9" * 5000,
    "0x" + "f" * 3000,
    "64",
    "0.5",
]
WORDS += ["\n[agent]\nhidden = ", "\n[run]\nsteps = ", "\n[agent]\ngamma = ", "[" * 2000, "{a=" * 1000, "a." * 100]


def test_settings(tmp_path, count, record):
    def words(rng):
        return (rng.choice([TOML, ""]) + "".join(rng.choices(WORDS, k=rng.randrange(1, 30)))).encode()

    def read(path):
        arguments.with_settings("ppo", "env", Options(env="CartPole-v1"), PPOConfig(), ["--settings", str(path)])

    makers = [lambda rng: mutated(TOML.encode(), rng), words, lambda rng: rng.randbytes(rng.randrange(200))]
    check("TOML settings", makers, read, tmp_path, count(600, 100_000), record)


@pytest.fixture(scope="module")
def zips():
    """Two small models of stable-baselines3 that were never trained."""
    sb3 = pytest.importorskip("stable_baselines3")
    small = {"policy_kwargs": {"net_arch": [4]}, "device": "cpu"}
    ppo = sb3.PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, **small)
    found = []
    for model in (ppo, sb3.SAC("MlpPolicy", "Pendulum-v1", **small)):
        model.save(file := io.BytesIO())
        found.append(file.getvalue())
    return found


def rezipped(content, edit):
    """A sound zip file in which `edit` has changed the dict of entries, or made a list of (name, content) of it."""
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        entries = {name: old.read(name) for name in old.namelist()}
    entries = edit(entries) or entries
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as new, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of zipfile, that a name is there twice
        for name, value in entries.items() if isinstance(entries, dict) else entries:
            new.writestr(name, value)
    return file.getvalue()


def in_policy(edit):
    """An edit of the entries of the tensors' own zip file."""
    return lambda entries: entries.update({"policy.pth": rezipped(entries["policy.pth"], edit)})


NAMES = ["data", "policy.pth", "../data", "/policy.pth", "archive/data.pkl", "x" * 300, "archive/../../x", "data\0x"]


def test_zip(tmp_path, zips, count, record):
    def settings(rng):
        def edit(entries):
            tree = json.loads(entries["data"])
            for _ in range(rng.randrange(1, 4)):
                damage(tree, rng)
            for key in ("policy_class", "policy_kwargs", "observation_space", "action_space"):
                if isinstance(tree, dict) and isinstance(tree.get(key), dict) and rng.randrange(2):
                    damage(tree[key], rng)
            entries["data"] = json.dumps(tree).encode()

        return rezipped(rng.choice(zips), edit)

    def instructions(rng):
        def edit(entries):
            name = next(iter(entries)) if rng.randrange(4) else rng.choice([*entries])
            entries[name] = mutated(entries[name], rng)

        return rezipped(rng.choice(zips), in_policy(edit))

    def names(rng):
        def edit(entries):
            pairs = [*entries.items()]
            place = rng.randrange(len(pairs))
            pairs[place] = rng.choice(NAMES), pairs[place][1]
            return pairs + rng.choices(pairs, k=rng.randrange(3))

        return rezipped(rng.choice(zips), rng.choice([edit, in_policy(edit)]))

    def policy(rng):
        return rezipped(rng.choice(zips), lambda e: e.update({"policy.pth": mutated(e["policy.pth"], rng)}))

    def read(path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            agent = bellmark.load(path)
        action, _ = agent.predict(np.zeros((1, agent.spec.obs_size)), deterministic=True)
        assert np.isfinite(action).all()

    makers = [lambda rng: mutated(rng.choice(zips), rng), settings, instructions, names, policy]
    check("stable-baselines3 zip reader", makers, read, tmp_path, count(300, 100_000), record)
