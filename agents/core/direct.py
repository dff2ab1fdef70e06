"""Modules that are called without nn.Module's search for hooks, which takes as long as a small network's product."""

from __future__ import annotations

from typing import Any

from torch import nn


class Direct(nn.Module):
    """A module whose call is `forward` at once, unless it has hooks of its own; torch's global hooks do not see it."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if self._forward_hooks or self._forward_pre_hooks or self._backward_hooks or self._backward_pre_hooks:
            return super().__call__(*arguments, **options)
        return self.forward(*arguments, **options)
