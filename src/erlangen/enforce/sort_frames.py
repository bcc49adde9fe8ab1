"""Sort frames: the permutations that sort the nodes of a set or graph (Puny et al., ICLR 2022, section 3.2).

Each node gets a row of numbers that moves with the node; the frame is every permutation that sorts these rows
lexicographically. Nodes with equal rows are permuted freely among themselves, so ties make frames large.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from erlangen.actions import Action, Graph, Invariant, Permuted, Tree, TreeAction
from erlangen.enforce.axes import decompose
from erlangen.enforce.cloud import leaf_actions
from erlangen.enforce.frames import FrameSet
from erlangen.errors import ActionError, GroupError, OrbitError, ShapeError
from erlangen.groups import Symmetric
from erlangen.numerics import eigh
from erlangen.symmetry import Symmetry

EIGENVALUE_TOL = 1e-8
"""Neighbouring Laplacian eigenvalues closer than this, relative to the largest, count as one."""

NESTED_TOL = 1024.0
"""Units of rounding within which features count as equal where a frame around has turned them: 1e-4 in float32, 2e-13 in
float64. Axes are good to rounding over the gap of their eigenvalues, and ties that are none cost calls of the model alone."""

LARGEST_TOL = 1e-3
"""The same relative to the largest feature, at most: for the half precisions."""

SIGNATURE_TOL = 1e-6
"""Spectral signatures (norms of unit vectors' projections, in [0, 1]) closer than this count as equal."""


@dataclass(frozen=True)
class SortFrame:
    """Frames of `Symmetric` for "permuted" nodes and "graph" inputs.

    The row of a node holds the ranks of its features, and for graphs the norms of its projections onto the
    eigenspaces of the Laplacian, which do not depend on the choice of eigenvectors. Nodes that the mask
    excludes come last, in the given order, and take no part in ties.

    Compiled and exported programs cannot list as many orders as the input has ties. They take one order, which is the whole
    frame where nothing ties, or where tied nodes are equal in all that the model sees and the output is invariant; other
    samples get a ``gap`` of 0 there, by which `Symmetrized` knows them.

    Args:
        symmetry: the symmetry, of the group `Symmetric`.
        limit: largest frame that is listed; more than ``limit`` elements need sampling. 5040 = 7!.
        tol: features that differ by at most this, in units of rounding of the largest one of the sample, count as equal. By
            default none do, because permutations move numbers bit by bit; `NESTED_TOL` inside of other frames.

    Raises:
        GroupError: the group is not Symmetric.
        ActionError: the input is not made of "permuted", "graph" and "invariant" data.
    """

    symmetry: Symmetry
    limit: int = 5040
    tol: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.symmetry.group, Symmetric):
            raise GroupError(f"sort frames are frames of Symmetric(n), not of {self.symmetry.group.name}")
        if not is_sortable(self.symmetry.input.action):
            raise ActionError(
                f"the input action {self.symmetry.input.name!r} has no nodes to sort; declare 'permuted' "
                "or 'graph', use how='orbit', or pass your own frame="
            )

    @property
    def is_enumerable(self) -> bool:
        """False: the number of ties depends on the input."""
        return False

    def __call__(self, x: Tree, mask: Tensor | None = None) -> FrameSet:
        """The whole frame of every sample, padded with weight 0; `OrbitError` beyond the limit."""
        if torch.compiler.is_compiling():
            return self._one_order(x, mask)
        order, start, size = self._sorted(x, mask)
        log_count = _log_count(start, size)
        self._check_limit(log_count)
        return _frame_set(*_enumerate(order, start, size, torch.ones_like(log_count, dtype=torch.bool)))

    def sample(
        self, x: Tree, k: int, generator: Generator, mask: Tensor | None = None, *, whole: bool = False
    ) -> FrameSet:
        """k uniform elements of every frame (with replacement) with weights 1/k; the whole frame where that
        is smaller.

        With ``whole``, all frames within the limit are returned whole, and the others share the random keys
        that break ties, so that a sample's result does not depend on the batch around it.

        Raises:
            OrbitError: in a compiler, which cannot count the ties of an input.
        """
        if torch.compiler.is_compiling():
            raise OrbitError(
                f"samples = {k}: how many orders of tied nodes are drawn depends on the input, which compiled and exported "
                "programs cannot decide; leave out samples= (one order for inputs without ties), or use how='orbit' for all "
                "orders of a few nodes"
            )
        order, start, size = self._sorted(x, mask)
        batch, n = order.shape
        listed = _log_count(start, size) <= math.log(self.limit if whole else k) + 1e-9
        elements, weights = _enumerate(order, start, size, listed)
        if bool(listed.all()):
            return _frame_set(elements, weights)
        keys = torch.rand(1 if whole else batch, k, n, generator=generator, dtype=torch.float64)
        random = _break_ties(order, start, keys.to(order.device))
        room = max(k, elements.shape[1])
        equal = torch.full_like(weights[:, :1], 1.0 / k).expand(batch, k)
        return _frame_set(
            torch.where(listed[:, None, None], _pad(elements, room), _pad(random, room)),
            torch.where(listed[:, None], _pad_zeros(weights, room), _pad_zeros(equal, room)),
        )

    @property
    def ignores_ties(self) -> bool:
        """Whether tied nodes are equal in all that the model sees, so that an invariant output is that of any order."""
        seen, answers = leaf_actions(self.symmetry.input.action), leaf_actions(self.symmetry.output.action)
        is_set = all(isinstance(action, (Permuted, Invariant)) for action in seen)
        return is_set and self.tol == 0 and all(isinstance(action, Invariant) for action in answers)

    def _one_order(self, x: Tree, mask: Tensor | None) -> FrameSet:
        """One order of every sample, with a gap of 0 where others may be as good."""
        order, placed = self._placed(x, mask)
        tied = (placed[:, 1:] == placed[:, :-1]).any(-1) if not self.ignores_ties else torch.zeros_like(order[:, 0] > 0)
        weights = torch.ones_like(order[:, :1], dtype=torch.float64)
        return FrameSet(order[:, None], weights, torch.where(tied, 0.0, torch.full_like(weights[:, 0], math.inf)))

    def _check_limit(self, log_count: Tensor) -> None:
        too_many = log_count > math.log(self.limit) + 1e-9
        if bool(too_many.any()):
            index = int(too_many.nonzero()[0])
            count = float(log_count[index])
            size = f"{math.exp(count):.3g}" if count < 700 else f"10^{count / math.log(10):.0f}"
            raise OrbitError(
                f"sample {index} of x has ties that make its sort frame {size} permutations large, more "
                f"than the limit of {self.limit}; pass samples=k to symmetrize, or add node features that "
                "break the ties"
            )

    def _sorted(self, x: Tree, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """``order [B, n]`` (node at each place), and per place the start and the size of its tie class."""
        order, placed = self._placed(x, mask)
        start = torch.searchsorted(placed, placed)
        return order, start, torch.searchsorted(placed, placed, right=True) - start

    def _placed(self, x: Tree, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """``order [B, n]`` (node at each place), and ascending numbers ``[B, n]`` that are equal where nodes tie."""
        if mask is None and isinstance(x, dict) and isinstance(x.get("mask"), Tensor):
            mask = x["mask"]
        absent = None if mask is None else mask == 0
        columns = _columns(self.symmetry.input.action, x, absent, self.tol)
        if not columns:
            raise ActionError("x has neither adj nor node features, so there is nothing to sort the nodes by")
        ranks = torch.cat([column.long() for column in columns], -1)
        n = ranks.shape[1]
        if n != self.symmetry.group.shape[0]:
            raise ShapeError(f"x has {n} nodes, but the group is {self.symmetry.group.name}")
        if absent is not None:
            # Each excluded node is a class of its own behind all others.
            if absent.shape != ranks.shape[:2]:
                raise ShapeError(f"mask has shape {tuple(absent.shape)}; x needs {tuple(ranks.shape[:2])}")
            ranks = ranks.masked_fill(absent[..., None], 0)
            last = torch.where(absent, 1 + torch.arange(n, device=ranks.device), 0)
            ranks = torch.cat([last[..., None], ranks], -1)
        label = torch.zeros_like(ranks[..., 0])
        for column in ranks.unbind(-1):
            label = _dense_ranks(label * (n + 1) + column, 0)
        order = (label * n + torch.arange(n, device=label.device)).argsort(-1)  # ties in the given order
        return order, label.gather(-1, order)


def is_sortable(action: Action) -> bool:
    """Whether the input holds nodes that a sort frame can order."""
    if isinstance(action, TreeAction):
        children: list[Any] = [action.tree[key] for key in action.keys]
        fits = all(isinstance(child, Invariant) or is_sortable(child) for child in children)
        return fits and any(is_sortable(child) for child in children)
    return isinstance(action, Graph) or (isinstance(action, Permuted) and not action.fixed)


def spectral_signature(adj: Tensor) -> Tensor:
    """Norms of every node's projections onto the eigenspaces of the graph Laplacian, float64 ``[B, n, n]``.

    Column k belongs to the k-th eigenspace in ascending order of eigenvalues; columns beyond the number of
    eigenspaces are zero. Eigenvalues are clustered by single linkage with `EIGENVALUE_TOL`. Directed graphs
    enter by their symmetric part.

    Args:
        adj: adjacency matrices ``[B, n, n]``, any real dtype, weights allowed.
    """
    weights = adj.detach().double()
    weights = (weights + weights.transpose(-2, -1)) / 2
    laplacian = torch.diag_embed(weights.sum(-1)) - weights
    if torch.compiler.is_compiling():
        values, vectors = decompose(laplacian)
    else:
        values, vectors, _ = eigh(laplacian)
    scale = values.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(values.dtype).tiny)
    new = values.diff(dim=-1) > EIGENVALUE_TOL * scale
    group = pad(new, (1, 0)).cumsum(-1)
    squares = torch.zeros_like(vectors).scatter_add_(-1, group[:, None].expand_as(vectors), vectors.square())
    return squares.sqrt()


def _columns(action: Action, x: Tree, absent: Tensor | None, tol: float) -> list[Tensor]:
    """Integer ranks ``[B, n, C]`` that move with the nodes."""
    if isinstance(action, TreeAction):
        # In the order of the declaration: a dict may be in any order, and sorts by the first column first.
        entries = {key: (child, value) for key, child, value in action.pairs(x)}
        return [column for key in action.keys for column in _columns(*entries[key], absent, tol)]
    if isinstance(action, Permuted):
        return [_feature_ranks(x.movedim(action.axis, 1).flatten(2) if x.ndim > 2 else x[..., None], tol)]
    if isinstance(action, Graph):
        return _graph_columns(action, x, absent, tol)
    return []


def _graph_columns(action: Graph, x: dict[str, Tensor], absent: Tensor | None, tol: float) -> list[Tensor]:
    if "adj" not in x and "edge_index" in x:
        raise ActionError(
            "x has edge_index but no adj; sort frames read the dense adjacency, so add x['adj'] [B, n, n]"
        )
    columns: list[Tensor] = []
    if "adj" in x:
        adj = x["adj"].double()
        adj = adj.sum(-1) if action.channels else adj
        if absent is not None:
            adj = adj.masked_fill(absent[..., None] | absent[:, None], 0.0)
        columns.append(_dense_ranks(spectral_signature(adj).transpose(-2, -1), SIGNATURE_TOL).transpose(-2, -1))
    return columns + [_feature_ranks(x[key], tol) for key in ("x", "pos") if key in x]


def _feature_ranks(features: Tensor, tol: float) -> Tensor:
    """Dense ranks of features ``[B, n, F]``, equal within `tol` units of rounding of the sample's largest feature."""
    features = features.detach()
    if tol == 0 or not features.is_floating_point():
        return _dense_ranks(features.transpose(-2, -1), 0).transpose(-2, -1)
    largest = features.abs().amax((1, 2), keepdim=True)
    return _dense_ranks(
        features.transpose(-2, -1), min(tol * torch.finfo(features.dtype).eps, LARGEST_TOL) * largest
    ).transpose(-2, -1)


def _dense_ranks(values: Tensor, tol: float | Tensor) -> Tensor:
    """Ranks along the last axis, equal for values that a chain of steps of at most `tol` links; int64.

    Single linkage depends on the set of values alone, so the ties are the same in every order of the nodes.
    """
    ordered, index = (values.to(torch.int64) if values.dtype == torch.bool else values).sort(-1)
    new = ordered[..., 1:] - ordered[..., :-1] > tol
    ranks = pad(new, (1, 0)).cumsum(-1)
    return torch.zeros_like(ranks).scatter_(-1, index, ranks)


def _log_count(start: Tensor, size: Tensor) -> Tensor:
    """Log of the number of orders of every sample ``[B]``: the sum of log(m!) over the tie classes."""
    return _radix(start, size).double().log().sum(-1)


def _radix(start: Tensor, size: Tensor) -> Tensor:
    """Number of nodes that are left to choose from at each place, ``[B, n]``."""
    return size - (torch.arange(start.shape[-1], device=start.device) - start)


def _enumerate(order: Tensor, start: Tensor, size: Tensor, listed: Tensor) -> tuple[Tensor, Tensor]:
    """All orders within the tie classes ``[B, K, n]`` and weights ``[B, K]``; one order where not `listed`.

    Order number k is read in mixed radix as the swaps of a Fisher-Yates shuffle, which reaches every order
    once.
    """
    batch = len(order)
    radix = torch.where(listed[:, None], _radix(start, size), 1)
    count = radix.prod(-1, keepdim=True)
    room = int(count.max()) if batch else 1
    number = torch.arange(room, device=order.device)[None]
    weights = (number < count).double() / count
    rest = number % count
    orders = order[:, None].repeat(1, room, 1)
    for place in (radix > 1).any(0).nonzero().flatten().tolist():
        choices = radix[:, place, None]
        source = place + rest % choices
        rest = rest // choices
        picked = orders.gather(-1, source[..., None])
        orders.scatter_(-1, source[..., None], orders[..., place : place + 1].clone())
        orders[..., place] = picked[..., 0]
    return orders, weights


def _break_ties(order: Tensor, start: Tensor, keys: Tensor) -> Tensor:
    """Orders ``[B, K, n]`` with ties broken by the random keys ``[B or 1, K, n]``."""
    batch, n = order.shape
    places = keys.argsort(-1).expand(batch, -1, n)
    classes = start[:, None].expand(places.shape).gather(-1, places)
    places = places.gather(-1, torch.sort(classes, dim=-1, stable=True).indices)
    return order[:, None].expand(places.shape).gather(-1, places)


def _pad(elements: Tensor, room: int) -> Tensor:
    """Lengthen ``[B, K, n]`` to `room` elements by repeating the first."""
    return torch.cat([elements, elements[:, :1].expand(-1, room - elements.shape[1], -1)], 1)


def _pad_zeros(weights: Tensor, room: int) -> Tensor:
    """Lengthen ``[B, K]`` to `room` with zeros."""
    return torch.cat([weights, weights.new_zeros(len(weights), room - weights.shape[1])], 1)


def _frame_set(elements: Tensor, weights: Tensor) -> FrameSet:
    """Ties are part of the frame, so nothing is undetermined: the gap is infinite."""
    return FrameSet(elements, weights, torch.full_like(weights[:, 0], math.inf))
