"""Actions that move entries without computing on them: rolled grids, permuted nodes, graphs. All bit-exact."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from erlangen.actions.base import Action, Tree, broadcast_lead, check_axis, check_tensor, expand_mask, tree_structure
from erlangen.actions.geometric import Invariant
from erlangen.errors import ActionError, DtypeError, ShapeError, is_whole
from erlangen.groups import MAX_ENUMERATION, Group, Shifts, Symmetric
from erlangen.tracing import is_traced


def gather_axis(x: Tensor, index: Tensor, axis: int) -> Tensor:
    """``out[..., i, ...] = x[..., index[..., i], ...]`` along a negative axis; batch of `index` leads that of x."""
    lead = index.ndim - 1
    x = x.movedim(axis, -1)
    batch = broadcast_lead(index.shape[:-1], x.shape[:lead])
    x = x.expand(*batch, *x.shape[lead:])
    index = index.reshape(*index.shape[:-1], *([1] * (x.ndim - lead - 1)), index.shape[-1])
    return torch.gather(x, -1, index.expand(x.shape)).movedim(-1, axis)


@dataclass(frozen=True)
class Rolled(Action):
    """Periodic signals under `Shifts`: entry i of each shifted axis moves to ``(i + g) mod size``.

    Args:
        axes: the shifted axes, negative, one per size of the group; by default the last ones.
    """

    axes: tuple[int, ...] | None = None

    @property
    @override
    def name(self) -> str:
        return "rolled" if self.axes is None else f"rolled(axes={self.axes})"

    def check_group(self, group: Group) -> None:
        """Only `Shifts` rolls."""
        if not isinstance(group, Shifts):
            raise ActionError(f"rolled: {group.name} is no group of cyclic shifts; use Shifts(size, ...)")
        if self.axes is not None and (len(self.axes) != len(group.sizes) or any(a >= 0 for a in self.axes)):
            raise ActionError(
                f"axes = {self.axes}: give {len(group.sizes)} negative axes, one per size of {group.name}"
            )

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """Roll every axis."""
        assert isinstance(group, Shifts)
        if g.is_floating_point():
            raise DtypeError(f"g has dtype {g.dtype}, but {group.name} shifts by whole entries; pass int64")
        axes = self.axes or tuple(range(-len(group.sizes), 0))
        x = check_tensor(x, self.name, lead=g.ndim - 1, item_ndim=-min(axes), floating=False)
        for i, (axis, size) in enumerate(zip(axes, group.sizes, strict=True)):
            if x.shape[axis] != size:
                raise ShapeError(
                    f"x has shape {tuple(x.shape)}: axis {axis} has length {x.shape[axis]}, {group.name} shifts {size}"
                )
            source = (torch.arange(size, device=x.device) - g[..., i, None].to(x.device)) % size
            x = gather_axis(x, source, axis)
        return x

    @override
    def move_mask(self, group: Group, g: Tensor, known: Tree, x: Tree) -> Tensor:
        return self.apply(group, g, expand_mask(group, g, known, x))


@dataclass(frozen=True)
class GroupAxis(Action):
    """Functions on a finite group, one value per element along an axis: the entry of h moves to that of ``g h``.

    >>> import torch, erlangen as er
    >>> GroupAxis(-1).on(er.Cyclic(4)).act(torch.tensor([1]), torch.tensor([[10, 11, 12, 13]])).tolist()
    [[13, 10, 11, 12]]

    That is the regular representation on the axis: features that are lifted to the group.

    Args:
        axis: the axis of the elements in the order of ``group.elements()``, negative; -2 for ``[..., order, channels]``.
    """

    axis: int = -2

    def __post_init__(self) -> None:
        check_axis(self.axis, "axis of the elements", -2)

    @property
    def item_ndim(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Trailing axes from that of the elements on."""
        return -self.axis

    @property
    @override
    def name(self) -> str:
        return f"group axis({self.axis})"

    def check_group(self, group: Group) -> None:
        """The group must be finite and small enough to be listed."""
        if group.order == math.inf or group.order > MAX_ENUMERATION:
            raise ActionError(f"{self.name}: {group.name} cannot be listed; use a finite group such as Icosahedral()")

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """Gather entry ``g^-1 h`` for each h."""
        lead = len(group.batch_shape(g))
        x = check_tensor(x, self.name, lead=lead, item_ndim=self.item_ndim, floating=False)
        order = int(group.order)
        if x.shape[self.axis] != order:
            raise ShapeError(
                f"x has shape {tuple(x.shape)}, but {group.name} has {order} elements along axis {self.axis}"
            )
        elements = group.elements(device=g.device)
        place = torch.arange(order, device=g.device)
        back = group.inverse(g).unsqueeze(lead)
        product = group.compose(back, elements)
        source = product if elements.ndim == 1 and torch.equal(elements, place) else _places(group, product)
        return gather_axis(x, source.to(x.device), self.axis)

    @override
    def move_mask(self, group: Group, g: Tensor, known: Tree, x: Tree) -> Tensor:
        return self.apply(group, g, expand_mask(group, g, known, x))


