"""Frames from principal axes, for the groups of rotations, reflections, translations and scalings of R^n."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from erlangen.actions import Tree
from erlangen.enforce.axes import handedness, principal_axes
from erlangen.enforce.cloud import (
    Cloud,
    gather_cloud,
    geometric_parts,
    has_parts,
    has_pseudovectors,
    is_first_order,
    largest,
    weigh,
)
from erlangen.enforce.frames import KINDS, ROUNDING, FrameSet, Kind, assemble
from erlangen.errors import ActionError, GroupError, OrbitError
from erlangen.symmetry import Symmetry

MAX_SIGNS = 4096
"""Largest PCA frame that is listed: O(12), SO(13). Larger ones are sampled."""


@dataclass(frozen=True)
class PCAFrame:
    """Frames from centroid, principal axes and size, for O, SO, E, SE, Translation, Scaling, CSO and
    Similarity.

    The covariance sums over all geometric parts of the input: located parts (points) after centring on
    their common centroid, vectors and pseudovectors as they are. Its eigenvectors, in ascending order of
    the eigenvalues, are columns of V; the frame is ``V diag(s)`` for all signs s (2^n elements), or those
    of determinant +1 (2^(n-1)) (Puny et al. 2022, section 3.1). Translation and Scaling have one element.

    Axes along which the input has no extent are arbitrary. Where at least two of them exist (collinear
    points), the average over their signs is still exact for outputs made of invariants, points, vectors and
    pseudovectors, so ``gap`` does not count them then; see `counts_null`.

    Args:
        symmetry: the symmetry; its input action tells the geometric parts.
        canonical: one element instead of all signs. Each axis points to where the third moment
            ``sum w (x . v)^3`` is positive; for rotations the axis of least extent takes its sign from the
            determinant. Inputs without a third moment (point-symmetric clouds) get ``gap`` 0.
        differentiable: let gradients flow through the eigenvectors; ``None`` does wherever a gradient can reach the input.
            Centroid and size always carry gradients.

    Raises:
        GroupError: no PCA frame exists for the group, or it asks for an origin and no part of the input is
            located.
        ActionError: the input has no geometric parts; ``canonical`` with pseudovectors and reflections,
            where third moments do not move with the input.
    """

    symmetry: Symmetry
    canonical: bool = False
    differentiable: bool | None = None

    def __post_init__(self) -> None:
        group = self.symmetry.group
        if type(group) not in KINDS:
            raise GroupError(
                f"{group.name} has no PCA frame (there is one for {', '.join(k.__name__ for k in KINDS)}); "
                "use how='orbit' or pass your own frame="
            )
        if not has_parts(self.symmetry.input.action):
            raise ActionError(
                f"the input action {self.symmetry.input.name!r} has no geometric parts (points, vectors) "
                "that a frame could be built from; use how='orbit' or pass your own frame="
            )
        if self.canonical and self.kind.axes == "O" and has_pseudovectors(self.symmetry.input.action):
            raise ActionError(
                f"how='canonical' cannot orient {self.symmetry.input.name!r} under {group.name}: "
                "pseudovectors do not follow reflections; use how='frames'"
            )

    @property
    def kind(self) -> Kind:
        """What the frame fixes."""
        return KINDS[type(self.symmetry.group)]

    @property
    def is_enumerable(self) -> bool:
        """Whether all elements are listed; else the frame must be sampled."""
        return self.canonical or self.kind.axes is None or self._count <= MAX_SIGNS

    @property
    def counts_null(self) -> bool:
        """Whether equal zero eigenvalues make the result inexact, so that ``gap`` must count them.

        They do not when all data are coordinates of order one (or invariant): along null axes the input is
        zero, and the average over signs removes what the model says about them. One canonical element
        averages nothing, so then only invariant outputs are safe.
        """
        symmetry = self.symmetry
        safe = symmetry.is_invariance if self.canonical else is_first_order(symmetry.output.action)
        return not (safe and is_first_order(symmetry.input.action))

    def __call__(self, x: Tree, mask: Tensor | None = None) -> FrameSet:
        """The whole frame of every sample; `OrbitError` when it has more than `MAX_SIGNS` elements."""
        if not self.is_enumerable:
            raise OrbitError(
                f"a PCA frame of {self.symmetry.group.name} has {self._count} elements, more than the "
                f"{MAX_SIGNS} that are listed; pass samples=k to symmetrize, or use how='canonical'"
            )
        return self._frames(x, mask, None)

    def sample(
        self, x: Tree, k: int, generator: Generator, mask: Tensor | None = None, *, whole: bool = False
    ) -> FrameSet:
        """k elements of every frame, uniformly (without replacement where the frame is listed), with
        weights 1/k.

        With ``whole``, frames that can be listed are returned whole, and all samples share the random choice.
        """
        if self.is_enumerable and (whole or self._axes_free() or k >= self._count):
            return self._frames(x, mask, None)
        batch, n = self._batch(x), self.symmetry.group.space_dim
        if self.is_enumerable:
            keys = torch.rand(batch, self._count, generator=generator, dtype=torch.float64)
            signs = self._signs()[keys.argsort(-1)[:, :k]]
        else:
            signs = torch.randint(0, 2, (1 if whole else batch, k, n), generator=generator).double() * 2 - 1
            if self.kind.axes == "SO":
                signs[..., 0] = signs[..., 1:].prod(-1)
        return self._frames(x, mask, signs)

    def _axes_free(self) -> bool:
        return self.canonical or self.kind.axes is None

    @property
    def _count(self) -> int:
        n = self.symmetry.group.space_dim
        return 2 ** (n - 1) if self.kind.axes == "SO" else 2**n

    def _signs(self) -> Tensor:
        """All admissible signs ``[K, n]``."""
        signs = itertools.product((1.0, -1.0), repeat=self.symmetry.group.space_dim)
        kept = [s for s in signs if self.kind.axes == "O" or math.prod(s) > 0]
        return torch.tensor(kept, dtype=torch.float64)

    def _batch(self, x: Tree) -> int:
        return self.symmetry.input.parts(x)[0].values.shape[0]

    def _frames(self, x: Tree, mask: Tensor | None, signs: Tensor | None) -> FrameSet:
        group, kind = self.symmetry.group, self.kind
        parts = geometric_parts(self.symmetry, x)
        cloud = gather_cloud(parts, mask, group, centred=kind.origin)
        batch, n, like = cloud.rows.shape[0], group.space_dim, cloud.rows
        resolution = ROUNDING * torch.finfo(parts[0].values.dtype).eps * cloud.size
        linear = torch.eye(n, dtype=like.dtype, device=like.device).expand(batch, 1, n, n)
        gap, spectrum = torch.full_like(cloud.size, math.inf), None
        if kind.axes is not None:
            axes, gap, spectrum = self._principal(cloud, resolution)
            if signs is None:
                signs = like.new_ones(1, n) if self.canonical else self._signs()
            linear = axes[:, None] * signs.to(axes)[..., None, :]  # signs multiply columns
        if kind.scale:
            scale, spectrum = _root_mean_square(cloud, resolution, spectrum)
            linear = linear * scale[:, None, None, None]
            gap = torch.where((spectrum == 0).all(-1), 0.0, gap)
        elements = assemble(group, linear, cloud.centre[:, None].expand(batch, linear.shape[1], n))
        weights = like.new_full((batch, linear.shape[1]), 1.0 / linear.shape[1])
        return FrameSet(elements, weights, gap, spectrum)

    def _principal(self, cloud: Cloud, resolution: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Axes ``[B, n, n]`` in columns, relative gap ``[B]`` and eigenvalues ``[B, n]``."""
        rows, weights = cloud.rows, cloud.weights
        # Eigenvectors do not depend on the unit of length; the largest coordinate avoids overflow.
        unit = largest(rows)
        unit = torch.where(unit > 0, unit, 1.0)
        rows = rows / unit[:, None, None]
        covariance = rows.transpose(-2, -1) @ weigh(rows, weights)
        values, axes = principal_axes(covariance, self.differentiable)
        values, rows = values.detach(), rows.detach()
        coordinates = rows @ axes.detach()
        null = coordinates.abs().amax(1) <= (resolution / unit)[:, None]
        gap = relative_gap(values, null, self.counts_null)
        handed = handedness(axes)
        if self.canonical:
            signs, undecided = _third_moment_signs(coordinates, weights, resolution / unit)
            if not self.counts_null:
                undecided = undecided & ~null
            axes, handed = axes * signs[:, None, :], handed * signs.prod(-1)
            needed = undecided[:, 1:] if self.kind.axes == "SO" else undecided
            gap = torch.where(needed.any(-1), 0.0, gap)
        if self.kind.axes == "SO":
            # The axis of least extent takes its sign from the determinant.
            axes = torch.cat([axes[..., :1] * handed[:, None, None], axes[..., 1:]], -1)
        exists = ~null.all(-1)
        spectrum = values.clamp(min=0) * (unit * unit)[:, None] * exists[:, None]
        return axes, torch.where(exists, gap, 0.0), spectrum


