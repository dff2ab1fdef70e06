"""Bodies: what turns observations of any kind into features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .errors import UnsupportedSpace
from .nets import Initialiser, mlp, uniform_init
from .spec import Spec


class CNN(nn.Module):
    """Convolutions (filters, kernel, stride) and one wide layer: images `[B, C, H, W]` uint8 -> `[B, features]`."""

    def __init__(
        self,
        shape: Sequence[int],
        convolutions: Sequence[tuple[int, int, int]],
        features: int,
        init: Initialiser | None = None,
        noise: float = 0.0,
    ):
        super().__init__()
        layers, channels = list[nn.Module](), shape[0]
        for filters, kernel, stride in convolutions:
            layers += [nn.Conv2d(channels, filters, kernel, stride), nn.ReLU(inplace=True)]
            channels = filters
        self.convolutions = nn.Sequential(*layers, nn.Flatten())
        flat = self.convolutions(torch.zeros(1, *shape)).shape[1]
        self.linear = mlp(flat, (features,), init=init or uniform_init, noise=noise)
        if init is not None:
            with torch.no_grad():
                for layer in self.convolutions:
                    if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                        init(layer.weight.flatten(1).t(), layer.bias)

    def forward(self, image: Tensor) -> Tensor:
        image = image.contiguous(memory_format=torch.channels_last)  # in which convolutions are faster
        return self.linear(self.convolutions(image.to(torch.float32, copy=True).div_(255.0)))


class NatureCNN(CNN):
    """The convolutional body of DQN for Atari (Mnih et al. 2015), with 512 features."""

    def __init__(self, shape: Sequence[int], init: Initialiser | None = None, features: int = 512, noise: float = 0.0):
        super().__init__(shape, [(32, 8, 4), (64, 4, 2), (64, 3, 1)], features, init, noise)


class SmallCNN(CNN):
    """The convolutional body of DQN for MinAtar (Young and Tian 2019), with 128 features: one layer of 16 filters."""

    def __init__(self, shape: Sequence[int], init: Initialiser | None = None, features: int = 128, noise: float = 0.0):
        if min(shape[1:]) < 3:
            raise UnsupportedSpace(f"images of {shape[1]} x {shape[2]} pixels are too small for a CNN: flatten them")
        super().__init__(shape, [(16, 3, 1)], features, init, noise)


class Members(nn.Module):
    """Separate networks side by side, for those that have no batched form: `[B, ...]` -> `[E, B, ...]`."""

    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([network(x) for network in self.networks])


class PartsBody(nn.Module):
    """Features of the parts of flat observations `[B, ...]`, side by side. The mask at their end is no feature."""

    def __init__(self, spec: Spec, hidden: Sequence[int], **options: Any):
        super().__init__()
        images = [part.image_shape for part in spec.parts if part.is_image]
        vector = spec.obs_size - sum(map(math.prod, images))
        specs = [Spec((vector,), spec.actions, spec.discrete)] if vector else []
        specs += [Spec(shape, spec.actions, spec.discrete, obs_dtype="uint8") for shape in images]
        bodies, features = zip(*(body(part, hidden, **options) for part in specs), strict=True)
        self.bodies, self.features = nn.ModuleList(bodies), sum(features)
        self.width, self.shapes = spec.obs_size, [part.obs_shape for part in specs]
        self.sizes = [part.obs_size for part in specs]

    def forward(self, obs: Tensor) -> Tensor:
        parts = zip(self.bodies, obs[..., : self.width].split(self.sizes, -1), self.shapes, strict=True)
        return torch.cat([net(part.unflatten(-1, shape)) for net, part, shape in parts], -1)


def body(spec: Spec, hidden: Sequence[int], widen: int = 1, **options: Any) -> tuple[nn.Module, int]:
    """What turns observations into features, and how many; `widen` multiplies the width of the last layer.

    A CNN for images (SmallCNN below 36 pixels, else NatureCNN), hidden layers for vectors; for an observation of
    `parts`, one for each image and one for all the rest. Options go to `mlp`.
    """
    if spec.parts:
        parts = PartsBody(spec, hidden, widen=widen, **options)
        return parts, parts.features
    if spec.is_image:
        kind, features = (SmallCNN, 128 * widen) if min(spec.obs_shape[1:]) < 36 else (NatureCNN, 512 * widen)
        make = partial(kind, spec.obs_shape, options.get("init"), features, options.get("noise", 0.0))
        size = options.get("size")
        return (make() if size is None else Members([make() for _ in range(size)])), features
    hidden = (*hidden[:-1], widen * hidden[-1]) if hidden else ()
    return mlp(spec.obs_size, hidden, **options), (spec.obs_size, *hidden)[-1]
