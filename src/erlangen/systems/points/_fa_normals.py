"""Normals of point clouds: a PointNet in frames of the whole cloud, or of the neighbours of each point."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn

from erlangen.enforce import symmetrize
from erlangen.errors import ShapeError, check_finite
from erlangen.groups import SO, E, O
from erlangen.nn import PointNet
from erlangen.simulate import surfaces
from erlangen.soft import augment
from erlangen.symmetry import Symmetry
from erlangen.training import fit

WIDTH = 24
NEIGHBOURS = 16

NORMALS = Symmetry(E(3), input="points", output="spd")
"""Lines along the normals, as projectors, turn with the cloud and do not notice shifts."""


class Lines(nn.Module):
    """Projectors ``[..., 3, 3]`` on the lines along the vectors ``[..., 3]`` of a network.

    The sign of a normal is not asked for, so its line is what moves with the points. Averages of vectors would cancel where
    a cloud is its own mirror image; averages of projectors do not, and their product with a line is the average of cos^2.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Projectors for the points, or patches, x."""
        vectors = self.net(x)
        unit = vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        return unit[..., :, None] * unit[..., None, :]


class LocalFrames(nn.Module):
    """A line for each point from its nearest neighbours alone, exact under rotations, reflections and shifts.

    Every patch is moved to its point, divided by its size, and framed by its own principal axes. A network that sees patches
    in their frames meets fewer different pictures than one that sees whole clouds.

    Args:
        net: from patches ``[P, neighbours, 3]`` to vectors ``[P, 3]``.
        neighbours: points of a patch, the point itself among them.
        samples: elements of each frame in a training step, drawn at random; all 8 without it, and in eval mode.

    Attributes:
        symmetry: E(3) from points to projectors.
    """

    symmetry = NORMALS

    def __init__(self, net: nn.Module, neighbours: int = NEIGHBOURS, *, samples: int | None = None) -> None:
        super().__init__()
        self.neighbours = neighbours
        around = Symmetry(O(3), input="vectors", output="spd")
        # Patches of few points are often near to a tie; what is exact for all others still holds.
        self.net = symmetrize(Lines(net), around, samples=samples, on_degenerate="allow")

    def forward(self, x: Tensor) -> Tensor:
        """Averaged projectors ``[B, N, 3, 3]`` of clouds ``[B, N, 3]``.

        Raises:
            ShapeError: another shape, or fewer points than neighbours.
            NotFiniteError: a number is NaN or infinite.
        """
        if x.dim() != 3 or x.shape[-1] != 3 or x.shape[1] < self.neighbours:
            raise ShapeError(f"x has shape {tuple(x.shape)}; pass [B, N, 3] with N at least {self.neighbours}")
        check_finite(x, "x")
        local = patches(x, self.neighbours)
        size = local.square().sum(-1).mean(-1).sqrt()[..., None, None]
        return self.net((local / size.clamp(min=torch.finfo(x.dtype).tiny)).flatten(0, 1)).unflatten(0, x.shape[:2])


def patches(x: Tensor, neighbours: int) -> Tensor:
    """Nearest neighbours of every point relative to it, ``[B, N, neighbours, 3]``."""
    apart = (x.detach()[:, :, None] - x.detach()[:, None]).square().sum(-1)
    nearest = apart.topk(neighbours, largest=False).indices
    index = nearest.flatten(1)[..., None].expand(-1, -1, 3)
    return x.gather(1, index).unflatten(1, nearest.shape[1:]) - x[:, :, None]


def point_net() -> PointNet:
    """A vector for each point of a cloud."""
    return PointNet(3, 3, WIDTH, per_point=True)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "PointNet": lambda: Lines(point_net()),
    "PointNet, augmented": lambda: Lines(point_net()),
    "FA-PointNet": lambda: symmetrize(Lines(point_net()), NORMALS, samples=2, on_degenerate="allow"),
    "FA-local-PointNet": lambda: LocalFrames(PointNet(3, 3, WIDTH + 2), samples=1),
}


def line_loss(projectors: Tensor, normals: Tensor) -> Tensor:
    """Mean over points, and over the elements of frames, of ``1 - cos^2`` of the angle between line and normal."""
    return 1 - ((projectors @ normals[..., None])[..., 0] * normals).sum(-1).mean()


def main_lines(projectors: Tensor) -> Tensor:
    """Unit vectors ``[..., 3]`` along the main axes of averaged projectors: the prediction."""
    return torch.linalg.eigh(projectors.double()).eigenvectors[..., -1].to(projectors)


def normals_run(
    name: str, samples: tuple[int, int], points: int, epochs: int, rate: float, seed: int
) -> dict[str, Any]:
    """Train one model on upright surfaces; its loss on upright and on rotated ones."""
    generator = Generator().manual_seed(seed)
    data = surfaces(sum(samples), points, generator=generator)
    x, y = data.pos[: samples[0]], data.normals[: samples[0]]
    test, normals = data.pos[samples[0] :], data.normals[samples[0] :]
    torch.manual_seed(seed)
    model = MODELS[name]()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    begin = time.process_time()
    fit(
        model,
        x,
        y,
        loss=line_loss,
        epochs=epochs,
        batch_size=20,
        optimizer=lambda _: optimizer,
        transform=augment(Symmetry(SO(3), input="points", output="vectors")) if name.endswith("augmented") else None,
        callbacks=[lambda epoch, model, metrics: schedule.step()],
        clip=1.0,
        seed=seed,
        progress=False,
    )
    seconds = time.process_time() - begin
    model.eval()
    turns = SO(3).sample(len(test), generator=generator, dtype=test.dtype)

    @torch.no_grad()
    def error(x: Tensor, y: Tensor) -> float:
        found = main_lines(torch.cat([model(part) for part in x.split(20)]))
        return float(1 - (found * y).sum(-1).square().mean())

    return {
        "1 - cos^2, I/I": error(test, normals),
        "1 - cos^2, I/SO(3)": error(test @ turns.mT, normals @ turns.mT),
        "training seconds": seconds,
        "parameters": sum(p.numel() for p in model.parameters()),
        "epochs": epochs,
        "samples": samples[0],
    }
