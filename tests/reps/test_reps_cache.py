"""The cache of bases: hits, keys, damaged files, folders that cannot be written, switched off."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from erlangen.errors import CacheWarning
from erlangen.groups import SL, SO, Cyclic, FiniteMatrixGroup, Subgroup
from erlangen.reps import T, V, cache_dir, equivariant_basis, maps
from erlangen.reps.cache import clear_memory


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ERLANGEN_CACHE", str(tmp_path))
    clear_memory()
    yield tmp_path / "reps"
    clear_memory()


@pytest.fixture
def solved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what was solved for, in order."""
    names: list[str] = []
    solve = maps.invariant_vectors
    monkeypatch.setattr(maps, "invariant_vectors", lambda rep: (names.append(rep.name), solve(rep))[1])
    return names


def test_second_time_from_memory_and_third_from_disk(folder: Path, solved: list[str]) -> None:
    hom = T(2)(SO(4)) >> V(SO(4))
    first = equivariant_basis(hom)
    first_copy = first.clone()
    first.zero_()  # what a caller does to the result stays with the caller
    second = equivariant_basis(hom)
    clear_memory()
    third = equivariant_basis(hom)
    assert len(solved) == 1
    assert len(list(folder.iterdir())) == 1
    assert torch.equal(second, first_copy)
    assert torch.equal(third, first_copy)


def test_the_key_is_what_the_generators_do(solved: list[str]) -> None:
    """The width of a proposal changes nothing; another embedding does, whatever it is called."""
    for scale in (0.5, 0.25):
        equivariant_basis(T(2)(SL(2, scale=scale)) >> T(2)(SL(2, scale=scale)))
    assert len(solved) == 1
    turn = torch.linalg.matrix_exp(torch.tensor([[0.0, -0.3], [0.3, 0.0]], dtype=torch.float64))

    def mirrors(axis: torch.Tensor) -> FiniteMatrixGroup:
        mirror = axis @ torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64)) @ axis.mT
        return FiniteMatrixGroup("mirror", torch.stack([torch.eye(2, dtype=torch.float64), mirror]))

    straight, tilted = (equivariant_basis(V(G) >> V(G)) for G in map(mirrors, (torch.eye(2).double(), turn)))
    assert not torch.allclose(straight, tilted)
    once = Subgroup(SO(2), Cyclic(4), lambda k: Cyclic(4).linear(k, dtype=torch.float64), name="C4 in SO(2)")
    twice = Subgroup(SO(2), Cyclic(4), lambda k: Cyclic(4).linear(2 * k % 4, dtype=torch.float64), name="C4 in SO(2)")
    assert len(equivariant_basis(V(SO(2)).restrict(once) >> V(SO(2)).restrict(once))) == 2
    assert len(equivariant_basis(V(SO(2)).restrict(twice) >> V(SO(2)).restrict(twice))) == 4


@pytest.mark.parametrize("damage", ["truncated", "garbage", "another"])
def test_a_damaged_file_is_replaced(folder: Path, solved: list[str], damage: str) -> None:
    hom = T(2)(SO(4)) >> T(2)(SO(4))
    good = equivariant_basis(hom)
    (path,) = folder.iterdir()
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "garbage":
        path.write_bytes(b"no tensors here")
    else:
        path.unlink()
        equivariant_basis(V(SO(4)) >> V(SO(4)))
        (other,) = folder.iterdir()
        other.rename(path)
    clear_memory()
    with pytest.warns(CacheWarning, match="computed again and replaced"):
        again = equivariant_basis(hom)
    assert torch.equal(again, good)
    assert path.read_bytes() == content
    clear_memory()
    count = len(solved)
    equivariant_basis(hom)
    assert len(solved) == count


def test_a_folder_that_cannot_be_made_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    monkeypatch.setenv("ERLANGEN_CACHE", str(file))
    with pytest.warns(CacheWarning, match="ERLANGEN_CACHE"):
        assert len(equivariant_basis(V(SO(4)) >> V(SO(4)))) == 1


def test_switched_off(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERLANGEN_CACHE", "off")
    assert cache_dir() is None
    equivariant_basis(V(SO(4)) >> V(SO(4)))
    assert not folder.exists()
    monkeypatch.delenv("ERLANGEN_CACHE")
    assert cache_dir() == Path.home() / ".cache" / "erlangen" / "reps"
