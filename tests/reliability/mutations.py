"""Ways to damage a checkpoint: each takes its parts and a random generator, and gives the bytes of a file."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F16": 2, "BF16": 2, "U16": 2, "I32": 4, "U32": 4, "F32": 4}
SIZES |= {"F64": 8, "I64": 8, "U64": 8, "C64": 8}
NAMES = [
    "../../x",
    "/tmp/x",
    "a\0b",
    "",
    "net.",
    "buffer.obs",
    "env.x",
    "random.torch",
    "optimizer.q.step",
    "x" * 70000,
]
NUMBERS = [0, 1, -1, 2, 255, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 2**127, 10**400, 0.5, -1.5, 1e308]
NUMBERS += map(float, ("nan", "inf", "-inf"))
TEXTS = ["", "x", "../../x", "/etc/passwd", "a\0b", "\ud800", "\x1b[2J", "planted", "planted:Env-v0", "os:system"]
TEXTS += ["__class__", "step", "CartPole-v1", "ALE/Pong-v5", "envpool", "MT19937", "<U1000000000", "y" * 100_000]
NODES = [
    None,
    True,
    False,
    [],
    {},
    [[]],
    [{}],
    {"tensor": "net.x"},
    {"tensor": "random.torch"},
    {"tensor": []},
    {"": 0},
]
NODES += [{"generator": {"dict": []}}, {"scalar": ["<U1000000000", "x"]}, {"scalar": ["O", 1]}, {"set": [[], {}]}]
NODES += [{"text": ["<U200000000", ["a", "b"]]}, {"text": ["2000000000f8", 0.0]}, {"dict": [[[], 1]]}, {"tuple": 5}]
NODES += [[2**62] * 3, [10**9], [4] * 200, [0] * 1000, {str(i): i for i in range(1000)}, "z" * 1_000_000]


class Parts:
    """The parts of a checkpoint: its manifest, and tensors as [name, type, shape, bytes]."""

    def __init__(self, content: bytes):
        self.content = content
        end = 8 + int.from_bytes(content[:8], "little")
        header, self.data = json.loads(content[8:end]), content[end:]
        self.manifest = json.loads(header.pop("__metadata__")["bellmark"])
        self.tensors = [
            [name, info["dtype"], info["shape"], self.data[slice(*info["data_offsets"])]]
            for name, info in header.items()
        ]

    def header(self) -> dict[str, Any]:
        header, start = {"__metadata__": {"bellmark": json.dumps(self.manifest)}}, 0
        for name, kind, shape, data in self.tensors:
            header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, start + len(data)]}
            start += len(data)
        return header

    def file(self, header: Any = None, length: int | None = None) -> bytes:
        header = self.header() if header is None else header
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        data = b"".join(tensor[3] for tensor in self.tensors)
        return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def nodes(value: Any, place: list[Any] | None = None) -> Iterator[tuple[Any, Any]]:
    """Every place in nested JSON, as its container and its key or index."""
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in list(keys):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from nodes(value[key])


def similar(value: Any, rng: random.Random) -> Any:
    """A value of the same type."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int | float):
        return rng.choice(
            [
                value + 1,
                value - 1,
                -value,
                value * 10**9,
                value * 2,
                value * 1.5 if abs(value) < 2**64 else 0,
                str(value),
            ]
        )
    if isinstance(value, str):
        return rng.choice([value + "x", value[:-1], value.upper(), value * 1000, [value]])
    items = list(value.items()) if isinstance(value, dict) else list(value)
    changed = rng.choice([items * 2, items[:-1], items[1:], items[::-1], items * 100])
    return dict(changed) if isinstance(value, dict) else changed


def damage(tree: Any, rng: random.Random) -> None:
    """Changes one place of nested JSON: another value, another key, or none."""
    places = list(nodes(tree))
    if not places:
        return
    container, key = rng.choice(places)
    way = rng.randrange(8)
    if way == 0:
        del container[key]
    elif way == 1 and isinstance(container, dict):
        container[rng.choice([*TEXTS, *container])] = container.pop(key)
    elif way == 2:
        other, another = rng.choice(places)
        container[key] = json.loads(json.dumps(other[another])) if another in other or isinstance(other, list) else None
    elif way <= 4:
        container[key] = similar(container[key], rng)
    else:
        container[key] = copy.deepcopy(rng.choice(rng.choice([NUMBERS, TEXTS, NODES])))


def truncated(parts: Parts, rng: random.Random) -> bytes:
    end = 8 + int.from_bytes(parts.content[:8], "little")
    return parts.content[: rng.choice([rng.randrange(len(parts.content)), rng.randrange(end), rng.randrange(10)])]


