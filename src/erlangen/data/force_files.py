"""Energies and forces of a molecule from extended XYZ files, as data sets of quantum chemistry are handed on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from erlangen.errors import DataError
from erlangen.files import check_size, reading

__all__ = ["MoleculeFrames", "extended_xyz"]

ELEMENTS = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9, "P": 15, "S": 16, "Cl": 17, "Br": 35, "I": 53}
"""Atomic numbers of the elements that a file may hold."""

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


class MoleculeFrames(NamedTuple):
    """Conformations of one molecule.

    Attributes:
        numbers: atomic numbers ``[N]`` int64, the same in all frames.
        pos: positions ``[T, N, 3]``, float64, in the unit of the file, usually Angstrom.
        energy: ``[T]``, float64, usually eV.
        force: ``[T, N, 3]``, float64, usually eV / Angstrom; None where the file has none.
    """

    numbers: Tensor
    pos: Tensor
    energy: Tensor
    force: Tensor | None


def extended_xyz(path: str | Path) -> MoleculeFrames:
    """The frames of an extended XYZ file, all of the same atoms in the same order.

    Each frame is a line with the number of atoms, a line of ``key=value``, among them ``energy=`` and ``Properties=`` with the
    columns ``species:S:1``, ``pos:R:3`` and perhaps ``forces:R:3``, and a line for each atom. Other columns are skipped.

    Raises:
        DataError: the file is missing or not as above, or its frames have different atoms; the message names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"path = {str(path)!r}: there is no such file")
    with reading(f"{path} cannot be read"):
        lines = path.read_text(encoding="utf-8").splitlines()
        check_size(path, 100 * len(lines))
        return _frames(path, lines)


def _frames(path: Path, lines: list[str]) -> MoleculeFrames:
    species: list[str] = []
    energies: list[float] = []
    places: list[Tensor] = []
    forces: list[Tensor] = []
    at = 0
    while at < len(lines) and lines[at].strip():
        word = lines[at].strip()
        if not word.isdecimal() or not int(word) or at + 2 + int(word) > len(lines):
            raise DataError(f"{path}, line {at + 1}: {word!r} is no number of atoms with so many lines after it")
        header, atoms = lines[at + 1], [line.split() for line in lines[at + 2 : at + 2 + int(word)]]
        found = re.search(rf"(?:^|\s)energy=({NUMBER})(?:\s|$)", header)
        columns = _columns(path, at + 2, header)
        if found is None:
            raise DataError(f"{path}, line {at + 2}: there is no energy=")
        width = max(end for _, end in columns.values())
        if short := [k for k, words in enumerate(atoms) if len(words) < width]:
            raise DataError(f"{path}, line {at + 3 + short[0]}: fewer columns than Properties= says, which is {width}")
        names = [words[columns["species"][0]] for words in atoms]
        species = species or names
        if names != species or (energies and ("forces" in columns) != bool(forces)):
            raise DataError(f"{path}, line {at + 2}: other atoms or columns than in the first frame")
        energies.append(float(found[1]))
        for name, into in (("pos", places), ("forces", forces)):
            if name in columns:
                begin, end = columns[name]
                rows = [[float(word) for word in words[begin:end]] for words in atoms]
                into.append(torch.tensor(rows, dtype=torch.float64))
        at += 2 + int(word)
    if not energies:
        raise DataError(f"{path} holds no frame")
    if unknown := sorted(set(species) - set(ELEMENTS)):
        raise DataError(f"{path}: elements {unknown} are not known here; known are {', '.join(ELEMENTS)}")
    pos, force = torch.stack(places), torch.stack(forces) if forces else None
    energy = torch.tensor(energies, dtype=torch.float64)
    if not all(bool(values.isfinite().all()) for values in (energy, pos, force) if values is not None):
        raise DataError(f"{path} has numbers that are not finite")
    return MoleculeFrames(torch.tensor([ELEMENTS[name] for name in species]), pos, energy, force)


def _columns(path: Path, line: int, header: str) -> dict[str, tuple[int, int]]:
    """Where the columns of each property begin and end."""
    found = re.search(r"(?:^|\s)Properties=(\S+)", header)
    parts = found[1].split(":") if found else []
    columns: dict[str, tuple[int, int]] = {}
    begin = 0
    for name, _, count in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        columns[name] = (begin, begin + int(count))
        begin += int(count)
    missing = [name for name in ("species", "pos") if name not in columns]
    if missing:
        raise DataError(f"{path}, line {line}: Properties= has no {' and no '.join(missing)}")
    return columns
