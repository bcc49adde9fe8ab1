"""The contract of an action: how a group moves one kind of data.

An `Action` is a small frozen description ("points", "image with bicubic interpolation") that knows no group yet.
`Action.on(group)` checks that the two fit and returns a `GroupAction`, whose ``act(g, x)`` does the work.

Broadcasting: the batch dimensions of ``g`` stand against the *first* dimensions of ``x`` and broadcast with them; what
follows belongs to the data.

==================  ======================  ==========================================
g (SO(3))           x                       act(g, x)
==================  ======================  ==========================================
``[3, 3]``          ``[B, N, 3]``           one rotation for everything, ``[B, N, 3]``
``[B, 3, 3]``       ``[B, N, 3]``           one rotation per sample, ``[B, N, 3]``
``[K, 1, 3, 3]``    ``[1, B, N, 3]``        the orbit of every sample, ``[K, B, N, 3]``
==================  ======================  ==========================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from erlangen.actions._products import multiply
from erlangen.errors import ActionError, ShapeError, check_floating
from erlangen.groups import Group, SemidirectProduct

Tree = Any
"""A tensor, or a dict, list or tuple of trees."""


class Part(NamedTuple):
    """Geometric content of a tensor that a frame can be built from.

    ``values`` is ``[B, M, n]``; a part that moves with translations is ``located``. ``weighable`` tells that row m is
    item m of the sample (a node), so that a mask over items applies.
    """

    values: Tensor
    located: bool
    weighable: bool


class Action(ABC):
    """One kind of data that a group can act on. Subclasses are frozen dataclasses; see CONTRIBUTING for a new one.

    Attributes:
        item_ndim: the smallest number of trailing axes that one data item has.
    """

    item_ndim: int = 1

    @property
    def name(self) -> str:
        """Text that names the action in reports; `erlangen.actions.parse_action` reads it where it can."""
        return type(self).__name__.lower()

    @abstractmethod
    def apply(self, group: Group, g: Tensor, x: Tree) -> Tree:
        """The moved data; `g` is a valid batch of elements, broadcasting as the module docstring says."""

    def check_group(self, group: Group) -> None:  # noqa: B027 - optional, not abstract
        """Raise `ActionError` when this kind of data cannot carry the group. By default every group fits."""

    def translate(self, group: Group, shift: Tensor, x: Tree) -> Tree:
        """The data moved by the translations `shift` ``[..., n]`` of a group that has some, in the wider of both dtypes."""
        assert isinstance(group, SemidirectProduct)
        eye = torch.eye(group.space_dim, dtype=shift.dtype, device=shift.device)
        return self.apply(group, group.join(eye, shift), tree_map(lambda leaf: _widened(leaf, shift), x))

    def is_exact(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """Boolean ``[*batch of g]``: where ``act`` followed by its inverse returns every x of this shape up to rounding."""
        return torch.ones(group.batch_shape(g), dtype=torch.bool, device=g.device)

    def resamples(self, group: Group) -> bool:
        """Whether some elements interpolate or lose data whatever its shape, so that no average over them is exact."""
        return False

    def mask(self, group: Group, g: Tensor, x: Tree) -> Tree | None:
        """Boolean tensor that broadcasts to ``act(g, x)``: which entries are known; ``None`` if all are."""
        return None

    def move_mask(self, group: Group, g: Tensor, known: Tree, x: Tree) -> Tree:
        """The mask of ``act(g, x)`` where only the entries `known` of x were known before.

        An entry of the result is known if all that it is made of was. Here an action may mix the entries of an item, so an
        item with one unknown entry is unknown.
        """
        full = expand_mask(group, g, known, x)
        first = full.ndim - self.item_ndim
        return full.flatten(first).all(-1).reshape(*full.shape[:first], *[1] * self.item_ndim)

    def width(self, group: Group) -> int | None:
        """Length of the last axis, ``None`` if the action takes any."""
        return None

    def parts(self, group: Group, x: Tree) -> list[Part]:
        """What a frame can be built from, for a batch ``x``; empty where there is nothing geometric."""
        return []

    def on(self, group: Group) -> GroupAction:
        """Bind to a group; `ActionError` when the two do not fit."""
        self.check_group(group)
        return GroupAction(group, self)


@dataclass(frozen=True)
class GroupAction:
    """An action of one group: ``act(g, x)``."""

    group: Group
    action: Action

    def act(self, g: Tensor, x: Tree) -> Tree:
        """Move data `x` by the elements `g`; shapes broadcast as in `erlangen.actions.base`."""
        self.group.batch_shape(g)
        return self.action.apply(self.group, g, x)

    def inverse_act(self, g: Tensor, x: Tree) -> Tree:
        """Move `x` by the inverses of `g`."""
        return self.act(self.group.inverse(g), x)

    def is_exact(self, g: Tensor, x: Tree) -> Tensor:
        """Boolean ``[*batch of g]``: where the action is free of resampling."""
        return self.action.is_exact(self.group, g, x)

    @property
    def resamples(self) -> bool:
        """Whether some elements interpolate or lose data whatever its shape."""
        return self.action.resamples(self.group)

    def mask(self, g: Tensor, x: Tree) -> Tree | None:
        """Which entries of ``act(g, x)`` are known, or ``None`` when all are."""
        return self.action.mask(self.group, g, x)

    def parts(self, x: Tree) -> list[Part]:
        """Geometric content for frames."""
        return self.action.parts(self.group, x)

    @property
    def name(self) -> str:
        """Name of the action."""
        return self.action.name

    def __repr__(self) -> str:
        return f"{self.group.name} on {self.name}"


@dataclass(frozen=True)
class Custom(Action):
    """An action given by a function ``fn(g, x)``; `g` and `x` broadcast as the function decides.

    As the action of outputs it moves targets that have the shape of the answers. For others, such as class labels beside
    class scores, ``labels(g, y)`` says how they move, with the axes of g against the first axes of y.

    For a parameterised action, or one that checks its group, subclass `Action`.
    """

    fn: Callable[[Tensor, Tree], Tree]
    label: str = "custom"
    labels: Callable[[Tensor, Tree], Tree] | None = None

    @property
    @override
    def name(self) -> str:
        return self.label

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tree:
        """Call the function; an error from inside says with what."""
        try:
            return self.fn(g, x)
        except Exception as error:
            error.add_note(
                f"raised by the action {self.label!r}, called with g {list(g.shape)} and x {tree_structure(x)}"
            )
            raise


# --- trees -----------------------------------------------------------------------------------------------------------
def tree_map(fn: Callable[..., Any], tree: Tree, *rest: Tree) -> Tree:
    """Apply `fn` to the tensors of one tree, or leaf by leaf to several trees of one structure."""
    if isinstance(tree, dict):
        return {key: tree_map(fn, value, *(other[key] for other in rest)) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        mapped = [tree_map(fn, value, *(other[i] for other in rest)) for i, value in enumerate(tree)]
        return type(tree)(*mapped) if hasattr(tree, "_fields") else type(tree)(mapped)
    return fn(tree, *rest)


def tree_leaves(tree: Tree) -> list[Any]:
    """Leaves of a tree, in order."""
    if isinstance(tree, dict):
        return [leaf for value in tree.values() for leaf in tree_leaves(value)]
    if isinstance(tree, (list, tuple)):
        return [leaf for value in tree for leaf in tree_leaves(value)]
    return [tree]


def tree_structure(tree: Tree) -> str:
    """Readable structure of a tree with the shapes of its tensors, for messages."""
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{key!r}: {tree_structure(value)}" for key, value in tree.items()) + "}"
    if isinstance(tree, (list, tuple)):
        inner = ", ".join(tree_structure(value) for value in tree)
        return f"({inner})" if isinstance(tree, tuple) else f"[{inner}]"
    return f"tensor{list(tree.shape)}" if isinstance(tree, Tensor) else type(tree).__name__


# --- helpers for actions on one tensor -------------------------------------------------------------------------------
def check_tensor(x: Tree, action: str, *, lead: int = 0, item_ndim: int = 1, floating: bool = True) -> Tensor:
    """Return `x` if it is a tensor with room for `lead` batch dimensions and an item behind them; raise otherwise."""
    if not isinstance(x, Tensor):
        raise ActionError(
            f"x is {tree_structure(x)}, but the action {action!r} moves one tensor; declare a dict or tuple of actions"
        )
    if x.ndim < lead + item_ndim:
        raise ShapeError(
            f"x has shape {tuple(x.shape)}: the action {action!r} needs at least {item_ndim} data axes behind the "
            f"{lead} batch axes of g"
        )
    if floating:
        check_floating(x, "x")
    return x


def matmul_rows(x: Tensor, matrices: Tensor, shift: Tensor | None = None) -> Tensor:
    """``x @ matrices.mT + shift`` for x ``[..., n]``, matrices ``[*lead, n, n]`` and shift ``[*lead, n]``.

    The axes `lead` stand against the first axes of x.
    """
    if x.ndim == matrices.ndim == 3 and x.shape[0] == matrices.shape[0]:  # a matrix for each cloud: nothing to lay out
        start = None if shift is None else shift.to(x)[:, None]
        return multiply(x, matrices.transpose(-2, -1).to(x), start)
    lead, n = matrices.ndim - 2, x.shape[-1]
    batch = broadcast_lead(matrices.shape[:lead], x.shape[:lead])
    used = count_used(matrices.shape[:lead])
    matrices = matrices.reshape(*matrices.shape[:used], n, n).to(x)
    rows = x.reshape(*x.shape[:used], x.shape[used:-1].numel(), n)
    shift = None if shift is None else shift.reshape(*shift.shape[:used], n).to(x)
    if used and rows.shape[used - 1] == 1:
        # An orbit: many elements move the same rows, so one product with the stacked matrices does it.
        count = matrices.shape[used - 1]
        stacked = matrices.reshape(*matrices.shape[: used - 1], count * n, n)
        columns = rows.squeeze(used - 1).transpose(-2, -1)
        start = None if shift is None else shift.reshape(*stacked.shape[:-1], 1)
        moved = multiply(stacked, columns, start).unflatten(-2, (count, n)).transpose(-2, -1)
    else:
        moved = multiply(rows, matrices.transpose(-2, -1), None if shift is None else shift[..., None, :])
    return moved.reshape(*batch, *x.shape[lead:])


def _widened(leaf: Any, like: Tensor) -> Any:
    """A floating tensor in the wider of its dtype and another."""
    if isinstance(leaf, Tensor) and leaf.is_floating_point():
        return leaf.to(torch.promote_types(leaf.dtype, like.dtype))
    return leaf


def count_used(batch: tuple[int, ...]) -> int:
    """Batch axes of g up to the last one that is longer than 1; those behind are data to one and the same element."""
    used = len(batch)
    while used and batch[used - 1] == 1:
        used -= 1
    return used


def broadcast_lead(batch: tuple[int, ...], lead: tuple[int, ...]) -> tuple[int, ...]:
    """Common shape of the batch of g and the first axes of x, of equal number (`torch.broadcast_shapes` is slow)."""
    for i, (a, b) in enumerate(zip(batch, lead, strict=True)):
        if a != b and a != 1 and b != 1:
            raise ShapeError(
                f"the batch of g is {tuple(batch)}, but x starts with the axes {tuple(lead)}: sizes {a} and {b} on axis {i} "
                "do not broadcast"
            )
    return tuple(b if a == 1 else a for a, b in zip(batch, lead, strict=True))


def expand_mask(group: Group, g: Tensor, known: Tensor, x: Tensor) -> Tensor:
    """A mask that broadcasts with x, as large as ``act(g, x)``."""
    batch = group.batch_shape(g)
    lead = len(batch)
    known = known.expand(torch.broadcast_shapes(known.shape, x.shape))
    return known.expand(*broadcast_lead(batch, known.shape[:lead]), *known.shape[lead:])


def check_axis(axis: int, what: str, example: int) -> None:
    """Raise `ActionError` unless an axis is counted from the end."""
    if not axis < 0:
        raise ActionError(f"axis = {axis}: count the {what} from the end, for example axis={example}")


def lead_view(t: Tensor, lead: int, x: Tensor) -> Tensor:
    """Insert axes so that ``t [*lead, *tail]`` broadcasts with ``x [*lead, *middle, *tail]``."""
    tail = t.ndim - lead
    return t.reshape(*t.shape[:lead], *([1] * (x.ndim - lead - tail)), *t.shape[lead:])
