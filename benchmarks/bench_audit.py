"""Auditing 256 elements: one call of `equivariance_error` against the loop that everybody writes."""

from __future__ import annotations

import torch
from common import compare
from torch import Tensor, nn

import erlangen as er

K = 256


class PointNet(nn.Module):
    """Shared MLP per point, maximum over points."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 128), nn.ReLU())
        self.head = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).max(1).values)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 8))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(16 * 28 * 28, 10),
    )  # fmt: skip


def loop_points(model: nn.Module, x: Tensor, elements: Tensor) -> Tensor:
    """The plain loop over elements."""
    with torch.no_grad():
        base = model(x)
        size = base.norm(dim=-1)
        return torch.stack([(model(x @ g.T) - base).norm(dim=-1) / size for g in elements])


def loop_images(model: nn.Module, x: Tensor) -> Tensor:
    """The plain loop over the 256 cyclic shifts of a 16 x 16 block."""
    with torch.no_grad():
        base = model(x)
        size = base.norm(dim=-1)
        shifts = [(i, j) for i in range(16) for j in range(16)]
        return torch.stack([(model(torch.roll(x, s, (-2, -1))) - base).norm(dim=-1) / size for s in shifts])


def main() -> None:
    torch.manual_seed(0)
    rotations = er.SO(3).grid(K)
    points = er.Symmetry("SO(3)", input="points", output="invariant")
    for case, model, shape, target in (
        ("audit 256 rotations, MLP 30-32-8, 8 clouds of 10 points", mlp().eval(), (8, 10, 3), 7.0),
        ("audit 256 rotations, PointNet, 8 clouds of 256 points", PointNet().eval(), (8, 256, 3), 1.0),
        ("audit 256 rotations, PointNet, 32 clouds of 1024 points", PointNet().eval(), (32, 1024, 3), 1.0),
    ):
        x = torch.randn(shape)
        compare(
            case,
            lambda model=model, x=x: er.equivariance_error(model, points, x, elements=rotations, reduce="none"),
            "plain loop over elements",
            lambda model=model, x=x: loop_points(model, x, rotations),
            target=target,
            note="table of 256 x B relative errors; chunk found by timing in the warm-up",
            runs=7 if shape[1] == 1024 else 15,
        )
    shifts = er.Symmetry("Shifts(28,28)", input="image", output="invariant")
    block = torch.cartesian_prod(torch.arange(16), torch.arange(16))
    x = torch.rand(16, 1, 28, 28)
    model = cnn().eval()
    compare(
        "audit 256 shifts, CNN, 16 images 28 x 28",
        lambda: er.equivariance_error(model, shifts, x, elements=block, reduce="none"),
        "plain loop over elements",
        lambda: loop_images(model, x),
        target=1.0,
        note="table of 256 x 16 relative errors",
        runs=9,
    )


if __name__ == "__main__":
    main()
