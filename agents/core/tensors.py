"""Tensors by name: compared with what they should be, and moved out of nested values and back; rows of a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import InvalidCheckpoint


def rows_at(values: Tensor, index: Tensor) -> Tensor:
    """`values[index]` along the first axis, in a third of the time on the host: `[*index, ...]`."""
    if index.ndim == 1:
        return values.index_select(0, index)
    return values.index_select(0, index.flatten()).view(*index.shape, *values.shape[1:])


def check_tensors(own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Raises InvalidCheckpoint unless names, types and shapes agree; an empty tensor may become any size.

    Looks at no value, so `own` may be on the meta device, where tensors take no memory.
    """
    if own.keys() != saved.keys():
        raise InvalidCheckpoint(f"the checkpoint differs from this agent in {sorted(own.keys() ^ saved.keys())[:5]}")
    for name, value in own.items():
        other = saved[name]
        if value.dtype != other.dtype or (value.numel() and value.shape != other.shape):
            raise InvalidCheckpoint(
                f"the checkpoint's {name} has shape {list(other.shape)} of {other.dtype}, this agent's "
                f"{list(value.shape)} of {value.dtype}"
            )


def flatten(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Moves the arrays out of a nested value into `tensors`; what remains is JSON with their names."""
    if isinstance(value, np.ndarray):
        tensors[name] = torch.as_tensor(value)
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {key: flatten(item, f"{name}.{key}", tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [flatten(item, f"{name}.{i}", tensors) for i, item in enumerate(value)]
    return value.item() if isinstance(value, np.generic) else value


def unflatten(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `flatten`. Raises InvalidCheckpoint where a tensor is missing."""
    if isinstance(value, Mapping):
        if value.keys() == {"tensor"}:
            name = value["tensor"]
            if not isinstance(name, str) or name not in tensors:
                raise InvalidCheckpoint(f"the checkpoint has no tensor {name!r}, which its manifest names")
            return tensors[name].numpy()
        return {key: unflatten(item, tensors) for key, item in value.items()}
    return [unflatten(item, tensors) for item in value] if isinstance(value, list) else value
