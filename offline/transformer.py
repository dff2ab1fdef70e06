"""The network of the Decision Transformer: GPT-2's blocks over returns, observations and actions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..agents.core.bodies import body
from ..agents.core.masks import forbid
from ..agents.core.policies import Categorical
from ..agents.core.spec import Spec


class Block(nn.Module):
    """x + attention(norm x), then x + mlp(norm x): each position sees itself and what is before. `[B, T, width]`."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.read, self.write = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        parts = self.read(self.before_attention(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True, dropout_p=dropout)
        x = x + F.dropout(self.write(seen.transpose(1, 2).flatten(2)), dropout, self.training)
        return x + F.dropout(self.mlp(self.before_mlp(x)), dropout, self.training)


class CausalTransformer(nn.Module):
    """Returns to go `[B, K]`, observations `[B, K, ...]`, actions `[B, K, A]`, times `[B, K]` -> actions `[B, K, A]`.

    For discrete actions `[B, K]` it gives their laws. The guess of step t depends on returns and observations up to t
    and on actions up to t - 1. Weights start as in GPT-2: normal with deviation 0.02, biases 0.
    """

    def __init__(self, spec: Spec, width: int, blocks: int, heads: int, longest: int, dropout: float):
        super().__init__()
        self.spec, self.longest, self.dropout = spec, longest, dropout
        self.body, features = body(spec, ())
        self.of_return, self.of_obs = nn.Linear(1, width), nn.Linear(features, width)
        self.of_action = nn.Embedding(spec.actions, width) if spec.discrete else nn.Linear(spec.actions, width)
        self.of_time, self.norm = nn.Embedding(longest, width), nn.LayerNorm(width)
        self.blocks = nn.Sequential(*(Block(width, heads, dropout) for _ in range(blocks)), nn.LayerNorm(width))
        self.last = nn.Linear(width, spec.actions)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, return_to_go: Tensor, obs: Tensor, action: Tensor, time: Tensor) -> Tensor | Categorical:
        features = self.body(obs.flatten(0, 1)).unflatten(0, time.shape)
        tokens = (self.of_return(return_to_go.unsqueeze(-1)), self.of_obs(features), self.of_action(action))
        x = torch.stack(tokens, 2) + self.of_time(time.clamp(max=self.longest - 1)).unsqueeze(2)
        x = F.dropout(self.norm(x.flatten(1, 2)), self.dropout, self.training)
        output = self.last(self.blocks(x)[:, 1::3])
        return Categorical.of(forbid(self.spec, obs, output)) if self.spec.discrete else output.tanh()
