"""Networks of products of matrices, and the polynomials that they lack as features."""

from __future__ import annotations

import functools
from typing import Literal, TypeAlias, get_args

import torch
from torch import Generator, Tensor, nn

from erlangen.errors import (
    ErlangenError,
    NotFiniteError,
    ShapeError,
    UnknownNameError,
    check_finite,
    check_floating,
    check_integer,
    check_sizes,
    first_index,
)
from erlangen.geometry import Multigraph, is_computable, simple_multigraphs
from erlangen.nn import GraphPolynomials, PPGNBlock, mlp
from erlangen.nn.segments import check_mask

_AT_ONCE = 2**21
"""Entries of the tensors of order three of a slab of graphs."""


@functools.cache
def missing_polynomials(degree: int) -> tuple[Multigraph, ...]:
    """The polynomials of symmetric matrices up to a degree that products of matrices do not give: 0 up to 4, then 1, 12.

    By `erlangen.geometry.is_computable` among all connected simple graphs.

    Raises:
        ErlangenError: the degree is no whole number, or above 6, from which on such graphs are not listed; the message says how
            many there are.
    """
    check_integer("degree", degree, 0)
    return tuple(
        graph
        for edges in range(1, degree + 1)
        for order in range(3)
        for graph in simple_multigraphs(edges, order)
        if not is_computable(graph, 2)
    )


Size: TypeAlias = Literal["norms", "logarithm", "raw"]