def flipped(parts: Parts, rng: random.Random) -> bytes:
    content = bytearray(parts.content)
    end = rng.choice([8, 8 + int.from_bytes(content[:8], "little"), len(content)])
    for _ in range(rng.choice([1, 1, 2, 10, 100])):
        content[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return bytes(content)


def spliced(parts: Parts, rng: random.Random) -> bytes:
    content, (a, b, c) = parts.content, sorted(rng.randrange(len(parts.content)) for _ in range(3))
    middle = rng.choice([b"", content[b:c], rng.randbytes(c - b), bytes(c - b), content[a:b] * 2])
    return content[:a] + middle + content[rng.choice([b, c]) :]


def header_length(parts: Parts, rng: random.Random) -> bytes:
    length = int.from_bytes(parts.content[:8], "little")
    lies = [0, 1, length - 1, length + 1, len(parts.content), 2**24, 2**24 + 1, 10**8, 2**32, 2**63, 2**64 - 1]
    return parts.file(length=rng.choice([*lies, rng.randrange(2 * length)]))


def header(parts: Parts, rng: random.Random) -> bytes:
    """Types, shapes and places of tensors that do not go with their bytes."""
    tree = parts.header()
    kept = tree.pop("__metadata__")
    for _ in range(rng.choice([1, 1, 3])):
        damage(tree, rng)
    return parts.file({"__metadata__": kept} | tree)


def tensors(parts: Parts, rng: random.Random) -> bytes:
    """Sound tensors of other types, shapes, sizes, names or values; some that are missing, new or changed over."""
    for _ in range(rng.choice([1, 1, 2, 5])):
        chosen = rng.choice(parts.tensors)
        _, kind, shape, data = chosen
        way = rng.randrange(9)
        if way == 0:
            kind = chosen[1] = rng.choice(list(SIZES))
            chosen[2] = [len(data) // SIZES[kind]]
            chosen[3] = data[: chosen[2][0] * SIZES[kind]]
        elif way == 1:
            chosen[2] = rng.choice([shape[::-1], [1, *shape], [math.prod(shape)], [1] * 70 + shape, shape + [1] * 9])
        elif way == 2:
            chosen[2] = rng.choice([[], [0], [0, 2**63], [0, 2**64 - 1], [7], [1000], [3, 3], [*shape, 2]])
            chosen[3] = rng.randbytes(math.prod(chosen[2]) * SIZES[kind])
        elif way == 3:
            chosen[3] = rng.choice([rng.randbytes(len(data)), b"\xff" * len(data), bytes(len(data)), b"\2" * len(data)])
        elif way == 4 and len(parts.tensors) > 1:
            parts.tensors.remove(chosen)
        elif way == 5:
            parts.tensors.append([rng.choice(NAMES), kind, shape, data])
        elif way == 6:
            chosen[0] = rng.choice([*NAMES, rng.choice(parts.tensors)[0]])
        elif way == 7:
            other = rng.choice(parts.tensors)
            chosen[1:], other[1:] = other[1:], chosen[1:]
        else:
            rng.shuffle(parts.tensors)
    return parts.file()


def manifest(parts: Parts, rng: random.Random) -> bytes:
    for _ in range(rng.choice([1, 1, 1, 3])):
        damage(parts.manifest, rng)
    return parts.file()


def part_of_manifest(*names: str) -> Callable[[Parts, random.Random], bytes]:
    def mutate(parts: Parts, rng: random.Random) -> bytes:
        for _ in range(rng.choice([1, 1, 2, 4])):
            damage(parts.manifest[rng.choice(names)], rng)
        return parts.file()

    return mutate


def twice(parts: Parts, rng: random.Random) -> bytes:
    """A key that comes twice, in the manifest or in the header."""
    tree = parts.header()
    if rng.random() < 0.5:
        text = json.dumps(parts.manifest)
        name = rng.choice(list(parts.manifest))
        tree["__metadata__"]["bellmark"] = text.replace(f'"{name}":', f'"{name}": {rng.choice([0, 1])}, "{name}":', 1)
        return parts.file(tree)
    name = rng.choice(list(tree))
    value = json.dumps(rng.choice([tree[name], 0, {}]))
    return parts.file(json.dumps(tree).replace(f'"{name}":', f'"{name}": {value}, "{name}":', 1).encode())


def giant(parts: Parts, rng: random.Random) -> bytes:
    """Much of everything: long names, deep nesting, many items, many tensors, a header over the limit."""
    depth = rng.choice([60, 100, 900, 100_000])
    text = json.dumps(parts.manifest)
    grown = [
        text[:-1] + f', "more": {"[" * depth}{"]" * depth}}}',
        text[:-1] + f', "more": {json.dumps([0] * 10 ** rng.randrange(7))}}}',
        text[:-1] + f', "more": {json.dumps([[]] * 10 ** rng.randrange(6))}}}',
        json.dumps(parts.manifest | {"agent": "q" * 10 ** rng.randrange(3, 7)}),
        json.dumps(
            parts.manifest | {"settings": parts.manifest["settings"] | {"hidden": [4] * 10 ** rng.randrange(6)}}
        ),
    ]
    tree = parts.header()
    if rng.random() < 0.2:
        empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
        tree |= {f"net.{i}": empty for i in range(10 ** rng.randrange(6))}
    else:
        tree["__metadata__"]["bellmark"] = rng.choice(grown)
    return parts.file(json.dumps(tree).encode() + b" " * rng.choice([0, 0, 2**24]))


KINDS: list[Callable[[Parts, random.Random], bytes]] = [
    *(truncated, flipped, spliced, header_length, header, tensors, manifest, twice, giant),
    part_of_manifest("settings", "spec", "counters"),
    part_of_manifest("env_state", "env_state", "env_state", "env"),
    part_of_manifest("buffer"),
]
