"""Files of JSON and tensors (safetensors), read with suspicion: nothing in them can run, nothing absurd is taken in."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import InvalidCheckpoint, InvalidSetting
from .files import replacing

LARGEST_HEADER = 2**24
"""Bytes; a thousand environments that are saved in the middle of their episodes take about 3 MB."""
MOST_TENSORS, MOST_AXES, DEEPEST = 2**16, 16, 64
KINDS = {"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F16", "F32", "F64"}


def read(path: Path) -> tuple[Any, dict[str, Tensor]]:
    """The JSON in the header, or None, and the tensors, which stay in the file until somebody looks at their values.

    Raises InvalidCheckpoint for a file that is truncated, foreign or absurd.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InvalidCheckpoint(f"there is no checkpoint {path}")
    try:
        parse(_header(path))  # safetensors reads it as well, but lets keys come twice
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get("bellmark")
            return (parse(text), _tensors(file)) if text else (None, {})
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise InvalidCheckpoint(f"{path} is damaged or no checkpoint ({error}): take an older one") from error


def write(path: str | Path, manifest: Any, tensors: Mapping[str, Tensor]) -> None:
    """Replaces `path` by a file of `manifest`, which is JSON-able, and `tensors`, written from where they are.

    Raises InvalidSetting for a manifest that `read` would refuse, and OSError; `path` is then unchanged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    packed = {name: value.detach().to("cpu").contiguous() for name, value in tensors.items()}
    with replacing(path) as temporary:
        try:
            save_file(packed, temporary, {"bellmark": json.dumps(manifest)})
        except SafetensorError as error:  # where the disk refuses: of the error, the library keeps the text alone
            number = int((re.findall(r"os error (\d+)", str(error)) or [errno.EIO])[0])
            raise OSError(number, os.strerror(number)) from error
        if _header_size(temporary) > LARGEST_HEADER:
            raise InvalidSetting("a checkpoint of so many environments in the middle of episodes: lower num_envs")


def _header_size(path: Path) -> int:
    with path.open("rb") as file:
        return int.from_bytes(file.read(8), "little")


def _header(path: Path) -> str:
    if (size := _header_size(path)) > LARGEST_HEADER:
        raise ValueError(f"its header is said to have {size:,} bytes")
    with path.open("rb") as file:
        return file.read(8 + size)[8:].decode()


def parse(text: str) -> Any:
    """JSON. Raises ValueError where it is none, has a key twice or is nested absurdly, or RecursionError."""
    value = json.loads(text, object_pairs_hook=_unique)
    level = [value]
    for _ in range(DEEPEST):
        level = [item for node in level if isinstance(node, dict | list) for item in _items(node)]
    if level:
        raise ValueError(f"its manifest is nested more than {DEEPEST} deep")
    return value


def _items(node: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return node.values() if isinstance(node, dict) else node


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("it has a key twice")
    return values


def _tensors(file: Any) -> dict[str, Tensor]:
    names = file.keys()
    if len(names) > MOST_TENSORS:
        raise ValueError(f"it has {len(names):,} tensors")
    for name in names:
        view = file.get_slice(name)
        kind, shape = view.get_dtype(), view.get_shape()
        if kind not in KINDS or len(shape) > MOST_AXES or not all(length < 2**62 for length in shape):
            raise ValueError(f"it has a tensor of shape {shape} and type {kind}")
    tensors = {name: file.get_tensor(name) for name in names}
    if any((value.view(torch.uint8) > 1).any() for value in tensors.values() if value.dtype is torch.bool):
        raise ValueError("it has a bool that is neither 0 nor 1")
    return tensors
