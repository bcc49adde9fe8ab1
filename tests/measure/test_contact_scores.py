"""CAD-score by hand, bad areas, and the program voronota where it is installed."""

import shutil
from pathlib import Path

import pytest
import torch

from erlangen.data import AMINO_ACIDS, backbones
from erlangen.errors import DataError, NotFiniteError, ShapeError
from erlangen.measure import cad_score, spearman, voronota_cad_score
from erlangen.simulate import decoy_maker
from erlangen.systems.molecules.s_gcn.data import graph_of

needs_voronota = pytest.mark.skipif(
    shutil.which("voronota-cadscore") is None, reason="voronota is not installed (Debian package voronota)"
)


def test_what_is_lost_and_what_is_too_much() -> None:
    true = torch.tensor([[5.0, 10, 0], [10, 0, 30], [0, 30, 9]])
    assert cad_score(true, true).tolist() == [1, 1, 1]
    found = true.clone()
    found[0, 1] = found[1, 0] = 14  # 4 too much of 10, and of 40
    torch.testing.assert_close(cad_score(found, true), torch.tensor([0.6, 0.9, 1.0]))
    assert bool(cad_score(torch.zeros(1, 1), torch.zeros(1, 1)).isnan())


@pytest.mark.parametrize(
    ("found", "true", "error", "words"),
    [
        (torch.ones(2, 3), torch.ones(2, 3), ShapeError, "N, N"),
        (torch.ones(2, 2), torch.ones(3, 3), ShapeError, "found has shape"),
        (-torch.ones(2, 2), torch.ones(2, 2), DataError, "negative"),
        (torch.ones(2, 2) * torch.nan, torch.ones(2, 2), NotFiniteError, "found"),
    ],
)
def test_bad_areas(found, true, error, words) -> None:
    with pytest.raises(error, match=words):
        cad_score(found, true)


def written(path: Path, kind: torch.Tensor, pos: torch.Tensor) -> Path:
    lines = [
        f"ATOM  {4 * i + k + 1:5d}  {name:<3} {AMINO_ACIDS[int(kind[i])]} A{i + 1:4d}    "
        + "".join(f"{float(v):8.3f}" for v in pos[i, k])
        + f"  1.00  0.00           {name[0]}"
        for i in range(len(kind))
        for k, name in enumerate(("N", "CA", "C", "O"))
    ]
    path.write_text("\n".join([*lines, "END", ""]))
    return path


@needs_voronota
def test_the_program_agrees_about_what_is_bad(tmp_path: Path) -> None:
    """Not the same cells, so not the same numbers: ranks of residues must go together, and the native has one."""
    chain = next(chain for chain in backbones() if chain.family == "Kunitz domain")
    native = written(tmp_path / "native.pdb", chain.kind, chain.pos)
    assert voronota_cad_score(native, native)[0] == 1
    decoy = decoy_maker(chain.pos)("torsions", torch.Generator().manual_seed(3))
    total, each = voronota_cad_score(written(tmp_path / "decoy.pdb", chain.kind, decoy.pos), native)
    assert list(each) == list(range(1, len(chain.kind) + 1))
    ours = cad_score(graph_of(chain.kind, decoy.pos).area, graph_of(chain.kind, chain.pos).area)
    assert spearman(ours, torch.tensor(list(each.values()), dtype=torch.float64)) > 0.7
    assert abs(total - float(ours.mean())) < 0.15


@needs_voronota
def test_the_program_says_what_it_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot compare"):
        voronota_cad_score(tmp_path / "no.pdb", tmp_path / "no.pdb")


def test_without_the_program_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="apt install voronota"):
        voronota_cad_score("a.pdb", "b.pdb")
