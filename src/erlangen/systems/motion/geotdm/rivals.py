"""What GeoTDM is compared with: the same blocks without geometry, an EGNN that answers, Gaussians, data themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from erlangen.groups import E
from erlangen.nn import EGNN
from erlangen.survey import Split
from erlangen.symmetry import Symmetry
from erlangen.systems.motion.geotdm._network import TrajectoryNet
from erlangen.systems.motion.geotdm._priors import KeptVelocity
from erlangen.systems.motion.geotdm.data import Motion, widths
from erlangen.systems.motion.geotdm.method import DenoisingLoss, GeoTDM


class PlainTrajectoryNet(TrajectoryNet):
    """The blocks of `EGTN` without its geometry: coordinates, steps and vectors are features like others.

    It does not see where the whole trajectory is, but how it lies, and reads the distances of all pairs in every frame. Arguments
    and errors as `EGTN`.

    >>> PlainTrajectoryNet(features=16, layers=2)({"pos": torch.randn(8, 15, 5, 3)}).shape
    torch.Size([8, 15, 5, 3])
    """

    geometric = False
    measures = True

    @override
    def _read(self, pos: Tensor, steps: Tensor, vectors: list[Tensor]) -> list[Tensor]:
        return [pos, steps, *vectors]


class Sampled(DenoisingLoss):
    """A diffusion of a table.

    Attributes:
        all_steps: whether it draws with all steps of its chain, not with few.
        examined: whether its samplers are compared, and tested on turned data.
    """

    def __init__(self, model: GeoTDM, *, all_steps: bool = False, examined: bool = False) -> None:
        super().__init__(model)
        self.all_steps, self.examined = all_steps, examined


class Regression(nn.Module):
    """`EGNN` as it is used for forecasts: an answer for each frame ahead, starting from where velocities lead.

    It reads the speeds of particles and all distances in the known frames, features, and how far ahead the frame is. Each
    frame ahead is a graph of its own. Of several answers each adds its own combination of three vectors of the particle to what
    the network says; train with the best of them.
    """

    def __init__(self, x: Motion, features: int, layers: int, answers: int = 1) -> None:
        super().__init__()
        self.given, self.ahead, dim = x["past"].shape[1], x["pos"].shape[1], x["past"].shape[-1]
        nodes, pairs = widths(x)
        self.answers = answers
        self.net = EGNN(
            nodes + self.given,
            1 if answers == 1 else 3 * answers,
            features,
            layers=layers,
            edge_features=pairs + self.given,
            velocity=True,
            dim=dim,
        )
        self.symmetry = Symmetry(E(dim), input={"past": "points"}, output="points")

    def forward(self, x: Motion) -> Tensor:
        """Positions ``[B, frames ahead, N, n]``, or ``[B, answers, frames ahead, N, n]``."""
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
        start = past[:, -1:] + drift
        weights, place, speed = self.net(features, start, drift, pairs, mask=mask)
        if self.answers == 1:
            return place
        vectors = torch.stack([place - start, speed, drift.expand_as(place)], -2)
        return (place[..., None, :] + weights.unflatten(-1, (self.answers, 3)) @ vectors).movedim(-2, 1)


class Scattered(nn.Module):
    """Draws from the Gaussian about the velocity kept whose covariance of frames is that of training data, without direction."""

    def __init__(self, frames: int, dim: int, samples: int) -> None:
        super().__init__()
        self.kept, self.samples = KeptVelocity(frames, dim), samples
        self.register_buffer("root", torch.zeros(frames, frames))
        self.root: Tensor

    def prepare(self, split: Split) -> None:
        """Take the covariance from training data."""
        x, y = split.train
        away = (x["pos"] - self.kept(x)).transpose(1, 2)[y["exist"]].double()  # [particles, T, n]
        values, vectors = torch.linalg.eigh(torch.einsum("psd,ptd->st", away, away) / (len(away) * away.shape[-1]))
        self.root.copy_((vectors * values.clamp(min=0).sqrt()) @ vectors.T)

    def forward(self, x: Motion) -> Tensor:
        """Positions ``[B, samples, frames ahead, N, n]``, the same for the same known frames."""
        kept = self.kept(x)
        shape = (len(kept), self.samples, *kept.shape[1:])
        noise = torch.randn(shape, generator=Generator().manual_seed(0), dtype=kept.dtype).to(kept.device)
        return kept[:, None] + (self.root.to(kept) @ noise.flatten(3)).view(shape)


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
