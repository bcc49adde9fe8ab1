"""Actions made of actions: sums along the last axis, trees, factors of a product group, sequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from erlangen.actions.base import (
    Action,
    Part,
    Tree,
    broadcast_lead,
    check_tensor,
    expand_mask,
    tree_leaves,
    tree_map,
    tree_structure,
)
from erlangen.actions.geometric import Points, Vectors
from erlangen.errors import ActionError, ShapeError, SymmetryError
from erlangen.groups import DirectProduct, Flow, Group


@dataclass(frozen=True)
class DirectSum(Action):
    """Several kinds of data side by side on the last axis, for example six sensor channels "vectors + vectors".

    At most one summand may leave its width open (`Invariant` without size); it takes what is left.
    """

    summands: tuple[Action, ...]

    def __post_init__(self) -> None:
        for action in self.summands:
            if getattr(action, "axis", -1) != -1:
                raise ActionError(f"{action.name}: summands lie along the last axis; transpose the data")

    @property
    @override
    def name(self) -> str:
        return " + ".join(action.name for action in self.summands)

    def check_group(self, group: Group) -> None:
        """Every summand must fit."""
        for action in self.summands:
            action.check_group(group)
        if sum(action.width(group) is None for action in self.summands) > 1:
            raise ActionError(f"{self.name}: only one summand may have an open width; write invariant(size)")

    def width(self, group: Group) -> int | None:
        """Sum of the widths."""
        widths = [action.width(group) for action in self.summands]
        return None if None in widths else sum(w for w in widths if w is not None)

    def split(self, group: Group, x: Tensor) -> tuple[Tensor, ...]:
        """Views of the summands along the last axis."""
        widths = [action.width(group) for action in self.summands]
        known = sum(w for w in widths if w is not None)
        total = x.shape[-1] if x.ndim else 0
        if total < known or (None not in widths and total != known):
            raise ShapeError(
                f"x has shape {tuple(x.shape)}: {self.name} of {group.name} needs {known} entries on the last axis, "
                f"not {total}"
            )
        return torch.split(x, [total - known if w is None else w for w in widths], dim=-1)

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """Each summand by its own action."""
        x = check_tensor(x, self.name, lead=len(group.batch_shape(g)))
        pieces = self.split(group, x)
        return torch.cat([a.apply(group, g, piece) for a, piece in zip(self.summands, pieces, strict=True)], -1)

    def is_exact(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """Where all summands are exact."""
        exact = super().is_exact(group, g, x)
        for action, piece in zip(self.summands, self.split(group, x), strict=True):
            exact = exact & action.is_exact(group, g, piece)
        return exact

    @override
    def resamples(self, group: Group) -> bool:
        return any(action.resamples(group) for action in self.summands)

    def mask(self, group: Group, g: Tensor, x: Tree) -> Tensor | None:
        """Known entries of every summand side by side, boolean ``[..., width]``."""
        pieces = self.split(group, x)
        masks = [action.mask(group, g, piece) for action, piece in zip(self.summands, pieces, strict=True)]
        if all(mask is None for mask in masks):
            return None
        lead = len(group.batch_shape(g))
        shape = (*broadcast_lead(tuple(group.batch_shape(g)), tuple(x.shape[:lead])), *x.shape[lead:-1])
        every = [torch.ones((), dtype=torch.bool, device=x.device) if mask is None else mask for mask in masks]
        return torch.cat([m.expand(*shape, p.shape[-1]) for m, p in zip(every, pieces, strict=True)], -1)

    @override
    def move_mask(self, group: Group, g: Tensor, known: Tree, x: Tree) -> Tensor:
        full = expand_mask(group, g, known, x)
        triples = zip(self.summands, self.split(group, full), self.split(group, x), strict=True)
        moved = [(action.move_mask(group, g, mask, piece), piece) for action, mask, piece in triples]
        return torch.cat([mask.expand(*full.shape[:-1], piece.shape[-1]) for mask, piece in moved], -1)

    def parts(self, group: Group, x: Tree) -> list[Part]:
        """Parts of all summands."""
        pieces = self.split(group, check_tensor(x, self.name, lead=1))
        return [p for a, piece in zip(self.summands, pieces, strict=True) for p in a.parts(group, piece)]


def trajectory() -> DirectSum:
    """Phase space ``[..., 2 n]``: a position (moved as a point) and its velocity (moved as a vector)."""
    return DirectSum((Points(), Vectors()))


class TreeAction(Action):
    """A dict, list or tuple of actions on a dict, list or tuple of the same structure."""

    item_ndim = 0

    def __init__(self, tree: Mapping[str, Action] | list[Action] | tuple[Action, ...]) -> None:
        self.tree: Any = dict(tree) if isinstance(tree, Mapping) else tree
        self.keys: list[Any] = list(tree) if isinstance(tree, Mapping) else list(range(len(tree)))
        if not self.keys:
            raise SymmetryError("an empty tree of actions moves nothing; name at least one entry")

    @property
    @override
    def name(self) -> str:
        if isinstance(self.tree, dict):
            return "{" + ", ".join(f"{key}: {action.name}" for key, action in self.tree.items()) + "}"
        return "(" + ", ".join(action.name for action in self.tree) + ")"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TreeAction) and self.tree == other.tree

    def __hash__(self) -> int:
        return hash(self.name)

    def pairs(self, x: Tree) -> list[tuple[Any, Action, Tree]]:
        """(key, action, subtree); the structures must match."""
        is_dict = isinstance(self.tree, dict)
        keys = list(x) if isinstance(x, dict) else list(range(len(x))) if isinstance(x, (list, tuple)) else None
        if keys is None or is_dict != isinstance(x, dict) or set(keys) != set(self.keys):
            raise SymmetryError(
                f"x is {tree_structure(x)}, but the action is {self.name}; give both the same keys "
                "(declare what the group leaves alone as 'invariant')"
            )
        return [(key, self.tree[key], x[key]) for key in keys]

    def rebuild(self, x: Tree, values: list[Any]) -> Tree:
        """A tree like x with other subtrees, in the order of `pairs`."""
        if isinstance(x, dict):
            return dict(zip(x, values, strict=True))
        return type(x)(*values) if hasattr(x, "_fields") else type(x)(values)

    def check_group(self, group: Group) -> None:
        """Every entry must fit; the message names the entry."""
        for key in self.keys:
            try:
                self.tree[key].check_group(group)
            except ActionError as error:
                raise ActionError(f"entry {key!r}: {error}") from error

    @override
    def translate(self, group: Group, shift: Tensor, x: Tree) -> Tree:
        return self.rebuild(x, [action.translate(group, shift, value) for _, action, value in self.pairs(x)])

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tree:
        """Each entry by its own action."""
        return self.rebuild(x, [action.apply(group, g, value) for _, action, value in self.pairs(x)])

    def is_exact(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """Where all entries are exact."""
        exact = super().is_exact(group, g, x)
        for _, action, value in self.pairs(x):
            exact = exact & action.is_exact(group, g, value)
        return exact

    @override
    def resamples(self, group: Group) -> bool:
        return any(self.tree[key].resamples(group) for key in self.keys)

    def mask(self, group: Group, g: Tensor, x: Tree) -> Tree | None:
        """A tree with the mask of each tensor, ``None`` for those of which all is known, and for the whole if that is all."""
        pairs = self.pairs(x)
        masks = [action.mask(group, g, value) for _, action, value in pairs]
        if all(mask is None for mask in masks):
            return None
        # An entry may be a tree itself, so that its None must stand for each of its tensors.
        full = [
            tree_map(lambda _: None, value) if mask is None else mask
            for mask, (_, _, value) in zip(masks, pairs, strict=True)
        ]
        return self.rebuild(x, full)

    @override
    def move_mask(self, group: Group, g: Tensor, known: Tree, x: Tree) -> Tree:
        rows = [
            mask if all(leaf is None for leaf in tree_leaves(mask)) else action.move_mask(group, g, mask, value)
            for (_, action, value), (_, _, mask) in zip(self.pairs(x), self.pairs(known), strict=True)
        ]
        return self.rebuild(x, rows)

    def parts(self, group: Group, x: Tree) -> list[Part]:
        """Parts of all entries."""
        return [part for _, action, value in self.pairs(x) for part in action.parts(group, value)]


@dataclass(frozen=True)
class Factors(Action):
    """A `DirectProduct` acts factor by factor on one tensor; the actions must commute.

    ``Factors((Permuted(), Points()))`` under ``Symmetric(n) x SE(3)`` permutes and moves a cloud.
    """

    actions: tuple[Action, ...]

    @property
    @override
    def name(self) -> str:
        return " * ".join(action.name for action in self.actions)

    @property
    def item_ndim(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The largest of the actions."""
        return max(action.item_ndim for action in self.actions)

    def check_group(self, group: Group) -> None:
        """A product with as many factors, each of which fits."""
        if not isinstance(group, DirectProduct) or len(group.factors) != len(self.actions):
            raise ActionError(
                f"{self.name}: {len(self.actions)} actions need a DirectProduct of as many groups, not {group.name}"
            )
        for action, factor in zip(self.actions, group.factors, strict=True):
            action.check_group(factor)

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tree:
        """The factors one after the other."""
        assert isinstance(group, DirectProduct)
        for action, factor, element in zip(self.actions, group.factors, group.split(g), strict=True):
            x = action.apply(factor, element, x)
        return x

    def is_exact(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """Where every factor is exact."""
        assert isinstance(group, DirectProduct)
        exact = super().is_exact(group, g, x)
        for action, factor, element in zip(self.actions, group.factors, group.split(g), strict=True):
            exact = exact & action.is_exact(factor, element, x)
        return exact

    @override
    def resamples(self, group: Group) -> bool:
        assert isinstance(group, DirectProduct)
        return any(action.resamples(factor) for action, factor in zip(self.actions, group.factors, strict=True))

    def mask(self, group: Group, g: Tensor, x: Tree) -> Tree | None:
        """What is known after all factors: each hides something, and the later ones move what the earlier have hidden."""
        assert isinstance(group, DirectProduct)
        known: Tree | None = None
        for action, factor, element in zip(self.actions, group.factors, group.split(g), strict=True):
            hidden = action.mask(factor, element, x)
            carried = None if known is None else action.move_mask(factor, element, known, x)
            x = action.apply(factor, element, x)
            known = both_masks(carried, hidden, x)
        return known

    @override
    def move_mask(self, group: Group, g: Tensor, known: Tree, x: Tree) -> Tree:
        assert isinstance(group, DirectProduct)
        for action, factor, element in zip(self.actions, group.factors, group.split(g), strict=True):
            known, x = action.move_mask(factor, element, known, x), action.apply(factor, element, x)
        return known


def both_masks(one: Tree | None, other: Tree | None, x: Tree) -> Tree | None:
    """What two masks of the tree x know alike; ``None``, for a leaf or for all, knows everything."""
    if one is None or other is None:
        return other if one is None else one
    if isinstance(x, Tensor):
        return one & other
    return tree_map(lambda _, a, b: a if b is None else b if a is None else a & b, x, one, other)


@dataclass(frozen=True)
class Sequence(Action):
    """A time series of frames: the same element on every frame, or, for a `Flow`, ``flow.at(g, t)`` on frame t.

    Frame 0 is not moved by a flow (Keller, Flow Equivariant Recurrent Neural Networks, 2025).

    Args:
        frame: the action on one frame.
        time_axis: the time axis, negative: -3 for points ``[..., T, N, n]``, -4 for images ``[..., T, C, H, W]``.
    """

    frame: Action
    time_axis: int

    def __post_init__(self) -> None:
        if self.time_axis >= -self.frame.item_ndim:
            raise ActionError(
                f"time_axis = {self.time_axis}: a frame of {self.frame.name!r} takes the last {self.frame.item_ndim} "
                f"axes, so time_axis must be {-self.frame.item_ndim - 1} or less"
            )

    @property
    def item_ndim(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Trailing axes from the time axis on."""
        return -self.time_axis

    @property
    @override
    def name(self) -> str:
        return f"sequence({self.frame.name}, {self.time_axis})"

    def check_group(self, group: Group) -> None:
        """The frame must fit the group, or the base group of a flow."""
        self.frame.check_group(group.group if isinstance(group, Flow) else group)

    @override
    def apply(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        lead = len(group.batch_shape(g))
        x = check_tensor(x, self.name, lead=lead, item_ndim=self.item_ndim, floating=False)
        if not isinstance(group, Flow):
            return self.frame.apply(group, g, x)
        # Bring time right behind the batch of g, where elements [*lead, T, ...] of the base group stand against it.
        axis = x.ndim + self.time_axis
        frames, elements = x.movedim(axis, lead), self._elements(group, g, x.shape[axis])
        return self.frame.apply(group.group, elements, frames).movedim(lead, axis)

    def mask(self, group: Group, g: Tensor, x: Tree) -> Tensor | None:
        """Known entries of every frame."""
        if not isinstance(group, Flow):
            return self.frame.mask(group, g, x)
        lead, axis = len(group.batch_shape(g)), x.ndim + self.time_axis
        frames, elements = x.movedim(axis, lead), self._elements(group, g, x.shape[axis])
        known = self.frame.mask(group.group, elements, frames)
        return None if known is None else known.movedim(lead, axis)

    @override
    def move_mask(self, group: Group, g: Tensor, known: Tree, x: Tree) -> Tree:
        if not isinstance(group, Flow):
            return self.frame.move_mask(group, g, known, x)
        lead, axis = len(group.batch_shape(g)), x.ndim + self.time_axis
        frames, elements = x.movedim(axis, lead), self._elements(group, g, x.shape[axis])
        full = expand_mask(group, g, known, x).movedim(axis, lead)
        return self.frame.move_mask(group.group, elements, full, frames).movedim(lead, axis)

    def _elements(self, flow: Flow, g: Tensor, frames: int) -> Tensor:
        """The base element of every frame, ``[*batch of g, T, ...]``."""
        time = torch.arange(frames, device=g.device)
        return flow.at(g[..., None, :], time if not g.is_floating_point() else time.to(g.dtype))

    def parts(self, group: Group, x: Tree) -> list[Part]:
        """Parts of all frames together; none under a flow, which moves every frame by another element."""
        return [] if isinstance(group, Flow) else self.frame.parts(group, x)

    def is_exact(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """Exact where all frames are."""
        if not isinstance(group, Flow):
            return self.frame.is_exact(group, g, x)
        return self.frame.is_exact(group.group, self._elements(group, g, x.shape[self.time_axis]), x).all(-1)

    @override
    def resamples(self, group: Group) -> bool:
        return self.frame.resamples(group.group if isinstance(group, Flow) else group)
