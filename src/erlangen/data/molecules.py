"""QM9: small organic molecules with their places, elements and polarisability tensors, from the package qm9pack."""

from __future__ import annotations

import ast
import csv
import importlib.util
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from erlangen.errors import DataError, ErlangenError, MissingExtraError, check_sizes
from erlangen.files import reading

__all__ = ["MoleculeData", "qm9"]

BOHR = 0.529177210903
"""Bohr radius in Angstrom."""

ELEMENTS = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}

THOLE = {1: 0.514, 6: 1.405, 7: 1.105, 8: 0.862, 9: 0.444}
"""Polarisabilities of atoms in Angstrom^3 for `dipole_model`."""

PARTS = ("qm9_part1.csv", "qm9_part2.csv", "qm9_part3.csv")
TENSORS = "qm9_polarizability.csv"
ENTRIES = ("A_xx", "A_xy", "A_yy", "A_xz", "A_yz", "A_zz")
PLACES = torch.tensor([[0, 1, 3], [1, 2, 4], [3, 4, 5]])
"""Where the entries of the table stand in the tensor."""

TRACE_TOLERANCE = 0.02
"""Largest difference in Bohr^3 of a third of the trace from the polarisability of the other table, which has two decimals."""
CLEAR = 0.02
"""Relative difference of two moments of charge from which their axes are told apart."""

_ATOMS = re.compile(r',(\d+),"\[')


class MoleculeData(NamedTuple):
    """Molecules, padded to the largest of them; padding is zero.

    Attributes:
        pos: positions ``[B, N, 3]`` in Angstrom, as in the table, float32.
        mask: bool ``[B, N]``, the atoms that exist.
        elements: atomic numbers, int64 ``[B, N]``.
        polarizability: static polarisability tensors ``[B, 3, 3]`` in Bohr^3 in the frame of `pos`, float32.
        dipole: length of the dipole moment ``[B]`` in debye, float32.
        energy: internal energy at 0 K ``[B]`` in Hartree, float64.
        number: of the molecule in QM9, int64 ``[B]``.
        clear: bool ``[B]``, whether the frame of the tensor in the table could be told, see `qm9`.
    """

    pos: Tensor
    mask: Tensor
    elements: Tensor
    polarizability: Tensor
    dipole: Tensor
    energy: Tensor
    number: Tensor
    clear: Tensor


def qm9(count: int, *, most_atoms: int | None = None, generator: Generator | None = None) -> MoleculeData:
    """Molecules of QM9 (Ramakrishnan, Dral, Rupp and von Lilienfeld, 2014), evenly spread over its order.

    The rows that fit are cut into `count` runs of equal length, and one row of each is taken: the middle one, or with a
    generator a random one. Files are only read, and only the chosen rows are parsed.

    The table of tensors speaks of another frame than that of the positions: the axes along which a molecule was turned for the
    calculation, those of the second moments of nuclear charge, the longest first. Here tensors are turned back. Axes have no
    sign; of the four choices that differ for a tensor the one nearest to Thole's model of interacting dipoles (1981) is taken,
    which needs no fit. Where two moments are nearly equal (within 2 %) the axes are not determined, and `clear` is false;
    use such molecules for rotation-invariant numbers only.

    >>> data = qm9(100, most_atoms=18)  # doctest: +SKIP
    >>> data.pos.shape, data.polarizability.shape  # doctest: +SKIP
    (torch.Size([100, 18, 3]), torch.Size([100, 3, 3]))

    Args:
        count: B, how many.
        most_atoms: only molecules with at most so many atoms, hydrogens included.
        generator: choice of rows.

    Returns:
        `MoleculeData` in the order of QM9.

    Raises:
        MissingExtraError: qm9pack is not installed; it comes with ``erlangen[qm9]``.
        ErlangenError: a number is not positive, or there are fewer than `count` such molecules.
        DataError: the files of the package are not as expected, or a tensor does not belong to its molecule.
    """
    check_sizes(count=count, most_atoms=1 if most_atoms is None else most_atoms)
    folder = _folder()
    fitting = [row for row, atoms in enumerate(_sizes(folder)) if most_atoms is None or atoms <= most_atoms]
    if count > len(fitting):
        limit = "" if most_atoms is None else f" with at most {most_atoms} atoms"
        raise ErlangenError(f"count = {count}, but there are {len(fitting)} molecules{limit}; give a smaller number")
    chosen = [fitting[k] for k in _spread(count, len(fitting), generator)]
    rows = list(csv.DictReader([_header(folder / PARTS[0]), *_picked(_molecule_lines(folder), chosen)]))
    path = folder / TENSORS
    tensors = list(csv.DictReader([_header(path), *_picked(_lines(path), chosen)]))
    with reading(f"{folder}: a row is not as in qm9pack 1.0.3", remedy="install that version"):
        return _collated(rows, tensors)


