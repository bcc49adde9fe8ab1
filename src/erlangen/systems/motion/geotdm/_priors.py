"""References around which trajectories are diffused: what is made of the known frames."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from erlangen.errors import check_sizes
from erlangen.groups import E
from erlangen.symmetry import Symmetry
from erlangen.systems.motion.geotdm._network import EGTN, check_motion


class Reference(nn.Module):
    """A reference without parameters, from ``past [B, T, N, dim]`` to ``[B, frames, N, dim]``.

    Args:
        frames: frames of the reference.
        dim: dimension of space, which below is 3.

    Attributes:
        symmetry: E(dim) on dicts of ``past``, to points.

    Raises:
        ErlangenError: `frames` is not positive.
    """

    def __init__(self, frames: int, dim: int = 3) -> None:
        super().__init__()
        check_sizes(frames=frames)
        self.frames, self.dim = frames, dim
        self.symmetry = Symmetry(E(dim), input={"past": "points"}, output="points")


class CentreOfMass(Reference):
    """Every particle in every frame at the mean of the frames before; arguments as `Reference`.

    >>> CentreOfMass(10)({"past": torch.randn(8, 5, 4, 3)}).shape
    torch.Size([8, 10, 4, 3])
    """

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """``[B, frames, N, 3]`` of ``past [B, T, N, 3]``; the mean is that of particles that exist."""
        check_motion(x, "past", self.dim)
        past = x["past"]
        weight = past.new_ones(len(past), 1, past.shape[2], 1)
        if "mask" in x:
            weight = x["mask"][:, None, :, None].to(past.dtype)
        count = (weight.sum((1, 2), keepdim=True) * past.shape[1]).clamp(min=1)
        centre = (past * weight).sum((1, 2), keepdim=True) / count
        return centre.expand(-1, self.frames, past.shape[2], -1)


class KeptVelocity(Reference):
    """Every particle keeps the velocity of the last two frames, or its place if there is one; arguments as `Reference`.

    >>> KeptVelocity(10)({"past": torch.randn(8, 5, 4, 3)}).shape
    torch.Size([8, 10, 4, 3])
    """

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """``[B, frames, N, 3]`` of ``past [B, T, N, 3]``."""
        check_motion(x, "past", self.dim)
        past = x["past"]
        ahead = torch.arange(1, self.frames + 1, dtype=past.dtype, device=past.device)[:, None, None]
        return past[:, -1:] + ahead * (past[:, -1:] - past[:, -2:][:, :1])


class LearnedPrior(nn.Module):
    """A reference that is learned with the network: affine combinations of the frames before, moved by a small `EGTN`.

    The weight of frame t of T in frame s of the reference is ``gamma_s (c_t + g m_t)`` with the mean ``m_t`` of the network's
    features at t and parameters ``gamma``, ``c`` and ``g``; that of the last frame makes the sum one, so the reference moves
    with the frames. It starts from the velocity kept: ``gamma_s = s``, ``c_t`` is -1 at the last but one frame and zero at
    others, and g, like the share of the network's moves that is taken, is zero. The paper has ``gamma_s = g = 1`` and no c.

    Args:
        frames: frames of the reference.
        node_features, edge_features, features, layers, dim, generator: of the network, see `EGTN`.
        published: start as the paper's, and have no c.

    Attributes:
        symmetry: E(dim) on dicts of ``past`` and the invariant rest, to points.

    Raises:
        ErlangenError: a size is out of range.

    >>> LearnedPrior(10, features=16)({"past": torch.randn(8, 5, 4, 3)}).shape
    torch.Size([8, 10, 4, 3])
    """

    def __init__(
        self,
        frames: int,
        node_features: int = 0,
        edge_features: int = 0,
        *,
        features: int = 32,
        layers: int = 2,
        dim: int = 3,
        published: bool = False,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes(frames=frames)
        self.frames = frames
        self.net = EGTN(node_features, edge_features, features=features, layers=layers, dim=dim, generator=generator)
        self.gamma = nn.Parameter(torch.ones(frames) if published else torch.arange(1.0, frames + 1))
        self.before = nn.Parameter(torch.tensor(0.0 if published else -1.0), requires_grad=not published)
        self.share = nn.Parameter(torch.ones(2) if published else torch.zeros(2))
        self.symmetry = Symmetry(E(dim), input=actions_of({"past": "points"}, self.net), output="points")

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """``[B, frames, N, 3]`` of ``past [B, T, N, 3]``, with ``node``, ``edge_attr`` and ``mask`` as for the network.

        Raises:
            ShapeError: something is missing or does not fit.
        """
        weights, places = self.combination(x)
        last = places[:, -1:]
        # About the last frame, so that far away places cost no digits: the weights sum to one.
        return last + torch.einsum("btsn,btnd->bsnd", weights[:, :-1], places[:, :-1] - last)

    def combination(self, x: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Weights ``[B, T, frames, N]``, which sum to one over T, and the moved frames ``[B, T, N, 3]``."""
        check_motion(x, "past", self.net.dim)
        h, moved = self.net.moved({**features_of(x), "pos": x["past"]})
        start = F.pad(self.before.expand(1), (max(0, h.shape[1] - 2), 0))[: h.shape[1] - 1]
        free = (start[:, None] + self.share[0] * h[:, :-1].mean(-1))[:, :, None] * self.gamma[:, None]
        return torch.cat([free, 1 - free.sum(1, keepdim=True)], 1), x["past"] + self.share[1] * moved


def actions_of(moving: dict[str, str], net: EGTN, told: int = 0, apart: int = 0) -> dict[str, Any]:
    """Actions on what moves and on the features that the network reads; `told` and `apart` of them it gets from elsewhere."""
    there = {"node": net.node_features > told, "edge_attr": net.edge_features > apart}
    return moving | {name: "invariant" for name, read in there.items() if read}


def features_of(x: dict[str, Tensor]) -> dict[str, Tensor]:
    """What does not change along the chain."""
    return {name: x[name] for name in ("node", "edge_attr", "mask") if name in x}
