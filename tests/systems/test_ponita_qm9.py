"""Polarisability tensors with PONITA: models, exactness, read-out, and what happens without the package."""

import importlib.util

import pytest
import torch

from erlangen.data import MoleculeData
from erlangen.errors import MissingExtraError
from erlangen.groups import SO, Icosahedral, sphere_grid
from erlangen.systems.points import _ponita_qm9 as tensors
from erlangen.systems.points._ponita_spaces import Lifted

F64 = torch.float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(count: int = 6, atoms: int = 5) -> tensors.Molecules:
    """Atoms at random places, every second molecule one smaller, with random symmetric tensors."""
    pos = 1.5 * torch.randn(count, atoms, 3, generator=seeded(), dtype=F64)
    elements = torch.tensor(tensors.KINDS)[torch.randint(5, (count, atoms), generator=seeded(1))]
    elements[::2, -1] = 0
    mask = elements > 0
    y = torch.randn(count, 3, 3, generator=seeded(2), dtype=F64)
    zeros, clear = torch.zeros(count), torch.arange(count) > 0
    data = MoleculeData(pos * mask[..., None], mask, elements, y + y.mT, zeros, zeros, zeros.long(), clear)
    x, kept = tensors.molecules_of(data)
    return {key: value.double() for key, value in x.items()}, kept


def test_molecules_without_a_clear_frame_are_left_out_and_the_others_centred() -> None:
    x, y = made()
    assert len(y) == len(x["pos"]) == 5
    assert float(x["pos"].sum(1).abs().max()) < 1e-6
    assert bool((x["pos"][x["kinds"].sum(-1) == 0] == 0).all())


def test_graphs_join_atoms_of_one_molecule_up_to_the_cutoff() -> None:
    x, _ = made()
    graphs = tensors.graphs_of(x)
    source, target = graphs.edges
    assert len(graphs.pos) == int(x["kinds"].sum())
    pairs = {(int(a), int(b)) for a, b in graphs.edges.T}
    for a in range(len(graphs.pos)):
        for b in range(len(graphs.pos)):
            near = a != b and graphs.owner[a] == graphs.owner[b]
            near = near and float((graphs.pos[a] - graphs.pos[b]).norm()) < tensors.CUTOFF
            assert ((a, b) in pairs) == bool(near)
    assert bool((graphs.owner[source] == graphs.owner[target]).all())


def test_the_read_out_returns_a_quadratic_form_on_the_icosahedron() -> None:
    a = torch.randn(3, 3, generator=seeded(), dtype=F64)
    a = a + a.mT
    third = a.trace() / 3
    free = a - third * torch.eye(3, dtype=F64)
    o = sphere_grid(12, "platonic", dtype=F64)
    f = torch.stack([third.expand(12), torch.einsum("oi,ij,oj->o", o, free, o)], -1)[None]
    nothing = torch.zeros(0)
    lifted = Lifted(f, nothing, nothing, None, None, o, None)
    net = tensors.Oriented().net
    found = net._read_out(f, lifted, 1, torch.Size([1]), None)["tensor"][0]
    torch.testing.assert_close(found, a, rtol=0, atol=1e-6)  # the corners of the grid are exact in double only


@pytest.mark.parametrize("name", list(tensors.MODELS))
def test_models_give_symmetric_tensors_that_turn_as_they_should(name: str) -> None:
    x, _ = made()
    torch.manual_seed(0)
    model = tensors.MODELS[name]().double()
    found = model(x).detach()
    torch.testing.assert_close(found, found.mT)
    group = Icosahedral() if name == tensors.OURS else SO(3)
    errors = []
    for turn in group.sample(4, generator=seeded(3), dtype=F64) if name != tensors.OURS else icosahedral():
        again = model({**x, "pos": x["pos"] @ turn.mT}).detach()
        errors.append(float((again - turn @ found @ turn.mT).norm() / found.norm()))
    assert (max(errors) < 1e-9) == (name != "message passing, augmented, QM9")


def icosahedral() -> torch.Tensor:
    group = Icosahedral()
    return group.linear(group.elements()[1:6], dtype=F64)


def test_models_are_about_equally_large_and_ignore_padding() -> None:
    sizes = [sum(p.numel() for p in build().parameters()) for build in tensors.MODELS.values()]
    assert max(sizes) < 1.25 * min(sizes)
    x, _ = made()
    wide = {key: torch.nn.functional.pad(value, (0, 0, 0, 3)) for key, value in x.items()}
    for build in tensors.MODELS.values():
        model = build().double()
        torch.testing.assert_close(model(wide), model(x))


def test_turning_keeps_invariants_and_the_guess_is_exact_on_sums_over_atoms() -> None:
    x, y = made()
    moved, tensor = tensors.turned(x, y, generator=seeded())
    torch.testing.assert_close(torch.linalg.eigvalsh(tensor), torch.linalg.eigvalsh(y))
    torch.testing.assert_close(moved["pos"].norm(dim=-1), x["pos"].norm(dim=-1))
    single = {key: value.float() for key, value in made(40)[0].items()}
    shares = torch.tensor([2.0, 9.0, 7.0, 5.0, 3.0])
    wanted = (single["kinds"].sum(1) @ shares + 1.0)[:, None, None] * torch.eye(3)
    targets = tensors.targets_of((single, wanted))
    assert targets.counts.tolist() == pytest.approx([*shares.tolist(), 1.0], abs=1e-3)
    assert tensors.errors_of(targets.guess(single), wanted)["tensor error, a0^3"] < 1e-3


def test_without_the_package_the_claim_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise MissingExtraError("qm9pack", "qm9", "qm9")

    monkeypatch.setattr(tensors, "qm9", missing)
    rows = tensors.tensor_rows(tensors.Budget(), [0])
    assert len(rows) == 1
    assert "erlangen[qm9]" in rows[0]["model"]
    (claim,) = tensors.tensor_claims(rows)
    assert claim.holds is None


@pytest.mark.extra
@pytest.mark.skipif(importlib.util.find_spec("qm9pack") is None, reason="needs the extra qm9 (qm9pack)")
def test_a_short_run_on_real_molecules() -> None:
    rows = tensors.tensor_rows(tensors.Budget(20, 5, 10, 1, 1, 10), [0])
    assert [row["model"] for row in rows] == [*tensors.MODELS, tensors.CONSTANT]
    table = {row["model"]: row for row in rows}
    assert table[tensors.EXACT]["equivariance error"] < 1e-4
    (claim,) = tensors.tensor_claims(rows)
    assert claim.measured > 0
