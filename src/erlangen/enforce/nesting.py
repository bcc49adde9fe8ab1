"""Several groups on one model: which frame may stand around which, and product groups taken apart.

``symmetrize(symmetrize(model, inner), outer)`` has both symmetries only if the frame of the outer group does not change when
the inner one acts. Principal axes do not depend on the order of the points, so rotations go around permutations; sorted
nodes do depend on coordinates, so the other order has neither symmetry. What the frames of the inner group see then comes
out of a rotation, with rounding: rows that are equal in exact arithmetic (the heights of a planar molecule) differ by 1e-17,
and are sorted by chance unless that counts as equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from erlangen.actions import Action, Factors, Invariant, Points, TreeAction
from erlangen.enforce.cloud import has_parts, leaf_actions
from erlangen.enforce.frames import KINDS, Frame
from erlangen.enforce.pca_frames import PCAFrame
from erlangen.enforce.sort_frames import SortFrame, is_sortable
from erlangen.errors import ActionError, GroupError, SymmetryError
from erlangen.groups import DirectProduct, Symmetric
from erlangen.symmetry import Symmetry

SMALL_ORBIT = 720
"""Permutation groups of a product that are averaged as a whole where two of them would sort the same tensor; 6!."""


def factor_symmetries(symmetry: Symmetry) -> list[Symmetry] | None:
    """The symmetries under the factors of a direct product, each the whole of the data; ``None`` if they cannot be told.

    Inputs and outputs are `Factors`, trees of these, or invariant.
    """
    group = symmetry.group
    if not isinstance(group, DirectProduct):
        return None
    sides = [[_factor(a.action, i) for i in range(len(group.factors))] for a in (symmetry.input, symmetry.output)]
    found: list[Symmetry] = []
    for factor, given, answer in zip(group.factors, *sides, strict=True):
        if given is None or answer is None:
            return None
        found.append(Symmetry(factor, input=given, output=answer))
    return found


def _factor(action: Action, i: int) -> Action | None:
    """What factor i does to the data."""
    if isinstance(action, Factors):
        return action.actions[i]
    if isinstance(action, Invariant):
        return action
    if isinstance(action, TreeAction):
        children = [_factor(action.tree[key], i) for key in action.keys]
        if any(child is None for child in children):
            return None
        kept: list[Any] = children
        return TreeAction(dict(zip(action.keys, kept, strict=True)) if isinstance(action.tree, dict) else tuple(kept))
    return None


def inside_out(symmetries: Sequence[Symmetry]) -> list[tuple[Symmetry, bool]]:
    """Symmetries of commuting groups from the innermost to the outermost wrapper, and which of them are orbits.

    Sorted nodes stand innermost, principal axes around them (those that fix an origin further out), orbits outermost: these
    see nothing of the data, so they keep what is inside of them.

    Raises:
        GroupError: a factor has no frame and no finite orbit, or two of them sort the same tensor.
    """
    sorts = [s for s in symmetries if isinstance(s.group, Symmetric) and is_sortable(s.input.action)]
    axes = [s for s in symmetries if type(s.group) in KINDS and has_parts(s.input.action)]
    axes.sort(key=lambda s: KINDS[type(s.group)].origin)
    orbits = [s for s in symmetries if s not in sorts and s not in axes]
    for s in sorts[1:]:
        if any(moves(s.input.action, other.input.action) for other in sorts if other is not s):
            if s.group.order > SMALL_ORBIT:
                raise GroupError(
                    f"{s.group.name} and another group of permutations move one tensor, and neither can sort it while the "
                    "other one shuffles it; sort by features that only one of them moves, or use how='orbit' with samples="
                )
            orbits.append(s)
    sorts = [s for s in sorts if s not in orbits]
    return [(s, False) for s in (*sorts, *axes)] + [(s, True) for s in orbits]


def moves(sorted_by: Action, other: Action) -> bool:
    """Whether an action changes what another one sorts nodes by."""
    if isinstance(sorted_by, TreeAction) and isinstance(other, TreeAction):
        return any(moves(sorted_by.tree[key], other.tree[key]) for key in sorted_by.keys if key in other.keys)
    return is_sortable(sorted_by) and not isinstance(other, Invariant)


def check_order(frame: Frame, outer: Symmetry, inner: Symmetry) -> None:
    """Refuse an outer frame that the inner group changes: the result would have neither symmetry.

    Raises:
        SymmetryError: nodes would be sorted by what the inner group moves, or axes about an origin that it moves.
    """
    swap = f"symmetrize under {outer.group.name} first and put {inner.group.name} around it, or declare their product"
    if (
        isinstance(frame, SortFrame)
        and not isinstance(inner.group, Symmetric)
        and moves(outer.input.action, inner.input.action)
    ):
        raise SymmetryError(
            f"the model is symmetrized under {inner.group.name}, which moves what {outer.group.name} would sort the "
            f"nodes by, so neither symmetry would hold; {swap}"
        )
    if isinstance(frame, PCAFrame) and not frame.kind.origin:
        kind = KINDS.get(type(inner.group))
        located = any(isinstance(leaf, Points) for leaf in leaf_actions(outer.input.action))
        if kind is not None and kind.origin and located:
            raise SymmetryError(
                f"the model is symmetrized under {inner.group.name}, which moves the origin that the frame of "
                f"{outer.group.name} is taken about, so neither symmetry would hold; {swap}"
            )


def brings_rounding(frame: Frame, symmetry: Symmetry) -> bool:
    """Whether the wrapped model sees numbers that were computed, and not only moved."""
    return not isinstance(frame, SortFrame) and not isinstance(symmetry.group, Symmetric)


def takes_product(symmetry: Symmetry, how: str | None) -> bool:
    """Whether a product group is symmetrized factor by factor: unless its whole orbit was asked for, or is there to list."""
    if not isinstance(symmetry.group, DirectProduct) or how == "orbit":
        return False
    return how is not None or symmetry.group.order == math.inf or symmetry.group.order > SMALL_ORBIT


def refuse_product(symmetry: Symmetry) -> ActionError:
    """The error for actions that cannot be taken apart."""
    return ActionError(
        f"{symmetry!r}: the actions of {symmetry.group.name} cannot be taken apart; declare inputs and outputs as products "
        "such as 'permuted * points', trees of these, or 'invariant', or pass frame= with a frame of your own"
    )
