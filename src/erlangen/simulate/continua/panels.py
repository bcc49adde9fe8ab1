"""Potential flow past airfoils: vortices on panels, strengths linear along each, as many elements as one likes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from erlangen.errors import ErlangenError, ShapeError, check_sizes
from erlangen.simulate.continua.airfoils import check_outline

__all__ = ["AirfoilFlow", "airfoil_flow"]


@dataclass(frozen=True)
class AirfoilFlow:
    """The flow that `airfoil_flow` found; the stream has speed 1 far away.

    Attributes:
        outlines: of the elements, each ``[..., n + 1, 2]``, clockwise.
        strengths: of the vortices at their points, each ``[..., n + 1]``: the speed of the flow along the outline.
        angle: of the stream, ``[...]``, in radians.
    """

    outlines: tuple[Tensor, ...]
    strengths: tuple[Tensor, ...]
    angle: Tensor

    @property
    def circulation(self) -> Tensor:
        """Of all elements together, ``[...]``, clockwise; twice that over the chord is the lift coefficient."""
        sums = []
        for outline, gamma in zip(self.outlines, self.strengths, strict=True):
            lengths = outline.diff(dim=-2).square().sum(-1).sqrt()
            sums.append((lengths * (gamma[..., 1:] + gamma[..., :-1]) / 2).sum(-1))
        return torch.stack(sums).sum(0)

    def velocity(self, x: Tensor, *, chunk: int = 2048) -> Tensor:
        """Velocities ``[..., Q, 2]`` at points ``[..., Q, 2]`` outside; near zero inside.

        Args:
            x: points, with the leading axes of the outlines.
            chunk: how many are computed at a time.

        Raises:
            ShapeError: the last dimension is not 2.
        """
        check_sizes(chunk=chunk)
        if x.ndim < 2 or x.shape[-1] != 2:
            raise ShapeError(f"x has shape {tuple(x.shape)}, but points [..., Q, 2] are needed")
        stream = torch.polar(torch.ones_like(self.angle), -self.angle)[..., None]  # u - i v
        pieces = []
        for piece in x.split(chunk, -2):
            w = stream.expand(piece.shape[:-1])
            for outline, gamma in zip(self.outlines, self.strengths, strict=True):
                first, second = _influence(_complex(piece), _complex(outline))
                w = w + (first * gamma[..., None, :-1] + second * gamma[..., None, 1:]).sum(-1)
            pieces.append(torch.stack([w.real, -w.imag], -1))
        return torch.cat(pieces, -2)

    def pressure(self, x: Tensor) -> Tensor:
        """Pressure coefficients ``1 - |velocity|^2`` (Bernoulli) at points ``[..., Q, 2]``, ``[..., Q]``."""
        return 1 - self.velocity(x).square().sum(-1)

    def surface_pressure(self) -> tuple[Tensor, ...]:
        """Pressure coefficients at the points of the outlines, where the speed is the strength of the vortices."""
        return tuple(1 - gamma.square() for gamma in self.strengths)


def airfoil_flow(outlines: Tensor | Sequence[Tensor], angle: Tensor | float) -> AirfoilFlow:
    """Steady, incompressible, inviscid flow past closed outlines, each with a sharp end from which the flow leaves smoothly.

    >>> from erlangen.simulate import naca4
    >>> zero, t = torch.tensor(0.0, dtype=torch.float64), torch.tensor(0.12, dtype=torch.float64)
    >>> flow = airfoil_flow(naca4(zero, zero + 0.4, t, 100), 0.1)                             # NACA 0012 at 5.7 degrees
    >>> round(2 * float(flow.circulation), 2)                                               # lift coefficient
    0.69

    Strengths are linear on every panel and continuous at its ends; at the middle of each panel nothing flows through, and at the
    trailing edge of each element the strengths of both sides cancel (Kutta's condition). Integrals over panels are exact, so
    that the only error is that of polygons for outlines, of second order, of first at a bent cusp (Kuethe and Chow,
    "Foundations of Aerodynamics", section 5.10).

    Args:
        outlines: closed polygons ``[..., n + 1, 2]``, clockwise from the trailing edge, as `naca4` makes them; several
            elements as a list, with the same leading axes; they must not touch.
        angle: of the stream against the first axis, in radians; ``[...]`` or a number.

    Raises:
        ShapeError: outlines are not closed, or their leading axes differ.
        ErlangenError: an outline runs counter-clockwise, or has a panel of length 0.
        DtypeError, NotFiniteError: an outline is not floating point, or holds NaN or Inf.
    """
    several = (outlines,) if isinstance(outlines, Tensor) else tuple(outlines)
    for index, outline in enumerate(several):
        name = "outlines" if isinstance(outlines, Tensor) else f"outlines[{index}]"
        check_outline(outline, name)
        _check_direction(outline, name)
        if outline.shape[:-2] != several[0].shape[:-2]:
            raise ShapeError(
                f"{name} has the leading axes {tuple(outline.shape[:-2])}, others {tuple(several[0].shape[:-2])}"
            )
    lead, like = several[0].shape[:-2], several[0]
    angle = torch.as_tensor(angle, dtype=like.dtype, device=like.device).expand(lead)
    corners = [_complex(outline) for outline in several]
    edges = [z.diff(dim=-1) for z in corners]
    middles = torch.cat([(z[..., 1:] + z[..., :-1]) / 2 for z in corners], -1)
    along = torch.cat([edge / edge.abs() for edge in edges], -1)
    columns = []
    for z in corners:
        first, second = _influence(middles, z)
        at_nodes = torch.nn.functional.pad(first, (0, 1)) + torch.nn.functional.pad(second, (1, 0))
        columns.append((at_nodes * along[..., None]).imag)  # minus the velocity along the normal i t of every panel
    sizes = [z.shape[-1] for z in corners]
    total = sum(sizes)
    kutta = like.new_zeros(*lead, len(sizes), total)
    ends = 0
    for index, size in enumerate(sizes):
        kutta[..., index, ends] = kutta[..., index, ends + size - 1] = 1
        ends += size
    matrix = torch.cat([torch.cat(columns, -1), kutta], -2)
    stream = torch.polar(torch.ones_like(angle), -angle)[..., None]
    right = torch.cat([-(stream * along).imag, like.new_zeros(*lead, len(sizes))], -1)
    gamma = torch.linalg.solve(matrix, right)
    return AirfoilFlow(several, gamma.split(sizes, -1), angle)


def _complex(x: Tensor) -> Tensor:
    return torch.complex(x[..., 0].contiguous(), x[..., 1].contiguous())


def _influence(x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """u - i v at points ``[..., Q]`` of unit strengths at the first and at the second end of panels, ``[..., Q, n]`` each.

    A clockwise vortex at z' has ``i / (2 pi (x - z'))``; its integral over a panel has the logarithm of the two distances.
    """
    edge = z.diff(dim=-1)[..., None, :]
    t = (x[..., None] - z[..., None, :-1]) / edge
    log = torch.log(t / (t - 1))
    # On the panel itself the logarithm has two values, one for each side; half of their sum is what passes through.
    log = torch.where(
        (t.imag.abs() < 64 * torch.finfo(t.real.dtype).eps) & (t.real > 0) & (t.real < 1), log.real.to(log.dtype), log
    )
    second = t * log - 1
    factor = 1j * edge.abs() / (2 * math.pi * edge)
    return factor * (log - second), factor * second


def _check_direction(outline: Tensor, name: str) -> None:
    x, y = outline[..., 0], outline[..., 1]
    area = (x[..., :-1] * y[..., 1:] - x[..., 1:] * y[..., :-1]).sum(-1)
    if bool((area >= 0).any()):
        raise ErlangenError(f"{name} runs counter-clockwise, or has no area: give it from the trailing edge clockwise")
    if bool((outline.diff(dim=-2).abs().sum(-1) == 0).any()):
        raise ErlangenError(f"{name} has a panel of length 0: remove repeated points")
