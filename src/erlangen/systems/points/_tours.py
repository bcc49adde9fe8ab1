"""Travelling-salesman instances with proven optimal tours, and a small pointer network that learns to imitate them."""

from __future__ import annotations

import itertools

import torch
from torch import Generator, Tensor, nn

from erlangen.errors import ShapeError, check_finite

MAX_CITIES = 14
"""Held-Karp keeps 2^(n-1) (n-1) lengths per instance; the largest n that is sensible here."""
CHUNK = 256
"""Instances per table of `optimal_tours`."""
CLIP = 10.0
"""Bound of the logits of `Pointer`."""


def optimal_tours(pos: Tensor) -> Tensor:
    """Shortest closed tours by dynamic programming over subsets (Bellman 1962; Held and Karp 1962): exact.

    Args:
        pos: cities ``[B, n, d]``, 3 <= n <= `MAX_CITIES`; lengths are compared in float64.

    Returns:
        Orders of visit ``[B, n]`` int64, which start at city 0.

    Raises:
        ShapeError: another shape, or too few or many cities.
        NotFiniteError: NaN or Inf among the coordinates.
    """
    if pos.ndim != 3 or not 3 <= pos.shape[1] <= MAX_CITIES:
        raise ShapeError(f"pos has shape {tuple(pos.shape)}; give [B, n, d] with 3 <= n <= {MAX_CITIES} cities")
    check_finite(pos, "pos")
    return torch.cat(
        [_held_karp(torch.cdist(part, part)) for part in pos.double().split(CHUNK)] or [pos[..., 0].long()]
    )


def _held_karp(D: Tensor) -> Tensor:
    """Tours ``[B, n]`` of distances ``[B, n, n]``; subsets are bit masks of the cities 1..n-1."""
    m = D.shape[1] - 1
    between = D[:, 1:, 1:].permute(1, 2, 0)  # from, to, instance
    # best[S, j]: length of the shortest path from city 0 through all of S that ends in j.
    best = D.new_full((1 << m, m, len(D)), torch.inf)
    for j in range(m):
        best[1 << j, j] = D[:, 0, j + 1]
    for size in range(2, m + 1):
        subsets = [sum(1 << j for j in chosen) for chosen in itertools.combinations(range(m), size)]
        for j in range(m):
            S = torch.tensor([subset for subset in subsets if subset >> j & 1])
            best[S, j] = (best[S ^ (1 << j)] + between[:, j]).amin(1)
    last = (best[-1] + D[:, 1:, 0].T).argmin(0)
    visited, rows, order = torch.full_like(last, (1 << m) - 1), torch.arange(len(D)), [last]
    for _ in range(m - 1):
        visited = visited ^ (1 << last)
        last = (best[visited, :, rows] + between[:, last, rows].T).argmin(-1)
        order.append(last)
    return torch.stack([torch.full_like(last, -1), *order[::-1]], -1) + 1


def tour_lengths(pos: Tensor, tours: Tensor) -> Tensor:
    """Lengths ``[B]`` of closed tours ``[B, n]`` through ``pos [B, n, d]``."""
    path = pos.gather(1, tours[..., None].expand(*tours.shape, pos.shape[-1]))
    return (path - path.roll(-1, 1)).norm(dim=-1).sum(-1)


def rewrite_tours(tours: Tensor, generator: Generator | None = None) -> Tensor:
    """The same closed tours ``[B, n]``, each from a random city in a random direction."""
    B, n = tours.shape
    start = torch.randint(n, (B, 1), generator=generator)
    step = 1 - 2 * torch.randint(2, (B, 1), generator=generator)
    return tours.gather(1, (start + step * torch.arange(n)) % n)


class Pointer(nn.Module):
    """Which city comes next: a transformer encoder and a pointer (Kool et al., ICLR 2019), without positions in a list.

    The query is made of the means over all cities and over those not yet visited, the first city and the last one.

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


class SortedDistances(nn.Module):
    """A model of the sorted distances from each city to the others, in units of their root mean square: invariant."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, tour: Tensor) -> Tensor:
        """The model's answer for cities ``x [B, n, d]``."""
        D = torch.cdist(x, x)
        unit = D.square().mean((1, 2), keepdim=True).sqrt()
        return self.model((D / unit).sort(-1).values[..., 1:], tour)


class Router(nn.Module):
    """A model of cities and a tour with the calling convention of `erlangen.training.fit`: one tree of inputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Logits for ``{"pos": [B, n, d], "tour": [B, n]}``."""
        return self.model(x["pos"], x["tour"])


@torch.no_grad()
def greedy_tours(router: nn.Module, pos: Tensor) -> Tensor:
    """Tours ``[B, n]`` from city 0, always to the most likely city."""
    tours = torch.zeros(pos.shape[:2], dtype=torch.long)
    for place in range(1, pos.shape[1]):
        tours[:, place] = router({"pos": pos, "tour": tours})[:, place - 1].argmax(-1)
    return tours


def imitation_loss(logits: Tensor, tour: Tensor) -> Tensor:
    """Mean cross-entropy of the cities at places 1..n-2; the last city is no choice."""
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tour[:, 1:-1].flatten())
