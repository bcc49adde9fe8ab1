"""The network on positions and orientations: blocks of ConvNeXt around convolutions with shared kernels.

Bekkers, Vadgama, Hesselink, van der Linden and Romero (2024). The convolution is `erlangen.nn.FiberConv`.
"""

from __future__ import annotations

import copy
from typing import Any, Literal, cast, get_args

import torch
from torch import Generator, Tensor, nn

from erlangen.errors import (
    DtypeError,
    ErlangenError,
    GroupError,
    ShapeError,
    UnknownNameError,
    check_finite,
    check_floating,
    check_sizes,
)
from erlangen.groups import Group, Translation
from erlangen.nn import FiberConv, mlp, segment_sum
from erlangen.nn.graphs.graph_networks import edges_of
from erlangen.symmetry import Symmetry
from erlangen.systems.points.ponita._spaces import Cloud, EdgeDirections, Grid, Lifted, Positions, Space, grid_of
from erlangen.tracing import is_traced

Level = Literal["node", "graph"]

LARGEST = 2**31
"""Numbers in the features of edges of one layer, beyond which complete graphs are refused."""


class ConvNext(nn.Module):
    """``x + scale * mlp(norm(conv(x)))``, the mixing of channels at each point and direction by itself.

    Args:
        width: channels.
        basis: functions of the kernel basis.
        fiber: whether there is a grid of directions.
        widening: the hidden layer has ``widening * width`` channels.
        layer_scale: initial value of the learned `scale` of every channel.
        generator: source of the initial parameters.
    """

    def __init__(
        self, width: int, basis: int, *, fiber: bool, widening: int, layer_scale: float, generator: Generator | None
    ) -> None:
        super().__init__()
        self.conv = FiberConv(width, basis, fiber=fiber, generator=generator)
        self.norm = nn.LayerNorm(width)
        self.mix = mlp([width, widening * width, width], nn.GELU, generator=generator)
        self.scale = nn.Parameter(torch.full((width,), layer_scale))

    def forward(self, x: Tensor, lifted: Lifted) -> Tensor:
        """``[M, O, width]`` of ``[M, O, width]``."""
        return x + self.scale * self.mix(
            self.norm(self.conv(x, lifted.edges, lifted.spatial, lifted.fiber, lifted.center))
        )


