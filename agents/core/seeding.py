"""Random streams: one seed gives torch's generator, and a stream of its own to everything else."""

from __future__ import annotations

import zlib
from contextlib import AbstractContextManager

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Seeds torch's default generators, from which networks, exploration and losses draw. Called once, at the entry."""
    torch.manual_seed(seed)


def forked(device: torch.device) -> AbstractContextManager[None]:
    """What is drawn within leaves torch's default generators, on the host and on `device`, as they were."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def derive(seed: int, *stream: str | int) -> int:
    """A seed in [0, 2^31) for the stream of that name: `derive(1, "evaluation", 3)`. Streams do not overlap."""
    key = [seed, len(stream), *(zlib.crc32(part.encode()) if isinstance(part, str) else part for part in stream)]
    return int(np.random.SeedSequence(key).generate_state(1, np.uint32)[0]) >> 1
