"""A small pointer network: which of a set comes next."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CLIP = 10.0
"""Bound of the logits of `Pointer`."""


class Pointer(nn.Module):
    """Which city comes next: a transformer encoder and a pointer (Kool et al., ICLR 2019), without positions in a list.

    The query is made of the means over all cities and over those not yet visited, the first city and the last one.

    >>> Pointer(2)(torch.randn(3, 6, 2), torch.stack([torch.randperm(6) for _ in range(3)])).shape
    torch.Size([3, 5, 6])

    Args:
        features: numbers per city.
        width: channels; a multiple of 4, the number of heads.
        layers: encoder layers.
    """

    def __init__(self, features: int, width: int = 64, layers: int = 2) -> None:
        super().__init__()
        self.embed = nn.Linear(features, width)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.query = nn.Sequential(nn.Linear(4 * width, width), nn.GELU(), nn.Linear(width, width))
        self.key = nn.Linear(width, width)

    def forward(self, x: Tensor, tour: Tensor) -> Tensor:
        """Logits ``[B, n - 1, n]`` of the cities at places 1..n-1 of the tour, -1e9 where already visited.

        Args:
            x: ``[B, n, features]``.
            tour: ``[B, n]``; row t of the logits depends on places 0..t alone.
        """
        cities = self.encoder(self.embed(x))
        n, width = cities.shape[1:]
        visited = nn.functional.one_hot(tour[:, :-1], n).cumsum(1).clamp(max=1)  # [B, n-1, n]
        free = (1 - visited).to(cities)
        rest = free @ cities / free.sum(-1, keepdim=True).clamp(min=1)
        last = cities.gather(1, tour[:, :-1, None].expand(-1, -1, width))
        shared = [cities.mean(1, keepdim=True).expand_as(last), last[:, :1].expand_as(last)]
        query = self.query(torch.cat([*shared, last, rest], -1))
        logits = CLIP * torch.tanh(query @ self.key(cities).mT / width**0.5)
        return logits.masked_fill(visited > 0, -1e9)
