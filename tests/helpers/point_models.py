"""Small networks and clouds that the tests of several files share."""

import torch
from torch import Tensor, nn

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
"""What "exact" means: largest relative error per dtype."""


class PointNet(nn.Module):
    """A set network: any output per point or per cloud, with no symmetry of space."""

    def __init__(self, n: int, out: int, pool: bool = True) -> None:
        super().__init__()
        self.first, self.second, self.pool = nn.Linear(n, 24), nn.Linear(24, out), pool

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        h = torch.tanh(self.first(x))
        if self.pool:
            weight = torch.ones_like(h[..., :1]) if mask is None else mask.to(h.dtype)[..., None]
            h = (h * weight).sum(1) / weight.sum(1)
        return self.second(h)


class Matrix(nn.Module):
    """Symmetric matrices ``[B, n, n]``."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n, self.net = n, PointNet(n, n * n)

    def forward(self, x: Tensor) -> Tensor:
        M = self.net(x).unflatten(-1, (self.n, self.n))
        return M @ M.mT


def model_for(output: str, n: int) -> nn.Module:
    if output == "spd":
        return Matrix(n)
    return PointNet(n, 5 if output == "invariant" else n, pool=output == "invariant")


def cloud(batch: int, count: int, n: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Clouds with well separated axes, off the origin, without symmetry."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, count, n, generator=generator, dtype=torch.float64)
    x = x + 0.4 * x.square()
    return (x * torch.arange(1, n + 1) + 0.3).to(dtype)
