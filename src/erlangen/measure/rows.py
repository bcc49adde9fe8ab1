"""Answers with a row for each row of a padded sample: which rows exist goes along, and the others stay zero."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from erlangen.actions import Action, Tree, tree_map
from erlangen.groups import Group

MARK = 1e-170
"""What `RowAnswer.rows` holds where there is a row: its square is zero, so that it adds to no error and to no norm."""


class RowAnswer(NamedTuple):
    """An answer, and which of its rows exist.

    Attributes:
        answer: a tree of tensors ``[B, ...]``, zero in rows that do not exist.
        rows: float64 ``[B, N]``, `MARK` for rows that exist, else 0.
    """

    answer: Tree
    rows: Tensor


def plain(tree: Tree) -> Tree:
    """The answer alone."""
    return tree.answer if isinstance(tree, RowAnswer) else tree


def marked(answer: Tree, mask: Tensor) -> RowAnswer:
    """An answer with the rows of a bool mask ``[B, N]``."""
    return RowAnswer(answer, MARK * mask.double())


def row_axes(shapes: list[tuple[int, ...]], others: list[tuple[int, ...]]) -> list[int | None]:
    """For every tensor the axis, counted from the end, whose length differs; ``None`` where none does."""
    found: list[int | None] = []
    for one, other in zip(shapes, others, strict=True):
        axes = [axis for axis in range(len(one)) if one[axis] != other[axis]]
        found.append(axes[0] - len(one) if axes else None)
    return found


def blanked(answer: Tree, rows: Tensor, axes: list[int | None]) -> Tree:
    """An answer ``[*lead, ...]`` with zeros in the rows that ``rows [*lead, N]`` does not mark, along one axis of each tensor."""
    places = iter(axes)

    def blank(leaf: Tensor) -> Tensor:
        axis = next(places, None)
        if axis is None:
            return leaf
        lead = rows.ndim - 1
        shape = [*rows.shape[:lead], *[1] * (leaf.ndim - lead)]
        shape[axis] = rows.shape[-1]
        return torch.where(
            (rows > 0).to(leaf.device).reshape(shape), leaf, torch.zeros((), dtype=leaf.dtype, device=leaf.device)
        )

    return tree_map(blank, answer)


@dataclass(frozen=True)
class Rows(Action):
    """An action on answers of padded samples: rows that do not exist stay zero, where translations would move them.

    Args:
        action: how answers move.
        mask: how the rows move, as the mask of the input does.
        axes: the axis of rows of every tensor, from the end, or ``None``.
    """

    action: Action
    mask_action: Action
    axes: tuple[int | None, ...]

    @property
    @override
    def name(self) -> str:
        return self.action.name

    @property
    def item_ndim(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the action."""
        return self.action.item_ndim

    @property
    def labels(self) -> Callable[[Tensor, Tree], Tree] | None:
        """How the action moves labels, if it says so."""
        return getattr(self.action, "labels", None)

    def check_group(self, group: Group) -> None:
        """As the action."""
        self.action.check_group(group)

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tree:
        """The moved answer, with its rows; what has no rows moves alone."""
        if not isinstance(x, RowAnswer):
            return self.action.apply(group, g, x)
        rows = self.mask_action.apply(group, g, x.rows)
        return RowAnswer(blanked(self.action.apply(group, g, x.answer), rows, list(self.axes)), rows)

    def is_exact(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """As the action."""
        return self.action.is_exact(group, g, plain(x))

    @override
    def resamples(self, group: Group) -> bool:
        return self.action.resamples(group)

    def mask(self, group: Group, g: Tensor, x: Tree) -> Any:
        """As the action."""
        known = self.action.mask(group, g, plain(x))
        return known if known is None or not isinstance(x, RowAnswer) else RowAnswer(known, None)  # pyright: ignore[reportArgumentType]
