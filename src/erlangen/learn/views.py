"""Two views of every sample, and the group element that leads from one to the other."""

from __future__ import annotations

from typing import Literal, NamedTuple, cast

import torch
from torch import Generator, Tensor

from erlangen.actions import Tree, tree_leaves
from erlangen.errors import UnknownNameError
from erlangen.groups import Group
from erlangen.measure.checks import batch_length
from erlangen.symmetry import Symmetry

Side = Literal["left", "right"]


class Views(NamedTuple):
    """What `two_views` gives, for B samples.

    Attributes:
        first, second: the batch, moved by ``elements[0]`` and by ``elements[1]``.
        elements: ``[2, B, *shape of an element]``.
        relative: ``[B, *shape of an element]``, see `relative_element`.
    """

    first: Tree
    second: Tree
    elements: Tensor
    relative: Tensor


def relative_element(group: Group, first: Tensor, second: Tensor, *, side: Side = "left") -> Tensor:
    """The element that leads from `first` to `second`, by multiplication on the named side.

    >>> from erlangen.groups import SO
    >>> poses = SO(3).sample(2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> left = relative_element(SO(3), poses[0], poses[1])
    >>> right = relative_element(SO(3), poses[0], poses[1], side="right")
    >>> torch.allclose(left @ poses[0], poses[1]), torch.allclose(poses[0] @ right, poses[1])
    (True, True)

    On the left stands a motion of space, ``second first^-1``: it moves the first view of a sample onto the second. On the
    right stands a motion in the axes of the object, ``first^-1 second``: it is the same for all views of an object that is
    turned the same way about its own axes, and a representation that follows it multiplies poses from the right. The two are
    conjugate and agree for commutative groups only.

    Args:
        group: whose elements they are.
        first, second: batches ``[..., *shape of an element]`` that broadcast.
        side: "left" or "right".

    Raises:
        UnknownNameError: another side.
        ShapeError: no elements of this shape.
    """
    for g in (first, second):
        group.batch_shape(g)
    if side == "left":
        return group.compose(second, group.inverse(first))
    if side == "right":
        return group.compose(group.inverse(first), second)
    raise UnknownNameError(f"side = {side!r}; give 'left' (second = g first) or 'right' (second = first g)")


def two_views(
    symmetry: Symmetry, x: Tree, *, side: Side = "left", generator: Generator | None = None, anchored: bool = False
) -> Views:
    """Two random views of each sample of a batch, with what leads from the first to the second.

    >>> import erlangen as er
    >>> symmetry = er.Symmetry("SO(2)", input="points", output="invariant")
    >>> x = torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]]])
    >>> views = two_views(symmetry, x, generator=torch.Generator().manual_seed(0))
    >>> torch.allclose(symmetry.input.act(views.relative, views.first), views.second, atol=1e-6)
    True

    Args:
        symmetry: its group, the action on the inputs, and the range the elements are drawn from.
        x: a tree of tensors ``[B, ...]``.
        side: see `relative_element`. With "left" the first view, moved by the element, is the second; with "right" the
            element is one of the axes of the sample.
        generator: of the elements.
        anchored: keep x itself as the first view.

    Raises:
        UnknownNameError: another side.
    """
    group, size, like = symmetry.group, batch_length(x), tree_leaves(x)[0]
    dtype = like.dtype if like.is_floating_point() else None
    g = symmetry.domain.sample((2, size), generator=generator, dtype=dtype).to(like.device)
    if anchored:
        g = torch.stack([group.identity(device=like.device).to(g.dtype).expand_as(g[0]), g[1]])
    moved = [x if anchored and i == 0 else symmetry.input.act(g[i], x) for i in range(2)]
    return Views(cast("Tree", moved[0]), cast("Tree", moved[1]), g, relative_element(group, g[0], g[1], side=side))