# --- files ------------------------------------------------------------------------------------------------------------
def _folder() -> Path:
    """The tables. The package itself is not imported, as that would need pandas."""
    spec = importlib.util.find_spec("qm9pack")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("qm9pack", "qm9", "qm9")
    folder = Path(next(iter(spec.submodule_search_locations))) / "data"
    missing = [name for name in (*PARTS, TENSORS) if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder}: {', '.join(missing)} missing; install qm9pack 1.0.3 again")
    return folder


def _header(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.readline()


def _lines(path: Path) -> Iterator[str]:
    """All lines but the first; no cell of the tables holds a line break."""
    with path.open(encoding="utf-8") as file:
        yield from islice(file, 1, None)


def _molecule_lines(folder: Path) -> Iterator[str]:
    for name in PARTS:
        yield from _lines(folder / name)


def _sizes(folder: Path) -> Iterator[int]:
    """How many atoms each molecule has, from the text of its row, which is much faster than parsing it."""
    for line in _molecule_lines(folder):
        found = _ATOMS.search(line)
        if found is None:
            raise DataError(f"{folder}: a row has no number of atoms: {line[:80]!r}; install qm9pack 1.0.3")
        yield int(found[1])


def _picked(lines: Iterator[str], ascending: Sequence[int]) -> Iterator[str]:
    done = 0
    for row in ascending:
        found = next(islice(lines, row - done, None), None)
        if found is None:
            raise DataError(f"qm9pack: a table ends before row {row}; install version 1.0.3 again")
        done = row + 1
        yield found


def _spread(count: int, total: int, generator: Generator | None) -> list[int]:
    """One number of each of `count` runs of equal length (to one) of ``range(total)``, ascending."""
    starts = torch.arange(count + 1) * total // count
    share = torch.full((count,), 0.5) if generator is None else torch.rand(count, generator=generator)
    return (starts[:-1] + (share * starts.diff()).long()).tolist()


# --- rows -------------------------------------------------------------------------------------------------------------
def _collated(rows: Sequence[dict[str, str]], tensors: Sequence[dict[str, str]]) -> MoleculeData:
    symbols = [ast.literal_eval(row["Elements"]) for row in rows]
    most = max(map(len, symbols))
    pos = torch.zeros(len(rows), most, 3, dtype=torch.float64)
    elements = torch.zeros(len(rows), most, dtype=torch.int64)
    for k, (row, names) in enumerate(zip(rows, symbols, strict=True)):
        pos[k, : len(names)] = torch.tensor(ast.literal_eval(row["XYZ_Ang"]), dtype=torch.float64)
        elements[k, : len(names)] = torch.tensor([ELEMENTS[name] for name in names])
    table = torch.tensor([[float(row[entry]) for entry in ENTRIES] for row in tensors], dtype=torch.float64)[:, PLACES]
    _check_belonging(rows, tensors, table)
    turned, clear = in_frame_of_positions(pos, elements, table)
    return MoleculeData(
        pos.float(),
        elements > 0,
        elements,
        turned.float(),
        torch.tensor([float(row["Dipole_debye"]) for row in rows]),
        torch.tensor([float(row["InternalEnergy_0K_au"]) for row in rows], dtype=torch.float64),
        torch.tensor([int(row["Index"]) for row in rows]),
        clear,
    )


def _check_belonging(rows: Sequence[dict[str, str]], tensors: Sequence[dict[str, str]], table: Tensor) -> None:
    """Rows of both tables must have one name, and one polarisability, which both hold."""
    thirds = table.diagonal(dim1=1, dim2=2).mean(1).tolist()
    for row, tensor, third in zip(rows, tensors, thirds, strict=True):
        value = float(row["Polarizability_bohr3"])
        if row["XYZ_file"] != tensor["XYZ_file"] or abs(third - value) > TRACE_TOLERANCE:
            raise DataError(
                f"the tensor of {tensor['XYZ_file']} (a third of its trace is {third:.3f} Bohr^3) does not belong to the "
                f"molecule {row['XYZ_file']} ({value} Bohr^3); install qm9pack 1.0.3"
            )


# --- frames -----------------------------------------------------------------------------------------------------------
def in_frame_of_positions(pos: Tensor, elements: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Tensors ``[B, 3, 3]`` of the table, turned into the frame of `pos`, and whether the axes are clear, bool ``[B]``.

    Args:
        pos: ``[B, N, 3]``, float64.
        elements: int64 ``[B, N]``, zero for padding.
        table: ``[B, 3, 3]`` along the axes of charge, the longest first.
    """
    charge = elements.to(pos)[..., None]
    centred = pos - (charge * pos).sum(1, keepdim=True) / charge.sum(1, keepdim=True)
    moments, axes = torch.linalg.eigh((charge * centred).mT @ centred)
    clear = (moments.diff(dim=1) > CLEAR * moments[:, 2:]).all(1)
    signs = table.new_tensor([[1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]])
    turns = axes.flip(-1)[:, None] * signs[:, None]  # [B, 4, 3, 3], columns are the axes
    choices = turns @ table[:, None] @ turns.mT
    misfits = (choices - dipole_model(pos, elements)[:, None]).square().sum((-1, -2))
    best = misfits.argmin(1)[:, None, None, None]
    return choices.take_along_dim(best, 1)[:, 0], clear


def dipole_model(pos: Tensor, elements: Tensor, width: float = 1.662) -> Tensor:
    """Polarisability ``[B, 3, 3]`` in Bohr^3 of induced dipoles at the atoms that act on each other (Thole 1981).

    Args:
        pos: ``[B, N, 3]`` in Angstrom, float64.
        elements: int64 ``[B, N]``, zero for padding.
        width: within this times ``(alpha_i alpha_j)^(1/6)`` the field of a dipole is damped.
    """
    atoms = pos.new_tensor([THOLE.get(number, 0.0) for number in range(max(THOLE) + 1)])[elements]
    real = elements > 0
    safe = torch.where(real, atoms, 1.0)
    r = pos[:, :, None] - pos[:, None]
    nodes = pos.shape[1]
    apart = (real[:, :, None] & real[:, None] & ~torch.eye(nodes, dtype=torch.bool))[..., None, None]
    length = torch.where(apart[..., 0, 0], r.norm(dim=-1), 1.0)[..., None, None]
    reach = width * (safe[:, :, None] * safe[:, None])[..., None, None] ** (1 / 6)
    v = (length / reach).clamp(max=1.0)
    one = torch.eye(3, dtype=pos.dtype)
    outer = r[..., :, None] * r[..., None, :] / length**2
    coupling = torch.where(apart, ((4 * v**3 - 3 * v**4) * one - 3 * v**4 * outer) / length**3, 0.0)
    own = torch.diag_embed(1 / safe)[..., None, None] * one
    matrix = (coupling + own).transpose(2, 3).reshape(len(pos), 3 * nodes, 3 * nodes)
    field = (real[..., None, None] * one).reshape(len(pos), 3 * nodes, 3)
    return field.mT @ torch.linalg.solve(matrix, field) / BOHR**3
