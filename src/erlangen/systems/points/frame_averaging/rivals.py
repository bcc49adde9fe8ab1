"""What frames are compared with: random rotations instead of a frame, and networks with random parameters on graphs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Generator, Tensor, nn

from erlangen.actions import Tree
from erlangen.data import connected_graphs, strongly_regular_graphs
from erlangen.enforce import FrameSet, SortFrame, average_orders, averaged_outputs, sort_frame_sizes, symmetrize
from erlangen.groups import E, O, Symmetric
from erlangen.measure import separation_table
from erlangen.nn import BareGIN, NamedGIN, stretched
from erlangen.symmetry import Symmetry
from erlangen.systems.points.frame_averaging.method import FlatMLP


@dataclass(frozen=True)
class RandomTurns:
    """Not a frame but random elements of O(3) about the centroid, new ones in every training step."""

    count: int

    @property
    def is_enumerable(self) -> bool:
        """A sample is all there is."""
        return False

    def __call__(self, x: Tree, mask: Tensor | None = None) -> FrameSet:
        """The same elements as in evaluation."""
        return self.sample(x, self.count, Generator().manual_seed(0), mask, whole=True)

    def sample(
        self, x: Tree, k: int, generator: Generator, mask: Tensor | None = None, *, whole: bool = False
    ) -> FrameSet:
        """k elements for every system, or with `whole` the same for all."""
        centre = x["pos"].double().mean(1)
        batch = len(centre)
        turns = O(3).sample(k if whole else batch * k, generator=generator, dtype=torch.float64)
        turns = turns.expand(batch, k, 3, 3) if whole else turns.unflatten(0, (batch, k))
        elements = E(3).join(turns.to(centre.device), centre[:, None].expand(batch, k, 3))
        return FrameSet(elements, torch.full((batch, k), 1 / k, dtype=torch.float64), torch.full((batch,), math.inf))


# --- graphs -----------------------------------------------------------------------------------------------------------
EQUAL = 1e-9
"""Outputs that differ by less count as equal; those of isomorphic graphs differ by rounding, some 1e-15."""


class Family(NamedTuple):
    """Graphs all pairs of which are to be told apart; of strongly regular ones, so many nodes get a name."""

    kind: Literal["connected", "strongly regular"]
    nodes: int
    named: int = 0

    @property
    def models(self) -> tuple[str, ...]:
        """The networks that are tried on them: all nodes of strongly regular graphs tie, which a list of numbers cannot use."""
        return ("GIN", "FA-GIN+ID", "FA-MLP") if self.kind == "connected" else ("GIN", "FA-GIN+ID")

    def graphs(self) -> Tensor:
        """Their adjacency matrices ``[M, n, n]``."""
        return connected_graphs(self.nodes) if self.kind == "connected" else strongly_regular_graphs(self.nodes)


@cache
def separation(family: Family, model: str, seed: int) -> dict[str, Any]:
    """Which pairs of a family a network with random parameters does not separate: all elements of all frames, float64."""
    adj, generator = family.graphs(), Generator().manual_seed(seed)
    separate, largest = _separator(family, model, adj, generator)
    name = f"{family.kind}, {family.nodes} nodes"
    row = separation_table({model: separate}, {name: [adj]}, seed, tol=EQUAL, scale=1.0)[0]
    return row | {"part": "graphs", "largest frame": largest}


LISTED = 5040
"""Largest frame that is listed, of graphs from files."""


def separation_of(name: str, groups: Sequence[Tensor], seed: int) -> list[dict[str, Any]]:
    """Which pairs ``[2, n, n]`` a GIN and FA-GIN+ID do not separate; those with larger frames than `LISTED` are counted apart."""
    listed = [group for group in groups if int(sort_frame_sizes(group.double()).max()) <= LISTED]
    if not listed:
        return []

    def alone(adj: Tensor) -> Tensor:
        return _alone(stretched(BareGIN(generator=Generator().manual_seed(seed)), 2.0), adj)

    def framed(adj: Tensor) -> Tensor:
        n = adj.shape[-1]
        net = stretched(NamedGIN(n, generator=Generator().manual_seed(seed)))
        frame = SortFrame(Symmetry(Symmetric(n), input="graph", output="invariant"), limit=LISTED)
        model = symmetrize(net, frame.symmetry, frame=frame, chunk=LISTED)
        return torch.cat([model({"adj": one[None].double()}) for one in adj])

    rows = separation_table({"GIN": alone, "FA-GIN+ID": framed}, {name: listed}, seed, tol=EQUAL, scale=1.0)
    return [row | {"part": "graphs", "pairs with larger frames": len(groups) - len(listed)} for row in rows]


def _separator(family: Family, model: str, adj: Tensor, generator: Generator) -> tuple[Callable[[Tensor], Tensor], int]:
    """Outputs of graphs, and the size of the largest frame."""
    n = family.nodes
    if model == "GIN":
        return partial(_alone, stretched(BareGIN(generator=generator), 2.0)), 1
    if family.kind == "strongly regular":
        # The network does not see the order of the unnamed nodes: one element for each choice of the others is enough.
        net = NamedGIN(n, family.named, layers=3, generator=generator)
        return partial(averaged_outputs, average_orders(stretched(net), n, family.named)), math.perm(n, family.named)
    net = {"FA-GIN+ID": NamedGIN, "FA-MLP": FlatMLP}[model](n, generator=generator)
    return partial(averaged_outputs, average_orders(stretched(net), n)), int(sort_frame_sizes(adj.double()).max())


def _alone(model: nn.Module, adj: Tensor) -> Tensor:
    return model({"adj": adj})
