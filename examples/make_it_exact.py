"""Make a model exactly equivariant: forces on points that turn and shift with the points.

To use it for your own model change `Forces`, `load_batch` and the symmetry. The script wraps the untrained network, shows
that it is exact at once, and trains the wrapped network on the forces of springs; a plain network is trained beside it.
"""

import torch
from torch import Tensor, nn

import erlangen as er

SYMMETRY = er.Symmetry("SE(3)", input={"pos": "points", "vel": "vectors"}, output="vectors")
POINTS = 5


class Forces(nn.Module):
    """Positions and velocities ``[B, 5, 3]`` to forces ``[B, 5, 3]``; knows nothing of symmetry."""

    def __init__(self) -> None:
        super().__init__()
        width = 3 * POINTS
        self.net = nn.Sequential(
            nn.Linear(2 * width, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, width)
        )

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Forces of a batch."""
        return self.net(torch.cat([x["pos"], x["vel"]], -1).flatten(1)).unflatten(1, (POINTS, 3))


def load_batch(samples: int, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """Your data; here points joined by springs of length 1, with friction. All clouds lie alike: flat, at the origin."""
    generator = torch.Generator().manual_seed(seed)
    flat = torch.tensor([1.0, 1.0, 0.2])
    pos, vel = (torch.randn(samples, POINTS, 3, generator=generator) * flat for _ in range(2))
    steps = pos[:, None] - pos[:, :, None]
    length = steps.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    return {"pos": pos, "vel": vel}, ((length - 1) / length * steps).sum(2) - 0.1 * vel


def main() -> None:
    (x, y), (new_x, new_y) = load_batch(512, seed=0), load_batch(64, seed=1)
    for name in ("plain", "exact"):
        torch.manual_seed(0)
        model = Forces() if name == "plain" else er.symmetrize(Forces(), SYMMETRY)
        untrained = er.equivariance_error(model, SYMMETRY, new_x, elements=32, reduce="max")
        er.fit(model, x, y, loss=nn.functional.mse_loss, epochs=20, batch_size=32, lr=3e-3)
        report = er.audit(model, SYMMETRY, new_x, new_y, elements=32)
        print(
            f"{name}: worst error {float(untrained):.1e} untrained, {report.worst_error:.1e} trained; "
            f"mean squared error {report.upright:.3f} as given, {report.orbit_mean:.3f} moved"
        )


if __name__ == "__main__":
    main()
