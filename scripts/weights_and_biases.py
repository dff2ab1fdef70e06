"""Weights & Biases, for those who ask for it: the numbers that TensorBoard gets go there as well."""

from __future__ import annotations

import importlib.util
import sys
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..agents.core.errors import MissingExtra
from ..agents.core.files import write_atomically

if TYPE_CHECKING:
    from .log import Events
    from .run_folder import RunFolder


def require() -> None:
    """Raises MissingExtra where the package is not installed."""
    if "wandb" not in sys.modules and importlib.util.find_spec("wandb") is None:
        raise MissingExtra("wandb", "wandb")


class WeightsAndBiases:
    """Gives every log row to `events` and to a run of Weights & Biases, whose x-axis is our clock.

    The run's id is kept in the run folder, so that a resumed run goes on in the same one. Rows after the checkpoint
    that is resumed are sent twice; on the axis `clock` they fall on each other.
    """

    def __init__(self, events: Events, project: str, folder: RunFolder):
        import wandb

        path = folder.path / "wandb_id.txt"
        if not path.exists():
            write_atomically(path, uuid.uuid4().hex.encode())
        self.events = events
        self.run: Any = wandb.init(
            project=project,
            name=folder.path.name,
            id=path.read_text(encoding="utf-8"),
            resume="allow",
            dir=str(folder),
            config=folder.manifest(),
        )
        self.run.define_metric("clock")
        self.run.define_metric("*", step_metric="clock")

    def add(self, values: Mapping[str, float], clock: int) -> None:
        self.events.add(values, clock)
        self.run.log({**values, "clock": clock})

    def close(self) -> None:
        self.run.finish()
