"""What a wrapper does around its model: the input moved by the inverse elements, the answers moved back and averaged."""

from __future__ import annotations

from torch import Tensor

from erlangen.actions import Permuted, Tree, tree_leaves, tree_map
from erlangen.enforce.calls import as_wide_as, check_output, flatten, weighted_sum
from erlangen.enforce.cloud import is_first_order
from erlangen.enforce.frames import Frame
from erlangen.enforce.padding import zero_padding
from erlangen.enforce.pca_frames import PCAFrame
from erlangen.groups import SemidirectProduct, Symmetric
from erlangen.symmetry import Symmetry


def given_by_inverses(
    acting: Symmetry, elements: Tensor, x: Tree, mask: Tensor | None
) -> tuple[Tree, dict[str, Tensor]]:
    """What the model sees, ``[B * K, ...]``: the input moved by the inverse elements, and the mask."""
    group = acting.group
    back, count = group.inverse(elements), elements.shape[1]
    single = tree_map(lambda t: t.unsqueeze(1) if isinstance(t, Tensor) else t, x)
    moved = acting.input.act(back, single)
    flat = tree_map(lambda t: flatten(t, count), moved)
    if mask is None:
        return flat, {}
    copies = mask[:, None]
    copies = Permuted(axis=-1).apply(group, back, copies) if isinstance(group, Symmetric) else copies
    copies = flatten(copies, count)
    return zero_padding(acting.input.action, flat, copies != 0), {"mask": copies}


def moved_back(acting: Symmetry, elements: Tensor, weights: Tensor, out: Tree, batch: int) -> Tree:
    """Move the model's outputs by the elements and take the weighted sum over them."""
    count = elements.shape[1]
    for leaf in tree_leaves(out):
        check_output(leaf, batch * count)
    stacked = tree_map(lambda t: t.unflatten(0, (batch, count)), out)
    moved = acting.output.act(as_wide_as(elements, stacked), stacked)
    return tree_map(lambda t: weighted_sum(t, weights), moved)


def linear_part(symmetry: Symmetry, frame: Frame) -> Symmetry | None:
    """The symmetry under H of a group ``R^n x| H``, where centred data is moved by it alone as by the whole group.

    So it is for data of order one, if the elements of a frame share their translation.
    """
    group, actions = symmetry.group, (symmetry.input.action, symmetry.output.action)
    if not isinstance(group, SemidirectProduct) or not isinstance(frame, PCAFrame):
        return None
    if not all(is_first_order(action) for action in actions):
        return None
    return Symmetry(group.H, input=actions[0], output=actions[1])
