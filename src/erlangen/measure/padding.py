"""Models of samples of different size: what the padding means to the model, to the actions and to the answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from erlangen.actions import (
    Action,
    Custom,
    Factors,
    Graph,
    Invariant,
    Permuted,
    Sequence,
    Tree,
    TreeAction,
    tree_leaves,
    tree_map,
)
from erlangen.errors import DataError, ModelError
from erlangen.groups import DirectProduct, Group, Symmetric
from erlangen.measure.calls import parameters_of
from erlangen.measure.rows import Rows, blanked, marked
from erlangen.symmetry import Symmetry

if TYPE_CHECKING:
    from erlangen.measure.models import Model


@dataclass
class Padding:
    """How a model of samples of different size is called, with inputs ``{"x": ..., "mask": [B, N]}`` or a graph with a mask.

    A model with an argument ``mask`` gets the padded batch and the mask. Any other one never sees padding: samples of one size
    are called together, with the rows that exist. Answers with a row for each row of the sample come back padded with zeros.

    Attributes:
        nested: whether the data lie under "x", beside the mask; else the mask is an entry of a graph.
        padded: for every tensor of the data, in order, the axes that were padded.
        axes: for every tensor of the answer, in order, its axis of rows from the end, or ``None``.
    """

    nested: bool
    padded: list[list[int]]
    axes: list[int | None] | None = field(default=None)

    def parts(self, x: Tree) -> tuple[Tree, Tensor]:
        """Data and mask."""
        if self.nested:
            return x["x"], x["mask"]
        return {key: value for key, value in x.items() if key != "mask"}, x["mask"]

    def learn(self, model: Model, x: Tree) -> None:
        """Find out which axes of the answer are rows: those whose length follows the size of the sample."""
        _, mask = self.parts(x)
        sizes = mask.sum(1)
        shortest, longest = int(sizes.argmin()), int(sizes.argmax())
        if sizes[shortest] == sizes[longest]:  # a set of graphs of one size
            self.axes = []
            return
        few, many = (self._alone(model, x, i) for i in (shortest, longest))
        self.axes = [
            _row_axis(model, a, b, int(sizes[shortest]), int(sizes[longest])) for a, b in zip(few, many, strict=True)
        ]

    def _alone(self, model: Model, x: Tree, i: int) -> list[Any]:
        """Shapes of the answer to one sample in its own size."""
        data, mask = self.parts(tree_map(lambda leaf: leaf[i : i + 1], x))
        cut = self._cut(data, mask)
        inner = {"x": cut, "mask": mask[mask][None]} if self.nested else {**cut, "mask": mask[mask][None]}
        answer = model.answer(inner if takes_mask(model.call) else cut, masked=takes_mask(model.call))
        return [tuple(leaf.shape) for leaf in tree_leaves(answer)]

    def answer(self, model: Model, x: Tree) -> Tree:
        """The answer to a padded batch."""
        data, mask = self.parts(x)
        if takes_mask(model.call):
            return self._marked(blanked(model.answer(x, masked=True), mask, self.axes or []), mask)
        sizes = mask.sum(1)
        pieces: list[Tree] = []
        order: list[Tensor] = []
        for size in sizes.unique().tolist():
            rows = (sizes == size).nonzero()[:, 0]
            part = tree_map(lambda leaf, rows=rows: leaf[rows], data)
            answer = model.answer(self._cut(part, mask[rows]), masked=False)
            pieces.append(self._spread(answer, mask[rows]))
            order.append(rows)
        back = torch.cat(order).argsort()
        return self._marked(tree_map(lambda *leaves: torch.cat(leaves)[back.to(leaves[0].device)], *pieces), mask)

    @property
    def has_rows(self) -> bool:
        """Whether answers have a row for each row of the sample."""
        return any(axis is not None for axis in self.axes or [])

    def _marked(self, answer: Tree, mask: Tensor) -> Tree:
        return marked(answer, mask.to(tree_leaves(answer)[0].device)) if self.has_rows else answer

    def _cut(self, x: Tree, mask: Tensor) -> Tree:
        """Rows that exist, of samples ``[B, N, ...]`` that all have equally many."""
        rows = mask.nonzero()[:, 1].reshape(len(mask), -1)
        axes = iter(self.padded)

        def cut(leaf: Tensor) -> Tensor:
            for axis in next(axes):
                shape = [len(rows), *[1] * (leaf.ndim - 1)]
                shape[axis] = rows.shape[1]
                leaf = torch.take_along_dim(leaf, rows.to(leaf.device).reshape(shape), axis)
            return leaf

        return tree_map(cut, x)

    def _spread(self, answer: Tree, mask: Tensor) -> Tree:
        """Answers of samples in their own size, with their rows where those of the samples are."""
        place = iter(self.axes or [])

        def spread(leaf: Tensor) -> Tensor:
            axis = next(place, None)
            if axis is None:
                return leaf
            leaf = leaf.movedim(axis, 1)
            room = leaf.new_zeros(len(mask), mask.shape[1], *leaf.shape[2:])
            room[mask.to(leaf.device)] = leaf.flatten(0, 1)
            return room.movedim(1, axis)

        return tree_map(spread, answer)


def _row_axis(model: Model, few: tuple[int, ...], many: tuple[int, ...], less: int, more: int) -> int | None:
    axes = [axis for axis in range(1, min(len(few), len(many))) if few[axis] != many[axis]]
    if not axes and len(few) == len(many):
        return None
    if len(axes) != 1 or len(few) != len(many) or (few[axes[0]], many[axes[0]]) != (less, more):
        raise ModelError(
            f"{model.name} answers with {list(few)} to a sample of {less} rows and with {list(many)} to one of {more}; one axis "
            "may have as many entries as the sample has rows"
        )
    return axes[0] - len(few)


def takes_mask(fn: Callable[..., Any]) -> bool:
    """Whether a model has an argument ``mask``, or an ONNX file an input of that name."""
    names = getattr(fn, "inputs", None)
    found = parameters_of(fn)
    return "mask" in names if isinstance(names, list) else any(p.name == "mask" for p in found or [])


# --- actions ---------------------------------------------------------------------------------------------------------
def with_rows(symmetry: Symmetry, padding: Padding) -> Symmetry:
    """The same symmetry for answers that have a row for each row of the sample."""
    moved = mask_action(symmetry.input.action, symmetry.group)
    output = Rows(symmetry.output.action, moved, tuple(padding.axes or ()))
    return Symmetry(symmetry.domain, input=symmetry.input.action, output=output)


def padded_symmetry(symmetry: Symmetry) -> Symmetry:
    """The same symmetry of ``{"x": ..., "mask": ...}``: where rows move, their mask moves with them."""
    action = symmetry.input.action
    together = TreeAction({"x": action, "mask": mask_action(action, symmetry.group)})
    return Symmetry(symmetry.domain, input=together, output=symmetry.output.action)


WITHOUT_ITEMS = (Custom, Factors, Graph, Permuted, Sequence)
"""Actions whose items are as long as the sample has rows, or may be."""


def check_rows(action: Action, x: Tree, padded: list[list[int]]) -> None:
    """Raise unless the axes that were padded hold rows: coordinates, or the sides of a picture, cannot be padded.

    Args:
        action: the action on the data.
        x: the padded data.
        padded: the padded axes of every tensor, in order.
    """
    places = iter(padded)

    def check(part: Action, tree: Tree) -> None:
        if isinstance(part, TreeAction):
            for _, child, value in part.pairs(tree):
                check(child, value)
            return
        for leaf in tree_leaves(tree):
            inside = [axis for axis in next(places) if axis - leaf.ndim >= -part.item_ndim]
            if inside and not isinstance(part, WITHOUT_ITEMS):
                raise DataError(
                    f"x is a list whose entries have different lengths along axis {inside[0] - 1}, of which {part.name!r} needs "
                    "all; rows can be padded, and nothing else"
                )

    check(action, x)


def mask_action(action: Action, group: Group) -> Action:
    """How a mask ``[B, N]`` of rows moves beside data that move by the action."""
    if isinstance(action, TreeAction):
        children = [mask_action(action.tree[key], group) for key in action.keys]
        return next((child for child in children if not isinstance(child, Invariant)), Invariant())
    if isinstance(action, Factors):
        factors = group.factors if isinstance(group, DirectProduct) else []
        return Factors(tuple(mask_action(a, factor) for a, factor in zip(action.actions, factors, strict=True)))
    if isinstance(action, Graph):
        return Permuted(axis=-1)
    if isinstance(action, Permuted):
        if action.fixed:
            raise DataError(
                f"x: samples of different size under {action.name!r}: the last position of each would be padding"
            )
        return Permuted(axis=-1)
    if isinstance(action, Custom) and any(isinstance(g, Symmetric) for g in getattr(group, "factors", [group])):
        raise DataError(
            f"x: samples of different size are padded, and how {action.name!r} moves their mask is not known; give a padded "
            "tensor and a mask, with an action for each"
        )
    return Invariant()
