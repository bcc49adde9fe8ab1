"""Message passing: a plain network on graphs, `GIN`, and `EGNN`, which moves with the points that it is given."""

from __future__ import annotations

from typing import cast

import torch
from torch import Generator, Tensor, nn

from erlangen.errors import ShapeError, check_sizes
from erlangen.groups import E
from erlangen.nn.backbones import mlp
from erlangen.nn.edges import complete_edges
from erlangen.nn.segments import segment_mean, segment_sum
from erlangen.symmetry import Symmetry

__all__ = ["EGNN", "GIN", "MessageLayer", "MessagePassing"]


class Edges(nn.Module):
    """A small network of the features of both ends of an edge, and of the edge: the messages.

    The first layer is linear, so it is applied to nodes before they meet in edges: there are fewer of them.
    """

    def __init__(self, features: int, edge_features: int, width: int, generator: Generator | None) -> None:
        super().__init__()
        first, *rest = mlp([2 * features + edge_features, width, width], last=True, generator=generator)
        self.features, self.edge_features = features, edge_features
        self.first, self.rest = cast("nn.Linear", first), nn.Sequential(*rest)

    def forward(self, h: Tensor, edge_index: Tensor, edge_attr: Tensor | None) -> Tensor:
        """Messages ``[E, width]`` along edges from source ``edge_index[0]`` to target ``edge_index[1]``."""
        source, target, attr = self.first.weight.split([self.features, self.features, self.edge_features], 1)
        sent, received = h @ source.mT, torch.addmm(self.first.bias, h, target.mT)
        total = sent.index_select(0, edge_index[0]) + received.index_select(0, edge_index[1])
        return self.rest(total if edge_attr is None else total + edge_attr @ attr.mT)


class MessageLayer(nn.Module):
    """One step of message passing: ``h_i + node(h_i, sum_j edge(h_j, h_i, e_ij))``.

    Args:
        features: features of nodes, in and out.
        edge_features: features of edges.
        generator: source of the initial parameters.
    """

    def __init__(self, features: int, edge_features: int = 0, *, generator: Generator | None = None) -> None:
        super().__init__()
        self.edge = Edges(features, edge_features, features, generator)
        self.node = mlp([2 * features, features, features], generator=generator)

    def forward(self, h: Tensor, edge_index: Tensor, edge_attr: Tensor | None = None) -> Tensor:
        """``[N, features]`` of ``[N, features]``, edges ``[2, E]`` and their features ``[E, edge_features]``."""
        received = segment_sum(self.edge(h, edge_index, edge_attr), edge_index[1], len(h))
        return h + self.node(torch.cat([h, received], -1))


