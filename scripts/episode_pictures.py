"""What `bellmark evaluate` draws and films of one episode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..agents.core.agent import Agent
from . import traces
from .values import draw
from .values import require as require_picture
from .video import require as require_film
from .video import write as film


def require(video: str, values: str) -> None:
    """Raises InvalidSetting for files of other kinds, MissingExtra without what writes films."""
    if video:
        require_film(video)
    if values:
        require_picture(values)


def make(agent: Agent, settings: dict[str, Any], seed: int, *, deterministic: bool, video: str, values: str) -> None:
    """Runs one episode in one environment of these settings, and makes what has a name."""
    from ..envs import remake

    if video:
        env, render = traces.rendering(settings)
        picture = traces.checked(env.env_id, render)
    else:
        env, picture = remake(settings, num_envs=1, backend="sync", autoreset=None), None
    with env:
        found = traces.trace(agent, env, seed, deterministic, picture)
        fps = env.env.envs[0].metadata.get("render_fps") or 30  # type: ignore[attr-defined]
    if video:
        film(video, found, fps)
    if values:
        draw(Path(values), found, f"{agent.name} on {env.env_id}, seed {seed}", hasattr(agent, "temperature"))