def _places(group: Group, g: Tensor) -> Tensor:
    """Index of each element in ``group.elements()``, for elements of any form."""
    elements = group.elements(device=g.device)
    k = len(group.shape)
    rows = g.reshape(*g.shape[: g.ndim - k], 1, -1) if k else g[..., None, None]
    return (rows.double() - elements.reshape(len(elements), -1).double()).abs().sum(-1).argmin(-1)


@dataclass(frozen=True)
class Permuted(Action):
    """Nodes under `Symmetric`: row i moves to row ``g[i]``.

    Args:
        axis: the node axis, negative; -2 for features ``[..., n, F]``, -1 for one number per node.
        fixed: positions that stay, such as ``(0, -1)`` for the tokens CLS and SEP; the axis has n rows beside them, which
            count from 0 on in their order.
    """

    axis: int = -2
    fixed: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_axis(self.axis, "node axis", -2)
        given: object = self.fixed
        if is_whole(given):
            object.__setattr__(self, "fixed", (given,))
        elif not isinstance(given, (tuple, list)) or not all(map(is_whole, given)):  # pyright: ignore[reportUnknownArgumentType]
            raise ActionError(f"fixed = {given!r}: give the positions that stay, for example fixed=(0, -1)")
        else:
            object.__setattr__(self, "fixed", tuple(self.fixed))

    @property
    def item_ndim(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Trailing axes from the node axis on."""
        return -self.axis

    @property
    @override
    def name(self) -> str:
        options = [
            *([] if self.axis == -2 else [f"axis={self.axis}"]),
            *([f"fixed={self.fixed}"] if self.fixed else []),
        ]
        return f"permuted({', '.join(options)})" if options else "permuted"

    def check_group(self, group: Group) -> None:
        """Only permutations permute."""
        _need_permutations(group, self.name)

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """Move the rows."""
        if isinstance(x, Tensor) and x.ndim == g.ndim < g.ndim - 1 + self.item_ndim:
            raise ShapeError(
                f"x has shape {tuple(x.shape)}: {self.name} permutes axis {self.axis}; for one number per row, such as ids of "
                "tokens, give axis=-1"
            )
        x = check_tensor(x, self.name, lead=g.ndim - 1, item_ndim=self.item_ndim, floating=False)
        if not self.fixed:
            _check_nodes(x, self.axis, group)
        return gather_axis(x, self._sources(group, g, x.shape[self.axis]).to(x.device), self.axis)

    def _sources(self, group: Group, g: Tensor, length: int) -> Tensor:
        """The row that comes to each of the `length` places."""
        back = group.inverse(g)
        if not self.fixed:
            return back
        stay = {place % length for place in self.fixed if -length <= place < length}
        if len(stay) != len(self.fixed) or length - len(stay) != group.shape[0]:
            raise ShapeError(
                f"axis {self.axis} of x has {length} rows, of which {self.fixed} stay; {group.name} permutes {group.shape[0]} "
                f"others, so give {group.shape[0] + len(self.fixed)}"
            )
        free = torch.tensor([place for place in range(length) if place not in stay], device=g.device)
        sources = torch.arange(length, device=g.device).repeat(*g.shape[:-1], 1)
        sources[..., free] = free[back]
        return sources

    @override
    def move_mask(self, group: Group, g: Tensor, known: Tree, x: Tree) -> Tensor:
        return self.apply(group, g, expand_mask(group, g, known, x))


@dataclass(frozen=True)
class Graph(Action):
    """A graph as a dict under `Symmetric`; PyTorch Geometric's names.

    ========================  =====================  ======================================================
    key                       shape                  how it moves
    ========================  =====================  ======================================================
    ``adj``                   ``[..., n, n]``        rows and columns
    ``adj`` with channels     ``[..., n, n, F]``     with ``channels=True``
    ``x``, ``pos``, ``mask``  ``[..., n, F]``        rows (``mask`` ``[..., n]``)
    ``edge_index``            ``[..., 2, E]`` int64  entries are renamed, the order of edges stays
    ``edge_attr``, ``y``      any                    not at all
    ========================  =====================  ======================================================
    """

    channels: bool = False

    @property
    @override
    def name(self) -> str:
        return "graph(channels=True)" if self.channels else "graph"

    def check_group(self, group: Group) -> None:
        """Only permutations act on graphs."""
        _need_permutations(group, self.name)

    def apply(self, group: Group, g: Tensor, x: Tree) -> dict[str, Tensor]:
        """Move every entry by its own rule."""
        if not isinstance(x, dict):
            raise ActionError(
                f"x is {tree_structure(x)}, but 'graph' moves a dict with keys such as adj, x, edge_index"
            )
        return {key: self._entry(group, g, key, value) for key, value in x.items()}

    @override
    def move_mask(self, group: Group, g: Tensor, known: Tree, x: Tree) -> Tree:
        def moved(key: str, mask: Tensor | None) -> Tensor | None:
            if mask is None or key in ("edge_index", "edge_attr", "y"):
                return mask
            return self._entry(group, g, key, expand_mask(group, g, mask, x[key]))

        return {key: moved(key, mask) for key, mask in known.items()}

    def _entry(self, group: Group, g: Tensor, key: str, value: Tensor) -> Tensor:
        back = group.inverse(g)
        if key == "adj":
            rows, columns = (-3, -2) if self.channels else (-2, -1)
            value = check_tensor(value, self.name, lead=g.ndim - 1, item_ndim=-rows, floating=False)
            _check_nodes(value, rows, group)
            _check_nodes(value, columns, group)
            return gather_axis(gather_axis(value, back, rows), back, columns)
        if key in ("x", "pos", "mask"):
            axis = -1 if key == "mask" else -2
            _check_nodes(check_tensor(value, self.name, lead=g.ndim - 1, item_ndim=-axis, floating=False), axis, group)
            return gather_axis(value, back, axis)
        if key == "edge_index":
            return _rename(g, value)
        if key in ("edge_attr", "y"):
            return Invariant().apply(group, g, value)
        raise ActionError(
            f"key {key!r} is unknown to 'graph' (adj, x, pos, mask, edge_index, edge_attr, y); "
            "declare a dict of actions instead"
        )


def _rename(g: Tensor, edge_index: Tensor) -> Tensor:
    """``g[edge_index]`` in batch."""
    if edge_index.dtype != torch.int64:
        raise DtypeError(f"edge_index has dtype {edge_index.dtype}; pass int64")
    if edge_index.ndim < 2 or edge_index.shape[-2] != 2:
        raise ShapeError(f"edge_index has shape {tuple(edge_index.shape)}; pass [..., 2, E], sources and targets")
    n = g.shape[-1]
    if edge_index.numel() and not is_traced():
        low, high = (int(end) for end in torch.aminmax(edge_index))
        if low < 0 or high >= n:
            raise ActionError(
                f"edge_index names node {low if low < 0 else high}, and there are {n}, numbered from 0; remove edges to nodes "
                "that do not exist"
            )
    lead = g.ndim - 1
    batch = broadcast_lead(g.shape[:-1], edge_index.shape[:lead])
    edges = edge_index.expand(*batch, *edge_index.shape[lead:])
    names = g.reshape(*g.shape[:-1], *([1] * (edges.ndim - lead - 1)), g.shape[-1])
    return torch.gather(names.expand(*edges.shape[:-1], g.shape[-1]), -1, edges)


def _need_permutations(group: Group, name: str) -> None:
    if not isinstance(group, Symmetric):
        raise ActionError(f"{name}: {group.name} does not permute nodes; use Symmetric(n)")


def _check_nodes(x: Tensor, axis: int, group: Group) -> None:
    if x.shape[axis] != group.shape[0]:
        raise ShapeError(
            f"x has shape {tuple(x.shape)}: axis {axis} has {x.shape[axis]} nodes, {group.name} permutes {group.shape[0]}"
        )
