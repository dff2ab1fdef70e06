"""Checkpoints and buffers that nobody wrote are refused before anything is allocated. See also tests/reliability."""

from __future__ import annotations

import json
import time

import bellmark
import pytest
import safetensors.torch
import torch
from bellmark.agents.core import checkpoint, memory
from bellmark.agents.core.buffer import Buffer
from bellmark.agents.core.errors import BellmarkError, InvalidCheckpoint, InvalidData, InvalidSetting
from bellmark.agents.core.prioritized import Prioritized
from bellmark.agents.core.reshuffled import PrioritizedReshuffled, Reshuffled
from bellmark.agents.core.sampling import Sampler


@pytest.fixture
def path(tmp_path, small_agent, trained):
    trained(small_agent("td3")).save(tmp_path / "a.bell")
    return tmp_path / "a.bell"


def changed(path, edit):
    manifest, tensors = checkpoint.read(path)
    tensors = {name: value.clone() for name, value in tensors.items()}
    edit(tensors)
    path.write_bytes(safetensors.torch.save(tensors, {"bellmark": json.dumps(manifest)}))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda tensors: tensors.update({"net.more": torch.zeros(1)}), r"differs from this agent in \['net.more'\]"),
        (lambda tensors: tensors.update({"../../x": torch.zeros(1)}), r"differs from this agent in \['../../x'\]"),
        (lambda tensors: tensors.update({"optimizer.none.step": torch.zeros(1)}), "optimizer.none.step"),
        (lambda tensors: tensors.pop("optimizer.critic.exp_avg"), "optimizer.critic.exp_avg"),
        (lambda tensors: tensors.update({"optimizer.critic.step": torch.zeros(1)}), r"step has shape \[1\]"),
        (lambda tensors: tensors.update({"optimizer.critic.exp_avg": torch.zeros(())}), r"exp_avg has shape \[\]"),
        (lambda tensors: tensors.update({"net.critic.net.0.bias": torch.zeros(2, 16).double()}), "torch.float64"),
    ],
)
def test_tensors_of_another_agent_are_refused(path, edit, message):
    changed(path, edit)
    with pytest.raises(InvalidCheckpoint, match=message):
        bellmark.load(path)


@pytest.mark.parametrize(
    "edit",
    [
        lambda tensors: tensors.pop("random.torch"),
        lambda tensors: tensors.update({"random.torch": torch.zeros(5056, dtype=torch.uint8)}),
        lambda tensors: tensors.update({"random.torch": tensors["random.torch"][:-1]}),
        lambda tensors: tensors.update({"random.torch": tensors["random.torch"].int()}),
    ],
)
def test_a_damaged_random_stream_is_refused(path, edit):
    changed(path, edit)
    manifest, tensors = checkpoint.read(path)
    with pytest.raises(InvalidCheckpoint, match=r"random\.torch"):
        checkpoint.resume(checkpoint.restore(manifest, tensors), manifest, tensors)


def test_absurd_headers_are_refused_at_once(path):
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    text, start = header["__metadata__"]["bellmark"], time.process_time()

    def refuse(header, message, length=None):
        header = header if isinstance(header, bytes) else json.dumps(header).encode()
        length = len(header) if length is None else length
        path.write_bytes(length.to_bytes(8, "little") + header + content[end:])
        with pytest.raises(InvalidCheckpoint, match=message):
            bellmark.load(path)

    refuse(content[8:end], "said to have 18,446,744,073,709,551,615 bytes", 2**64 - 1)
    refuse(b" " * (2**24 + 1), "said to have 16,777,217 bytes")
    refuse(b"[" * 100_000, "damaged")
    refuse(b"{" + b'"net.x": {}, ' * 2 + content[9:end], "a key twice")
    for more in (
        '"seed": 1',
        f'"deep": {"[" * 100}{"]" * 100}',
        f'"deeper": {"[" * 5000}{"]" * 5000}',
        '"n": ' + "9" * 5000,
    ):
        refuse(header | {"__metadata__": {"bellmark": f"{text[:-1]}, {more}}}"}}, "damaged")
    flag = {"dtype": "F8_E4M3", "shape": [0], "data_offsets": [0, 0]}
    refuse(header | {"net.x": flag}, "type F8_E4M3")
    refuse(header | {"net.x": flag | {"dtype": "F32", "shape": [0, 2**64 - 1]}}, "shape")
    refuse(header | {"net.x": flag | {"dtype": "F32", "shape": [0] * 40}}, "shape")
    refuse(header | {f"net.{i}": flag | {"dtype": "F32"} for i in range(70_000)}, r"it has 70,\d+ tensors")
    assert time.process_time() - start < 10


