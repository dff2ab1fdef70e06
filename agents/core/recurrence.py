"""Memory: recurrent layers that forget where an episode begins."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

Cell = Literal["lstm", "gru"]


class Recurrence(nn.Module):
    """An LSTM or GRU layer. Its state of one environment is one vector: the LSTM's hidden and cell state in a row."""

    def __init__(self, inputs: int, size: int, cell: Cell = "lstm"):
        super().__init__()
        self.size, self.cell = size, cell
        self.layer: nn.RNNBase = (nn.LSTM if cell == "lstm" else nn.GRU)(inputs, size)
        for name, parameter in self.layer.named_parameters():
            if not parameter.is_meta:
                nn.init.orthogonal_(parameter) if name.startswith("weight") else nn.init.zeros_(parameter)

    def initial(self, columns: int) -> Tensor:
        """The state at an episode's start, `[N, S]`."""
        width = 2 * self.size if self.cell == "lstm" else self.size
        return torch.zeros(columns, width, device=next(self.layer.parameters()).device)

    def forward(self, x: Tensor, state: Tensor, start: Tensor, cuts: Iterable[int]) -> tuple[Tensor, Tensor]:
        """x `[T, N, F]`, state before it `[N, S]` -> outputs `[T, N, size]` and the state after.

        Where `start` `[T, N]` the state is zero before the row. `cuts` are the rows above 0 with a start in any column:
        between them the layer runs in one call.
        """
        outputs = []
        for begin, end in pairwise((0, *cuts, len(x))):
            state = forget(state, start[begin])
            parts = tuple(part.contiguous() for part in state.unsqueeze(0).split(self.size, -1))
            output, after = self.layer(x[begin:end], parts if self.cell == "lstm" else parts[0])
            outputs.append(output)
            state = torch.cat(after, -1)[0] if self.cell == "lstm" else after[0]
        return torch.cat(outputs), state


def starts(episode_start: Any, count: int) -> np.ndarray:
    """Where episodes begin, bool `[count]`: nowhere if `episode_start` is None."""
    return np.zeros(count, bool) if episode_start is None else np.asarray(episode_start, bool).reshape(-1)


def forget(state: Tensor, start: Tensor) -> Tensor:
    """The states `[N, S]`, zero where `start` `[N]`."""
    return state.masked_fill(start.unsqueeze(1), 0.0)
