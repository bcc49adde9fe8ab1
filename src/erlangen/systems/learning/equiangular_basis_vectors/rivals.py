"""A small residual network, and heads with learned weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from typing_extensions import override


class Block(nn.Module):
    """Two convolutions that halve the picture, and a shortcut."""

    def __init__(self, channels: int, wider: int) -> None:
        super().__init__()
        self.long = nn.Sequential(
            nn.Conv2d(channels, wider, 3, 2, 1, bias=False),
            nn.BatchNorm2d(wider),
            nn.ReLU(),
            nn.Conv2d(wider, wider, 3, 1, 1, bias=False),
            nn.BatchNorm2d(wider),
        )
        self.short = nn.Sequential(nn.Conv2d(channels, wider, 1, 2, bias=False), nn.BatchNorm2d(wider))

    @override
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.long(x) + self.short(x))


class Classifier(nn.Module):
    """A residual network for pictures ``[B, 1, size, size]`` whose last linear layer has `width` outputs, and a head on them.

    Attributes:
        seen: accuracy on validation pictures after every epoch of training.
    """

    def __init__(self, width: int, head: nn.Module, *, size: int = 24, channels: int = 16) -> None:
        super().__init__()
        side = math.ceil(size / 8)
        self.backbone = nn.Sequential(
            nn.Conv2d(1, channels, 5, 2, 2, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            Block(channels, 2 * channels),
            Block(2 * channels, 4 * channels),
            nn.Flatten(),
            nn.Linear(4 * channels * side * side, width),
        )
        self.head = head
        self.seen: list[float] = []

    @override
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


class CosineHead(nn.Module):
    """The same logits with learned vectors and a learned temperature: a normalised softmax classifier."""

    def __init__(self, n_classes: int, dim: int, temperature: float = 0.07) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_classes, dim))
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))

    @override
    def forward(self, features: Tensor) -> Tensor:
        cosines = nn.functional.normalize(features, dim=-1) @ nn.functional.normalize(self.weight, dim=-1).mT
        return cosines / self.log_temperature.exp()