def test_memory_is_asked_for_before_it_is_taken(path, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device="cpu": 20_000)
    with pytest.raises(InvalidCheckpoint, match=r"parameters, gradients and moments = .* GB, and the machine has"):
        bellmark.load(path)


@pytest.mark.parametrize("sampler", [Sampler, Prioritized, Reshuffled, PrioritizedReshuffled])
def test_a_state_that_nobody_wrote_is_refused(sampler, scripted, drive, discrete):
    def kind(*size):
        return Buffer(*size, sampler=sampler())

    buffer = kind(discrete, 9, 2)
    drive(scripted(2, spec=discrete), buffer, 5)
    tensors, values = buffer.state()
    wrong = {
        "rows": [1, -9, 5, 9.0, True, 10**15, None],
        "written": [-1, 10, 7, "6"],
        "head": [[5], [5, -1], [5, 6], 5],
    }
    wrong |= {"columns": [True, 2.0, None], "lockstep": [1, None]}
    changes = [({}, {name: value}) for name, some in wrong.items() for value in some] + [({}, {"head": [5, 4]})]
    changes += [({name: value[:-1]}, {}) for name, value in tensors.items() if value.ndim]
    changes += [({name: value.to(torch.float16)}, {}) for name, value in tensors.items()]
    for name in {"priority", "greatest", "drawn", "expected"} & tensors.keys():
        changes += [({name: torch.full_like(tensors[name], value)}, {}) for value in (-1.0, float("nan"), float("inf"))]
    if "order" in tensors:
        changes += [({"order": tensors["order"] * 0 + 18}, {}), ({"place": torch.tensor(1)}, {})]
        changes += [({"place": torch.tensor(-1)}, {})]
    changes += [({"more": torch.zeros(6, 2)}, {}), ({"action": tensors["action"] + discrete.actions}, {})]
    for new_tensors, new_values in changes:
        with pytest.raises(BellmarkError):
            kind(discrete, 9, 2).load_state(tensors | new_tensors, values | new_values)
    kind(discrete, 9, 2).load_state(tensors, values)
    for name in tensors:
        with pytest.raises(InvalidCheckpoint):
            kind(discrete, 9, 2).load_state({k: v for k, v in tensors.items() if k != name}, values)


def test_a_buffer_larger_than_the_machine_is_refused(continuous, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 64 * 2**20)
    arithmetic = "1,000,000 rows x 8 columns x 27 bytes = 0.2 GB, and the machine has 0.1 GB: lower buffer_size"
    with pytest.raises(InvalidSetting, match=arithmetic):
        Buffer(continuous, 1_000_000, 8)
    with pytest.raises(InvalidSetting, match="x 37 bytes"):
        Buffer(continuous, 10**12, sampler=Prioritized())
    assert Buffer(continuous, 1_000_000).rows == 1_000_000


def test_the_machine_has_some_memory():
    assert 2**28 < memory.available() < 2**50
    memory.require(2**20, "a megabyte", "wait")
    with pytest.raises(InvalidData, match=r"a terabyte of terabytes = 1,\d+,\d+.* GB, and the machine has .* GB: wait"):
        memory.require(2**80, "a terabyte of terabytes", "wait", error=InvalidData)
