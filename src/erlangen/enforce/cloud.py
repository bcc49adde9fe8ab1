"""What a frame is computed from: all geometric rows of a batch, and questions about actions that frames
ask.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from erlangen.actions import (
    Action,
    DirectSum,
    Invariant,
    Part,
    Points,
    Pseudovectors,
    Tree,
    TreeAction,
    Vectors,
    tree_structure,
)
from erlangen.errors import GroupError, ShapeError
from erlangen.groups import Group
from erlangen.symmetry import Symmetry


class Cloud(NamedTuple):
    """Geometric rows of a batch, float64.

    Attributes:
        columns: ``[B, n, M]``, all parts one after the other, located ones relative to the centre, masked ones
            zero. Coordinates come first, because sums and products over long axes are several times faster.
        weights: ``[B, M]``, zero for masked rows; ``None`` where all are one.
        centre: ``[B, n]``, the weighted centroid of the located parts, or zero.
        size: ``[B]``, the largest coordinate before centring: the scale of rounding errors. No gradient.
    """

    columns: Tensor
    weights: Tensor | None
    centre: Tensor
    size: Tensor


def geometric_parts(symmetry: Symmetry, x: Tree) -> list[Part]:
    """Geometric parts of a batch; `ShapeError` unless all have the n coordinates that the group moves."""
    parts, n = symmetry.input.parts(x), symmetry.group.space_dim
    for part in parts:
        if part.values.shape[-1] != n:
            raise ShapeError(
                f"x is {tree_structure(x)}: it has {part.values.shape[-1]} coordinates, but {symmetry.group.name} "
                f"acts on {n} coordinates"
            )
    return parts


def gather_cloud(parts: list[Part], mask: Tensor | None, group: Group, *, centred: bool) -> Cloud:
    """Collect the parts of a batch.

    Args:
        parts: geometric parts of the input, at least one.
        mask: ``[B, N]``, boolean or non-negative weights; applies to every part whose rows are N items.
        group: for messages.
        centred: subtract the centroid of the located parts.

    Raises:
        ShapeError: there are no rows, or the mask fits no part.
        GroupError: a centre is needed and nothing is located.
    """
    if sum(part.values.shape[1] for part in parts) == 0:
        raise ShapeError("x has no points (n = 0); a frame needs at least one")
    columns = [part.values.transpose(-2, -1).to(torch.float64, memory_format=torch.contiguous_format) for part in parts]
    weights = None if mask is None else _part_weights(parts, mask)
    if weights is not None:
        columns = [c.masked_fill((w == 0)[:, None], 0.0) for c, w in zip(columns, weights, strict=True)]
    size = largest(_joined(columns))
    if not centred:
        centre = torch.zeros_like(columns[0][:, :, :1].sum(-1))
    else:
        centre = _centroid(parts, columns, weights, group)
        columns = [c - centre[..., None] if part.located else c for part, c in zip(parts, columns, strict=True)]
        if weights is not None:
            columns = [c.masked_fill((w == 0)[:, None], 0.0) for c, w in zip(columns, weights, strict=True)]
    return Cloud(_joined(columns), None if weights is None else torch.cat(weights, 1), centre, size)


def _joined(columns: list[Tensor]) -> Tensor:
    return columns[0] if len(columns) == 1 else torch.cat(columns, -1)


def largest(columns: Tensor) -> Tensor:
    """Largest absolute coordinate of every sample, ``[B, n, M]`` to ``[B]``, without gradient."""
    return columns.detach().flatten(1).abs().amax(1)


def weigh(values: Tensor, weights: Tensor | None) -> Tensor:
    """``values [B, n, M]`` times ``weights [B, M]``; ``None`` is weight one."""
    return values if weights is None else values * weights[:, None]


def _part_weights(parts: list[Part], mask: Tensor) -> list[Tensor]:
    """Weights ``[B, M]`` of the rows of every part, float64: the mask where it applies, else one."""
    applies = [part.weighable and tuple(part.values.shape[:2]) == tuple(mask.shape) for part in parts]
    if not any(applies):
        shapes = ", ".join(str(tuple(part.values.shape)) for part in parts)
        raise ShapeError(
            f"mask has shape {tuple(mask.shape)}, but the geometric parts of x have shapes {shapes}; "
            "the mask must be [B, N] with one entry per row of a part"
        )
    return [
        mask.double() if fits else torch.ones_like(part.values[..., 0], dtype=torch.float64)
        for part, fits in zip(parts, applies, strict=True)
    ]


def _centroid(parts: list[Part], columns: list[Tensor], weights: list[Tensor] | None, group: Group) -> Tensor:
    located = [i for i, part in enumerate(parts) if part.located and part.values.shape[1]]
    if not located:
        raise GroupError(
            f"{group.name} moves an origin, but the input holds no points, only vectors; use the group "
            "without translations"
        )
    points = _joined([columns[i] for i in located])
    if weights is None:
        return points.mean(-1)
    shares = torch.cat([weights[i] for i in located], 1)
    total = shares.sum(1).clamp(min=torch.finfo(shares.dtype).tiny)
    return weigh(points, shares).sum(-1) / total[:, None]


# --- questions about actions --------------------------------------------------------------------------------
def leaf_actions(action: Action) -> list[Action]:
    """The actions that a sum or tree consists of, in order."""
    if isinstance(action, DirectSum):
        children: list[Any] = list(action.summands)
    elif isinstance(action, TreeAction):
        children = [action.tree[key] for key in action.keys]
    else:
        return [action]
    return [leaf for child in children for leaf in leaf_actions(child)]


def has_parts(action: Action) -> bool:
    """Whether a frame can be built from the data."""
    return any(type(leaf).parts is not Action.parts for leaf in leaf_actions(action))


def has_pseudovectors(action: Action) -> bool:
    """Whether some of the data are axial."""
    return any(isinstance(leaf, Pseudovectors) for leaf in leaf_actions(action))


def is_first_order(action: Action) -> bool:
    """Whether the data are coordinates of order one or invariant, so that each axis only has a sign."""
    return all(isinstance(leaf, (Invariant, Points, Vectors, Pseudovectors)) for leaf in leaf_actions(action))