class Ponita(nn.Module):
    """A network on point clouds whose kernels depend on pairs of points only through invariants of motions.

    ==============  ===========================================================  ==============================================
    directions      features live on                                             exact for
    ==============  ===========================================================  ==============================================
    0               positions R^n (the paper's PNITA)                            E(n)
    a number        R^n x S^(n-1), a grid of so many directions                  shifts, and rotations that permute the grid
    a tensor        the same, these directions ``[O, n]``                        shifts
    "edges"         edges as points with an orientation, all pairs of these      E(n), or SE(n) in the plane or if `complete`
    ==============  ===========================================================  ==============================================

    Scalars enter as constants over directions o, vectors as ``v.o``. On a grid scalars leave as the mean over o, vectors as n
    times the mean of ``f(o) o``: the way back of the entrance on regular solids and polygons, whereas the mean alone would
    give v/3 in space and v/2 in the plane. Every layer is read out, and the mean over layers is the answer.

    Args:
        scalars_in, vectors_in: numbers and vectors per point.
        scalars_out, vectors_out: numbers and vectors of the output.
        dim: n, 2 or 3.
        directions: see above; at least n + 1.
        grid: "platonic", "repulsion" or "fibonacci", as for `erlangen.groups.sphere_grid`; by default the corners of a
            regular solid where there is one with so many, else "repulsion". Saved in the ``state_dict``.
        level: an answer for each node, or the sum over nodes for each graph.
        width: channels.
        layers: blocks.
        basis: functions from which all layers combine their kernels.
        widening: channels in the hidden layer of a block are so many times `width`.
        degree: of the products of invariants.
        edge_features: further invariant numbers per edge, on which kernels depend too; with ``directions="edges"`` they are
            features. The pair of a point with itself, which the network adds, has zeros.
        complete: with ``directions="edges"`` kernels depend on all invariants of a pair, see `PairInvariants`.
        cutoff: length from which edges have no effect, in the units of `pos`.
        layer_scale: with which blocks start.
        generator: source of the initial parameters.

    Attributes:
        symmetry: dicts of ``pos``, ``x``, ``vec`` and ``edge_attr``, to dicts of ``x`` and ``vec``. On a grid the group is a
            finite one, or that of shifts.
        space: `Positions`, `Grid` or `EdgeDirections`.

    Raises:
        ErlangenError: a size is out of range, nothing comes in or goes out, or vectors meet ``directions=0``.
        GroupError: `dim`, `directions` or `grid` do not fit.
        UnknownNameError: `level` is not known.

    >>> net = Ponita(1, 1, vectors_out=1, directions=12, width=16)
    >>> net({"pos": torch.randn(8, 5, 3), "x": torch.ones(8, 5, 1), "vec": torch.randn(8, 5, 1, 3)})["vec"].shape
    torch.Size([8, 5, 1, 3])
    """

    def __init__(
        self,
        scalars_in: int = 0,
        vectors_in: int = 0,
        *,
        scalars_out: int = 0,
        vectors_out: int = 0,
        dim: int = 3,
        directions: int | Tensor | Literal["edges"] = 12,
        grid: str | None = None,
        level: Level = "node",
        width: int = 32,
        layers: int = 3,
        basis: int = 32,
        widening: int = 4,
        degree: int = 3,
        edge_features: int = 0,
        complete: bool = False,
        cutoff: float | None = None,
        layer_scale: float = 1e-6,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes(width=width, layers=layers, basis=basis, widening=widening, degree=degree)
        sizes = (scalars_in, vectors_in, scalars_out, vectors_out, edge_features)
        if min(sizes) < 0 or not scalars_in + vectors_in or not scalars_out + vectors_out:
            raise ErlangenError(
                f"scalars_in = {scalars_in}, vectors_in = {vectors_in}, scalars_out = {scalars_out}, vectors_out = "
                f"{vectors_out}, edge_features = {edge_features}; something must come in and something go out"
            )
        if dim not in (2, 3):
            raise GroupError(f"dim = {dim}: orientations are directions of the plane or of space; give 2 or 3")
        if level not in get_args(Level):
            raise UnknownNameError(f"level = {level!r}: choose {' or '.join(get_args(Level))}")
        self.dim, self.level, self.sizes = dim, level, sizes
        options: dict[str, Any] = {"degree": degree, "cutoff": cutoff, "generator": generator}
        lifted = scalars_in + vectors_in
        if isinstance(directions, str):
            if directions != "edges" or grid is not None:
                raise GroupError(
                    f"directions = {directions!r}, grid = {grid!r}: give a number, or 'edges' without grid="
                )
            self.space = EdgeDirections(dim, basis, complete=complete, **options)
            lifted += edge_features
        elif isinstance(directions, int) and directions == 0:
            if vectors_in or vectors_out:
                raise ErlangenError(
                    f"vectors_in = {vectors_in}, vectors_out = {vectors_out} with directions = 0: features of positions hold "
                    "no directions; give directions= at least 4 in space and 3 in the plane, or 'edges'"
                )
            self.space = Positions(dim, basis, extra=edge_features, **options)
        else:
            points, group = _directions(dim, directions, grid)
            self.space = Grid(points, group, basis, extra=edge_features, **options)
        self.embed = mlp([lifted, width], generator=generator)
        self.blocks = nn.ModuleList(
            ConvNext(
                width,
                basis,
                fiber=self.space.has_fiber,
                widening=widening,
                layer_scale=layer_scale,
                generator=generator,
            )
            for _ in range(layers)
        )
        self.read = nn.ModuleList(mlp([width, scalars_out + vectors_out], generator=generator) for _ in range(layers))
        self.symmetry = self._symmetry()

    def forward(
        self, x: dict[str, Tensor], edge_index: Tensor | None = None, batch: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Scalars ``x [..., N, scalars_out]`` and vectors ``vec [..., N, vectors_out, n]``, without N for graphs.

        Args:
            x: ``pos [..., N, n]``; ``x [..., N, scalars_in]`` and ``vec [..., N, vectors_in, n]``, where there are such; and
                ``edge_attr [..., N, N, F]`` or, with `edge_index`, ``[E, F]``. Leading axes are a batch of graphs, which are
                complete, unless ``neighbors``, int64 ``[..., N, K]``, holds the points of the same graph that send to each
                (``edge_attr [..., N, K, F]``).
            edge_index: instead, int64 ``[2, E]``, source and target, with the nodes of all graphs one after the other.
            batch: with `edge_index`, the graph of each node, int64 ``[N]``, in ascending order; needed for graphs.

        Raises:
            ShapeError, DtypeError, NotFiniteError: an input is not as above.
            ErlangenError: complete graphs are too large for memory.
            DegenerateFrameError: with ``directions="edges"``, neighbours at one place.
        """
        lead = self._checked(x, edge_index, batch)
        cloud = self._cloud(x, edge_index)
        lifted = cast("Space", self.space)(cloud)
        h = self.embed(lifted.features)
        total = torch.zeros((), dtype=h.dtype, device=h.device)
        for block, read in zip(self.blocks, self.read, strict=True):
            h = block(h, lifted)
            total = total + read(h)
        return self._read_out(total / len(self.blocks), lifted, len(cloud.pos), lead, batch)

    @torch.no_grad()
    def calibrate_(self, x: dict[str, Tensor], edge_index: Tensor | None = None) -> None:
        """Scale the kernels of all layers so that on this batch convolutions keep the standard deviation of their input.

        Parameters change in place, and nothing else: what is saved and loaded afterwards is calibrated. Arguments as
        `forward`.

        Raises:
            ErlangenError: features have no spread.
        """
        self._checked(x, edge_index, torch.empty(0))
        lifted = cast("Space", self.space)(self._cloud(x, edge_index))
        h = self.embed(lifted.features)
        for block in self.blocks:
            cast("ConvNext", block).conv.calibrate_(h, lifted.edges, lifted.spatial, lifted.fiber, lifted.center)
            h = block(h, lifted)

    def with_directions(self, directions: int | Tensor, grid: str | None = None) -> Ponita:
        """A copy with the same parameters on another grid; means over directions make them transfer.

        Raises:
            GroupError: the network has no grid, or the new one does not fit.
        """
        if not isinstance(self.space, Grid):
            raise GroupError("this network has no grid of directions that could be replaced")
        points, group = _directions(self.dim, directions, grid)
        other = copy.deepcopy(self)
        space = cast("Grid", other.space)
        space.directions, space.group = points.to(space.directions), group
        other.symmetry = other._symmetry()
        return other

    # --- input -------------------------------------------------------------------------------------------------------
    def _checked(self, x: dict[str, Tensor], edge_index: Tensor | None, batch: Tensor | None) -> torch.Size:
        """The leading axes of nodes, ``[..., N]``, after all shapes were compared with them."""
        if not isinstance(x, dict):
            raise ShapeError(f"x is a {type(x).__name__}; pass a dict of pos and features")
        pos = x.get("pos")
        if pos is None or pos.dim() < 2 or pos.shape[-1] != self.dim:
            given = "missing" if pos is None else f"of shape {tuple(pos.shape)}"
            raise ShapeError(f"pos is {given}; pass [..., N, {self.dim}]")
        check_floating(pos, "pos")
        lead = pos.shape[:-1]
        scalars, vectors = self.sizes[:2]
        for key, count, shape in (("x", scalars, (scalars,)), ("vec", vectors, (vectors, self.dim))):
            value = x.get(key)
            if (value is not None) != (count > 0) or (value is not None and value.shape != (*lead, *shape)):
                given = "missing" if value is None else f"of shape {tuple(value.shape)}"
                needs = f"{(*lead, *shape)}" if count else "none: the network was built without it"
                raise ShapeError(f"{key} is {given}; for pos {tuple(pos.shape)} it must be {needs}")
        if edge_index is not None and self.level == "graph" and batch is None:
            raise ShapeError(
                "batch is missing: with edge_index, answers for graphs need the graph of each node, int64 [N]"
            )
        neighbors = x.get("neighbors")
        if neighbors is not None and (edge_index is not None or neighbors.shape[:-1] != lead):
            raise ShapeError(
                f"neighbors {tuple(neighbors.shape)}; pass {(*lead, 'K')}, and none together with edge_index"
            )
        if neighbors is not None and neighbors.dtype != torch.int64:
            raise DtypeError(f"neighbors has dtype {neighbors.dtype}; pass int64")
        if edge_index is None and neighbors is None:
            self._check_memory(lead)
        if not is_traced():
            for key, value in x.items():
                check_finite(value, key)
            for name, value in (("neighbors", neighbors), ("edge_index", edge_index)):
                if value is not None and value.numel() and not 0 <= int(value.min()) <= int(value.max()) < lead[-1]:
                    raise ShapeError(
                        f"{name} ranges from {int(value.min())} to {int(value.max())}, but points are 0 to {lead[-1] - 1}"
                    )
        return lead

    def _check_memory(self, lead: torch.Size) -> None:
        nodes, width = lead[-1], self.embed[-1].out_features
        per_node = len(self.space.directions) if isinstance(self.space, Grid) else 1
        per_pair = (nodes - 1) ** 2 if isinstance(self.space, EdgeDirections) else per_node
        needed = lead.numel() * nodes * per_pair * cast("int", width)
        if needed > LARGEST:
            raise ErlangenError(
                f"complete graphs of {nodes} points, {lead[:-1].numel()} of them, need {needed:.2g} numbers per layer (pairs "
                "x directions x width); give neighbors or edge_index, as from erlangen.geometry.radius_graph"
            )

    def _cloud(self, x: dict[str, Tensor], edge_index: Tensor | None) -> Cloud:
        pos, attr, features = x["pos"], x.get("edge_attr"), self.sizes[4]
        neighbors = x.get("neighbors")
        if neighbors is None:
            edges, attr = edges_of(pos, attr, features, edge_index)
        else:
            if (None if attr is None else attr.shape) != ((*neighbors.shape, features) if features else None):
                given = "missing" if attr is None else tuple(attr.shape)
                raise ShapeError(
                    f"edge_attr is {given}; for neighbors {tuple(neighbors.shape)} it needs {features} numbers"
                )
            edges, attr = _edges_of_neighbors(neighbors), None if attr is None else attr.flatten(0, -2)
        flat = {key: None if x.get(key) is None else x[key].flatten(0, pos.dim() - 2) for key in ("x", "vec")}
        return Cloud(pos.flatten(0, -2), flat["x"], flat["vec"], edges, attr)

    # --- output ------------------------------------------------------------------------------------------------------
    def _read_out(
        self, f: Tensor, lifted: Lifted, nodes: int, lead: torch.Size, batch: Tensor | None
    ) -> dict[str, Tensor]:
        scalars, vectors = f.split(list(self.sizes[2:4]), -1)
        space = cast("Space", self.space)
        found: dict[str, Tensor] = {}
        if self.sizes[2]:
            found["x"] = space.scalars(scalars, lifted, nodes)
        if self.sizes[3]:
            found["vec"] = space.vectors(vectors, lifted, nodes)
        if self.level == "graph" and batch is not None:
            graphs = int(batch[-1]) + 1 if len(batch) else 0
            return {key: segment_sum(value, batch, graphs) for key, value in found.items()}
        found = {key: value.unflatten(0, lead) for key, value in found.items()}
        return {key: value.sum(len(lead) - 1) for key, value in found.items()} if self.level == "graph" else found

    def _symmetry(self) -> Symmetry:
        kinds = ("invariant", "vectors", "invariant", "vectors", "invariant")
        keys = ("x", "vec", "x", "vec", "edge_attr")
        spec = [(key, kind) for key, kind, size in zip(keys, kinds, self.sizes, strict=True) if size]
        count = sum(size > 0 for size in self.sizes[:2])
        outputs = sum(size > 0 for size in self.sizes[2:4])
        inputs = {"pos": "points", **dict(spec[:count]), **dict(spec[count + outputs :])}
        return Symmetry(cast("Space", self.space).group, input=inputs, output=dict(spec[count : count + outputs]))


def _directions(dim: int, directions: int | Tensor, grid: str | None) -> tuple[Tensor, Group]:
    if not isinstance(directions, Tensor):
        return grid_of(dim, directions, grid)
    lengths = directions.detach().double().norm(dim=-1)
    if directions.dim() != 2 or directions.shape[-1] != dim or bool((lengths - 1).abs().max() > 1e-5):
        raise GroupError(f"directions {tuple(directions.shape)} must be unit vectors [O, {dim}]")
    return directions.detach().double(), Translation(dim)


def _edges_of_neighbors(neighbors: Tensor) -> Tensor:
    """Edges int64 ``[2, E]`` of neighbors ``[..., N, K]``, numbered within their graph."""
    *lead, nodes, count = neighbors.shape
    graphs = torch.Size(lead).numel()
    starts = nodes * torch.arange(graphs, device=neighbors.device)
    source = (neighbors.reshape(graphs, -1) + starts[:, None]).flatten()
    return torch.stack([source, torch.arange(graphs * nodes, device=neighbors.device).repeat_interleave(count)])
