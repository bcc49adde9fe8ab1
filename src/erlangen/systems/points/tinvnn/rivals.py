"""How networks of cities learn and make tours, and the rule that goes to the nearest city."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
    tours = torch.zeros(pos.shape[:2], dtype=torch.long, device=pos.device)
    for place in range(1, pos.shape[1]):
        tours[:, place] = router({"pos": pos, "tour": tours})[:, place - 1].argmax(-1)
    return tours


def imitation_loss(logits: Tensor, tour: Tensor) -> Tensor:
    """Mean cross-entropy of the cities at places 1..n-2; the last city is no choice."""
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tour[:, 1:-1].flatten())


def nearest_tours(pos: Tensor) -> Tensor:
    """Tours ``[B, n]`` from city 0, always to the nearest city not yet visited."""
    D = torch.cdist(pos, pos)
    tours = torch.zeros(pos.shape[:2], dtype=torch.long, device=pos.device)
    for place in range(1, pos.shape[1]):
        row = D.gather(1, tours[:, place - 1, None, None].expand(-1, 1, D.shape[-1]))[:, 0]
        tours[:, place] = row.scatter(1, tours[:, :place], torch.inf).argmin(-1)
    return tours
