"""Proteins from PDB files: amino acids, heavy atoms, and what was left out."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from erlangen.errors import DataError
from erlangen.files import SIZE_LIMIT, check_size, reading

__all__ = ["AMINO_ACIDS", "Protein", "pdb_protein"]

AMINO_ACIDS = (
    "ALA", "ARG", "ASN", "ASP", "CYS", "GLN", "GLU", "GLY", "HIS", "ILE",
    "LEU", "LYS", "MET", "PHE", "PRO", "SER", "THR", "TRP", "TYR", "VAL",
)  # fmt: skip
"""The twenty, by their names in files; the place is the number in `Protein.kind`."""

SAME = {"MSE": "MET"}
"""Residues that are read as another: selenomethionine stands in crystals for methionine."""

BACKBONE = ("N", "CA", "C")
_HYDROGEN = re.compile(r"^\d*[HD]")


class Protein(NamedTuple):
    """A chain of amino acids.

    Attributes:
        kind: numbers in `AMINO_ACIDS`, int64 ``[N]``.
        label: residue number and insertion code as in the file, such as "60A".
        pos: heavy atoms ``[A, 3]`` in Angstrom, float64.
        atom: their names, such as "CA".
        residue: which residue each atom is of, int64 ``[A]``, in order.
        left_out: how many residues or atoms of each kind the file has beside these.
    """

    kind: Tensor
    label: tuple[str, ...]
    pos: Tensor
    atom: tuple[str, ...]
    residue: Tensor
    left_out: dict[str, int]

    def places(self, *names: str) -> Tensor:
        """Where the atoms of these names are, ``[N, len(names), 3]``.

        Raises:
            DataError: a residue lacks one; the message names all such residues.
        """
        found = torch.full((len(self.kind), len(names), 3), torch.nan, dtype=self.pos.dtype)
        for place, name in enumerate(names):
            rows = [row for row, atom in enumerate(self.atom) if atom == name]
            found[self.residue[rows], place] = self.pos[rows]
        if bool(found.isnan().any()):
            lacking = [self.label[k] for k in found.isnan().any(-1).any(-1).nonzero()[:, 0].tolist()]
            raise DataError(f"residues {', '.join(lacking)} lack {', '.join(names[:-1])} or {names[-1]}")
        return found


class _Atom(NamedTuple):
    key: tuple[str, str]
    residue: str
    name: str
    pos: tuple[float, float, float]
    occupancy: float


def pdb_protein(path: str | Path, *, chain: str | None = None, model: int = 1, drop: bool = False) -> Protein:
    """One chain of a PDB file, or of a gzipped one.

    Amino acids of the twenty kinds are kept, selenomethionine as methionine; hydrogens, ligands, water and other residues are
    left out and counted. Of alternative places of an atom the one with the highest occupancy counts, the first of equals.

    Args:
        path: the file.
        chain: its letter; by default the first chain that has amino acids.
        model: which of several models, from 1.
        drop: leave out residues that lack N, CA or C, and count them, instead of an error.

    Raises:
        DataError: no such file, chain or model; a line that cannot be read; residues that lack atoms of the backbone; places
            that are not finite. The message names file and line, or the residues.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"path = {str(path)!r}: there is no such file")
    lines = _lines(path)
    if model < 1:
        raise DataError(f"model = {model}; models are counted from 1")
    atoms, left_out = _atoms(path, lines, model)
    chains = list(dict.fromkeys(atom.key[0] for atom in atoms))
    if not chains:
        raise DataError(f"{path} holds no amino acid in model {model}; is it a PDB file of a protein?")
    letter = chains[0] if chain is None else chain
    if letter not in chains:
        raise DataError(f"chain = {chain!r}: {path} has the chains {', '.join(map(repr, chains))}")
    return _protein(path, [atom for atom in atoms if atom.key[0] == letter], left_out, drop)


