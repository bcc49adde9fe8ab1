"""What must hold exactly for layers on ego-networks, measured."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from erlangen.data import GraphData, drug_like_smiles, molecular_graphs
from erlangen.errors import ShapeError
from erlangen.groups import Symmetric
from erlangen.measure import relative_change
from erlangen.nn import SPEN, PermutationLinear, SubgraphLinear, Subgraphs, ego_subgraphs
from erlangen.nn.graphs.permutation_tensors import MAPS
from erlangen.reps import Rep, Scalar, T, equivariant_projector
from erlangen.survey.claims import Claim
from erlangen.systems.graphs._spen_memory import sparse_graph

Row = dict[str, Any]
KEYS = ("y", "x", "adj")
"""Keys by the order of the tensor."""

BELL = (1, 1, 2, 5, 15)
"""Ways to put so many things into groups."""


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


def basis_errors(nodes: int) -> dict[str, float]:
    """Missing ranks, distance of projectors, and what is left of commutators, over all pairs of orders."""
    missing, distance, commutator = 0, 0.0, 0.0
    for k, order in itertools.product((1, 2), (0, 1, 2)):
        maps = map_matrices(k, order, nodes)
        missing += abs(BELL[k + order] - int(torch.linalg.matrix_rank(maps.flatten(1))))
        group = Symmetric(nodes)
        solved = equivariant_projector(_tensors(group, k) >> _tensors(group, order)).double()
        basis = torch.linalg.qr(maps.flatten(1).mT).Q
        distance = max(distance, float((basis @ basis.mT - solved).abs().max()))
        permutation = torch.eye(nodes, dtype=torch.float64)[torch.randperm(nodes, generator=Generator().manual_seed(0))]
        left, right = (_power(permutation, p) for p in (order, k))
        commutator = max(commutator, float((left @ maps - maps @ right).abs().max()))
    for small, rank in ((1, 1), (2, 8), (3, 14)):
        missing += abs(rank - int(torch.linalg.matrix_rank(map_matrices(2, 2, small).flatten(1))))
    return {"missing maps": missing, "projector distance": distance, "commutator": commutator}


def _tensors(group: Symmetric, order: int) -> Rep:
    return T(order)(group) if order else Scalar(group)


def _power(matrix: Tensor, times: int) -> Tensor:
    out = torch.ones(1, 1, dtype=matrix.dtype)
    for _ in range(times):
        out = torch.kron(out, matrix)
    return out


def renumbered(data: GraphData, seed: int) -> tuple[GraphData, Tensor]:
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


def merged_error(subgraphs: Subgraphs) -> float:
    """Change of constant features by a layer of identities, with isolated nodes among the graphs."""
    layer = SubgraphLinear({"adj": 2, "x": 2}, {"adj": 2, "x": 2}).double()
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.zero_()
            if name.endswith(("adj_to_adj", "x_to_x")):
                parameter[0] = torch.eye(2)
        ones = {
            key: torch.full((rows, 2), 3.0, dtype=torch.float64)
            for key, rows in (("adj", subgraphs.pairs.shape[1]), ("x", len(subgraphs.batch)))
        }
        return max(float((value - 3).abs().max()) for value in layer(ones, subgraphs).values())


def global_error(data: GraphData, seed: int) -> float:
    """Relative difference of a layer on ego-networks that are whole graphs from the layer on all pairs.

    Raises:
        ShapeError: `data` is more than one graph.
    """
    if len(data) != 1:
        raise ShapeError(f"data holds {len(data)} graphs; pass one")
    n, generator = len(data.batch), Generator().manual_seed(seed)
    subgraphs = ego_subgraphs(data.edge_index, data.batch, 1, hops=n)
    channels = {"adj": 3, "x": 3}
    layer = SubgraphLinear(channels, channels, generator=generator).double()
    x = {
        "adj": torch.randn(n * n, 3, generator=generator).double(),
        "x": torch.randn(n, 3, generator=generator).double(),
    }
    with torch.no_grad():
        ours = layer(x, subgraphs)
        theirs = layer.maps["other"]({"adj": x["adj"].view(n, n, 3), "x": x["x"]})
    return max(relative_change(ours[key], theirs[key].reshape(-1, 3), over="entries") for key in channels)


def ego_errors(count: int, seed: int) -> int:
    """Random graphs whose ego-networks differ from the powers of the adjacency matrix."""
    wrong = 0
    for k in range(count):
        data, hops = sparse_graph(12, 2.0, seed + k), 1 + k % 3
        found = ego_subgraphs(data.edge_index, data.batch, 1, hops)
        reached = torch.zeros(12, 12, dtype=torch.bool)
        reached[torch.arange(12).repeat_interleave(found.sizes), found.members] = True
        step = data.dense().adj[0].double() + torch.eye(12, dtype=torch.float64)
        wrong += not torch.equal(reached, torch.linalg.matrix_power(step, hops) > 0)
    return wrong


def gradient_errors(seed: int) -> int:
    """Whether the gradient of a network by the features of pairs of a graph of 5 nodes differs from differences: 0 or 1."""
    edges = torch.tensor([[0, 1, 1, 2, 2, 0, 2, 3], [1, 0, 2, 1, 0, 2, 3, 2]])
    data = GraphData(edges, *(torch.zeros(n, dtype=torch.int64) for n in (5, 5, 8, 1)))
    net = SPEN(1, 2, 3, sizes=(3,), readout=(4,), generator=Generator().manual_seed(seed)).double().eval()
    subgraphs = net.subgraphs(data)
    pairs = torch.randn(subgraphs.pairs.shape[1], 2, generator=Generator().manual_seed(seed), dtype=torch.float64)
    agrees = torch.autograd.gradcheck(lambda x: net.encode(x, subgraphs), pairs.requires_grad_(), raise_exception=False)
    return int(not agrees)


@torch.no_grad()
def network_errors(data: GraphData, dtype: torch.dtype, seed: int) -> dict[str, float]:
    """Changes of a network's answers by renumbering, for graphs and for nodes, and by the batch that a graph is in."""
    labels: dict[str, Any] = {"node_labels": 12, "edge_labels": 4, "sizes": (2, 3, 4)}
    net, nodes = (
        SPEN(out_features=2, per_node=p, generator=Generator().manual_seed(seed), **labels).to(dtype).eval()
        for p in (False, True)
    )
    other, new = renumbered(data, seed)
    alone = torch.cat([net(data[[k]]) for k in range(len(data))])
    return {
        "renumbered": relative_change(net(other), net(data), over="entries"),
        "nodes renumbered": relative_change(nodes(other)[new], nodes(data), over="entries"),
        "other batches": relative_change(alone, net(data), over="entries"),
    }


