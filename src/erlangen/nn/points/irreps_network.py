"""`IrrepsNetwork`: message passing between features of O(3) on points in space, for every rule of `TensorProduct`."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from erlangen.errors import ErlangenError, IrrepsError, ShapeError, check_integer
from erlangen.groups import E, O
from erlangen.irreps import Irrep, Irreps
from erlangen.nn.edges import edge_harmonics, radial_basis, smooth_cutoff
from erlangen.nn.features import features_of
from erlangen.nn.graphs.graph_networks import edges_of
from erlangen.nn.products import TensorProduct
from erlangen.nn.products.paths import Rule
from erlangen.nn.reps.gates import Gate
from erlangen.nn.reps.linear import EquivariantLinear
from erlangen.numerics import safe_norm
from erlangen.symmetry import Symmetry

_TANH_GAIN = 1.5927
"""``1 / sqrt(E[tanh(z)^2])`` for standard normal z."""


class IrrepsConvolution(nn.Module):
    """One step of message passing: ``out_t = gate(skip(x_t) + down(sum_s up(x_s) (x)_w(r) Y(direction)))``.

    The weights w of the product are a small network of the length r of the edge, one set for each channel (as in
    Thomas et al. 2018 and Batzner et al. 2022), and of the features of the edge where it has some.

    Args:
        irreps_in: node features that come in.
        irreps_out: node features that are wanted; those that cannot be reached are left out.
        gate: end with a `Gate`.
        lmax_edge, rule, channels, num_basis, radial_neurons, cutoff, num_neighbors, edge_features, generator: see
            `IrrepsNetwork`.

    Attributes:
        irreps_out: the layout of the output.
        product: the `TensorProduct` of node features and edge harmonics.

    Raises:
        IrrepsError: nothing of `irreps_out` is reached, or the rule cannot carry an irrep.
    """

    def __init__(
        self,
        irreps_in: Irreps,
        irreps_out: Irreps,
        *,
        gate: bool,
        lmax_edge: int,
        rule: Rule,
        channels: int,
        num_basis: int,
        radial_neurons: int,
        cutoff: float,
        num_neighbors: float,
        edge_features: int = 0,
        generator: Generator | None,
    ) -> None:
        super().__init__()
        self.lmax_edge, self.num_basis, self.cutoff = lmax_edge, num_basis, cutoff
        group, harmonics = O(3), Irreps.spherical_harmonics(lmax_edge)
        mixed = Irreps([(channels, ir) for ir in sorted(_types(irreps_in))])
        keep = _types(irreps_out) | ({Irrep("0e")} if gate else set())
        self.product = TensorProduct(mixed, harmonics, rule=rule, form="depthwise", keep=keep, weights="given")
        message = self.product.irreps_out
        self.irreps_out = irreps_out.filter(_types(message) | _types(irreps_in))
        if not self.irreps_out.num_irreps or not message.num_irreps:
            raise IrrepsError(f"no product of {irreps_in} with {harmonics} leads to {irreps_out} by rule {rule!r}")
        gates = sum(block.mul for block in self.irreps_out if block.ir != Irrep("0e")) if gate else 0
        target = self.irreps_out + Irreps([(gates, "0e")])
        self.gate = Gate(self.irreps_out(group)) if gate else nn.Identity()
        shared = _types(irreps_in) & _types(target)
        self.up = _maps(irreps_in, mixed, False, generator)
        self.down = _maps(message, target, True, generator)
        self.skip = _maps(irreps_in, target, False, generator) if shared else None
        self.scale = 1 / (_size(self.product) * math.sqrt(num_neighbors))
        self.radial = _radial(num_basis + edge_features, radial_neurons, self.product.weight_numel, generator)

    def forward(self, x: Tensor, vectors: Tensor, edge_index: Tensor, edge_attr: Tensor | None = None) -> Tensor:
        """Features ``[N, irreps_out.dim]`` of ``[N, irreps_in.dim]``, edge vectors ``[E, 3]``, edges ``[2, E]``, features."""
        lengths = safe_norm(vectors)
        y = edge_harmonics(vectors, self.lmax_edge) * smooth_cutoff(lengths, self.cutoff)[:, None]
        basis = radial_basis(lengths, self.cutoff, self.num_basis)
        weight = self.radial(basis if edge_attr is None else torch.cat([basis, edge_attr], -1))
        message = self.product.aggregate(self.up(x), y, edge_index, weight)
        out = self.down(self.scale * message)
        return self.gate(out if self.skip is None else (out + self.skip(x)) / math.sqrt(2))


class IrrepsNetwork(nn.Module):
    """An E(3)-equivariant message passing network with features of O(3), such as e3nn's networks and NequIP.

    Each layer is an `IrrepsConvolution`; all but the last end with a `Gate`. Irreps of `irreps_hidden` that a layer cannot
    reach, such as pseudovectors after one layer on scalars, are left out there (`hidden` lists what is left).

    >>> net = IrrepsNetwork("2x0e", "8x0e+8x1o+8x2e", "1o", lmax_edge=2, layers=2, rule="cg", cutoff=4.0)
    >>> net(torch.ones(6, 5, 2), torch.randn(6, 5, 3)).shape      # 6 complete graphs of 5 nodes
    torch.Size([6, 5, 3])

    Args:
        irreps_in: node features, for example ``"1x0e"``.
        irreps_hidden: features between layers.
        irreps_out: the output for each node.
        lmax_edge: largest degree of the harmonics of edges.
        layers: number of convolutions.
        rule: which `TensorProduct` makes messages; its form is "depthwise".
        cutoff: length from which edges have no effect, in the units of `pos`; messages vanish there smoothly.
        channels: copies of each irrep in products, by default the largest multiplicity of `irreps_hidden`.
        num_basis: radial Bessel functions.
        radial_neurons: width of the network from them to the weights of products.
        num_neighbors: typical number of edges per node; sums over edges are divided by its root.
        edge_features: invariant numbers per edge, on which the weights of products depend beside its length.
        generator: source of the initial weights.

    Attributes:
        hidden: irreps after each layer but the last.
        symmetry: E(3) on ``(x, pos)``, followed by ``edge_attr`` where the network has it, for batches of complete graphs.

    Raises:
        IrrepsError: the rule cannot carry an irrep, or an irrep of the output is not reached and would be zero.
        ErlangenError: a number is not positive.
    """

    def __init__(
        self,
        irreps_in: Irreps | str,
        irreps_hidden: Irreps | str,
        irreps_out: Irreps | str,
        *,
        lmax_edge: int = 2,
        layers: int = 2,
        rule: Rule = "cg",
        cutoff: float,
        channels: int | None = None,
        num_basis: int = 8,
        radial_neurons: int = 32,
        num_neighbors: float = 1.0,
        edge_features: int = 0,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.irreps_in, self.irreps_hidden, self.irreps_out = map(Irreps, (irreps_in, irreps_hidden, irreps_out))
        channels = max((block.mul for block in self.irreps_hidden), default=1) if channels is None else channels
        numbers = {"layers": layers, "cutoff": cutoff, "channels": channels, "num_neighbors": num_neighbors}
        for name, value in {**numbers, "num_basis": num_basis, "radial_neurons": radial_neurons}.items():
            if not value > 0:
                raise ErlangenError(f"{name} = {value!r}; give a positive number")
        self.edge_features = check_integer("edge_features", edge_features, 0)
        self.layers = nn.ModuleList()
        self.hidden: list[Irreps] = []
        present = self.irreps_in
        for last in [False] * (layers - 1) + [True]:
            layer = IrrepsConvolution(
                present,
                self.irreps_out if last else self.irreps_hidden,
                gate=not last,
                lmax_edge=lmax_edge,
                rule=rule,
                channels=channels,
                num_basis=num_basis,
                radial_neurons=radial_neurons,
                cutoff=cutoff,
                num_neighbors=num_neighbors,
                edge_features=edge_features,
                generator=generator,
            )
            self.layers.append(layer)
            present = layer.irreps_out
            self.hidden += [] if last else [present]
        if missing := _types(self.irreps_out) - _types(present):
            names = ", ".join(map(str, sorted(missing)))
            raise IrrepsError(
                f"irreps_out: {layers} layers with rule={rule!r} do not reach {names}, so that output would be zero; before "
                f'the last layer there is {self.hidden[-1] if self.hidden else self.irreps_in}. Try rule="cg", more '
                "layers, or both parities in irreps_hidden"
            )
        features = [features_of(irreps) for irreps in (self.irreps_in, self.irreps_out)]
        extra = ("invariant",) * (edge_features > 0)
        self.symmetry = Symmetry(E(3), input=(features[0], "points", *extra), output=features[1])

    def forward(
        self,
        x: Tensor | tuple[Tensor, ...],
        pos: Tensor | None = None,
        edge_index: Tensor | None = None,
        edge_attr: Tensor | None = None,
    ) -> Tensor:
        """Features ``[..., N, irreps_out.dim]`` of the nodes.

        Args:
            x: node features ``[..., N, irreps_in.dim]``; or the tuple ``(x, pos)`` or ``(x, pos, edge_index)``, with features of
                edges ``(x, pos, edge_attr)`` or ``(x, pos, edge_attr, edge_index)``.
            pos: positions ``[..., N, 3]``.
            edge_index: int64 ``[2, E]``, source and target, with x and pos of all graphs one after the other in ``[N, ...]``
                (as in PyTorch Geometric). Without it every graph is complete, and leading axes are a batch.
            edge_attr: edge features ``[E, edge_features]``; without `edge_index` ``[..., N, N, edge_features]``, as for `EGNN`.

        Raises:
            ShapeError: shapes do not fit, or features of edges are missing or not wanted.
            DegenerateFrameError: an edge has length zero.
        """
        if isinstance(x, tuple):
            if not self.edge_features:
                return self(*x)
            features, places, attr, *rest = x
            return self(features, places, *rest, edge_attr=attr)
        self.irreps_in.check_features(x, "x")
        if pos is None or pos.ndim < 2 or pos.shape != (*x.shape[:-1], 3):
            given = "missing" if pos is None else f"of shape {tuple(pos.shape)}"
            raise ShapeError(f"pos is {given}, but x {tuple(x.shape)} needs positions {(*x.shape[:-1], 3)}")
        if edge_index is not None and pos.ndim > 2:
            raise ShapeError(
                f"pos has shape {tuple(pos.shape)}, but with edge_index it must be [N, 3], all graphs in one"
            )
        edges, attr = edges_of(x, edge_attr, self.edge_features, edge_index)
        out, points = x.flatten(0, -2), pos.flatten(0, -2)
        vectors = points.index_select(0, edges[1]) - points.index_select(0, edges[0])
        for layer in self.layers:
            out = layer(out, vectors, edges, attr)
        return out.unflatten(0, x.shape[:-1])

    @override
    def extra_repr(self) -> str:
        return " -> ".join(map(str, (self.irreps_in, *self.hidden, self.irreps_out)))


def _types(irreps: Irreps) -> set[Irrep]:
    return {block.ir for block in irreps if block.mul}


def _size(product: TensorProduct) -> float:
    """Root mean square of the product of standard normal inputs and weights: 1 for "cg", not so for other rules."""
    generator = torch.Generator().manual_seed(0)
    x, y = (irreps.randn(1000, generator=generator) for irreps in (product.irreps_x, product.irreps_y))
    weight = torch.randn(1000, product.weight_numel, generator=generator)
    return float(product(x, y, weight).square().mean().sqrt())


def _maps(irreps_in: Irreps, irreps_out: Irreps, bias: bool, generator: Generator | None) -> EquivariantLinear:
    return EquivariantLinear(irreps_in(O(3)), irreps_out(O(3)), bias=bias, generator=generator)


def _radial(num_basis: int, neurons: int, weights: int, generator: Generator | None) -> nn.Sequential:
    """A network without biases from the radial basis to weights of variance about 1."""
    layers = nn.Linear(num_basis, neurons, bias=False), nn.Linear(neurons, weights, bias=False)
    for layer, gain in zip(layers, (1.0, _TANH_GAIN), strict=True):
        nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.in_features), generator=generator)
    # Bounded: close nodes, where the basis is large, must not make large weights.
    return nn.Sequential(layers[0], nn.Tanh(), layers[1])
