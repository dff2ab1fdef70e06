"""What is left of an agent between two processes: all that training changes, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from .errors import InvalidSetting
from .parameters import FlatParameters
from .seeding import forked


class Stateful(nn.Module):
    """A module whose networks, optimisers and counters can be taken out, checked and put back, bit for bit."""

    _flat: dict[str, FlatParameters]
    device: torch.device
    steps: int
    updates: int
    owed: float
    progress: float
    learnt_from: tuple[dict[str, Any], ...] = ()
    """The data sets of `fit`, one after another: `id`, `sha256` and `options` of each."""

    def anew(self) -> Self:
        """Another of the same kind, with initial weights of its own."""
        raise NotImplementedError

    def __setattr__(self, name: str, value: Any) -> None:
        """Numbers and dictionaries without nn.Module's search, which costs more than counting."""
        if isinstance(value, int | float | dict):
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def counters(self) -> dict[str, Any]:
        return {"steps": self.steps, "updates": self.updates, "owed": self.owed, "progress": self.progress}

    def state(self) -> dict[str, Tensor]:
        """Networks, targets, normalisers (`net.`) and optimisers (`optimizer.`): everything that training changes."""
        tensors = {f"net.{name}": value for name, value in self.state_dict().items()}
        for name, flat in self._flat.items():
            tensors |= {f"optimizer.{name}.{key}": value for key, value in flat.optimizer_state().items()}
        return tensors

    def load_state(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Takes over what `state` and `counters` gave. Raises InvalidCheckpoint for what they could not have given."""
        from .checkpoint import check

        check(self, tensors, counters)  # type: ignore[arg-type]
        own = self.state_dict(keep_vars=True)  # the tensors themselves: an empty one takes on the size of the saved
        with torch.no_grad():
            for name, value in own.items():
                new = tensors[f"net.{name}"].to(self.device)
                value.resize_(new.shape).copy_(new) if value.numel() == 0 else value.copy_(new)
        for name, flat in self._flat.items():
            prefix = f"optimizer.{name}."
            flat.load_optimizer_state({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        for name in self.counters():
            setattr(self, name, counters[name])

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        with forked(self.device):  # its initial weights are overwritten: draw them from no stream
            other = self.anew()
        other.load_state(self.state(), self.counters())
        other.learnt_from = self.learnt_from
        return other

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        raise InvalidSetting("an agent stays on its device: choose it in make or load, by device=")
