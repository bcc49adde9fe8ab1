"""Parts of `EqMotion`: waves of time, features of agents and pairs, the guess of how pairs interact."""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from erlangen.errors import DtypeError, ShapeError, UnknownNameError, check_integer
from erlangen.nn import VectorLinear, mlp
from erlangen.numerics import angle, safe_norm
from erlangen.tracing import is_traced


def cosine_basis(n: int, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Tensor:
    """The orthonormal discrete cosine transform of type II ``[n, n]``: row k is the wave of k half periods.

    ``D @ x`` transforms the axis before the last, ``D.mT @ x`` transforms back. It mixes frames and leaves coordinates
    alone, so it commutes with rotations. Row 0 is constant: the only one that a shift changes.

    Raises:
        ErlangenError: n is no positive integer.
    """
    check_integer("n", n, 1)
    k, i = torch.arange(n, device=device, dtype=torch.float64)[:, None], torch.arange(n, device=device) + 0.5
    waves = (math.pi / n * k * i).cos() * math.sqrt(2 / n)
    waves = torch.where(k == 0, math.sqrt(1 / n), waves)
    return waves.to(torch.get_default_dtype() if dtype is None else dtype)


class PairLayer(nn.Module):
    """The first layer of networks of pairs: an activation of a linear map of ``[h_i, h_j, distances]``.

    Features of agents are mapped before they meet in pairs, of which there are more.
    """

    def __init__(self, features: int, distances: int, width: int, generator: Generator | None) -> None:
        super().__init__()
        linear = cast("nn.Linear", mlp([2 * features + distances, width], generator=generator)[0])
        self.sizes, self.weight, self.bias = [features, features, distances], linear.weight, linear.bias

    def forward(self, h: Tensor, distances: Tensor) -> Tensor:
        """``[..., N, N, width]`` of h ``[..., N, features]`` and distances ``[..., N, N, distances]``."""
        own, other, apart = self.weight.split(self.sizes, 1)
        nodes = F.linear(h, own, self.bias)[..., :, None, :] + F.linear(h, other)[..., None, :, :]
        return F.silu(nodes + distances @ apart.mT)


class Reader(nn.Module):
    """What agents start with: invariants of their motion, and vectors that mix the waves of its frames."""

    def __init__(
        self, frames: int, features: int, channels: int, dim: int, in_features: int, generator: Generator | None
    ) -> None:
        super().__init__()
        self.frames = frames
        self.embed = mlp([2 * frames + in_features, features], generator=generator)
        self.pos = VectorLinear(frames, channels, dim=dim, generator=generator)
        self.vel = VectorLinear(frames, channels, dim=dim, generator=generator)

    def forward(
        self, local: Tensor, vel: Tensor, x: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Invariants ``[..., N, F]``, vectors of positions and of velocities ``[..., N, C, n]``, of the last frames."""
        local, vel = local[..., -self.frames :, :], vel[..., -self.frames :, :]
        turning = F.pad(angle(vel[..., 1:, :], vel[..., :-1, :]), (1, 0))
        h = self.embed(torch.cat([safe_norm(vel), turning, *([] if x is None else [x])], -1))
        basis = cosine_basis(self.frames, local.dtype, local.device)
        places = basis @ local
        mean = middle(places, mask)
        return h, self.pos(places - mean) + mean, self.vel(basis @ vel)


class Reasoning(nn.Module):
    """Which kind of interaction joins each ordered pair of agents: one round of messages, then a guess for each pair."""

    def __init__(self, features: int, channels: int, categories: int, generator: Generator | None) -> None:
        super().__init__()
        self.distances = mlp([2 * channels, features], last=True, generator=generator)
        self.message = PairLayer(features, features, features, generator)
        self.sent = mlp([features, features], last=True, generator=generator)
        self.node = mlp([2 * features, features, features], generator=generator)
        self.pair = PairLayer(features, features, features, generator)
        self.logits = mlp([features, features, categories], generator=generator)

    def forward(self, h: Tensor, pos: Tensor, vel: Tensor, pairs: Tensor) -> Tensor:
        """Logits ``[..., N, N, categories]``."""
        apart = self.distances(lengths(differences(torch.cat([pos, vel], -2))))
        received = (self.sent(self.message(h, apart)) * pairs).sum(-2)
        h = h + self.node(torch.cat([h, received], -1))
        return self.logits(self.pair(h, apart))


def check_labels(labels: Tensor, categories: int, shape: tuple[int, ...]) -> None:
    """Raise unless labels are int64, of this shape and in range."""
    if labels.dtype != torch.int64:
        raise DtypeError(f"categories have dtype {labels.dtype}; pass int64")
    if labels.shape != shape:
        raise ShapeError(f"categories have shape {tuple(labels.shape)}; pass {tuple(shape)}")
    if not is_traced() and bool(((labels < 0) | (labels >= categories)).any()):
        raise UnknownNameError(
            f"categories range from {int(labels.min())} to {int(labels.max())}; known are 0 to {categories - 1}"
        )


def straight(pos: Tensor, future: int) -> Tensor:
    """Positions ``[..., future, n]`` of agents that repeat their last step."""
    steps = torch.arange(1, future + 1, device=pos.device, dtype=pos.dtype)[:, None]
    return pos[..., -1:, :] + steps * (pos[..., -1:, :] - pos[..., -2:-1, :])


def count(x: Tensor, mask: Tensor | None) -> Tensor:
    """Number of agents of ``[..., N, C, n]`` that exist, ``[..., 1, 1, 1]``; 1 where there are none."""
    if mask is None:
        return x.new_tensor(x.shape[-3])
    return mask.sum(-1)[..., None, None, None].clamp(min=1).to(x.dtype)


def middle(x: Tensor, mask: Tensor | None) -> Tensor:
    """The mean ``[..., 1, 1, n]`` of vectors ``[..., N, C, n]`` over channels and agents that exist."""
    if mask is None:
        return x.mean((-3, -2), keepdim=True)
    kept = torch.where(mask[..., None, None], x, 0.0)
    return kept.mean(-2, keepdim=True).sum(-3, keepdim=True) / count(x, mask)


def differences(x: Tensor) -> Tensor:
    """Vectors between agents ``[n, ..., N, N, C]``, coordinates first, of vectors ``[..., N, C, n]``."""
    coordinates = x.movedim(-1, 0).contiguous()  # long rows: sums over a last axis of 3 are slow
    return coordinates[..., :, None, :] - coordinates[..., None, :, :]


def lengths(apart: Tensor) -> Tensor:
    """Lengths ``[..., N, N, C]`` of `differences`, with gradient 0 where they are 0, as for an agent and itself.

    Features stay far from overflow, so that this does without the scaling of `safe_norm`, which takes most of its time.
    """
    squares = apart.square().sum(0)
    zero = squares == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, squares).sqrt())


def pairs_of(h: Tensor, mask: Tensor | None) -> Tensor:
    """1 for pairs of two different agents that exist, ``[..., N, N, 1]`` or ``[N, N, 1]``, for h ``[..., N, F]``."""
    pairs = ~torch.eye(h.shape[-2], dtype=torch.bool, device=h.device)
    if mask is not None:
        pairs = pairs & mask[..., :, None] & mask[..., None, :]
    return pairs[..., None].to(h.dtype)
