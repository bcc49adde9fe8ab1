"""A remedy for shapes that are sampled anew: average over all frames that other points of the same shape might have had."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor, nn

from erlangen.groups import SO
from erlangen.systems.points.tinvnn.method import EUCLIDEAN, InitialRepresentation

_DEVIATIONS = 2.0
"""Moments of n points are off by about one over the root of n; a sign or a gap within so many of these may be another."""


class SteadyTinvNN(nn.Module):
    """A network that sees the initial representation in every frame that could as well have been chosen, near ties included.

    Points drawn anew from one shape have other moments: where a sign, or the order of two axes, is decided by less than two
    over the root of their number, other points decide otherwise. Such signs are random here, and such axes turn in their
    plane (all three, if all are close). One element is drawn in a training step; in evaluation answers are averaged over a
    fixed number of them, the same for all, so that the network is as invariant as `TinvNN`.

    >>> model = SteadyTinvNN(nn.Sequential(nn.Flatten(), nn.Linear(30, 2)), elements=8)
    >>> model(torch.randn(4, 10, 3)).shape
    torch.Size([4, 2])

    Args:
        net: ``net(h)`` on coordinates ``[B, n, 3]``, with outputs that are averaged.
        invariances: see `InitialRepresentation`; with "rotation" and "reflection".
        elements: answers that are averaged in evaluation; those of clouds without near ties are all the same.
    """

    def __init__(self, net: nn.Module, invariances: Any = EUCLIDEAN, *, elements: int = 16) -> None:
        super().__init__()
        self.net, self.elements = net, elements
        self.represent = InitialRepresentation(3, invariances, on_degenerate="allow")

    def forward(self, x: Tensor) -> Tensor:
        """Averaged answers to clouds ``[B, n, 3]``."""
        h = self.represent(x).coordinates
        count = 1 if self.training else self.elements
        generator = None if self.training else Generator().manual_seed(0)
        turned = torch.einsum("bni,bkij->bknj", h, near_frames(h, count, generator))
        return self.net(turned.flatten(0, 1)).unflatten(0, (len(x), count)).mean(1)


def near_frames(h: Tensor, count: int, generator: Generator | None = None) -> Tensor:
    """Random orthogonal matrices ``[B, count, 3, 3]`` that move representations ``h [B, n, 3]`` to others as likely.

    Args:
        h: coordinates along principal axes, by descending extent.
        count: matrices of each cloud.
        generator: with one, all clouds share the random numbers; without, every cloud has its own.
    """
    batch = len(h)
    rows = batch if generator is None else 1
    axes, free = _undecided(h)
    first, last = axes.unbind(1)
    sign = torch.where(torch.rand(rows, count, 3, generator=generator) < 0.5, -1.0, 1.0).to(h)
    # Turned axes have no sign of their own.
    turned = torch.stack([first, first | last, last], -1)[:, None]
    sign = torch.where(free[:, None] | turned, sign.expand(batch, count, 3), 1.0)
    angle = 2 * torch.pi * torch.rand(rows, count, generator=generator).to(h)
    whole = SO(3).sample(rows * count, generator=generator, dtype=h.dtype).to(h.device).unflatten(0, (rows, count))
    plain = torch.eye(3).to(h).expand(batch, count, 3, 3)
    found = plain
    for chosen, plane in ((first & ~last, (0, 1)), (last & ~first, (1, 2))):
        found = torch.where(chosen[:, None, None, None], _turn(angle, plane).expand(batch, -1, -1, -1), found)
    both = (first & last)[:, None, None, None]
    found = torch.where(both, whole.expand(batch, -1, -1, -1), found)
    return found * sign[..., None, :]


def near_ties(h: Tensor) -> Tensor:
    """Whether other points of the same shape may well have other axes or signs, ``[B]``, of representations ``[B, n, 3]``."""
    axes, signs = _undecided(h)
    return axes.any(-1) | signs.any(-1)


def _undecided(h: Tensor) -> tuple[Tensor, Tensor]:
    """Which neighbouring axes ``[B, 2]``, and which signs ``[B, 3]``, are within noise of their alternatives."""
    near = _DEVIATIONS / h.shape[1] ** 0.5
    centred = h.double() - h.double().mean(1, keepdim=True)
    tiny = torch.finfo(torch.float64).tiny
    extent = centred.square().mean(1)  # eigenvalues, descending
    apart = (extent[:, :-1] - extent[:, 1:]) / extent[:, :-1].clamp(min=tiny)
    cubes = (centred**3).sum(1) / (centred.abs() ** 3).sum(1).clamp(min=tiny)
    return apart <= near, cubes.abs() <= near


def _turn(angle: Tensor, plane: tuple[int, int]) -> Tensor:
    """Rotations ``[..., 3, 3]`` by angles in the plane of two axes."""
    found = torch.eye(3).to(angle).repeat(*angle.shape, 1, 1)
    i, j = plane
    found[..., i, i], found[..., j, j] = angle.cos(), angle.cos()
    found[..., i, j], found[..., j, i] = angle.sin(), -angle.sin()
    return found
