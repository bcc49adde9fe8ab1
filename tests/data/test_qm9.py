"""Molecules of QM9: the reader on a small made package, tensors in the frame of positions, and the real package."""

import importlib.util
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from erlangen.data import molecules as reader
from erlangen.data import qm9
from erlangen.errors import DataError, ErlangenError, MissingExtraError
from erlangen.groups import SO

F64 = torch.float64
COLUMNS = ["XYZ_file", "Index", "SMILES", "InChi", "N_atoms", "Stoichiometry", "Elements", "XYZ_Ang"]
NUMBERS = ["Dipole_debye", "Polarizability_bohr3", "InternalEnergy_0K_au"]

SHAPE = torch.tensor([[0.0, 0, 0], [2.1, 0.2, 0], [-1.3, 0.4, 0.3], [0.2, 1.2, -0.5]], dtype=F64)
KINDS = ["C", "O", "N", "H"]
ROWS = 9


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def in_axes(pos: torch.Tensor, numbers: list[int], tensor: torch.Tensor, flips: tuple[int, ...]) -> torch.Tensor:
    """The tensor along the axes of charge, written with numpy and a matrix of flips."""
    z = np.array(numbers, dtype=float)
    p = pos.numpy() - (z[:, None] * pos.numpy()).sum(0) / z.sum()
    values, axes = np.linalg.eigh(p.T @ np.diag(z) @ p)
    u = axes[:, np.argsort(-values)] * np.array(flips)
    return torch.from_numpy(u.T @ tensor.numpy() @ u)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nine molecules in three parts: the same one, turned, moved and cut to 3 or 4 atoms; tensors by the dipole model."""
    folder = tmp_path / "qm9pack" / "data"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise ImportError('the package must not be imported')\n")
    signs = list(itertools.product((1, -1), repeat=3))
    molecules, tensors = [], []
    for k in range(ROWS):
        turn = SO(3).sample(1, generator=seeded(k), dtype=F64)[0]
        atoms = 3 + k % 2
        pos = (SHAPE[:atoms] @ turn.mT + k).round(decimals=10)
        numbers = [reader.ELEMENTS[name] for name in KINDS[:atoms]]
        model = reader.dipole_model(pos[None], torch.tensor([numbers]))[0]
        a = in_axes(pos, numbers, model, signs[k % 8])
        name = f"m_{k + 1:06d}.xyz"
        inchi = 'InChI=1S/C,2,"quoted"'
        lists = (str(KINDS[:atoms]), str(pos.tolist()).replace(" ", ""))
        size = f"{float(a.trace()) / 3:.2f}"
        molecules.append([name, k + 1, "C", inchi, atoms, "[1,1,1,0,0]", *lists, 0.5 * k, size, -40.0 - k])
        tensors.append([name, *(float(a[i, j]) for i, j in ((0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2)))])
    for part, file in enumerate(reader.PARTS):
        write(folder / file, [*COLUMNS, *NUMBERS], molecules[3 * part : 3 * part + 3])
    write(folder / reader.TENSORS, ["XYZ_file", *reader.ENTRIES], tensors)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "qm9pack", raising=False)
    return folder


def write(path: Path, header: list[str], rows: list[list[object]]) -> None:
    with path.open("w", newline="") as file:
        file.write(",".join(header) + "\n")
        for row in rows:
            cells = [
                '"' + c.replace('"', '""') + '"' if isinstance(c, str) and not is_number(c) else str(c) for c in row
            ]
            file.write(",".join(cells) + "\n")


def is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("-", "", 1).isdigit()


def test_all_rows_with_padding_and_tensors_in_the_frame_of_positions(package: Path) -> None:
    data = qm9(ROWS)
    assert data.pos.shape == (ROWS, 4, 3)
    assert data.mask.sum(1).tolist() == [3 + k % 2 for k in range(ROWS)]
    assert data.elements[0].tolist() == [6, 8, 7, 0]
    assert data.elements[1].tolist() == [6, 8, 7, 1]
    assert float(data.pos[0, 3].abs().max()) == 0
    assert data.number.tolist() == list(range(1, ROWS + 1))
    assert data.dipole.tolist() == [0.5 * k for k in range(ROWS)]
    assert data.energy.tolist() == [-40.0 - k for k in range(ROWS)]
    assert data.clear[1::2].all()
    for k in range(1, ROWS, 2):  # the same molecule, turned: so are its tensors
        turn = SO(3).sample(1, generator=seeded(k), dtype=F64)[0]
        torch.testing.assert_close(data.pos[k].double(), SHAPE @ turn.mT + k, rtol=0, atol=1e-6)
        expected = turn @ reader.dipole_model(SHAPE[None], data.elements[1:2])[0] @ turn.mT
        torch.testing.assert_close(data.polarizability[k].double(), expected, rtol=0, atol=1e-4)


def test_rows_are_spread_and_chosen_by_the_generator(package: Path) -> None:
    assert qm9(3).number.tolist() == [2, 5, 8]
    draws = [qm9(3, generator=seeded(k)).number.tolist() for k in range(6)]
    assert draws[0] == qm9(3, generator=seeded(0)).number.tolist()
    assert len({tuple(d) for d in draws}) > 1
    assert all((low <= 3) and (3 < mid <= 6) and (high > 6) for low, mid, high in draws)
    assert qm9(5, most_atoms=3).number.tolist() == [1, 3, 5, 7, 9]


def test_equal_moments_are_not_clear() -> None:
    square = torch.tensor([[[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]]], dtype=F64)
    _, clear = reader.in_frame_of_positions(square, torch.full((1, 4), 6), torch.eye(3, dtype=F64)[None])
    assert clear.tolist() == [False]


def test_the_dipole_model_has_the_closed_form_of_two_atoms() -> None:
    """Along the bond ``(a + b + 4ab/r^3) / (1 - 4ab/r^6)``, across ``(a + b - 2ab/r^3) / (1 - ab/r^6)`` (Silberstein 1917)."""
    a, b, r = reader.THOLE[6], reader.THOLE[8], 3.0  # beyond the damping
    pos = torch.tensor([[[0.0, 0, 0], [0, 0, r], [0, 0, 0]]], dtype=F64)
    found = reader.dipole_model(pos, torch.tensor([[6, 8, 0]]))[0] * reader.BOHR**3
    along = (a + b + 4 * a * b / r**3) / (1 - 4 * a * b / r**6)
    across = (a + b - 2 * a * b / r**3) / (1 - a * b / r**6)
    expected = torch.diag(torch.tensor([across, across, along], dtype=F64))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_tensor_of_another_molecule_is_refused(package: Path) -> None:
    path = package / reader.TENSORS
    lines = path.read_text().splitlines()
    for wrong in (
        lines[:1] + lines[2:3] + lines[1:2] + lines[3:],
        [*lines[:1], "m_000001.xyz,90,0,90,0,0,90", *lines[2:]],
    ):
        path.write_text("\n".join(wrong) + "\n")
        with pytest.raises(DataError, match="does not belong"):
            qm9(ROWS)
    path.write_text("\n".join(lines[:5]) + "\n")
    with pytest.raises(DataError, match="ends before row"):
        qm9(ROWS)


def test_damaged_files_are_refused(package: Path) -> None:
    path = package / reader.PARTS[0]
    text = path.read_text()
    path.write_text(text.replace("'O'", "open('x')", 1))  # never evaluated
    with pytest.raises(DataError, match="not as in qm9pack"):
        qm9(ROWS)
    path.write_text(text.replace('"[1,1,1,0,0]"', "none"))
    with pytest.raises(DataError, match="no number of atoms"):
        qm9(ROWS)
    path.unlink()
    with pytest.raises(DataError, match=r"qm9_part1\.csv missing"):
        qm9(ROWS)


def test_bad_numbers_are_refused(package: Path) -> None:
    with pytest.raises(ErlangenError, match="count = 0"):
        qm9(0)
    with pytest.raises(ErlangenError, match="most_atoms = 0"):
        qm9(1, most_atoms=0)
    with pytest.raises(ErlangenError, match="there are 5 molecules with at most 3 atoms"):
        qm9(6, most_atoms=3)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"'qm9pack'.*erlangen\[qm9\]"):
        qm9(1)


@pytest.mark.extra
@pytest.mark.skipif(importlib.util.find_spec("qm9pack") is None, reason="needs the extra qm9 (qm9pack)")
def test_the_real_package() -> None:
    data = qm9(300, most_atoms=18, generator=seeded())
    assert data.pos.shape == (300, 18, 3)
    assert float(data.clear.float().mean()) > 0.95
    apart = (data.pos[:, :, None] - data.pos[:, None]).norm(dim=-1) + 99.0 * torch.eye(18)
    pairs = data.mask[:, :, None] & data.mask[:, None]
    nearest = apart.masked_fill(~pairs, 99.0).amin(-1)[data.mask]
    assert float(nearest.min()) > 0.9  # the shortest bonds are those of hydrogen
    assert float(nearest.max()) < 1.7
    model = reader.dipole_model(data.pos.double(), data.elements)[data.clear]
    found = data.polarizability.double()[data.clear]
    parts = [a - a.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * torch.eye(3, dtype=F64) for a in (model, found)]
    # The anisotropies follow the model in direction: a frame that is wrong would leave more than there is.
    assert float((parts[0] - parts[1]).norm() / parts[1].norm()) < 0.35