def polynomial_features(adj: Tensor, degree: int, mask: Tensor | None = None, *, size: Size = "norms") -> Tensor:
    """The missing polynomials of symmetric matrices as features of pairs: numbers everywhere, those of nodes on the diagonal.

    Args:
        adj: ``[G, n, n]``.
        degree: the largest, at most 6.
        mask: nodes that exist, bool ``[G, n]``.
        size: "norms" divides, as the paper does, by the norm over the polynomials at each pair, then each polynomial by its norm
            over the pairs of a graph; of a single polynomial, as of degree 5, that leaves only where it is zero. "logarithm" is
            ``sign(p) log(1 + |p|)``, from which the values can be told. "raw" leaves them.

    Returns:
        ``[G, n, n, K]``, K the length of ``missing_polynomials(degree)``, sorted by order; zero where a node does not exist.

    Raises:
        ShapeError: shapes do not fit.
        ErlangenError: a matrix is not symmetric, or the degree is no whole number or above 6.
        DtypeError: adj is not floating point.
        UnknownNameError: there is no such size.
        NotFiniteError: adj holds NaN or Inf, or numbers outgrow the dtype.
    """
    if size not in get_args(Size):
        raise UnknownNameError(f"size = {size!r}; known are {', '.join(get_args(Size))}")
    if adj.dim() != 3 or adj.shape[-1] != adj.shape[-2]:
        raise ShapeError(f"adj has shape {tuple(adj.shape)}; pass square matrices [G, n, n]")
    check_floating(adj, "adj")
    check_finite(adj, "adj")
    if mask is not None:
        check_mask(mask, adj.shape[:2])
    skew = adj != adj.mT
    if bool(skew.any()):
        raise ErlangenError(
            f"adj is not symmetric at {first_index(skew)}, but these polynomials are a basis for symmetric matrices alone; pass "
            "(adj + adj.mT) / 2, or use GraphPolynomials with the directed multigraphs(degree, order)"
        )
    n = adj.shape[-1]
    modules = _evaluators(degree)
    found: list[Tensor] = []
    for rows in torch.arange(len(adj)).split(max(1, _AT_ONCE // max(1, n) ** 3)):
        part = adj[rows]
        exists = None if mask is None else mask[rows]
        values = [_at_pairs(module(part, exists), module.order, n) for module in modules]
        found.append(torch.cat(values, -1) if values else part.new_zeros(len(part), n, n, 0))
    features = torch.cat(found) if found else adj.new_zeros(0, n, n, len(missing_polynomials(degree)))
    if mask is not None:
        features = features * (mask[:, :, None] & mask[:, None])[..., None]
    bad = ~features.isfinite()
    if bool(bad.any()):
        raise NotFiniteError(
            f"polynomials of degree {degree} outgrow {features.dtype} at {first_index(bad)}; pass float64, or smaller weights"
        )
    if size == "raw":
        return features
    if size == "logarithm":
        return features.sign() * features.abs().log1p()
    features = _divided(features, features.norm(dim=-1, keepdim=True))
    return _divided(features, features.norm(dim=(1, 2), keepdim=True))


@functools.cache
def _evaluators(degree: int) -> tuple[GraphPolynomials, ...]:
    """One for each order that occurs."""
    missing = missing_polynomials(degree)
    groups = ([graph for graph in missing if graph.order == order] for order in range(3))
    return tuple(GraphPolynomials(group) for group in groups if group)


def _at_pairs(values: Tensor, order: int, n: int) -> Tensor:
    """Values per graph, node or pair as values ``[G, n, n, K]``."""
    if order == 0:
        return values[:, None, None].expand(-1, n, n, -1)
    return torch.diag_embed(values.mT).movedim(1, -1) if order == 1 else values


def _divided(x: Tensor, norm: Tensor) -> Tensor:
    return x / torch.where(norm > 0, norm, 1)


Pool: TypeAlias = Literal["means", "sums"]


class PPGN(nn.Module):
    """A provably powerful graph network: numbers per graph from features of pairs, by blocks of products of matrices.

    Every block reads the features, their transposes and the identity matrix. The answer is read from the means (or sums) over
    the diagonal and over all other pairs of nodes that exist, of every block; a graph of one node has no other pairs, and their
    mean is zero.

    Args:
        in_features: numbers per pair.
        out_features: numbers per graph.
        features: width of all blocks.
        layers: number of blocks.
        pool: "means" over pairs, or "sums", which also tell how large a graph is.
        generator: source of the initial parameters.

    Raises:
        ErlangenError: a size is not positive.
        UnknownNameError: `pool` is not known.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        features: int = 32,
        *,
        layers: int = 3,
        pool: Pool = "means",
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes(in_features=in_features, out_features=out_features, features=features, layers=layers)
        if pool not in get_args(Pool):
            raise UnknownNameError(f"pool = {pool!r}; known are {', '.join(get_args(Pool))}")
        self.in_features, self.pool = in_features, pool
        widths = [in_features] + layers * [features]
        self.blocks = nn.ModuleList(PPGNBlock(2 * width + 1, features, generator=generator) for width in widths[:-1])
        self.decode = mlp([2 * sum(widths[1:]), features, out_features], nn.ReLU, generator=generator)

    def forward(self, x: Tensor | dict[str, Tensor], mask: Tensor | None = None) -> Tensor:
        """``[G, out_features]``.

        Args:
            x: features of pairs ``[G, n, n, in_features]``; or a dict of them under "adj" and of the mask under "mask".
            mask: nodes that exist, bool ``[G, n]``.

        Raises:
            ShapeError: shapes do not fit.
        """
        if isinstance(x, dict):
            return self(x["adj"], x.get("mask"))
        if x.dim() != 4 or x.shape[1] != x.shape[2] or x.shape[-1] != self.in_features:
            raise ShapeError(f"x has shape {tuple(x.shape)}; pass [G, n, n, {self.in_features}]")
        nodes = x.shape[1]
        eye = torch.eye(nodes, dtype=x.dtype, device=x.device)[..., None].expand(len(x), -1, -1, 1)
        h = x
        read: list[Tensor] = []
        for block in self.blocks:
            h = block(torch.cat([h, h.transpose(1, 2), eye], -1), mask)
            read.append(pair_means(h, mask) if self.pool == "means" else pair_sums(h))
        return self.decode(torch.cat(read, -1))


def pair_means(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Means over the diagonal and over all other pairs, ``[G, 2 C]`` of ``[G, n, n, C]``, of nodes that exist.

    x must be zero where a node does not exist. A mean over nothing is zero.

    Raises:
        ShapeError: x has another shape.
    """
    sums = pair_sums(x)
    count = x.new_full((len(x), 1), x.shape[1]) if mask is None else mask.sum(1, keepdim=True).to(x.dtype)
    diagonal, others = sums.chunk(2, -1)
    return torch.cat([diagonal / count.clamp(min=1), others / (count * (count - 1)).clamp(min=1)], -1)


def pair_sums(x: Tensor) -> Tensor:
    """Sums over the diagonal and over all other pairs, ``[G, 2 C]`` of ``[G, n, n, C]``, zero where a node does not exist.

    Raises:
        ShapeError: x has another shape.
    """
    if x.dim() != 4 or x.shape[1] != x.shape[2]:
        raise ShapeError(f"x has shape {tuple(x.shape)}; pass features of pairs [G, n, n, C]")
    diagonal = x.diagonal(dim1=1, dim2=2).sum(-1)
    return torch.cat([diagonal, x.sum((1, 2)) - diagonal], -1)
