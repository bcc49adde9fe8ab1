"""Drug-like molecules as graphs, and what RDKit computes of them: structural alerts, fused rings, penalised logP."""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from erlangen.data.graph_sets import GraphData
from erlangen.errors import DataError, MissingExtraError, UnknownNameError, check_sizes

__all__ = ["drug_like_smiles", "fused_ring_systems", "molecular_graphs", "penalized_logp", "structural_alerts"]

ATOMS = ("C", "N", "O", "F", "S", "Cl", "Br", "P", "I", "B", "Si", "Se")
"""Elements by their label in `molecular_graphs`."""
BONDS = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")
"""Kinds of bonds by their label, in RDKit's words."""
LARGEST_FREE_RING = 6
"""Atoms of the largest ring that costs nothing in penalised logP."""


def drug_like_smiles(count: int | None = None) -> list[str]:
    """SMILES of up to 8,000 drug-like molecules of ZINC, a random choice from the benchmark MOSES, always the same.

    Source and licence (MIT) lie beside the file in the package.

    >>> drug_like_smiles(1)
    ['O=C(CC1NC(=O)c2ccccc21)Nc1nccs1']

    Args:
        count: how many, from the first on; all without it.

    Raises:
        DataError: there are fewer.
    """
    with gzip.open(str(files("erlangen.data") / "files" / "drug_like.smi.gz"), "rt", encoding="ascii") as file:
        every = file.read().split()
    check_sizes(count=len(every) if count is None else count)
    if count is not None and count > len(every):
        raise DataError(f"count = {count}, but there are {len(every)} molecules")
    return every[:count]


def molecular_graphs(smiles: Sequence[str], y: Tensor | None = None) -> GraphData:
    """Molecules as graphs: a node for each atom but hydrogen, labelled by its element, an edge for each bond, by its kind.

    Isotopes are their element (deuterium is hydrogen), charges are not kept, and parts that no bond joins are one graph.

    Args:
        smiles: one text for each molecule.
        y: what belongs to each molecule, ``[G, ...]``; zeros without it.

    Returns:
        Labels of nodes are places in (C, N, O, F, S, Cl, Br, P, I, B, Si, Se), those of edges 0 to 3 for single, double, triple
        and aromatic.

    Raises:
        MissingExtraError: RDKit is not installed; it comes with ``erlangen[molecules]``.
        DataError: a text is no SMILES, or a molecule has another element or kind of bond; or y does not fit.
    """
    target = torch.zeros(len(smiles), dtype=torch.int64) if y is None else y
    if len(target) != len(smiles):
        raise DataError(f"y has {len(target)} rows for {len(smiles)} molecules; pass one for each")
    sizes: list[int] = []
    atoms: list[int] = []
    pairs: list[tuple[int, int]] = []
    kinds: list[int] = []
    for text, molecule in zip(smiles, _molecules(smiles), strict=True):
        first = len(atoms)
        symbols = {atom.GetIdx(): atom.GetSymbol() for atom in molecule.GetAtoms() if atom.GetSymbol() != "H"}
        place = {index: first + k for k, index in enumerate(symbols)}
        atoms += [_number(ATOMS, symbol, "element", text) for symbol in symbols.values()]
        for bond in molecule.GetBonds():
            if bond.GetBeginAtomIdx() in place and bond.GetEndAtomIdx() in place:
                ends = place[bond.GetBeginAtomIdx()], place[bond.GetEndAtomIdx()]
                pairs += [ends, (ends[1], ends[0])]
                kinds += 2 * [_number(BONDS, bond.GetBondType().name, "bond", text)]
        if len(atoms) == first:
            raise DataError(f"{text!r} has no atom but hydrogen, so there is no graph")
        sizes.append(len(atoms) - first)
    return GraphData(
        edge_index=torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T,
        batch=torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes, dtype=torch.int64)),
        node_labels=torch.tensor(atoms, dtype=torch.int64),
        edge_labels=torch.tensor(kinds, dtype=torch.int64),
        y=target,
    )


def _number(known: Sequence[str], name: str, what: str, text: str) -> int:
    if name not in known:
        raise DataError(f"{text!r}: the {what} {name} is not known here; known are {', '.join(known)}")
    return known.index(name)


