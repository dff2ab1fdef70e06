"""The named parts of one observation, and how each becomes columns of a flat float32 vector."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np


class Part(NamedTuple):
    """One entry of a dictionary observation, or (under the name "") an observation that is no dictionary."""

    name: str
    """Key in the dictionary."""
    shape: tuple[int, ...]
    """Shape of one raw value."""
    kind: Literal["vector", "image", "image_last", "one_hot"]
    """Numbers as they are; uint8 images, channels first or last; or whole numbers of choices, coded as one-hot."""
    choices: tuple[int, ...] = ()
    """`one_hot`: how many values each number has."""
    starts: tuple[int, ...] = ()
    """`one_hot`: the smallest value of each number."""

    @property
    def size(self) -> int:
        """Number of columns."""
        return sum(self.choices) if self.kind == "one_hot" else math.prod(self.shape)

    @property
    def is_image(self) -> bool:
        return self.kind in ("image", "image_last")

    @property
    def image_shape(self) -> tuple[int, ...]:
        """`[C, H, W]`: images are channels first in the columns."""
        return (self.shape[-1], *self.shape[:-1]) if self.kind == "image_last" else self.shape

    def encode(self, raw: np.ndarray) -> np.ndarray:
        """Raw values `[N, *shape]` as columns `[N, size]`."""
        if self.kind == "image_last":
            raw = np.moveaxis(raw, -1, 1)
        flat = raw.reshape(len(raw), -1)
        if self.kind != "one_hot":
            return flat
        code = np.zeros((len(flat), self.size), np.float32)
        first = np.cumsum((0, *self.choices[:-1])) - self.starts
        code[np.arange(len(flat))[:, None], flat.astype(np.int64) + first] = 1.0
        return code

    def is_sound(self) -> bool:
        """Whether some space could be described like this."""
        coded = self.kind == "one_hot"
        return (
            (len(self.shape) == 3 or not self.is_image)
            and min(self.shape, default=1) > 0
            and len(self.choices) == len(self.starts) == (math.prod(self.shape) if coded else 0)
            and min(self.choices, default=1) > 0
        )
