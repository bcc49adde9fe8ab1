"""Actions under which reflections also exchange labels: the mirrored left hand is a right hand."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from erlangen.actions.base import Action, Tree, check_tensor, lead_view
from erlangen.actions.signs import need_signs, signs_of
from erlangen.errors import ActionError, ShapeError, is_whole
from erlangen.groups import Group


@dataclass(frozen=True)
class Relabelled(Action):
    """Data moved by `action`, whose entries along an axis also change places where the sign of the element is -1.

    >>> from erlangen.actions import Points, Relabelled
    >>> from erlangen.groups import O
    >>> hands = Relabelled(Points(), order=(0, 2, 1)).on(O(2))  # head, left hand, right hand
    >>> x = torch.tensor([[0.0, 2.0], [-1.0, 1.0], [1.0, 1.5]])
    >>> hands.act(torch.tensor([[-1.0, 0.0], [0.0, 1.0]]), x).tolist()
    [[0.0, 2.0], [-1.0, 1.5], [1.0, 1.0]]

    The sign is that of `erlangen.actions.Sign`: -1 for reflections. For skeletons, landmarks of faces, limbs, keypoints.

    Args:
        action: how the entries themselves move, an action on tensors.
        order: entry i of the result comes from entry ``order[i]``; an involution, so that mirroring twice changes nothing.
        axis: the axis of the labels, counted from the end.

    Raises:
        ActionError: `order` is no involution of its length, or `axis` is not negative.
    """

    action: Action
    order: tuple[int, ...]
    axis: int = -2

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", tuple(self.order))
        n = len(self.order)
        if not all(is_whole(i, 0, n - 1) for i in self.order) or any(self.order[self.order[i]] != i for i in range(n)):
            raise ActionError(f"order = {self.order}: give a permutation of 0, ..., {n - 1} that is its own inverse")
        if not self.axis < 0:
            raise ActionError(f"axis = {self.axis}: count the axis from the end, for example axis=-2")

    @property
    def item_ndim(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Trailing axes from that of the labels on, and those of the action."""
        return max(-self.axis, self.action.item_ndim)

    @property
    @override
    def name(self) -> str:
        return f"relabelled {self.action.name}"

    def check_group(self, group: Group) -> None:
        """The group must fit the action and have elements of sign -1."""
        self.action.check_group(group)
        need_signs(group, self.name)

    def width(self, group: Group) -> int | None:
        """Width of the action, if the labels do not lie along it."""
        return len(self.order) if self.axis == -1 else self.action.width(group)

    def is_exact(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """As the action."""
        return self.action.is_exact(group, g, x)

    def resamples(self, group: Group) -> bool:
        """As the action."""
        return self.action.resamples(group)

    def mask(self, group: Group, g: Tensor, x: Tree) -> Tree | None:
        """The mask of the action, relabelled where it tells the labels apart."""
        known = self.action.mask(group, g, x)
        whole = isinstance(known, Tensor) and known.ndim >= -self.axis and known.shape[self.axis] == len(self.order)
        return self._exchanged(group, g, known) if isinstance(known, Tensor) and whole else known

    def move_mask(self, group: Group, g: Tensor, known: Tree, x: Tree) -> Tree:
        """That of the action, relabelled."""
        moved = self.action.move_mask(group, g, known, x)
        full = torch.broadcast_to(moved, torch.broadcast_shapes(moved.shape, self.action.apply(group, g, x).shape))
        return self._exchanged(group, g, full)

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tree:
        """The moved data, relabelled where the sign is -1."""
        lead = len(group.batch_shape(g))
        x = check_tensor(x, self.name, lead=lead, item_ndim=self.item_ndim, floating=False)
        if x.shape[self.axis] != len(self.order):
            raise ShapeError(
                f"x has shape {tuple(x.shape)}, but {self.name} has {len(self.order)} labels along axis {self.axis}"
            )
        return self._exchanged(group, g, self.action.apply(group, g, x))

    def _exchanged(self, group: Group, g: Tensor, x: Tensor) -> Tensor:
        mirrored = signs_of(group, g) < 0
        order = torch.tensor(self.order, device=x.device)
        return torch.where(lead_view(mirrored, mirrored.ndim, x).to(x.device), x.index_select(self.axis, order), x)