def structural_alerts(smiles: Sequence[str], catalog: str = "BRENK") -> Tensor:
    """Whether a molecule contains one of the fragments that medicinal chemists avoid, bool ``[G]``.

    Args:
        smiles: one text for each molecule.
        catalog: a list of fragments that RDKit knows, such as "BRENK" (Brenk et al. 2008), "PAINS" (Baell and Holloway 2010),
            "NIH".

    Raises:
        MissingExtraError: RDKit is not installed; it comes with ``erlangen[molecules]``.
        UnknownNameError: there is no such list.
        DataError: a text is no SMILES.
    """
    _need_rdkit("structural_alerts")
    from rdkit.Chem.FilterCatalog import FilterCatalog, FilterCatalogParams

    known = FilterCatalogParams.FilterCatalogs.names
    if catalog not in known:
        raise UnknownNameError(f"catalog = {catalog!r}; known are {', '.join(sorted(known))}")
    alerts = FilterCatalog(FilterCatalogParams(known[catalog]))
    return torch.tensor([bool(alerts.HasMatch(molecule)) for molecule in _molecules(smiles)], dtype=torch.bool)


def fused_ring_systems(smiles: Sequence[str]) -> Tensor:
    """Number of systems of two or more rings that share atoms, int64 ``[G]``.

    Raises:
        MissingExtraError: RDKit is not installed; it comes with ``erlangen[molecules]``.
        DataError: a text is no SMILES.
    """
    counts = [_fused(molecule.GetRingInfo().AtomRings()) for molecule in _molecules(smiles)]
    return torch.tensor(counts, dtype=torch.int64)


def _fused(rings: Sequence[tuple[int, ...]]) -> int:
    systems: list[tuple[set[int], int]] = []
    for ring in rings:
        joined = [system for system in systems if system[0] & set(ring)]
        systems = [system for system in systems if not system[0] & set(ring)]
        systems.append((set(ring).union(*(atoms for atoms, _ in joined)), 1 + sum(count for _, count in joined)))
    return sum(count > 1 for _, count in systems)


def penalized_logp(smiles: Sequence[str]) -> Tensor:
    """Penalised logP, float64 ``[G]``: solubility minus difficulty of synthesis minus excess atoms of the largest ring.

    The target of the benchmark ZINC-12k (Gómez-Bombarelli et al. 2018; Jin, Barzilay and Jaakkola 2018): Crippen's logP, the
    score of Ertl and Schuffenhauer (2009), and atoms beyond six, each with mean 0 and variance 1 over these molecules.

    Raises:
        MissingExtraError: RDKit is not installed; it comes with ``erlangen[molecules]``.
        DataError: a text is no SMILES.
    """
    molecules = _molecules(smiles)
    from rdkit.Chem import Crippen, RDConfig

    # Part of RDKit, but not of its package: a file of its folder of contributions, which reads a table beside it.
    path = Path(RDConfig.RDContribDir) / "SA_Score" / "sascorer.py"
    spec = importlib.util.spec_from_file_location("sascorer", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise DataError(f"RDKit's file {path} is missing; install rdkit again")
    scores: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scores)
    parts = torch.tensor(
        [
            [
                Crippen.MolLogP(molecule),  # pyright: ignore[reportAttributeAccessIssue]
                -scores.calculateScore(molecule),
                -max(0, *(len(ring) - LARGEST_FREE_RING for ring in molecule.GetRingInfo().AtomRings()), 0),
            ]
            for molecule in molecules
        ],
        dtype=torch.float64,
    ).reshape(-1, 3)
    if len(parts) == 0:
        return parts.sum(1)
    spread = parts.std(0, correction=0)
    return ((parts - parts.mean(0)) / torch.where(spread > 0, spread, 1)).sum(1)


def _molecules(smiles: Sequence[str]) -> list[Any]:
    _need_rdkit("a molecule from SMILES")
    from rdkit import Chem, rdBase

    if isinstance(smiles, str):
        raise DataError(f"smiles = {smiles!r} is one text; pass a list of them")
    for row, text in enumerate(smiles):
        if not isinstance(text, str):
            raise DataError(f"smiles[{row}] = {text!r} is a {type(text).__name__}; pass texts")
    with rdBase.BlockLogs():  # what cannot be read becomes an error below
        found = [Chem.MolFromSmiles(text) for text in smiles]  # pyright: ignore[reportAttributeAccessIssue]
    for row, (text, molecule) in enumerate(zip(smiles, found, strict=True)):
        if molecule is None or molecule.GetNumAtoms() == 0:
            raise DataError(f"smiles[{row}] = {text!r} is no molecule that RDKit can read")
    return found


def _need_rdkit(purpose: str) -> None:
    if importlib.util.find_spec("rdkit") is None:
        raise MissingExtraError("rdkit", "molecules", purpose)
