"""Plain data from a file: compared with the form that it should have, and turned into Python's and numpy's values.

What a file holds is not trusted. Everything raises InvalidCheckpoint for data that this project would not have written.
"""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..agents.core.errors import InvalidCheckpoint

_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
_GREATEST = {"pos": 624, "buffer_pos": 4}  # places in arrays, in the states of MT19937 and Philox: numpy believes them
_NUMBER, _TEXT = re.compile(r"[<>|][biuf]\d\d?"), re.compile(r"[<>|]([SU])(\d{1,9})")
_PADDING = 256
"""Most bytes of an array of text for each letter or string in it."""


class Obstacle(Exception):
    """Why the state of environments cannot be saved, in words."""


def require_form(value: Any, like: Any, what: str) -> None:
    """Raises InvalidCheckpoint unless `value` is like `like`: its type, its keys (or more), its shape and numpy type.

    A series of numbers is like its numpy type. A list is like `[x]` if each item is like x, and like a tuple if it has
    as many items, each like the other's; `[]` and `{}` are any. Whole numbers are from 0 to 2^128.
    """
    pairs: list[tuple[Any, Any, str]] = []
    if isinstance(like, np.ndarray):
        fits = isinstance(value, np.ndarray) and (value.shape, value.dtype) == (like.shape, like.dtype)
    elif isinstance(like, np.dtype):
        fits = isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype == like
    elif isinstance(like, dict):
        fits = isinstance(value, dict) and value.keys() >= like.keys()
        pairs = [(value[key], like[key], f"{what}.{key}") for key in like] if fits else []
    elif isinstance(like, list | tuple):
        fits = isinstance(value, list) and (isinstance(like, list) or len(value) == len(like))
        likes = itertools.repeat(like[0]) if isinstance(like, list) and like else like
        pairs = [(a, b, f"{what}.{i}") for i, (a, b) in enumerate(zip(value, likes, strict=False))] if fits else []
    else:
        fits = type(value) is type(like) or (type(value), type(like)) == (int, float)
        fits = fits and not (type(value) is int and not 0 <= value < 2**128)
    if not fits:
        raise InvalidCheckpoint(f"{what} is damaged, or of another environment")
    for item, other, name in pairs:
        require_form(item, other, name)


def decode(value: Any) -> Any:
    """The inverse of `snapshot.encode`."""
    try:
        return _decode(value)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise InvalidCheckpoint(f"the state of the environments is damaged: {error}") from error


def _decode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "dict":
        return {_decode(key): _decode(item) for key, item in content}
    if kind == "generator":
        return _generator(_decode(content))
    if kind == "deque":
        return deque(_decode(content[1]), content[0])
    if kind == "random_state":
        return _random_state(_decode(content))
    if kind in ("scalar", "text"):
        array = _array(*content)
        return array[()] if kind == "scalar" else array
    return {"tuple": tuple, "set": set}[kind](_decode(item) for item in content)


def _array(kind: str, content: Any) -> np.ndarray:
    """An array of text, or of one number, of that numpy type, which the file names."""
    leaves = list(_leaves(content))
    if text := _TEXT.fullmatch(kind):
        width = int(text[2]) or max(map(len, leaves))  # numpy takes the longest for 0
        size = width * (4 if text[1] == "U" else 1) * len(leaves)
        if size > _PADDING * sum(len(leaf) + 1 for leaf in leaves):
            raise ValueError(f"{len(leaves)} strings do not take {size:,} bytes")
    elif not _NUMBER.fullmatch(kind) or len(leaves) != 1:
        raise ValueError(f"no array of numbers is written as {kind[:20]}")
    return np.array(content, kind)


def _leaves(content: Any) -> Iterator[Any]:
    if isinstance(content, list):
        for item in content:
            yield from _leaves(item)
    else:
        yield content


def _generator(state: dict[str, Any]) -> np.random.Generator:
    if state["bit_generator"] not in _BIT_GENERATORS:
        raise ValueError("numpy has no such random generator")
    bits = getattr(np.random, state["bit_generator"])(0)
    _require_state(state, bits.state)
    bits.state = state
    return np.random.Generator(bits)


def _random_state(state: dict[str, Any]) -> np.random.RandomState:
    random = np.random.RandomState(0)
    _require_state(state, random.get_state(legacy=False))
    random.set_state(state)
    return random


def _require_state(state: dict[str, Any], like: Any) -> None:
    require_form(state, like, "the state of a random generator")
    for part in (state, state["state"]):
        for name, greatest in _GREATEST.items():
            if isinstance(part, dict) and not 0 <= part.get(name, 0) <= greatest:
                raise ValueError(f"a random generator cannot stand at {part[name]}")
