"""A film of an agent, with its return and its value estimate below the picture."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from ..agents.core.errors import InvalidSetting, MissingExtra
from .traces import Trace

WIDTH = 320
"""Pixels that a frame is wide, at least; smaller ones are enlarged by a whole number."""
STRIP = 24
"""Height of the line of text."""


def require(path: str) -> None:
    """Raises InvalidSetting for a file that is no film, MissingExtra without what writes it."""
    if Path(path).suffix not in (".mp4", ".gif"):
        raise InvalidSetting(f"--video {path} must end in .mp4 or .gif")
    for package in ("imageio", "imageio_ffmpeg") if path.endswith(".mp4") else ("imageio",):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package.replace("_", "-"), "video")


def write(path: str, found: Trace, fps: float) -> None:
    """Writes all frames with their text."""
    import imageio.v2 as imageio

    returns = np.concatenate([[0.0], found.rewards.cumsum()])
    frames = []
    for t, frame in enumerate(found.frames):
        value = f"   value {found.values[min(t, len(found.values) - 1)]:.1f}" if len(found.values) else ""
        frames.append(captioned(frame, f"step {t}   return {returns[t]:.1f}{value}"))
    options: dict[str, Any] = {"macro_block_size": 1} if path.endswith(".mp4") else {"loop": 0}
    if path.endswith(".mp4"):
        options["fps"] = fps
    else:
        options["duration"] = 1000.0 / fps
    imageio.mimwrite(path, frames, **options)  # type: ignore[arg-type]


def captioned(frame: np.ndarray, text: str) -> np.ndarray:
    """`[H, W, 3]`, enlarged if it is small, with a line of text below; height and width are even, as mp4 needs."""
    from PIL import Image, ImageDraw

    times = -(-WIDTH // frame.shape[1])
    frame = frame.repeat(times, 0).repeat(times, 1)
    height, width = frame.shape[0] + STRIP, frame.shape[1]
    image = Image.new("RGB", (width + width % 2, height + height % 2))
    image.paste(Image.fromarray(frame))
    ImageDraw.Draw(image).text((6, frame.shape[0] + 5), text, fill="white")
    return np.asarray(image)
