"""Extended XYZ: what is written by hand is read, faults are named by their line, and a real file has the forces it says."""

from pathlib import Path

import pytest
import torch

from erlangen.data import extended_xyz
from erlangen.errors import DataError

HEAD = 'Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:forces:R:3 label="x 1" energy={} pbc="F F F"'
ATOMS = ["C 0 0 0.5 1 0 0", "Cl 1e-1 -2 3 -1 0 0.25"]


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_frames_are_read(tmp_path: Path) -> None:
    file = written(tmp_path / "a.xyz", "2", HEAD.format(-1.5), *ATOMS, "2", HEAD.format("2e-1"), *ATOMS)
    found = extended_xyz(file)
    assert found.numbers.tolist() == [6, 17]
    assert found.energy.tolist() == [-1.5, 0.2]
    torch.testing.assert_close(found.pos[1], torch.tensor([[0, 0, 0.5], [0.1, -2, 3]], dtype=torch.float64))
    assert found.force is not None
    torch.testing.assert_close(found.force[0, 1], torch.tensor([-1, 0, 0.25], dtype=torch.float64))


def test_columns_stand_where_the_header_says(tmp_path: Path) -> None:
    head = "energy=1 Properties=id:I:1:pos:R:3:species:S:1"
    found = extended_xyz(written(tmp_path / "a.xyz", "1", head, "7 1 2 3 O"))
    assert found.numbers.tolist() == [8]
    assert found.pos.tolist() == [[[1, 2, 3]]]
    assert found.force is None


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "no frame"),
        (["two", HEAD.format(1), *ATOMS], "line 1: 'two' is no number"),
        (["3", HEAD.format(1), *ATOMS], "line 1: '3' is no number"),
        (["2", HEAD.replace("energy={}", "Energy=1"), *ATOMS], "line 2: there is no energy="),
        (["2", "energy=1", *ATOMS], "line 2: Properties= has no species and no pos"),
        (["2", HEAD.format(1), ATOMS[0], "C 1 2"], "line 4: fewer columns"),
        (["2", HEAD.format(1), *ATOMS, "2", HEAD.format(1), *ATOMS[::-1]], "line 6: other atoms"),
        (["1", HEAD.format(1), "Xx 0 0 0 0 0 0"], "'Xx'"),
        (["1", HEAD.format(1), "C 0 0 nan 0 0 0"], "not finite"),
        (["1", HEAD.format(1), "C 0 0 one 0 0 0"], "cannot be read"),
    ],
)
def test_faults_are_named(tmp_path: Path, lines: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        extended_xyz(written(tmp_path / "a.xyz", *lines))


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(DataError, match="no such file"):
        extended_xyz("nowhere.xyz")


def test_forces_of_a_real_file_neither_push_nor_turn_the_whole(shared_data: Path) -> None:
    found = extended_xyz(shared_data / "mol_acac" / "train_300K.xyz")
    assert found.pos.shape == (500, 15, 3)
    assert sorted(found.numbers.tolist()) == 8 * [1] + 5 * [6] + 2 * [8]
    assert found.force is not None
    size = float(found.force.square().mean().sqrt())
    assert 0.3 < size < 3
    assert float(found.force.sum(1).abs().max()) < 0.05 * size
    turning = torch.linalg.cross(found.pos, found.force).sum(1)
    assert float(turning.abs().max()) < 0.05 * size * 15
    assert extended_xyz(shared_data / "mol_acac" / "test_dihedral.xyz").force is None