def _lines(path: Path) -> list[str]:
    """The text, after its size in memory is known to be allowed."""
    with reading(f"{path} cannot be read", remedy="give a PDB file, plain or gzipped"):
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        if not packed:
            check_size(path, path.stat().st_size)
            return path.read_text(encoding="ascii", errors="replace").splitlines()
        parts: list[bytes] = []
        size = 0
        with gzip.open(path) as file:
            while part := file.read(1 << 20):
                parts.append(part)
                size += len(part)
                if size > SIZE_LIMIT // 64:  # no protein's file is so large; a small one may claim to be
                    check_size(path, 64 * size)
        return b"".join(parts).decode("ascii", errors="replace").splitlines()


def _atoms(path: Path, lines: list[str], model: int) -> tuple[list[_Atom], Counter[str]]:
    """Heavy atoms of amino acids of one model, and what else there is."""
    left_out: Counter[str] = Counter()
    others: set[tuple[str, str, str]] = set()
    atoms: list[_Atom] = []
    now, seen = 1, 0
    for number, line in enumerate(lines, 1):
        if line.startswith("MODEL "):
            seen += 1
            now = seen
        if now != model or not line.startswith(("ATOM  ", "HETATM")):
            continue
        residue, name = SAME.get(line[17:20].strip(), line[17:20].strip()), line[12:16].strip()
        key = (line[21:22], line[22:27].strip())
        if residue not in AMINO_ACIDS:
            others.add((*key, residue))
            continue
        if _HYDROGEN.match(name) or line[76:78].strip() in ("H", "D"):
            left_out["hydrogens"] += 1
            continue
        try:
            x, y, z = (float(line[k : k + 8]) for k in (30, 38, 46))
            occupancy = float(line[54:60].strip() or 1)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: places and occupancy are not numbers: {line[30:60]!r}") from error
        if not all(abs(value) < 1e5 for value in (x, y, z)):  # false for NaN too
            raise DataError(f"{path}, line {number}: places are not finite, or too large: {line[30:54]!r}")
        atoms.append(_Atom(key, residue, name, (x, y, z), occupancy))
    if not atoms and model > max(seen, 1):
        raise DataError(f"model = {model}: {path} has {max(seen, 1)}")
    left_out.update(f"residues {name}" for _, _, name in sorted(others))
    return atoms, left_out


def _protein(path: Path, atoms: list[_Atom], left_out: Counter[str], drop: bool) -> Protein:
    residues: dict[str, dict[str, _Atom]] = {}
    for atom in atoms:
        found = residues.setdefault(atom.key[1], {})
        first = next(iter(found.values()), atom)
        if atom.residue != first.residue:  # another amino acid at the same place
            left_out["alternative places"] += 1
            if atom.occupancy <= first.occupancy:
                continue
            found.clear()
        elif atom.name in found:
            left_out["alternative places"] += 1
            if atom.occupancy <= found[atom.name].occupancy:
                continue
        found[atom.name] = atom
    lacking = [label for label, found in residues.items() if not set(BACKBONE) <= set(found)]
    if lacking and not drop:
        raise DataError(f"{path}: residues {', '.join(lacking)} lack N, CA or C; repair the file, or pass drop=True")
    left_out["residues without backbone"] += len(lacking)
    kept = {label: found for label, found in residues.items() if label not in lacking}
    if not kept:
        raise DataError(f"{path}: no residue has N, CA and C")
    names = [next(iter(found.values())).residue for found in kept.values()]
    flat = [(k, atom) for k, found in enumerate(kept.values()) for atom in found.values()]
    return Protein(
        torch.tensor([AMINO_ACIDS.index(name) for name in names]),
        tuple(kept),
        torch.tensor([atom.pos for _, atom in flat], dtype=torch.float64),
        tuple(atom.name for _, atom in flat),
        torch.tensor([k for k, _ in flat]),
        {what: count for what, count in left_out.items() if count},
    )
