"""Actions by a sign: data that changes its sign, pairs that change places, labels that reflections exchange."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from erlangen.actions.base import (
    Action,
    Tree,
    broadcast_lead,
    check_axis,
    check_tensor,
    lead_view,
    tree_map,
    tree_structure,
)
from erlangen.errors import ActionError, DtypeError, ShapeError, is_whole
from erlangen.groups import Cyclic, DirectProduct, Group, Symmetric
from erlangen.groups.determinants import determinant, parity


@dataclass(frozen=True)
class Sign(Action):
    """Data times the sign of the element: audio under "O(1)", pseudoscalars under "O(3)". Any tensor or tree.

    The sign is +1 or -1 and multiplies as the elements do: the determinant of the linear part for groups that mirror (O,
    E, Dihedral, Flip, O_h, ...), the parity of a permutation, and ``(-1)^k`` for element k of ``Cyclic(n)`` of even n.
    Groups of rotations alone have none.

    Args:
        size: length of the last axis, needed only inside a sum of actions.
    """

    size: int | None = None
    item_ndim = 0

    def __post_init__(self) -> None:
        if self.size is not None and not is_whole(self.size, 1):
            raise ActionError(f"sign({self.size}): the size of the last axis must be a positive integer")

    @property
    @override
    def name(self) -> str:
        return "sign" if self.size is None else f"sign({self.size})"

    def check_group(self, group: Group) -> None:
        """The group must have elements of sign -1."""
        need_signs(group, self.name)

    def width(self, group: Group) -> int | None:
        """The declared size."""
        return self.size

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tree:
        """Every tensor of x times the sign."""
        signs = signs_of(group, g)

        def flip(leaf: Tree) -> Tensor:
            leaf = check_tensor(leaf, self.name, lead=signs.ndim, item_ndim=0, floating=False)
            if leaf.dtype in (torch.bool, torch.uint8):
                raise DtypeError(f"x has dtype {leaf.dtype}, which has no negative numbers; convert it before the call")
            broadcast_lead(signs.shape, leaf.shape[: signs.ndim])
            return leaf * lead_view(signs, signs.ndim, leaf).to(leaf)

        return tree_map(flip, x)


@dataclass(frozen=True)
class Swap(Action):
    """A pair whose entries change places where the sign of the element is -1, see `Sign`: stereo channels, two players.

    A tuple or list of two trees exchanges them; a tensor exchanges the halves of an axis, such as two class scores.

    Args:
        axis: the axis of a tensor, negative, of even length.
    """

    axis: int = -1

    def __post_init__(self) -> None:
        check_axis(self.axis, "axis", -1)

    @property
    def item_ndim(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Trailing axes from the axis on."""
        return -self.axis

    @property
    @override
    def name(self) -> str:
        return "swap" if self.axis == -1 else f"swap(axis={self.axis})"

    def check_group(self, group: Group) -> None:
        """The group must have elements of sign -1."""
        need_signs(group, self.name)

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tree:
        """The pair, exchanged where the sign is -1."""
        swapped = signs_of(group, g) < 0
        lead = swapped.ndim

        def choose(here: Tree, there: Tree) -> Tensor:
            here = check_tensor(here, self.name, lead=lead, item_ndim=0, floating=False)
            broadcast_lead(swapped.shape, here.shape[:lead])
            return torch.where(lead_view(swapped, lead, here).to(here.device), there, here)

        if isinstance(x, (tuple, list)):
            if len(x) != 2 or tree_structure(x[0]) != tree_structure(x[1]):  # pyright: ignore[reportUnknownArgumentType]
                raise ShapeError(
                    f"x is {tree_structure(x)}, but the action {self.name!r} needs two entries of one shape"
                )
            return type(x)((tree_map(choose, x[0], x[1]), tree_map(choose, x[1], x[0])))
        x = check_tensor(x, self.name, lead=lead, item_ndim=self.item_ndim, floating=False)
        half, odd = divmod(x.shape[self.axis], 2)
        if odd:
            raise ShapeError(
                f"x has shape {tuple(x.shape)}: {self.name} exchanges halves, but axis {self.axis} has length {2 * half + 1}"
            )
        return choose(x, x.roll(half, self.axis))


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
        check_axis(self.axis, "axis", -2)

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


def signs_of(group: Group, g: Tensor) -> Tensor:
    """Sign +1.0 or -1.0 of each element, ``[*batch of g]``, see `Sign`."""
    group.batch_shape(g)
    if isinstance(group, Cyclic):
        return 1.0 - 2.0 * (g % 2)
    if isinstance(group, Symmetric):
        return parity(g).double()
    return determinant(group.linear(g, dtype=torch.float64).double()).sign()


def has_signs(group: Group) -> bool:
    """Whether some elements have the sign -1, see `Sign`."""
    if isinstance(group, Cyclic):
        return int(group.order) % 2 == 0
    if isinstance(group, Symmetric):
        return group.order > 1
    if group.space_dim == 0 or isinstance(group, DirectProduct):
        return False
    return bool((signs_of(group, group.discrete_generators) < 0).any())


def need_signs(group: Group, name: str) -> None:
    """Raise `ActionError`, which names the action, unless some elements have the sign -1."""
    if not has_signs(group):
        hint = "declare one action per factor, as 'sign * invariant'" if isinstance(group, DirectProduct) else (
            "it fits O(1), Flip, O(n), E(n), Dihedral(n), Symmetric(n) and Cyclic(n) of even n"
        )  # fmt: skip
        raise ActionError(f"{name}: {group.name} has no sign; {hint}")