def relative_gap(values: Tensor, null: Tensor, counts_null: bool) -> Tensor:
    """Smallest distance of neighbouring eigenvalues over the largest; pairs of null axes may not count."""
    distance = values.diff(dim=-1) / values[..., -1:].clamp(min=torch.finfo(values.dtype).tiny)
    if not counts_null:
        distance = torch.where(null[..., 1:] & null[..., :-1], math.inf, distance)
    return distance.amin(-1)


def _third_moment_signs(coordinates: Tensor, weights: Tensor | None, rounding: Tensor) -> tuple[Tensor, Tensor]:
    """Signs of the third moments along the axes, and where rounding of the coordinates hides them, ``[B, n]``."""
    moment = weigh(coordinates**3, weights).sum(1)
    uncertainty = 3 * rounding[:, None] * weigh(coordinates**2, weights).sum(1)
    return torch.where(moment < 0, -1.0, 1.0).to(coordinates), moment.abs() <= uncertainty


def _root_mean_square(cloud: Cloud, resolution: Tensor, spectrum: Tensor | None) -> tuple[Tensor, Tensor]:
    """Root mean square norm ``[B]`` (1 where it vanishes), and the spectrum, all zero where it vanishes."""
    unit = largest(cloud.rows)
    vanishes = unit <= resolution
    unit = torch.where(vanishes, 1.0, unit)
    squares = weigh((cloud.rows / unit[:, None, None]).square(), cloud.weights).sum((1, 2))
    tiny = torch.finfo(squares.dtype).tiny
    mean = squares / (cloud.rows.shape[1] if cloud.weights is None else cloud.weights.sum(-1).clamp(min=tiny))
    scale = unit * torch.where(vanishes, 1.0, mean).sqrt()
    found = scale.detach()[:, None].square() if spectrum is None else spectrum
    return scale, torch.where(vanishes[:, None], 0.0, found)
