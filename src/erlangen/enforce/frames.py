"""Frames: a small set of group elements that an input chooses for itself.

A frame is a map F from inputs to finite sets of group elements with ``F(g x) = g F(x)`` (as sets, with
weights). Then ``sum_f w_f rho_out(f) model(rho_in(f)^-1 x)`` is equivariant, whatever the model (Puny et
al., Frame Averaging for Invariant and Equivariant Network Design, ICLR 2022, theorem 1). The frames here
come from principal axes, from chosen points, and for finite or compact groups from the group itself;
`erlangen.enforce.sort_frames` sorts nodes.

All frames are computed and returned in float64, whatever the dtype of the input.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from erlangen.actions import Tree, tree_leaves
from erlangen.enforce.cloud import geometric_parts
from erlangen.errors import GroupError, ShapeError, SymmetryError
from erlangen.geometry.alignment import gram_schmidt
from erlangen.groups import CSO, SE, SO, E, Group, O, Scaling, SemidirectProduct, Similarity, Translation
from erlangen.symmetry import Symmetry

ROUNDING = 4.0
"""Coordinates below this many units of rounding of the largest input coordinate count as zero."""


class FrameSet(NamedTuple):
    """Frames of a batch.

    Attributes:
        elements: group elements ``[B, K, *shape]``, or ``[1, K, *shape]`` if all samples share them.
        weights: ``[B, K]`` or ``[1, K]``, each row with sum 1; zero for padding where samples have fewer
            elements.
        gap: ``[B]``, how well the frame is determined, relative to the size of the sample. An error of
            relative size eps in the input turns the frame by about eps / gap. Infinite where nothing can be
            undetermined.
        spectrum: ``[B, m]`` the positive numbers that the gap compares (eigenvalues, lengths), for
            messages; all zero where no frame exists. ``None`` if there is nothing to compare.
        centre: ``[B, n]``, only where it was asked for: `elements` are those of the linear part H of a group ``R^n x| H``
            then, and the frame consists of them followed by this translation.
        clear: a number that all gaps are known to exceed, or 0.
        local: the input about its centre in float64, where it was asked for and the input is nothing but points ``[B, N, n]``.
    """

    elements: Tensor
    weights: Tensor
    gap: Tensor
    spectrum: Tensor | None = None
    centre: Tensor | None = None
    local: Tensor | None = None
    clear: float = 0.0


@runtime_checkable
class Frame(Protocol):
    """Anything that gives a `FrameSet` for a batch, with ``F(g x) = g F(x)``.

    ``x`` is the input of the model, every tensor with the leading axis B; ``mask`` is ``[B, N]``, boolean or
    non-negative weights, and is only passed when there is one.
    """

    def __call__(self, x: Tree, mask: Tensor | None = None) -> FrameSet:
        """Frames of a batch."""
        ...


def first_tensor(x: Tree) -> Tensor:
    """Any tensor of the input, for the batch size and the device."""
    return next(leaf for leaf in tree_leaves(x) if isinstance(leaf, Tensor))


def check_frames(frames: FrameSet, group: Group, x: Tree) -> FrameSet:
    """The frames of a batch, if their shapes are as `FrameSet` says; `ShapeError` otherwise. Not checked in a compiler."""
    if torch.compiler.is_compiling():
        return frames
    if not isinstance(frames, FrameSet):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SymmetryError(f"frame returned a {type(frames).__name__}; return FrameSet(elements, weights, gap)")
    batch, shape = first_tensor(x).shape[0], tuple(group.batch_shape(frames.elements))
    fits = len(shape) == 2 and shape[0] in (1, batch) and tuple(frames.weights.shape) in ((1, shape[1]), shape)
    if not fits or tuple(frames.gap.shape) != (batch,):
        raise ShapeError(
            f"frame returned elements, weights and gap of shapes {tuple(frames.elements.shape)}, "
            f"{tuple(frames.weights.shape)} and {tuple(frames.gap.shape)}; for a batch of {batch} they must be "
            f"[B, K, *{group.shape}], [B, K] and [B]"
        )
    return frames


def thin(frames: FrameSet, k: int, generator: Generator) -> FrameSet:
    """k elements of every frame, drawn by weight with replacement."""
    batch, shape = len(frames.gap), frames.elements.shape[2:]
    weights = frames.weights.expand(batch, -1)
    chosen = torch.multinomial(weights.detach().cpu().double(), k, replacement=True, generator=generator)
    chosen = chosen.to(weights.device)
    index = chosen.reshape(batch, k, *[1] * len(shape)).expand(batch, k, *shape)
    elements = frames.elements.expand(batch, *frames.elements.shape[1:]).gather(1, index)
    return frames._replace(elements=elements, weights=torch.full_like(chosen, 1, dtype=weights.dtype) / k)


class Kind(NamedTuple):
    """What a PCA frame has to fix: axes ("O" with reflections, "SO" without, ``None``), origin, scale."""

    axes: str | None
    origin: bool
    scale: bool


KINDS: dict[type[Group], Kind] = {
    O: Kind("O", origin=False, scale=False),
    SO: Kind("SO", origin=False, scale=False),
    E: Kind("O", origin=True, scale=False),
    SE: Kind("SO", origin=True, scale=False),
    Translation: Kind(None, origin=True, scale=False),
    Scaling: Kind(None, origin=False, scale=True),
    CSO: Kind("SO", origin=False, scale=True),
    Similarity: Kind("SO", origin=True, scale=True),
}


def assemble(group: Group, linear: Tensor, translation: Tensor) -> Tensor:
    """Elements ``[..., *shape]`` of linear parts ``[..., n, n]`` and translations ``[..., n]``, which are
    dropped where the group fixes the origin.
    """
    return group.join(linear, translation) if isinstance(group, SemidirectProduct) else linear


# --- chosen points ------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class PointsFrame:
    """The frame of n chosen points, for SO(n) and SE(n): one element.

    The first point is the origin (SE), the differences to the others give axes by Gram-Schmidt, and the
    last axis completes them to determinant +1. Two points in the plane, three in space (for example N, CA,
    C of a residue).

    Args:
        indices: n different rows of the part.
        part: which geometric part of the input the rows belong to, in the order of the input.
        differentiable: let gradients flow through the axes, as they do by default.
        symmetry: filled in by `on`.

    Raises:
        GroupError: the group is not SO(n) or SE(n).
        ShapeError: the number of indices is not n, or an index lies outside of the part.
    """

    indices: tuple[int, ...]
    part: int = 0
    differentiable: bool | None = None
    symmetry: Symmetry | None = None

    def on(self, symmetry: Symmetry) -> PointsFrame:
        """The frame for a symmetry."""
        group = symmetry.group
        if type(group) not in (SO, SE):
            raise GroupError(f"points give frames of SO(n) and SE(n), not of {group.name}; use how='frames'")
        if len(self.indices) != group.space_dim or len(set(self.indices)) != group.space_dim:
            raise ShapeError(
                f"indices = {self.indices}: a frame of {group.name} needs {group.space_dim} different points"
            )
        return replace(self, symmetry=symmetry)

    @property
    def is_enumerable(self) -> bool:
        """One element is always listed."""
        return True

    def __call__(self, x: Tree, mask: Tensor | None = None) -> FrameSet:
        """One element per sample; points that coincide or lie on one line get a gap near 0."""
        if self.symmetry is None:
            raise GroupError("PointsFrame knows no group yet; call .on(symmetry), or pass frame= to symmetrize")
        group, parts = self.symmetry.group, geometric_parts(self.symmetry, x)
        if self.part >= len(parts):
            raise ShapeError(f"part = {self.part}, but the input has {len(parts)} geometric parts")
        values = parts[self.part].values
        _check_indices(self.indices, values.shape[1])
        points = values[:, list(self.indices)].double()
        origin = points[:, 0]
        steps = points[:, 1:] - origin[:, None]
        axes, residuals = gram_schmidt(steps.detach() if self.differentiable is False else steps)
        longest = steps.detach().norm(dim=-1).amax(-1)
        floor = ROUNDING * torch.finfo(values.dtype).eps * points.detach().abs().amax((1, 2))
        exists = longest > floor
        gap = torch.where(exists, residuals.amin(-1) / torch.where(exists, longest, 1.0), 0.0)
        if KINDS[type(group)].origin and not parts[self.part].located:
            raise GroupError(
                f"{group.name} needs an origin, but part {self.part} of the input holds vectors; use SO(n)"
            )
        elements = assemble(group, axes[:, None], origin[:, None])
        return FrameSet(elements, torch.ones_like(gap)[:, None], gap, residuals * exists[:, None])


def _check_indices(indices: tuple[int, ...], count: int) -> None:
    for index in indices:
        if not -count <= index < count:
            raise ShapeError(f"indices = {indices}: {index} lies outside of the {count} points of the input")
