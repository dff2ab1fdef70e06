"""Data sets that stay on the disk: a file is converted once to Bellmark's own rows, which are mapped into memory.

HDF5's and npz's arrays have no row for the last observation of an episode, and most are compressed, so they cannot be
mapped as they are. The rows lie beside the file, in a folder named after its hash and the options that shape them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..agents.core.buffer import Buffer
from ..agents.core.errors import InvalidData, InvalidSetting
from ..agents.core.spec import Spec
from .options import Options
from .preparing import Prepared
from .recording import Episodes

VERSION = 2
FACTS = "facts.json"
LATER = ("validation", "split_seed", "top_episodes", "weighting", "weighting_temperature", "memory_map")
"""Options that do not shape the rows."""
MAPPED = ("obs", "action")
"""Fields that stay on the disk; the others take 7 bytes for each row."""


def prepare(path: Path, sha256: str, chosen: Options, make: Callable[..., Prepared], device: str) -> Prepared:
    """What `make` gives, with rows that lie on the disk; `make` is called only if they are not there yet.

    While rows are made they need about twice their room on the disk. Raises InvalidSetting for another device than the
    host or a folder that cannot be written to, and what `make` raises.
    """
    if torch.device(device).type != "cpu":
        raise InvalidSetting(f"memory_map leaves the data on the disk, not on {device}: leave one of the two out")
    shaping = {name: value for name, value in dataclasses.asdict(chosen).items() if name not in LATER}
    key = {"version": VERSION, "sha256": sha256, "options": shaping}
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    folder = path.with_name(f"{path.name}.rows-{name}")
    if not (folder / FACTS).is_file():
        try:
            _convert(folder, key, make)
        except OSError as error:
            if isinstance(error, InvalidData):
                raise
            raise InvalidSetting(
                f"the rows of {path} cannot be written beside it as {folder.name} ({error.strerror}): put the file on "
                "a disk with room, where you may write"
            ) from error
    return _open(folder, key)


def _convert(folder: Path, key: Mapping[str, Any], make: Callable[..., Prepared]) -> None:
    """Writes the rows under another name, and renames the folder when it is whole."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        (part / "columns").mkdir(parents=True)
        made = make(columns=_place(part / "columns"), rows=_place(part))
        facts = {
            "key": key,
            "spec": made.buffer.spec.to_dict(),
            "env_id": made.env_id,
            "unfinished": made.episodes.unfinished,
            "factor": made.factor,
            "metadata": made.metadata,
            "boundaries": made.boundaries,
            "recorded": made.recorded,
        }
        for field, values in (("returns", made.episodes.returns), ("lengths", made.episodes.lengths)):
            np.save(part / f"{field}.npy", values, allow_pickle=False)
        del made  # unmaps, which writes what is not written yet
        shutil.rmtree(part / "columns")
        (part / FACTS).write_text(json.dumps(facts))
        if not folder.exists():  # another process may have been faster
            os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _place(folder: Path) -> Callable[[str, tuple[int, ...], np.dtype], np.ndarray]:
    """Gives arrays of zeros in files of that folder."""
    return lambda name, shape, dtype: np.lib.format.open_memmap(
        folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape
    )


def _open(folder: Path, key: Mapping[str, Any]) -> Prepared:
    """Raises InvalidData if the folder does not hold what it should."""
    try:
        facts = json.loads((folder / FACTS).read_text())
        if facts["key"] != key:
            raise ValueError("it was made from something else")
        buffer = Buffer(Spec.from_dict(facts["spec"]), 2)
        fields, rows = {}, 0
        for name, (shape, kind) in buffer._layout().items():
            values = np.load(folder / f"{name}.npy", mmap_mode="r" if name in MAPPED else None, allow_pickle=False)
            rows = rows or len(values)
            if values.shape != (rows, 1, *shape) or values.dtype != str(kind).removeprefix("torch."):
                raise ValueError(f"{name} has the shape {values.shape} of {values.dtype}")
            with warnings.catch_warnings():  # torch knows no tensors that must not be written to; a data set is not
                warnings.filterwarnings("ignore", "The given NumPy array is not writable")
                fields[name] = torch.from_numpy(values)
        buffer.adopt(fields)
        played = [np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("returns", "lengths")]
        return Prepared(
            buffer,
            facts["env_id"],
            Episodes(played[0], played[1], facts["unfinished"]),
            facts["factor"],
            facts["metadata"],
            facts["boundaries"],
            facts["recorded"],
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise InvalidData(f"{folder} is damaged ({error}): remove it, and it is made anew") from error
