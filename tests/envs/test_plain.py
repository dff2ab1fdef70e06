"""States of environments that nobody wrote: refused before anything is allocated, called or replaced."""

from __future__ import annotations

import copy

import gymnasium
import numpy as np
import pytest
from bellmark.agents.core.errors import BellmarkError, InvalidCheckpoint, InvalidSetting
from bellmark.envs import make, remake
from bellmark.envs.plain import decode, require_form
from bellmark.envs.snapshot import encode


def generator(kind, **changes):
    state = encode(getattr(np.random, kind)(0).state, set())
    pairs = dict(state["dict"])
    inner = pairs["state"]["dict"]
    for name, value in changes.items():
        for part in (state["dict"], inner):
            part[:] = [[key, value if key == name else old] for key, old in part]
    return {"generator": state}


@pytest.mark.parametrize("kind", ["MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"])
def test_every_random_generator_comes_back(kind):
    bits = getattr(np.random, kind)(7)
    np.random.Generator(bits).random(3)
    one = np.random.Generator(bits)
    other = decode({"generator": encode(one.bit_generator.state, set())})
    np.testing.assert_array_equal(one.integers(2**40, size=5000), other.integers(2**40, size=5000))


@pytest.mark.parametrize(
    "value",
    [
        generator("MT19937", pos=625),  # numpy itself would read beyond the array, and crash
        generator("MT19937", pos=-1),
        generator("Philox", buffer_pos=5),
        generator("Philox", buffer_pos=-(10**9)),
        generator("PCG64", bit_generator="RandomState"),
        generator("PCG64", bit_generator="__loader__"),
        generator("PCG64", state=None),
        generator("PCG64", inc=-1),
        generator("PCG64", inc=2**128),
        generator("SFC64", state=np.zeros(3, np.uint64)),
        {"generator": {"dict": []}},
        {"scalar": ["O", 1]},
        {"scalar": ["<f8", [1, 2]]},
        {"scalar": ["1000000000f8", 1]},
        {"scalar": ["<U1000000000", "x"]},
        {"scalar": ["<i4", 10**30]},
        {"scalar": []},
        {"text": ["<U200000000", ["a"]]},
        {"text": ["<U0", ["a" * 1000, *([""] * 1000)]]},
        {"text": ["<U1", [["a"], "b"]]},
        {"text": ["<M8[s]", ["a"]]},
        {"dict": [[[], 1]]},
        {"dict": [1]},
        {"set": [[1]]},
        {"tuple": 5},
        {"code": "x"},
        {"tuple": [], "set": []},
        {},
    ],
    ids=lambda value: repr(value)[:60],
)
def test_no_such_value_is_made(value):
    with pytest.raises(InvalidCheckpoint, match=r"the state of (the environments|a random)"):
        decode(value)


def test_what_fits_a_form():
    form = {
        "n": 0,
        "x": 0.0,
        "rows": np.zeros((2, 3)),
        "series": np.dtype("u1"),
        "pairs": [(0, "")],
        "any": {},
        "l": [],
    }
    good = {"n": 3, "x": 1, "rows": np.ones((2, 3)), "series": np.zeros(9, np.uint8), "pairs": [[1, "a"], [2, "b"]]}
    good |= {"any": {"x": [1]}, "l": [1, "x"], "more": None}
    require_form(good, form, "it")
    bad = {
        "n": [-1, 2**128, True, 1.0, None],
        "x": ["1", None],
        "rows": [np.ones((3, 2)), [[1.0]], np.ones((2, 3), int)],
    }
    bad |= {"series": [np.zeros((3, 3), np.uint8), np.zeros(3)], "pairs": [[[1]], [[1, 2]], 5, [[1, "a"], None]]}
    bad |= {"any": [[]], "l": [{}]}
    for name, values in bad.items():
        for value in values:
            with pytest.raises(InvalidCheckpoint, match=rf"it\.{name}"):
                require_form(good | {name: value}, form, "it")
    with pytest.raises(InvalidCheckpoint, match="it is damaged"):
        require_form({}, form, "it")


