"""What must hold exactly for layers on ego-networks."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Generator, Tensor

from erlangen.data import GraphData, drug_like_smiles, molecular_graphs
from erlangen.groups import Symmetric
from erlangen.measure import relative_change
from erlangen.nn import SPEN, PermutationLinear, SubgraphLinear, ego_subgraphs
from erlangen.nn.graphs.permutation_tensors import MAPS
from erlangen.reps import Rep, Scalar, T, equivariant_projector
from erlangen.survey import Run, exact, largest
from erlangen.systems.graphs.spen._memory import sparse_graph

KEYS = ("y", "x", "adj")
"""Keys by the order of the tensor."""

BELL = (1, 1, 2, 5, 15)
"""Ways to put so many things into groups."""

ORDERS = tuple(itertools.product((1, 2), (0, 1, 2)))
"""Orders of tensors, in and out."""

COUNT = 20
"""Molecules, and random graphs."""


# --- the maps --------------------------------------------------------------------------------------------------------
def map_matrices(k: int, order: int, nodes: int) -> Tensor:
    """Every map from tensors of order k, at least 1, to others, float64 ``[maps, nodes^order, nodes^k]``."""
    layer = PermutationLinear({KEYS[k]: 1}, {KEYS[order]: 1}, bias=False).double()
    units = torch.eye(nodes**k, dtype=torch.float64).reshape(-1, *[nodes] * k, 1)
    weight = layer.weights[f"{KEYS[k]}_to_{KEYS[order]}"]
    found: list[Tensor] = []
    with torch.no_grad():
        for i in range(len(MAPS[k, order])):
            weight.zero_()[i] = 1
            found.append(layer({KEYS[k]: units})[KEYS[order]].reshape(nodes**k, -1).mT)
    return torch.stack(found)


@exact(tol=0)
def missing_maps(run: Run[Any]) -> float:
    """Maps missing to 1, 2, 5 and 15 between pairs, nodes and graphs, and to 1, 8, 14 of 1 to 3 nodes."""
    ranks = [(BELL[k + order], map_matrices(k, order, 4)) for k, order in ORDERS]
    ranks += [(rank, map_matrices(2, 2, small)) for small, rank in ((1, 1), (2, 8), (3, 14))]
    return sum(abs(rank - int(torch.linalg.matrix_rank(maps.flatten(1)))) for rank, maps in ranks)


@exact(tol=1e-8)
def projector_distance(run: Run[Any]) -> float:
    """Distance of the span of the maps from all equivariant maps that the constraint solver finds."""
    distance, group = 0.0, Symmetric(4)
    for k, order in ORDERS:
        solved = equivariant_projector(_tensors(group, k) >> _tensors(group, order)).double()
        basis = torch.linalg.qr(map_matrices(k, order, 4).flatten(1).mT).Q
        distance = max(distance, float((basis @ basis.mT - solved).abs().max()))
    return distance


@exact(tol=1e-12)
def commutator(run: Run[Any]) -> float:
    """Largest entry of what a map and a permutation leave when exchanged."""
    permutation = torch.eye(4, dtype=torch.float64)[torch.randperm(4, generator=run.generator())]
    found = 0.0
    for k, order in ORDERS:
        maps = map_matrices(k, order, 4)
        left, right = (_power(permutation, p) for p in (order, k))
        found = max(found, float((left @ maps - maps @ right).abs().max()))
    return found


def _tensors(group: Symmetric, order: int) -> Rep:
    return T(order)(group) if order else Scalar(group)


def _power(matrix: Tensor, times: int) -> Tensor:
    out = torch.ones(1, 1, dtype=matrix.dtype)
    for _ in range(times):
        out = torch.kron(out, matrix)
    return out


def in_another_order(data: GraphData, seed: int) -> tuple[GraphData, Tensor]:
    """The graphs with the nodes of each in another order, and the new number of every node."""
    noise = torch.rand(len(data.batch), generator=Generator().manual_seed(seed))
    order = (data.batch + 0.9 * noise.double()).argsort()  # old numbers in the new order
    new = order.argsort()
    edges = new[data.edge_index]
    by_graph = data.batch[data.edge_index[0]].argsort(stable=True)
    return (
        GraphData(edges[:, by_graph], data.batch, data.node_labels[order], data.edge_labels[by_graph], data.y),
        new,
    )


# --- the network -----------------------------------------------------------------------------------------------------
def network(run: Run[Any], dtype: torch.dtype, *, per_node: bool = False) -> SPEN:
    """A network of molecules."""
    net = SPEN(12, 2, edge_labels=4, sizes=(2, 3, 4), per_node=per_node, generator=run.generator())
    return net.to(dtype).eval()


def few_molecules() -> GraphData:
    """The first of the drug-like molecules."""
    return molecular_graphs(drug_like_smiles(COUNT))


@exact(tol=1e-12, float32=1e-5)
@torch.no_grad()
def renumbered(run: Run[Any], dtype: torch.dtype) -> float:
    """Relative change of the network's answer when nodes are renumbered."""
    net, data = network(run, dtype), few_molecules()
    return relative_change(net(in_another_order(data, run.seed)[0]), net(data), over="entries")