class MessagePassing(nn.Module):
    """A message passing network without a symmetry of space (Gilmer et al. 2017), as compared with EGNN by Satorras et al.

    It commutes with permutations of the nodes. Coordinates among its features are numbers like any other.

    >>> net = MessagePassing(6, 3, features=16, layers=2, edge_features=1)
    >>> net(torch.ones(8, 5, 6), torch.ones(8, 5, 5, 1)).shape  # 8 complete graphs of 5 nodes
    torch.Size([8, 5, 3])

    Args:
        in_features: numbers per node.
        out_features: numbers per node of the output.
        features: width of all layers.
        layers: number of `MessageLayer` steps.
        edge_features: numbers per edge.
        generator: source of the initial parameters.

    Attributes:
        embed, layers, decode: the parts, in the order in which they are applied.

    Raises:
        ErlangenError: a size is not positive.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        features: int = 64,
        *,
        layers: int = 4,
        edge_features: int = 0,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes(layers=layers, in_features=in_features, out_features=out_features, features=features)
        self.in_features, self.edge_features = in_features, edge_features
        self.embed = mlp([in_features, features], generator=generator)
        self.layers = nn.ModuleList(MessageLayer(features, edge_features, generator=generator) for _ in range(layers))
        self.decode = mlp([features, features, out_features], generator=generator)

    def forward(
        self,
        x: Tensor | tuple[Tensor, ...],
        edge_attr: Tensor | None = None,
        edge_index: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """``[..., N, out_features]`` for the nodes.

        Args:
            x: node features ``[..., N, in_features]``, or the tuple ``(x, edge_attr)``.
            edge_attr: edge features, see `EGNN`.
            edge_index: edges, see `EGNN`.
            mask: nodes that exist, see `EGNN`.

        Raises:
            ShapeError: shapes do not fit.
        """
        if isinstance(x, tuple):
            return self(*x, edge_index=edge_index, mask=mask)
        check_features(x, self.in_features)
        edges, attr = edges_of(x, edge_attr, self.edge_features, edge_index, mask)
        h = self.embed(x.flatten(0, -2))
        for layer in self.layers:
            h = layer(h, edges, attr)
        return self.decode(h).unflatten(0, x.shape[:-1])


class EGNNLayer(nn.Module):
    """One layer of `EGNN`, equations 3 to 7 of the paper, with sums over edges divided by their number."""

    def __init__(self, features: int, edge_features: int, velocity: bool, generator: Generator | None) -> None:
        super().__init__()
        self.edge = Edges(features, 1 + edge_features, features, generator)
        self.node = mlp([2 * features, features, features], generator=generator)
        self.along = mlp([features, features, 1], generator=generator)
        # Small steps at the start: far moves of the points would square in the next layer's distances.
        with torch.no_grad():
            for parameter in self.along[-1].parameters():
                parameter.mul_(0.01)
        self.keep = mlp([features, features, 1], generator=generator) if velocity else None

    def forward(
        self, h: Tensor, pos: Tensor, vel: Tensor | None, edge_index: Tensor, edge_attr: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Features ``[N, features]``, positions and velocities ``[N, d]`` after the layer."""
        source, target = edge_index
        apart = pos.index_select(0, target) - pos.index_select(0, source)
        squared = apart.square().sum(-1, keepdim=True)
        message = self.edge(h, edge_index, squared if edge_attr is None else torch.cat([squared, edge_attr], -1))
        step = segment_mean(apart * self.along(message), target, len(h))
        if self.keep is not None and vel is not None:
            step = vel = self.keep(h) * vel + step
        received = segment_sum(message, target, len(h))
        return h + self.node(torch.cat([h, received], -1)), pos + step, vel


