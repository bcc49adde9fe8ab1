"""Models of real proteins with what is known of them: decoys of four kinds, their graphs, and their scores."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from erlangen.data import AMINO_ACIDS, Backbone, backbones
from erlangen.measure import cad_score, lddt
from erlangen.simulate import DECOYS, decoy_maker, ideal_cb
from erlangen.survey import Sizes, Split
from erlangen.systems.molecules.s_gcn.method import ResidueGraph, padded, residue_graph

NATIVE = "native"
WINDOW = 2
"""Scores are means over so many residues to both sides."""

GLYCINE = AMINO_ACIDS.index("GLY")
ATOMS = ("N", "CA", "C", "O", "CB")

FOLDS: tuple[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]], ...] = (
    (("dehydrogenase", "zinc finger", "OB fold"), ("cytochrome c", "Kunitz domain", "chemokine"), ("trypsin",)),
    (("trypsin", "zinc finger", "OB fold"), ("cytochrome c", "Kunitz domain", "chemokine"), ("dehydrogenase",)),
    (("trypsin", "dehydrogenase"), ("zinc finger",), ("cytochrome c", "OB fold", "Kunitz domain", "chemokine")),
)
"""Families that train, that choose the learning rate, and that are reported; the seed says which fold."""


class Sample(NamedTuple):
    """A model of a protein.

    Attributes:
        target: number of the native chain in `chains`.
        kind: of the decoy, or "native".
        graph: what networks see.
        score: local CAD-score ``[N]``, smoothed.
        lddt: of CA ``[N]``.
    """

    target: int
    kind: str
    graph: ResidueGraph
    score: Tensor
    lddt: Tensor


@functools.cache
def chains() -> tuple[Backbone, ...]:
    """The proteins that come with the library."""
    return tuple(backbones())


def five_atoms(kind: Tensor, pos: Tensor) -> tuple[Tensor, tuple[str, ...], Tensor]:
    """Places, names and residues of N, CA, C, O and an ideal CB, which glycine lacks; side chains end there."""
    atoms = torch.cat([pos, ideal_cb(pos)[:, None]], 1)
    real = torch.ones(len(kind), len(ATOMS), dtype=torch.bool)
    real[:, -1] = kind != GLYCINE
    residue, place = real.nonzero(as_tuple=True)
    return atoms[real], tuple(ATOMS[k] for k in place.tolist()), residue


def smoothed(score: Tensor, window: int = WINDOW) -> Tensor:
    """Means over the residues up to `window` to both sides ``[N] -> [N]``, shorter at the ends."""
    ones = torch.ones(1, 1, 2 * window + 1, dtype=score.dtype)
    total = torch.nn.functional.conv1d(score[None, None], ones, padding=window)
    return (total / torch.nn.functional.conv1d(torch.ones_like(score)[None, None], ones, padding=window))[0, 0]


def graph_of(kind: Tensor, pos: Tensor) -> ResidueGraph:
    """The graph of a chain of N, CA, C and O, in float64."""
    return residue_graph(kind, *five_atoms(kind, pos))


@functools.cache
def _native(target: int) -> tuple[ResidueGraph, Callable[..., object]]:
    chain = chains()[target]
    return graph_of(chain.kind, chain.pos), decoy_maker(chain.pos)


@functools.cache
def samples_of(target: int, count: int, seed: int) -> tuple[Sample, ...]:
    """The native structure of one chain, and ``count - 1`` decoys, their kinds in turn."""
    chain = chains()[target]
    native, _ = _native(target)
    generator = Generator().manual_seed(1_000_003 * seed + target)
    make = decoy_maker(chain.pos) if count > 1 else None
    ones = torch.ones(len(chain.kind), dtype=torch.float64)
    found = [Sample(target, NATIVE, native, ones, ones)]
    for k in range(count - 1):
        assert make is not None
        decoy = make(DECOYS[k % len(DECOYS)], generator)
        graph = graph_of(chain.kind[decoy.rows], decoy.pos)
        true = native.area[decoy.rows][:, decoy.rows]
        kept = lddt(decoy.pos[:, 1], chain.pos[decoy.rows, 1])
        found.append(Sample(target, decoy.kind, graph, smoothed(cad_score(graph.area, true)), kept))
    return tuple(found)


def members(families: Sequence[str], count: int) -> list[int]:
    """So many chains of these families, each family in turn while it lasts, and again from the start where there are fewer."""
    by_family = [[k for k, chain in enumerate(chains()) if chain.family == family] for family in families]
    mixed = [one[k] for k in range(max(map(len, by_family))) for one in by_family if k < len(one)]
    return [mixed[k % len(mixed)] for k in range(count)]


def collated(samples: Sequence[Sample], target: str = "score") -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What networks see and what they should say, padded, in float32; one-hot kinds and scores of any use to rivals too."""
    x = {name: t.float() if t.is_floating_point() else t for name, t in padded([one.graph for one in samples]).items()}
    n = x["mask"].shape[1]
    rows = [torch.nn.functional.pad(getattr(one, target), (0, n - len(one.score))) for one in samples]
    native = torch.tensor([one.kind == NATIVE for one in samples])
    y = {
        "score": torch.stack(rows).float(),
        "mask": x["mask"],
        "target": torch.tensor([one.target for one in samples]),
        "native": native,
    }
    return x, y


def drawn(seed: int, sizes: Sizes, each: int, target: str = "score") -> Split:
    """Samples of the fold of a seed: `each` models of every chain, whole families in one part alone."""
    pieces: list[Sample] = []
    for part, (families, size) in enumerate(zip(FOLDS[seed % len(FOLDS)], sizes, strict=True)):
        per = min(each, size)
        targets = members(families, -(-size // max(per, 1))) if size else []
        again = [targets[:k].count(t) for k, t in enumerate(targets)]  # other decoys where a chain comes again
        found = [
            one for k, t in zip(again, targets, strict=True) for one in samples_of(t, per, 1000 * seed + 300 * part + k)
        ]
        pieces += found[:size]
    return Split.of(*collated(pieces, target), sizes)