class Growing(gymnasium.Env):
    """Gets an attribute in its first step."""

    observation_space = gymnasium.spaces.Discrete(5, start=2)
    action_space = gymnasium.spaces.Discrete(2)
    limit = 9

    def __init__(self):
        self.table = np.zeros((2, 2))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 2, {}

    def step(self, action):
        self.late, self.limit = [1], 8
        return 3, 0.0, False, False, {}


def state_after(change):
    with make(Growing) as env:
        env.reset(0)
        env.step(np.zeros(1, np.int64))
        state = copy.deepcopy(env.state())
    change(state["environments"]["columns"][0][0]["fields"], state["environments"])
    with make(Growing) as fresh:
        fresh.load_state(state)
        return fresh


def test_an_attribute_that_comes_into_being_in_a_step_is_put_back():
    inner = state_after(lambda fields, state: None).env.envs[0]
    assert (inner.late, inner.limit) == ([1], 8)


@pytest.mark.parametrize(
    "change",
    [
        lambda fields, state: fields.update(step=1),
        lambda fields, state: fields.update(reset={"dict": []}),
        lambda fields, state: fields.update(np_random=1),
        lambda fields, state: fields.update(__class__=1),
        lambda fields, state: fields.update(__dict__={"dict": []}),
        lambda fields, state: fields.update(action_space=1),
        lambda fields, state: fields.update(metadata={"dict": []}),
        lambda fields, state: fields.update(_np_random=5),
        lambda fields, state: fields.update(table=np.zeros((3, 3))),
        lambda fields, state: fields.update(table=np.zeros((2, 2), np.int8)),
        lambda fields, state: fields.pop("table"),
        lambda fields, state: state["columns"][0][0]["spaces"].update(table=generator("PCG64")),
        lambda fields, state: state["columns"][0][0].update(physics={"state": np.zeros(3)}),
        lambda fields, state: state["columns"][0].append(state["columns"][0][0]),
        lambda fields, state: state["columns"].append([]),
        lambda fields, state: state["vector"].update(_observations=np.array([7])),
        lambda fields, state: state["vector"].update(_observations=np.array([1])),
        lambda fields, state: state["vector"].update(_observations=np.array([2.0])),
        lambda fields, state: state["vector"].clear(),
    ],
)
def test_no_attribute_is_replaced_that_is_no_state(change):
    with pytest.raises(InvalidCheckpoint):
        state_after(change)


@pytest.mark.parametrize(
    "changes",
    [
        {"env_id": "planted:Env-v0"},
        {"env_id": "a:b:Env-v0"},
        {"kwargs": {"env_id": "planted:Env-v0"}},
        {"kwargs": {"disable_env_checker": True}},
        {"kwargs": {"misspelt": 1}},
        {"kwargs": {"render_mode": 5}},
        {"kwargs": []},
        {"num_envs": 10**9},
        {"num_envs": True},
        {"num_envs": 5000, "backend": "async"},
        {"worker_timeout": "x", "backend": "async"},
        {"more": 1},
        {"env_id": "x" * 1_000_000},
        {"env_id": "\ud800"},
    ],
    ids=lambda changes: repr(changes)[:60],
)
def test_settings_from_a_file_import_and_make_nothing_absurd(changes, tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with make("CartPole-v1") as env, pytest.raises(BellmarkError) as caught:
        remake(env.settings | changes)
    assert len(str(caught.value)) < 5000
    str(caught.value).encode()


def test_a_module_that_is_imported_already_may_be_named():
    with make("bellmark.envs.probes:bellmark/TwoStep-v0") as env, remake(env.settings) as again:
        assert again.env_id == env.env_id
    with pytest.raises(InvalidSetting, match=r"imports a module.*--env"):
        remake(env.settings | {"env_id": "antigravity:X-v0"})