class EGNN(nn.Module):
    """The E(n)-equivariant graph network of Satorras, Hoogeboom and Welling (ICML 2021).

    Messages depend on distances alone; points move along the edges, by amounts that depend on the messages, and with
    velocities, by invariant multiples of these.

    >>> net = EGNN(1, 4, features=16, velocity=True)
    >>> x, pos, vel = net(torch.ones(8, 5, 1), torch.randn(8, 5, 3), torch.randn(8, 5, 3))  # 8 complete graphs
    >>> x.shape, pos.shape
    (torch.Size([8, 5, 4]), torch.Size([8, 5, 3]))

    Args:
        in_features: invariant numbers per node.
        out_features: invariant numbers per node of the output.
        features: width of all layers.
        layers: number of layers.
        edge_features: invariant numbers per edge.
        velocity: whether there are velocities, in and out.
        dim: dimension of space, for `symmetry`.
        generator: source of the initial parameters.

    Attributes:
        symmetry: E(dim) on ``(x, pos)``, followed by ``vel`` and ``edge_attr`` where the network has them, to ``(x, pos)``,
            followed by ``vel``.

    Raises:
        ErlangenError: a size is not positive.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        features: int = 64,
        *,
        layers: int = 4,
        edge_features: int = 0,
        velocity: bool = False,
        dim: int = 3,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes(layers=layers, in_features=in_features, out_features=out_features, features=features)
        self.in_features, self.edge_features, self.velocity = in_features, edge_features, velocity
        self.embed = mlp([in_features, features], generator=generator)
        self.layers = nn.ModuleList(EGNNLayer(features, edge_features, velocity, generator) for _ in range(layers))
        self.decode = mlp([features, out_features], generator=generator)
        output = ("invariant", "points") + ("vectors",) * velocity
        self.symmetry = Symmetry(E(dim), input=output + ("invariant",) * (edge_features > 0), output=output)

    def forward(
        self,
        x: Tensor | tuple[Tensor, ...],
        pos: Tensor | None = None,
        vel: Tensor | None = None,
        edge_attr: Tensor | None = None,
        edge_index: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Features ``[..., N, out_features]`` and positions of the nodes, and velocities where the network has them.

        Args:
            x: node features ``[..., N, in_features]``; or the tuple of `symmetry`.
            pos: positions ``[..., N, d]``.
            vel: velocities ``[..., N, d]``.
            edge_attr: edge features ``[E, edge_features]``; without `edge_index` ``[..., N, N, edge_features]``, from the node
                of the first N to that of the second; those of a node with itself have no effect.
            edge_index: int64 ``[2, E]``, source and target, with all graphs one after the other in ``[N, ...]`` (as in
                PyTorch Geometric). Without it every graph is complete, and leading axes are a batch.
            mask: with complete graphs, bool ``[..., N]``, the nodes that exist. Others send nothing and receive nothing, so
                they stay where they are; what the output holds for them has no meaning.

        Raises:
            ShapeError: shapes do not fit, or something is missing.
        """
        if isinstance(x, tuple):
            rest = list(x[2:])
            vel = rest.pop(0) if self.velocity and rest else None
            return self(*x[:2], vel, rest[0] if rest else None, edge_index, mask)
        check_features(x, self.in_features)
        for name, value, wanted in (("pos", pos, True), ("vel", vel, self.velocity)):
            if (value is not None) != wanted or (value is not None and value.shape[:-1] != x.shape[:-1]):
                given = "missing" if value is None else f"of shape {tuple(value.shape)}"
                needs = f"{(*x.shape[:-1], 'd')}" if wanted else "velocity=True in the network, or none"
                raise ShapeError(f"{name} is {given}; for x {tuple(x.shape)} it needs {needs}")
        edges, attr = edges_of(x, edge_attr, self.edge_features, edge_index, mask)
        h, places = self.embed(x.flatten(0, -2)), pos.flatten(0, -2)  # pyright: ignore[reportOptionalMemberAccess]
        speeds = None if vel is None else vel.flatten(0, -2)
        for layer in self.layers:
            h, places, speeds = layer(h, places, speeds, edges, attr)
        found = [self.decode(h), places] if speeds is None else [self.decode(h), places, speeds]
        return tuple(part.unflatten(0, x.shape[:-1]) for part in found)