def property_rows(count: int, seed: int) -> list[Row]:
    """All errors, one row each."""
    data = molecular_graphs(drug_like_smiles(count))
    isolated = sparse_graph(30, 1.0, seed)
    errors: dict[str, float] = dict(basis_errors(4))
    for dtype, bits in ((torch.float32, 32), (torch.float64, 64)):
        errors |= {f"{name}, float{bits}": error for name, error in network_errors(data, dtype, seed).items()}
    errors |= {
        "constants merged": merged_error(ego_subgraphs(isolated.edge_index, isolated.batch, 1)),
        "global layer": global_error(molecular_graphs(["CC1CCC(O)C1"]), seed),
        "ego-networks": ego_errors(count, seed),
        "gradients": gradient_errors(seed),
    }
    return [{"part": "properties", "model": name, "error": float(error)} for name, error in errors.items()]


def property_claims(rows: Sequence[Row]) -> list[Claim]:
    """One claim for each property."""
    errors = {row["model"]: row["error"] for row in rows}
    texts: dict[str, tuple[str, float]] = {
        "missing maps": ("Maps missing to 1, 2, 5 and 15 between pairs, nodes and graphs, and to 1, 8, 14 of 1 to 3 nodes.", 0),
        "projector distance": ("Distance of the span of these maps from all maps that the constraint solver finds.", 1e-8),
        "commutator": ("Largest entry of what a map and a permutation leave when exchanged.", 1e-12),
        "renumbered, float32": ("Relative change of the network's answer when nodes are renumbered.", 1e-5),
        "renumbered, float64": ("The same in float64.", 1e-12),
        "nodes renumbered, float32": ("Relative change of the answers for nodes, put back in order, when renumbered.", 1e-5),
        "nodes renumbered, float64": ("The same in float64.", 1e-12),
        "other batches, float32": ("Relative change of a graph's answer when it is alone in its batch.", 1e-5),
        "other batches, float64": ("The same in float64.", 1e-12),
        "constants merged": ("Change of constants by merging, isolated nodes among them.", 1e-12),
        "global layer": ("Relative difference of ego-networks that reach everything from the layer on all pairs.", 1e-12),
        "ego-networks": ("Random graphs whose ego-networks are not what powers of the adjacency matrix reach.", 0),
        "gradients": ("Whether gradients by the features of pairs differ from finite differences.", 0),
    }  # fmt: skip
    return [
        Claim.exact(name.replace(", ", "-").replace(" ", "-"), text, measured=errors[name], tol=tol)
        for name, (text, tol) in texts.items()
    ]
