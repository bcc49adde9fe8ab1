"""What GeoTDM is compared with: the same blocks without geometry, an EGNN that answers once, Gaussians, data themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from erlangen.groups import E
from erlangen.nn import EGNN
from erlangen.symmetry import Symmetry
from erlangen.systems.motion.geotdm._network import TrajectoryNet
from erlangen.systems.motion.geotdm.data import Motion, widths


class PlainTrajectoryNet(TrajectoryNet):
    """The blocks of `EGTN` without its geometry: coordinates, steps and vectors are features like others.

    It does not see where the whole trajectory is, but how it lies. Arguments and errors as `EGTN`.

    >>> PlainTrajectoryNet(features=16, layers=2)({"pos": torch.randn(8, 15, 5, 3)}).shape
    torch.Size([8, 15, 5, 3])
    """

    geometric = False

    @override
    def _read(self, pos: Tensor, steps: Tensor, vectors: list[Tensor]) -> list[Tensor]:
        return [pos, steps, *vectors]


class Regression(nn.Module):
    """`EGNN` as it is used for forecasts: one answer for each frame ahead, starting from where velocities lead.

    It reads the speeds of particles and all distances in the known frames, features, and how far ahead the frame is. Each
    frame ahead is a graph of its own.
    """

    def __init__(self, x: Motion, features: int, layers: int) -> None:
        super().__init__()
        self.given, self.ahead, dim = x["past"].shape[1], x["pos"].shape[1], x["past"].shape[-1]
        nodes, pairs = widths(x)
        self.net = EGNN(
            nodes + self.given,
            1,
            features,
            layers=layers,
            edge_features=pairs + self.given,
            velocity=True,
            dim=dim,
        )
        self.symmetry = Symmetry(E(dim), input={"past": "points"}, output="points")

    def forward(self, x: Motion) -> Tensor:
        """Positions ``[B, frames ahead, N, n]``."""
        past = x["past"]
        count, _, particles, _ = past.shape
        ahead = torch.arange(1, self.ahead + 1, device=past.device, dtype=past.dtype).view(1, -1, 1, 1) / self.ahead
        velocity = past[:, -1:] - past[:, -2:-1]
        speeds = past.diff(dim=1).norm(dim=-1).transpose(1, 2)
        apart = (past[:, :, :, None] - past[:, :, None]).norm(dim=-1).permute(0, 2, 3, 1)
        node = torch.cat([speeds, x["node"]], -1) if "node" in x else speeds
        pairs = torch.cat([apart, x["edge_attr"]], -1) if "edge_attr" in x else apart
        drift = ahead * self.ahead * velocity
        features = torch.cat(
            [node[:, None].expand(-1, self.ahead, -1, -1), ahead.expand(count, -1, particles, -1)],
            -1,
        )
        pairs = pairs[:, None].expand(-1, self.ahead, -1, -1, -1)
        mask = x["mask"][:, None].expand(-1, self.ahead, -1) if "mask" in x else None
        return self.net(features, past[:, -1:] + drift, drift, pairs, mask=mask)[1]


@dataclass(frozen=True)
class Sampler:
    """What draws trajectories without learning: ``draw(count, generator)`` gives ``[count, T, N, 3]``."""

    draw: Callable[[int, Generator], Tensor]


def moments(pos: Tensor) -> Sampler:
    """The Gaussian with the mean and the whole covariance of trajectories ``[B, T, N, 3]``, centred like them."""
    flat = pos.flatten(1).double()
    values, vectors = torch.linalg.eigh(flat.T.cov())

    def draw(count: int, generator: Generator) -> Tensor:
        drawn = torch.randn(count, len(values), generator=generator, dtype=torch.float64) * values.clamp(min=0).sqrt()
        drawn = (drawn @ vectors.T + flat.mean(0)).unflatten(1, pos.shape[1:])
        return (drawn - drawn.mean((1, 2), keepdim=True)).to(pos.dtype)

    return Sampler(draw)


def independent(pos: Tensor) -> Sampler:
    """Independent normal coordinates with the variance of trajectories ``[B, T, N, 3]``, centred."""

    def draw(count: int, generator: Generator) -> Tensor:
        drawn = torch.randn(count, *pos.shape[1:], generator=generator, dtype=pos.dtype)
        return (drawn - drawn.mean((1, 2), keepdim=True)) * pos.std()

    return Sampler(draw)
