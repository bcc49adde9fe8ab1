"""Polarisability tensors with PONITA: models, exactness, read-out, and what happens without the package."""

import importlib.util

import pytest
import torch

from erlangen.data import MoleculeData
from erlangen.errors import MissingExtraError
from erlangen.groups import SO, Icosahedral, sphere_grid
from erlangen.survey import Run, Sizes
from erlangen.systems.points.ponita import _qm9 as tensors
from erlangen.systems.points.ponita import experiment as system
from erlangen.systems.points.ponita._spaces import Lifted

F64 = torch.float64
MODELS = {name: rival.make for name, rival in tensors.make_rivals().items() if rival.trains}


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


@pytest.mark.parametrize("name", list(MODELS))
def test_models_give_symmetric_tensors_that_turn_as_they_should(name: str) -> None:
    x, _ = made()
    torch.manual_seed(0)
    model = MODELS[name]().double()
    found = model(x).detach()
    torch.testing.assert_close(found, found.mT)
    group = Icosahedral() if name == tensors.OURS else SO(3)
    errors = []
    for turn in group.sample(4, generator=seeded(3), dtype=F64) if name != tensors.OURS else icosahedral():
        again = model({**x, "pos": x["pos"] @ turn.mT}).detach()
        errors.append(float((again - turn @ found @ turn.mT).norm() / found.norm()))
    assert (max(errors) < 1e-9) == (name != tensors.PLAIN)


def icosahedral() -> torch.Tensor:
    group = Icosahedral()
    return group.linear(group.elements()[1:6], dtype=F64)


def test_models_are_about_equally_large_and_ignore_padding() -> None:
    sizes = [sum(p.numel() for p in build().parameters()) for build in MODELS.values()]
    assert max(sizes) < 1.25 * min(sizes)
    x, _ = made()
    wide = {key: torch.nn.functional.pad(value, (0, 0, 0, 3)) for key, value in x.items()}
    for build in MODELS.values():
        model = build().double()
        torch.testing.assert_close(model(wide), model(x))


def test_turning_keeps_invariants_and_the_guess_is_exact_on_sums_over_atoms() -> None:
    x, y = made()
    moved, tensor = tensors.turned(x, {"rest": y}, generator=seeded())
    torch.testing.assert_close(torch.linalg.eigvalsh(tensor["rest"]), torch.linalg.eigvalsh(y))
    torch.testing.assert_close(moved["pos"].norm(dim=-1), x["pos"].norm(dim=-1))
    single = {key: value.float() for key, value in made(40)[0].items()}
    shares = torch.tensor([2.0, 9.0, 7.0, 5.0, 3.0])
    wanted = (single["kinds"].sum(1) @ shares + 1.0)[:, None, None] * torch.eye(3)
    targets = tensors.targets_of((single, wanted))
    assert targets.counts.tolist() == pytest.approx([*shares.tolist(), 1.0], abs=1e-3)
    unit = {"rest": wanted, "size": torch.ones(len(wanted))}
    assert tensors.errors_of(targets.guess(single), unit)["tensor error, a0^3"] < 1e-3


def test_without_the_package_the_claim_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise MissingExtraError("qm9pack", "qm9", "qm9")

    monkeypatch.setattr(tensors, "qm9", missing)
    rows, (claim,), _ = tensors.tensors_part(Run("smoke", budget=system.BUDGETS["smoke"]))
    assert not rows
    assert "erlangen[qm9]" in claim.threshold
    assert claim.verdict == "not measurable here"


@pytest.mark.extra
@pytest.mark.skipif(importlib.util.find_spec("qm9pack") is None, reason="needs the extra qm9 (qm9pack)")
def test_a_short_run_on_real_molecules() -> None:
    assert system.BUDGETS["smoke"].qm9 == Sizes(20, 5, 10)
    rows, (claim,), _ = tensors.tensors_part(Run("smoke", budget=system.BUDGETS["smoke"]))
    table = {row["model"]: row for row in rows}
    assert list(table) == [*MODELS, tensors.CONSTANT]
    assert table[tensors.EXACT]["equivariance error"] < 1e-4
    assert claim.measured is not None
    assert claim.measured > 0


def test_the_part_with_made_up_molecules(monkeypatch: pytest.MonkeyPatch) -> None:
    """All models train, and errors are in the units of the tensors."""

    def molecules(count: int, **_: object) -> MoleculeData:
        pos = 1.5 * torch.randn(count, 5, 3, generator=seeded())
        elements = torch.tensor(tensors.KINDS)[torch.randint(5, (count, 5), generator=seeded(1))]
        y, zeros = torch.randn(count, 3, 3, generator=seeded(2)), torch.zeros(count)
        return MoleculeData(pos, elements > 0, elements, y + y.mT, zeros, zeros, zeros.long(), zeros == 0)

    monkeypatch.setattr(tensors, "qm9", molecules)
    rows, (claim,), _ = tensors.tensors_part(Run("smoke", budget=system.BUDGETS["smoke"]))
    table = {row["model"]: row for row in rows}
    assert list(table) == [*MODELS, tensors.CONSTANT]
    assert table[tensors.EXACT]["equivariance error"] < 1e-4
    data = tensors.split_of(Sizes(20, 5, 10), 0).test
    assert table[tensors.CONSTANT]["tensor error, a0^3"] == pytest.approx(
        float((data[1]["rest"] * data[1]["size"][:, None, None]).norm(dim=(1, 2)).mean())
    )
    assert claim.verdict == "not settled"
