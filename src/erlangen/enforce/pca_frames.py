"""Frames from principal axes, for the groups of rotations, reflections, translations and scalings of R^n."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from erlangen.actions import Points, Tree
from erlangen.enforce.axes import principal_axes, turned
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
from erlangen.tracing import is_traced

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

    def __call__(self, x: Tree, mask: Tensor | None = None, *, split: bool = False) -> FrameSet:
        """The whole frame of every sample; `OrbitError` when it has more than `MAX_SIGNS` elements.

        With ``split`` the centre apart from the linear parts, see `FrameSet`.
        """
        if not self.is_enumerable:
            raise OrbitError(
                f"a PCA frame of {self.symmetry.group.name} has {self._count} elements, more than the "
                f"{MAX_SIGNS} that are listed; pass samples=k to symmetrize, or use how='canonical'"
            )
        return self._frames(x, mask, None, split)

    def sample(
        self,
        x: Tree,
        k: int,
        generator: Generator,
        mask: Tensor | None = None,
        *,
        whole: bool = False,
        split: bool = False,
    ) -> FrameSet:
        """k elements of every frame, uniformly (without replacement where the frame is listed), with
        weights 1/k.

        With ``whole``, frames that can be listed are returned whole, and all samples share the random choice.
        """
        if self.is_enumerable and (whole or self._axes_free() or k >= self._count):
            return self._frames(x, mask, None, split)
        batch, n = self._batch(x), self.symmetry.group.space_dim
        if self.is_enumerable:
            keys = torch.rand(batch, self._count, generator=generator, dtype=torch.float64)
            signs = self._signs()[keys.argsort(-1)[:, :k]]
        else:
            signs = torch.randint(0, 2, (1 if whole else batch, k, n), generator=generator).double() * 2 - 1
            if self.kind.axes == "SO":
                signs[..., 0] = signs[..., 1:].prod(-1)
        return self._frames(x, mask, signs, split)

    def _axes_free(self) -> bool:
        return self.canonical or self.kind.axes is None

    @property
    def _count(self) -> int:
        n = self.symmetry.group.space_dim
        return 2 ** (n - 1) if self.kind.axes == "SO" else 2**n

    def _signs(self) -> Tensor:
        """All admissible signs ``[K, n]``."""
        key = (self.symmetry.group.space_dim, self.kind.axes == "O")
        if torch.compiler.is_compiling():
            return torch.tensor(_listed_signs(*key), dtype=torch.float64)
        return torch.from_numpy(every_sign(*key))

    def _batch(self, x: Tree) -> int:
        return self.symmetry.input.parts(x)[0].values.shape[0]

    def _frames(self, x: Tree, mask: Tensor | None, signs: Tensor | None, split: bool) -> FrameSet:
        group, kind = self.symmetry.group, self.kind
        parts = geometric_parts(self.symmetry, x)
        cloud = gather_cloud(parts, mask, group, centred=kind.origin)
        batch, n, like = cloud.columns.shape[0], group.space_dim, cloud.columns
        resolution = ROUNDING * torch.finfo(parts[0].values.dtype).eps * cloud.size
        if kind.axes is not None:
            axes, gap, spectrum, clear = self._principal(cloud, resolution, {part.values.dtype for part in parts})
            if self.canonical:
                linear = axes[:, None]
            else:
                signs = self._signs() if signs is None else signs
                linear = axes[:, None] * signs.to(axes)[..., None, :]  # signs multiply columns
        else:
            linear = torch.eye(n, dtype=like.dtype, device=like.device).expand(batch, 1, n, n)
            gap, spectrum, clear = torch.full_like(cloud.size, math.inf), None, 0.0
        if kind.scale:
            scale, spectrum = _root_mean_square(cloud, resolution, spectrum)
            clear = 0.0
            linear = linear * scale[:, None, None, None]
            gap = torch.where((spectrum == 0).all(-1), 0.0, gap)
        count = linear.shape[1]
        weights = like.new_full((1, count), 1.0 / count).expand(batch, count)
        if split:
            is_cloud = mask is None and type(self.symmetry.input.action) is Points
            local = cloud.columns.transpose(-2, -1) if is_cloud and kind.origin else None
            return FrameSet(linear, weights, gap, spectrum, cloud.centre, local, clear)
        elements = assemble(group, linear, cloud.centre[:, None].expand(batch, count, n))
        return FrameSet(elements, weights, gap, spectrum, clear=clear)

    def _principal(
        self, cloud: Cloud, resolution: Tensor, dtypes: set[torch.dtype]
    ) -> tuple[Tensor, Tensor, Tensor, float]:
        """Axes ``[B, n, n]`` in columns, relative gap ``[B]``, eigenvalues ``[B, n]``, and what all gaps are known to exceed."""
        columns, weights, unit, rounding = cloud.columns, cloud.weights, None, resolution
        if torch.float64 in dtypes:
            # Eigenvectors do not depend on the unit of length; the largest coordinate avoids overflow. Squares of what was
            # float32 or less neither overflow nor underflow in float64.
            unit = largest(columns)
            unit = torch.where(unit > 0, unit, 1.0)
            columns, rounding = columns / unit[:, None, None], resolution / unit
        covariance = weigh(columns, weights) @ columns.transpose(-2, -1)
        values, axes = principal_axes(covariance, self.differentiable)
        signs = None
        values, clear = values.detach(), max(torch.finfo(dtype).eps for dtype in dtypes) ** 0.5
        gap = None if self.canonical else _clear_gap(values, cloud, rounding, clear)
        exists = None
        if gap is None:
            coordinates = axes.detach().transpose(-2, -1) @ columns.detach()
            null = coordinates.abs().amax(-1) <= rounding[:, None]
            exists = ~null.all(-1)
            gap, clear = torch.where(exists, relative_gap(values, None if self.counts_null else null), 0.0), 0.0
            if self.canonical:
                signs, undecided = _third_moment_signs(coordinates, weights, rounding)
                if not self.counts_null:
                    undecided = undecided & ~null
                needed = undecided[:, 1:] if self.kind.axes == "SO" else undecided
                gap = torch.where(needed.any(-1), 0.0, gap)
        # Rotations: the axis of least extent takes its sign from the determinant.
        if self.kind.axes == "SO":
            axes = turned(axes, signs)
        elif signs is not None:
            axes = axes * signs[:, None, :]
        spectrum = values.clamp(min=0) if unit is None else values.clamp(min=0) * (unit * unit)[:, None]
        return axes, gap, spectrum if exists is None else spectrum * exists[:, None], clear


def _clear_gap(values: Tensor, cloud: Cloud, rounding: Tensor, tolerance: float) -> Tensor | None:
    """The relative gaps ``[B]`` if the eigenvalues alone tell that all exceed the tolerance, else ``None``.

    Where all coordinates along an axis are below the rounding, its eigenvalue is at most their number (or weight) times the
    square of that. So if no two eigenvalues are closer, no two neighbouring axes are without extent, and the coordinates
    along the axes need not be looked at. Programs that are compiled cannot branch on it.
    """
    if is_traced() or values.shape[-1] < 2:
        return None
    count = cloud.columns.shape[-1] if cloud.weights is None else float(cloud.weights.sum(-1).amax())
    distance, most = values.diff(dim=-1).amin(-1), values[:, -1]
    if not bool((distance > torch.addcmul(tolerance * most, rounding, rounding, value=count)).all()):
        return None
    return distance / most


def _listed_signs(n: int, reflections: bool) -> list[tuple[float, ...]]:
    """All signs of n axes, or those with the product 1."""
    return [s for s in itertools.product((1.0, -1.0), repeat=n) if reflections or math.prod(s) > 0]


_SIGNS: dict[tuple[int, bool], NDArray[np.float64]] = {}


def every_sign(n: int, reflections: bool) -> NDArray[np.float64]:
    """All signs ``[K, n]`` of n axes, or those with the product 1."""
    # Kept as an array: a tensor would keep the mode (inference, fake) in which it was made.
    if (n, reflections) not in _SIGNS:
        _SIGNS[n, reflections] = np.array(_listed_signs(n, reflections))
    return _SIGNS[n, reflections]


def relative_gap(values: Tensor, null: Tensor | None = None) -> Tensor:
    """Smallest distance of neighbouring eigenvalues over the largest, without that of two `null` axes."""
    if values.shape[-1] == 1:
        return torch.full_like(values[..., 0], math.inf)
    distance = values.diff(dim=-1) / values[..., -1:].clamp(min=torch.finfo(values.dtype).tiny)
    if null is not None:
        distance = torch.where(null[..., 1:] & null[..., :-1], math.inf, distance)
    return distance.amin(-1)


def _third_moment_signs(coordinates: Tensor, weights: Tensor | None, rounding: Tensor) -> tuple[Tensor, Tensor]:
    """Signs of the third moments along the axes, and where rounding of the coordinates hides them, ``[B, n]``."""
    squared = weigh(coordinates.square(), weights)
    moment = (squared * coordinates).sum(-1)
    uncertainty = 3 * rounding[:, None] * squared.sum(-1)
    return torch.where(moment < 0, -1.0, 1.0).to(coordinates), moment.abs() <= uncertainty


def _root_mean_square(cloud: Cloud, resolution: Tensor, spectrum: Tensor | None) -> tuple[Tensor, Tensor]:
    """Root mean square norm ``[B]`` (1 where it vanishes), and the spectrum, all zero where it vanishes."""
    unit = largest(cloud.columns)
    vanishes = unit <= resolution
    unit = torch.where(vanishes, 1.0, unit)
    squares = weigh((cloud.columns / unit[:, None, None]).square(), cloud.weights).sum((1, 2))
    tiny = torch.finfo(squares.dtype).tiny
    mean = squares / (cloud.columns.shape[-1] if cloud.weights is None else cloud.weights.sum(-1).clamp(min=tiny))
    scale = unit * torch.where(vanishes, 1.0, mean).sqrt()
    found = scale.detach()[:, None].square() if spectrum is None else spectrum
    return scale, torch.where(vanishes[:, None], 0.0, found)