class GIN(nn.Module):
    """The graph isomorphism network (Xu et al. 2019): sums of neighbours, and sums over nodes of every layer's features.

    Without features that tell nodes apart it separates exactly the graphs that the one-dimensional Weisfeiler-Leman test
    separates (at generic parameters, wide enough).

    >>> GIN(1, 3)({"adj": torch.ones(2, 4, 4), "x": torch.ones(2, 4, 1)}).shape
    torch.Size([2, 3])

    Args:
        in_features: numbers per node.
        out_features: numbers per graph.
        features: width of all layers.
        layers: number of sums over neighbours.
        activation: between linear layers; a smooth one keeps small differences.
        generator: source of the initial parameters.

    Raises:
        ErlangenError: a size is not positive.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        features: int = 64,
        *,
        layers: int = 4,
        activation: type[nn.Module] = nn.ReLU,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes(layers=layers, in_features=in_features, out_features=out_features, features=features)
        self.in_features = in_features
        widths = [in_features] + layers * [features]
        self.layers = nn.ModuleList(
            mlp([width, features, features], activation, last=True, generator=generator) for width in widths[:-1]
        )
        self.eps = nn.Parameter(torch.zeros(layers))
        self.decode = mlp([sum(widths), features, out_features], activation, generator=generator)

    def forward(
        self,
        x: Tensor | dict[str, Tensor],
        adj: Tensor | None = None,
        edge_index: Tensor | None = None,
        batch: Tensor | None = None,
    ) -> Tensor:
        """``[B, out_features]`` for the graphs.

        Args:
            x: node features ``[B, N, in_features]``, or a dict of ``x`` and ``adj``.
            adj: adjacency ``[B, N, N]``, weights allowed; ``adj[b, i, j]`` is the weight of node j in the sum of node i.
            edge_index: instead of `adj`, int64 ``[2, E]``, source and target, with ``x [N, in_features]``.
            batch: with `edge_index`, the graph of each node, int64 ``[N]``, in ascending order; one graph without it.

        Raises:
            ShapeError: shapes do not fit, or there are neither or both of `adj` and `edge_index`.
        """
        if isinstance(x, dict):
            return self(x["x"], x.get("adj"), x.get("edge_index"), x.get("batch"))
        check_features(x, self.in_features)
        if (adj is None) == (edge_index is None):
            raise ShapeError("pass either adj [B, N, N] or edge_index [2, E]")
        if adj is not None and (x.dim() != 3 or adj.shape != (*x.shape[:2], x.shape[1])):
            raise ShapeError(
                f"adj has shape {tuple(adj.shape)}, which does not fit x {tuple(x.shape)}: [B, N, features]"
            )
        if adj is None and x.dim() != 2:
            raise ShapeError(f"x has shape {tuple(x.shape)}; with edge_index it must be [N, {self.in_features}]")
        h, found = x, [x]
        for k, layer in enumerate(self.layers):
            h = layer((1 + self.eps[k]) * h + _neighbours(h, adj, edge_index))
            found.append(h)
        every = torch.cat(found, -1)
        if adj is not None:
            return self.decode(every.sum(-2))
        batch = torch.zeros(len(x), dtype=torch.int64, device=x.device) if batch is None else batch
        return self.decode(segment_sum(every, batch, int(batch[-1]) + 1 if len(batch) else 0))


def _neighbours(h: Tensor, adj: Tensor | None, edge_index: Tensor | None) -> Tensor:
    """Sums over neighbours, in the shape of h."""
    if edge_index is None:
        return adj.to(h.dtype) @ h  # pyright: ignore[reportOptionalMemberAccess]
    return segment_sum(h.index_select(0, edge_index[0]), edge_index[1], len(h))


def edges_of(
    x: Tensor,
    edge_attr: Tensor | None,
    edge_features: int,
    edge_index: Tensor | None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Edges ``[2, E]`` and their features ``[E, edge_features]`` of nodes one after the other; see `EGNN`.

    Raises:
        ShapeError: shapes do not fit, or features of edges are missing or not wanted.
    """
    if edge_index is not None and x.dim() != 2:
        raise ShapeError(f"x has shape {tuple(x.shape)}, but with edge_index it must be [N, F], all graphs in one")
    nodes = x.shape[-2]
    wanted = (*x.shape[:-1], nodes) if edge_index is None else edge_index.shape[1:]
    if (edge_attr is None) != (edge_features == 0) or (
        edge_attr is not None and edge_attr.shape != (*wanted, edge_features)
    ):
        given = "missing" if edge_attr is None else f"of shape {tuple(edge_attr.shape)}"
        needs = str((*wanted, edge_features)) if edge_features else "edge_features= in the network, or none"
        raise ShapeError(f"edge_attr is {given}, but needs {needs}")
    if mask is not None and (edge_index is not None or mask.dtype != torch.bool or mask.shape != x.shape[:-1]):
        raise ShapeError(
            f"mask {mask.dtype} {tuple(mask.shape)}; pass bool {tuple(x.shape[:-1])}, and none together with edge_index"
        )
    if edge_index is not None:
        return edge_index, edge_attr
    edges = complete_edges(x.shape[:-2].numel(), nodes, x.device)
    if mask is not None:
        exists = mask.flatten()
        edges = edges[:, exists[edges[0]] & exists[edges[1]]]
    if edge_attr is None:
        return edges, None
    # Row of the pair (source, target) among all pairs of all graphs.
    pairs = edges[0] * nodes + edges[1] % nodes
    return edges, edge_attr.flatten(0, -2).index_select(0, pairs)


def check_features(x: Tensor, features: int) -> None:
    """Raise `ShapeError` unless x is ``[..., N, features]``."""
    if x.dim() < 2 or x.shape[-1] != features:
        raise ShapeError(f"x has shape {tuple(x.shape)}; pass [..., N, {features}]")