@exact(tol=1e-12, float32=1e-5)
@torch.no_grad()
def nodes_renumbered(run: Run[Any], dtype: torch.dtype) -> float:
    """Relative change of the answers for nodes, put back in order, when renumbered."""
    net, data = network(run, dtype, per_node=True), few_molecules()
    other, new = in_another_order(data, run.seed)
    return relative_change(net(other)[new], net(data), over="entries")


@exact(tol=1e-12, float32=1e-5)
@torch.no_grad()
def other_batches(run: Run[Any], dtype: torch.dtype) -> float:
    """Relative change of a graph's answer when it is alone in its batch."""
    net, data = network(run, dtype), few_molecules()
    alone = torch.cat([net(data[[k]]) for k in range(len(data))])
    return relative_change(alone, net(data), over="entries")


# --- ego-networks ----------------------------------------------------------------------------------------------------
@exact(tol=1e-12)
@torch.no_grad()
def constants_merged(run: Run[Any]) -> float:
    """Change of constants by merging, isolated nodes among them."""
    data = sparse_graph(30, 1.0, run.seed)
    subgraphs = ego_subgraphs(data.edge_index, data.batch, 1)
    layer = SubgraphLinear({"adj": 2, "x": 2}, {"adj": 2, "x": 2}).double()
    for name, parameter in layer.named_parameters():
        parameter.zero_()
        if name.endswith(("adj_to_adj", "x_to_x")):
            parameter[0] = torch.eye(2)
    ones = {
        key: torch.full((rows, 2), 3.0, dtype=torch.float64)
        for key, rows in (("adj", subgraphs.pairs.shape[1]), ("x", len(subgraphs.batch)))
    }
    return largest(float((value - 3).abs().max()) for value in layer(ones, subgraphs).values())


@exact(tol=1e-12)
@torch.no_grad()
def global_layer(run: Run[Any]) -> float:
    """Relative difference of a layer on ego-networks that reach everything from the layer on all pairs."""
    data, generator = molecular_graphs(["CC1CCC(O)C1"]), run.generator()
    n = len(data.batch)
    subgraphs = ego_subgraphs(data.edge_index, data.batch, 1, hops=n)
    channels = {"adj": 3, "x": 3}
    layer = SubgraphLinear(channels, channels, generator=generator).double()
    x = {
        "adj": torch.randn(n * n, 3, generator=generator).double(),
        "x": torch.randn(n, 3, generator=generator).double(),
    }
    ours = layer(x, subgraphs)
    theirs = layer.maps["other"]({"adj": x["adj"].view(n, n, 3), "x": x["x"]})
    return largest(relative_change(ours[key], theirs[key].reshape(-1, 3), over="entries") for key in channels)


@exact(tol=0)
def ego_networks(run: Run[Any]) -> float:
    """Random graphs whose ego-networks are not what powers of the adjacency matrix reach."""
    wrong = 0
    for k in range(COUNT):
        data, hops = sparse_graph(12, 2.0, run.seed + k), 1 + k % 3
        found = ego_subgraphs(data.edge_index, data.batch, 1, hops)
        reached = torch.zeros(12, 12, dtype=torch.bool)
        reached[torch.arange(12).repeat_interleave(found.sizes), found.members] = True
        step = data.dense().adj[0].double() + torch.eye(12, dtype=torch.float64)
        wrong += not torch.equal(reached, torch.linalg.matrix_power(step, hops) > 0)
    return wrong


@exact(tol=0)
def gradients(run: Run[Any]) -> float:
    """Whether gradients by the features of pairs, of a graph of 5 nodes, differ from finite differences: 0 or 1."""
    edges = torch.tensor([[0, 1, 1, 2, 2, 0, 2, 3], [1, 0, 2, 1, 0, 2, 3, 2]])
    data = GraphData(edges, *(torch.zeros(n, dtype=torch.int64) for n in (5, 5, 8, 1)))
    net = SPEN(1, 2, 3, sizes=(3,), readout=(4,), generator=run.generator()).double().eval()
    subgraphs = net.subgraphs(data)
    pairs = torch.randn(subgraphs.pairs.shape[1], 2, generator=run.generator(), dtype=torch.float64)
    agrees = torch.autograd.gradcheck(lambda x: net.encode(x, subgraphs), pairs.requires_grad_(), raise_exception=False)
    return int(not agrees)


PROPERTIES = (
    missing_maps,
    projector_distance,
    commutator,
    renumbered,
    nodes_renumbered,
    other_batches,
    constants_merged,
    global_layer,
    ego_networks,
    gradients,
)
