"""Ego-networks: the nodes within a few steps of each node, of all graphs of a batch at once."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from erlangen.errors import DtypeError, ErlangenError, ShapeError, check_sizes


class EgoNetworks(NamedTuple):
    """The node sets of ego-networks, one for each node.

    Attributes:
        members: nodes, int64 ``[M]``, in ascending order within each network.
        ego: the node whose network it is, int64 ``[M]``, ascending.
        sizes: number of members of every network, int64 ``[N]``.
    """

    members: Tensor
    ego: Tensor
    sizes: Tensor

    def buckets(self) -> dict[int, tuple[Tensor, Tensor]]:
        """Networks of equal size together: by size m their egos ``[K]`` and members ``[K, m]``, which need no padding."""
        starts = self.sizes.cumsum(0) - self.sizes
        found: dict[int, tuple[Tensor, Tensor]] = {}
        for m in self.sizes.unique().tolist():
            egos = (self.sizes == m).nonzero()[:, 0]
            found[m] = egos, self.members[starts[egos, None] + torch.arange(m, device=egos.device)]
        return found


def ego_networks(edge_index: Tensor, nodes: int, hops: int = 1) -> EgoNetworks:
    """For each node all nodes from which an edge path of at most `hops` edges leads to it, and the node itself.

    Graphs of a batch that lie one after the other in `edge_index` do not meet. A node without edges is alone in its network.

    >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> ego_networks(path, 3).sizes
    tensor([2, 3, 2])

    Args:
        edge_index: int64 ``[2, E]``, source and target; undirected graphs have every edge in both directions.
        nodes: number of nodes of all graphs, N.
        hops: at least 1.

    Raises:
        ShapeError, DtypeError: `edge_index` is not as above.
        ErlangenError: `hops` is not positive, or an edge names a node beyond `nodes`.
    """
    check_sizes(hops=hops)
    if edge_index.dtype != torch.int64:
        raise DtypeError(f"edge_index has dtype {edge_index.dtype}; pass int64")
    if edge_index.dim() != 2 or len(edge_index) != 2:
        raise ShapeError(f"edge_index has shape {tuple(edge_index.shape)}; pass [2, E]")
    if edge_index.numel() and (int(edge_index.max()) >= nodes or int(edge_index.min()) < 0):
        raise ErlangenError(f"edge_index names node {int(edge_index.max())}, but nodes = {nodes}")
    from scipy.sparse import coo_array, eye_array

    source, target = edge_index.cpu().numpy()
    edges = coo_array((np.ones(len(source), bool), (target, source)), shape=(nodes, nodes))
    step: Any = edges.tocsr() + eye_array(nodes, dtype=bool, format="csr")
    reached = step
    for _ in range(hops - 1):
        reached = (reached @ step).astype(bool)
    reached.sort_indices()
    sizes = torch.from_numpy(np.diff(reached.indptr).astype(np.int64))
    members = torch.from_numpy(reached.indices.astype(np.int64))
    ego = torch.arange(nodes).repeat_interleave(sizes)
    return EgoNetworks(*(x.to(edge_index.device) for x in (members, ego, sizes)))
