"""Reads tensors that torch has saved, without trust: float32 tensors by name, and nothing else.

`torch.load(weights_only=True)` calls no function of the file's choice, but some that take any amount of memory, and in
versions before 2.10 it believes the sizes that a file states. So its instructions are looked through before.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from .errors import InvalidCheckpoint
from .memory import require

GLOBALS = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch FloatStorage"}
"""All that a file of float32 tensors needs to name."""
LIMITS = {"data": 20_000_000, "data.pkl": 1_000_000}
"""Sizes in bytes, a thousand times the usual, beyond which entries of these names are not looked into."""


def entries(file: Path | io.BytesIO, wanted: Sequence[str] = ()) -> dict[str, bytes]:
    """The `wanted` entries of a zip file, or all.

    Raises InvalidCheckpoint if anything is compressed, which torch and stable-baselines3 never do. So nothing grows on
    reading, and all of it together is not larger than the file.
    """
    length = file.stat().st_size if isinstance(file, Path) else file.getbuffer().nbytes
    with zipfile.ZipFile(file) as archive:
        infos = {info.filename: info for info in archive.infolist()}
        if any(info.compress_type or info.flag_bits & 1 for info in infos.values()):
            raise InvalidCheckpoint("it is compressed or encrypted: save it again without that")
        if len(infos) < len(archive.infolist()) or any(".." in name or name.startswith("/") for name in infos):
            raise InvalidCheckpoint("its entries have the same name twice, or names that lead elsewhere")
        if missing := set(wanted) - infos.keys():
            raise InvalidCheckpoint(f"it lacks {sorted(missing)}: give a zip file that stable-baselines3 has saved")
        sizes = {name: infos[name].file_size for name in wanted or infos}
        if sum(sizes.values()) > length or any(n > LIMITS.get(k.rpartition("/")[2], n) for k, n in sizes.items()):
            raise InvalidCheckpoint("its entries overlap or are absurdly large")
        require(3 * sum(sizes.values()), "three times its content", "cut it down", error=InvalidCheckpoint)
        return {name: archive.read(name) for name in sizes}


def read(content: bytes) -> dict[str, Tensor]:
    """The tensors in a file that `torch.save` wrote. Raises InvalidCheckpoint, or others where the file is damaged."""
    if not content.startswith(b"PK"):
        raise InvalidCheckpoint("its tensors are in the format before torch 1.6: save it again with a newer torch")
    found = entries(io.BytesIO(content))
    check_instructions(found)
    clean = io.BytesIO()  # written anew, so that torch's own zip reader finds what was checked here
    with zipfile.ZipFile(clean, "w") as archive:
        for name, value in found.items():
            archive.writestr(name, value)
    clean.seek(0)
    try:
        tensors = torch.load(clean, map_location="cpu", weights_only=True)
    except Exception as error:  # its message would recommend to run the code in the file
        raise InvalidCheckpoint("its tensors are damaged") from error
    values = tensors.values()
    if not all(type(value) is Tensor for value in values) or sum(4 * value.numel() for value in values) > len(content):
        raise InvalidCheckpoint("it holds something else than tensors, or less than their shapes need")
    if not all(value.isfinite().all() for value in values):
        raise InvalidCheckpoint("its tensors hold NaN or infinity")
    return tensors


def check_instructions(found: dict[str, bytes]) -> None:
    """Raises InvalidCheckpoint if they name anything but GLOBALS, or state another size than a storage has."""
    (name,) = (name for name in found if name.endswith("/data.pkl"))
    before: list[tuple[str, object]] = [("", None)] * 4
    for code, argument, _ in pickletools.genops(found[name]):
        if "GLOBAL" in code.name and argument not in GLOBALS:
            raise InvalidCheckpoint(f"its tensors would need {argument}, more than float32 tensors do")
        if code.name == "BINPERSID":  # of a tuple that ends with a storage's name, device and number of elements
            (kind, key), _, (integer, count), _ = before
            size = len(found.get(f"{name.removesuffix('.pkl')}/{key}", ()))
            if kind != "BINUNICODE" or integer not in ("BININT", "BININT1", "BININT2", "LONG1") or count != size / 4:
                raise InvalidCheckpoint("its tensors state other sizes than they have")
        if "PUT" not in code.name:
            before = [*before[1:], (code.name, argument)]
