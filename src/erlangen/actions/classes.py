"""Classes that the group exchanges: left and right under a mirror, directions under turns, players under a swap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor
from typing_extensions import override

from erlangen.actions.base import Action, Tree, broadcast_lead, check_tensor
from erlangen.actions.discrete import gather_axis
from erlangen.actions.signs import has_signs, signs_of
from erlangen.errors import ActionError, ShapeError, is_whole
from erlangen.groups import Cyclic, Group, Symmetric

Images = tuple[int, ...] | tuple[tuple[int, ...], ...] | None


@dataclass(frozen=True)
class Classes(Action):
    """Class scores and class labels under a permutation of the classes.

    >>> import erlangen as er
    >>> move = Classes([1, 0, 2]).on(er.group("Flip"))            # a mirror makes left (0) right (1), and keeps 2
    >>> move.act(torch.tensor(1), torch.tensor([0, 1, 2, 2])).tolist()
    [1, 0, 2, 2]
    >>> move.act(torch.tensor(1), torch.tensor([[7.0, 2.0, 1.0]])).tolist()
    [[2.0, 7.0, 1.0]]

    Floating tensors and booleans are scores or one-hot labels ``[..., C]``, whose last axis is permuted; integers are labels,
    each of which is renamed. Negative labels (ignored ones) stay.

    Args:
        images: where each class goes. A list of C classes, ``images[c]`` the one that class c becomes: under ``Cyclic(n)`` by
            the turn ``g = 1``, under other groups by elements of sign -1 (`erlangen.actions.Sign`: mirrors, odd permutations),
            while the others move none. A list of such lists, one for each element: any finite group whose elements are
            indices. ``None`` under ``Symmetric(C)``: class c becomes ``g[c]``.

    Raises:
        ActionError: a list is no permutation, or the lists are no action of the group: the table contradicts its products, or
            the turn n times, or the mirror twice, is not the identity.
    """

    images: Images = None
    item_ndim = 0

    def __init__(self, images: Sequence[int] | Sequence[Sequence[int]] | Tensor | None = None) -> None:
        given = images.tolist() if isinstance(images, Tensor) else images
        rows = None if given is None else tuple(tuple(row) if isinstance(row, Sequence) else row for row in given)
        object.__setattr__(self, "images", rows)
        for row in [] if rows is None else rows if rows and isinstance(rows[0], tuple) else [rows]:
            whole = isinstance(row, tuple) and all(is_whole(entry, 0) for entry in row)
            if not whole or sorted(cast("tuple[int, ...]", row)) != list(range(len(cast("tuple[int, ...]", row)))):
                raise ActionError(f"classes: {row!r} is no permutation; give where each of the classes 0, 1, ... goes")
        if rows is not None and (not rows or len({len(row) for row in rows if isinstance(row, tuple)}) > 1):
            raise ActionError("classes: give a permutation of the classes, or one of equal length for each element")

    @property
    @override
    def name(self) -> str:
        if self.images is None:
            return "classes"
        return f"classes({', '.join('(' + ','.join(map(str, e)) + ')' if isinstance(e, tuple) else str(e) for e in self.images)})"

    def check_group(self, group: Group) -> None:
        """The permutations must be an action of the group."""
        if self.images is None:
            if not isinstance(group, Symmetric):
                raise ActionError(f"classes: {group.name} permutes no classes by itself; say where each class goes")
            return
        table = torch.tensor(self.images)
        if table.ndim == 2:
            self._check_table(group, table)
            return
        if isinstance(group, Cyclic):
            count, moved = int(group.order), torch.arange(len(table))
            for _ in range(count):
                moved = table[moved]
            if not torch.equal(moved, torch.arange(len(table))):
                raise ActionError(f"{self.name}: {count} turns of {group.name} must bring every class back, and do not")
        elif not has_signs(group):
            raise ActionError(
                f"{self.name}: {group.name} is no Cyclic(n) and has no mirrors; give one permutation for each element"
            )
        elif not torch.equal(table[table], torch.arange(len(table))):
            raise ActionError(f"{self.name}: two mirrors of {group.name} must bring every class back, and do not")

    def _check_table(self, group: Group, table: Tensor) -> None:
        if group.element_dtype is None or group.shape != () or group.order != len(table):
            raise ActionError(
                f"{self.name}: {len(table)} permutations need a group of as many elements with indices, not {group.name}"
            )
        elements = group.elements()
        products = group.compose(elements[:, None], elements)
        wrong = (
            table[products]
            != table[:, None, :].expand(-1, len(table), -1).gather(2, table[None].expand(len(table), -1, -1))
        ).any(-1)
        if bool(wrong.any()):
            g, h = (int(i) for i in wrong.nonzero()[0])
            raise ActionError(
                f"{self.name}: the permutation of element {g} after that of element {h} is not that of their product "
                f"{int(products[g, h])} in {group.name}"
            )

    def width(self, group: Group) -> int | None:
        """The number of classes."""
        return self._count(group)

    def _count(self, group: Group) -> int:
        if self.images is None:
            return group.shape[0]
        return len(self.images[0]) if isinstance(self.images[0], tuple) else len(self.images)

    def permutations(self, group: Group, g: Tensor) -> Tensor:
        """Where every class goes, int64 ``[*batch of g, C]``."""
        batch = group.batch_shape(g)
        if self.images is None:
            return g
        if isinstance(self.images[0], tuple):
            return torch.tensor(self.images, device=g.device)[g]
        if isinstance(group, Cyclic):
            return _powers(cast("tuple[int, ...]", self.images), int(group.order)).to(g.device)[g]
        still = torch.arange(len(self.images), device=g.device).expand(*batch, -1)
        return torch.where((signs_of(group, g) < 0)[..., None], torch.tensor(self.images, device=g.device), still)

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """Permute scores, rename labels."""
        images = self.permutations(group, g)
        lead, count = images.ndim - 1, images.shape[-1]
        x = check_tensor(x, self.name, lead=lead, item_ndim=0, floating=False)
        images = images.to(x.device)
        if x.is_floating_point() or x.dtype == torch.bool:
            if x.ndim == lead or x.shape[-1] != count:
                raise ShapeError(
                    f"x has shape {tuple(x.shape)}: {self.name} moves scores [..., {count}], or integer labels"
                )
            return gather_axis(x, images.argsort(-1), -1)
        if x.numel() and int(x.max()) >= count:
            raise ActionError(f"x holds the label {int(x.max())}, but {self.name} moves the classes 0 to {count - 1}")
        batch = broadcast_lead(tuple(images.shape[:-1]), tuple(x.shape[:lead]))
        labels = x.expand(*batch, *x.shape[lead:])
        flat = labels.reshape(*batch, -1).long()
        renamed = images.expand(*batch, count).gather(-1, flat.clamp_min(0))
        return torch.where(flat < 0, flat, renamed).reshape(labels.shape).to(x.dtype)


@lru_cache(maxsize=64)
def _powers(images: tuple[int, ...], count: int) -> Tensor:
    """The permutation k times after itself, for k below `count`, int64 ``[count, C]``."""
    rows = [torch.arange(len(images))]
    while len(rows) < count:
        rows.append(torch.tensor(images)[rows[-1]])
    return torch.stack(rows)


def classes(*images: int | tuple[int, ...]) -> Classes:
    """`Classes` as names write it: "classes(1,0,2)", "classes((0,1),(1,0))", "classes"."""
    return Classes(images or None)  # pyright: ignore[reportArgumentType]
