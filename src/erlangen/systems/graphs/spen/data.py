"""Sets of labelled graphs: drug-like molecules of two classes, circular skip links, folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor

from erlangen.data import (
    SKIPS,
    GraphData,
    circular_skip_links,
    drug_like_smiles,
    fused_ring_systems,
    molecular_graphs,
    structural_alerts,
)
from erlangen.errors import DataError
from erlangen.nn import ego_subgraphs
from erlangen.survey import Sizes, Split

Label = Callable[[Sequence[str]], Tensor]

SHARE, LEAST = 4, 400
"""Molecules to choose from for each one that is needed, since alerts are in one of seven, and at least."""


@dataclass(frozen=True)
class GraphSet:
    """Graphs with classes, and what networks have to know of them."""

    data: GraphData

    @cached_property
    def labels(self) -> dict[str, Any]:
        """Numbers of labels of nodes and edges."""
        kinds = self.data.edge_labels
        return {
            "node_labels": int(self.data.node_labels.max()) + 1,
            "edge_labels": int(kinds.max()) + 1 if kinds.numel() else 0,
        }

    @cached_property
    def classes(self) -> int:
        """How many there are."""
        return int(self.data.y.max()) + 1

    @cached_property
    def common_sizes(self) -> tuple[int, ...]:
        """Sizes of ego-networks that are frequent enough for weights of their own."""
        return ego_subgraphs(self.data.edge_index, self.data.batch, len(self.data)).common_sizes()

    def balanced(self, count: int, seed: int) -> Tensor:
        """Numbers of `count` graphs in random order, half of each of two classes.

        Raises:
            DataError: there are too few of a class.
        """
        generator = Generator().manual_seed(seed)
        order = torch.randperm(len(self.data), generator=generator)
        classes = [order[self.data.y[order] == k][: count // 2] for k in (0, 1)]
        fewest = min(map(len, classes))
        if fewest < count // 2:
            raise DataError(f"count = {count}: there are only {fewest} graphs of a class; ask for fewer")
        return torch.cat(classes)[torch.randperm(2 * (count // 2), generator=generator)]

    def split(self, sizes: Sizes, seed: int) -> Split:
        """Numbers of balanced graphs, and their classes."""
        index = self.balanced(sizes.total, seed)
        return Split.of(index, self.data.y[index], sizes)


def has_alert(smiles: Sequence[str]) -> Tensor:
    """1 for molecules with a fragment of the list BRENK."""
    return structural_alerts(smiles).long()


def has_screening_alert(smiles: Sequence[str]) -> Tensor:
    """1 for molecules with a fragment of the list of the Molecular Libraries Small Molecule Repository, as ChEMBL has it."""
    return structural_alerts(smiles, "CHEMBL_MLSMR").long()


def has_fused_rings(smiles: Sequence[str]) -> Tensor:
    """1 for molecules with rings that share atoms."""
    return (fused_ring_systems(smiles) > 0).long()


def molecules(label: Label, count: int) -> GraphSet:
    """Drug-like molecules with classes, enough of them to choose `count` from."""
    smiles = drug_like_smiles()[: max(LEAST, SHARE * count)]
    return GraphSet(molecular_graphs(smiles, label(smiles)))


def skip_links(sizes: Sizes, seed: int) -> Split:
    """Adjacency matrices and kinds of renumbered circular skip links: one copy of each trains, all others are tested."""
    generator = Generator().manual_seed(seed)
    kinds = (torch.arange(sizes.total) % len(SKIPS)).sort(stable=True).values
    first = torch.ones(len(kinds), dtype=torch.bool)
    first[1:] = kinds[1:] != kinds[:-1]
    adj = circular_skip_links(SKIPS)[kinds]
    orders = torch.stack([torch.randperm(adj.shape[-1], generator=generator) for _ in kinds])
    adj = adj.gather(1, orders[..., None].expand_as(adj)).gather(2, orders[:, None].expand_as(adj))
    order = torch.cat([first.nonzero()[:, 0], (~first).nonzero()[:, 0]])
    return Split.of(adj[order], kinds[order], sizes)


def folds_of(y: Tensor, folds: int, seed: int) -> Tensor:
    """The fold of each graph ``[G]``, each with its share of every class.

    Raises:
        DataError: there are fewer graphs than folds.
    """
    if len(y) < folds:
        raise DataError(f"y has {len(y)} graphs, but {folds} folds need at least one each; give a larger set")
    found = torch.empty_like(y)
    generator = Generator().manual_seed(seed)
    dealt = 0
    for k in y.unique().tolist():
        rows = (y == k).nonzero()[:, 0]
        rows = rows[torch.randperm(len(rows), generator=generator)]
        found[rows] = (torch.arange(len(rows)) + dealt) % folds
        dealt += len(rows)
    return found


def fold_split(y: Tensor, index: Tensor, fold: Tensor, k: int) -> Split:
    """One fold is tested, the next one is held out, and the rest trains; of graphs `index` with classes `y` of the whole set."""
    folds = int(fold.max()) + 1
    held = (k + 1) % folds
    parts = [index[(fold != k) & (fold != held)], index[fold == held], index[fold == k]]
    return Split(*((part, y[part]) for part in parts))


BATCH = 25
"""Graphs per step."""


def batch_size(*counts: int) -> int:
    """`BATCH`, or a little more, so that of so many graphs no batch has one alone: batch normalisation cannot learn from that."""
    size = BATCH
    while any(count > 1 and count % size == 1 for count in counts):
        size += 1
    return size
