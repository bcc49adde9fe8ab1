"""PDB files: what is written by hand is read, what does not belong is left out and counted, faults are named."""

import gzip
from pathlib import Path

import pytest
import torch

from erlangen.data import AMINO_ACIDS, backbones, pdb_protein, size_limit
from erlangen.errors import DataError


def atom(name, residue, number, x=0.0, *, chain="A", alt=" ", record="ATOM", occupancy=1.0, insert=" ") -> str:
    place = f"{x:8.3f}{2 * x:8.3f}{1.5:8.3f}"
    return f"{record:<6}{1:5d} {name:<4}{alt}{residue:>3} {chain}{number:4d}{insert}   {place}{occupancy:6.2f}{10:6.2f}"


def residue(kind, number, x=0.0, **more) -> list[str]:
    return [atom(f" {name}", kind, number, x + k, **more) for k, name in enumerate(("N", "CA", "C", "O"))]


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_atoms_are_read(tmp_path: Path) -> None:
    found = pdb_protein(written(tmp_path / "a.pdb", "HEADER x", *residue("GLY", 5), *residue("TRP", 6, 9.0), "END"))
    assert [AMINO_ACIDS[k] for k in found.kind.tolist()] == ["GLY", "TRP"]
    assert found.label == ("5", "6")
    assert found.residue.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert found.places("CA", "N")[1].tolist() == [[10, 20, 1.5], [9, 18, 1.5]]
    assert found.left_out == {}


def test_what_is_no_amino_acid_is_counted(tmp_path: Path) -> None:
    lines = [
        *residue("ALA", 1), atom(" HA", "ALA", 1), atom("1HB", "ALA", 1), atom("HG11", "ALA", 1),
        *residue("MSE", 2, 9.0, record="HETATM"), atom("SE", "MSE", 2, 3, record="HETATM"),
        atom(" C1", "HEM", 200, record="HETATM"), atom(" C2", "HEM", 200, record="HETATM"), atom(" O", "HOH", 201),
    ]  # fmt: skip
    found = pdb_protein(written(tmp_path / "a.pdb", *lines))
    assert [AMINO_ACIDS[k] for k in found.kind.tolist()] == ["ALA", "MET"]
    assert found.left_out == {"hydrogens": 3, "residues HEM": 1, "residues HOH": 1}


def test_the_likelier_place_counts(tmp_path: Path) -> None:
    lines = residue("SER", 1)
    lines += [atom(" CB", "SER", 1, 1, alt="A", occupancy=0.3), atom(" CB", "SER", 1, 7, alt="B", occupancy=0.7)]
    lines += [atom(" OG", "SER", 1, 2, alt="A", occupancy=0.5), atom(" OG", "SER", 1, 8, alt="B", occupancy=0.5)]
    found = pdb_protein(written(tmp_path / "a.pdb", *lines))
    assert found.places("CB", "OG")[0, :, 0].tolist() == [7, 2]
    assert found.left_out == {"alternative places": 2}


def test_insertion_codes_are_residues_of_their_own(tmp_path: Path) -> None:
    found = pdb_protein(written(tmp_path / "a.pdb", *residue("ALA", 60), *residue("GLY", 60, 9.0, insert="A")))
    assert found.label == ("60", "60A")


def test_chains_and_models_are_chosen(tmp_path: Path) -> None:
    lines = ["MODEL        1", *residue("ALA", 1), *residue("GLY", 1, 9.0, chain="B"), "ENDMDL"]
    lines += ["MODEL        2", *residue("ALA", 1, 50.0), "ENDMDL"]
    path = written(tmp_path / "a.pdb", *lines)
    assert pdb_protein(path).pos[0, 0] == 0
    assert pdb_protein(path, chain="B").pos[0, 0] == 9
    assert pdb_protein(path, model=2).pos[0, 0] == 50
    for options, words in (({"chain": "C"}, "chains 'A', 'B'"), ({"model": 3}, "has 2"), ({"model": 0}, "from 1")):
        with pytest.raises(DataError, match=words):
            pdb_protein(path, **options)


def test_gzipped_files_are_the_same_and_have_a_limit(tmp_path: Path) -> None:
    plain = written(tmp_path / "a.pdb", *residue("ALA", 1))
    packed = tmp_path / "a.pdb.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert torch.equal(pdb_protein(packed).pos, pdb_protein(plain).pos)
    bomb = tmp_path / "bomb.pdb.gz"
    bomb.write_bytes(gzip.compress(b"REMARK" + b" " * (40 << 20)))
    with pytest.raises(DataError, match="more than the limit"):
        pdb_protein(bomb)
    with size_limit(16 << 30), pytest.raises(DataError, match="no amino acid"):
        pdb_protein(bomb)


def test_residues_without_backbone_are_named_or_dropped(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pdb", *residue("ALA", 1), *residue("GLY", 2, 9.0)[:2], *residue("GLY", 7, 9.0)[1:])
    with pytest.raises(DataError, match="residues 2, 7 lack N, CA or C"):
        pdb_protein(path)
    found = pdb_protein(path, drop=True)
    assert found.label == ("1",)
    assert found.left_out == {"residues without backbone": 2}
    with pytest.raises(DataError, match="residues 1 lack CB"):
        found.places("CB", "CA")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["nothing here"], "holds no amino acid"),
        ([atom(" CA", "ALA", 1)[:40]], "line 1: places and occupancy"),
        ([atom(" CA", "ALA", 1).replace("   1.500", "     nan")], "line 1: places are not finite"),
        (residue("ALA", 1)[:1], "residues 1 lack"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, lines: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words) as told:
        pdb_protein(written(tmp_path / "a.pdb", *lines))
    assert "a.pdb" in str(told.value)


def test_files_that_are_not_there_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        pdb_protein(tmp_path / "a.pdb")
    damaged = tmp_path / "a.pdb.gz"
    damaged.write_bytes(gzip.compress(b"x" * 1000)[:-9])
    with pytest.raises(DataError, match="cannot be read"):
        pdb_protein(damaged)


def test_the_chains_that_come_along_are_proteins() -> None:
    """Lengths of the peptide bond and of steps from CA to CA are those of textbooks; families are several."""
    chains = backbones()
    assert len({chain.family for chain in chains}) == 7
    for chain in chains:
        assert 20 <= len(chain.kind) == len(chain.pos)
        bond = (chain.pos[1:, 0] - chain.pos[:-1, 2]).norm(dim=-1)
        assert float(bond.min()) > 1.1
        assert float(bond.max()) < 1.6
        step = (chain.pos[1:, 1] - chain.pos[:-1, 1]).norm(dim=-1)
        assert abs(float(step.median()) - 3.8) < 0.05
