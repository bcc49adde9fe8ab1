"""What PONITA's experiment is made of: rivals of equal size, classes of pairs, potentials, pixels, molecules."""

import math
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from erlangen.data import digits
from erlangen.groups import SO, E
from erlangen.measure import equivariance_error
from erlangen.simulate import charges_ahead
from erlangen.survey import Run, Sizes, Split
from erlangen.symmetry import Symmetry
from erlangen.systems.points.ponita import _forces as forces
from erlangen.systems.points.ponita import _molecules as molecules
from erlangen.systems.points.ponita import _pixels as pixels
from erlangen.systems.points.ponita._cost import WholeGroup, whole_group
from erlangen.systems.points.ponita._properties import (
    CLASSES,
    Pairs,
    apart,
    broken,
    complete_numbers_name_the_class,
    invariants_unchanged,
    random_pairs,
    three_numbers_are_not_enough,
)
from erlangen.systems.points.ponita.experiment import BUDGETS
from erlangen.systems.points.ponita.rivals import OURS, Widths, oriented, particle_rivals, steered

F64 = torch.float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=seeded(seed), dtype=F64)


# --- parts of the experiment ------------------------------------------------------------------------------------------
def test_all_models_of_particles_predict_places_and_their_symmetry() -> None:
    x, _ = charges_ahead(6, 0)
    torch.manual_seed(0)
    rivals = particle_rivals(Widths(), 3, 24, 100, lambda: whole_group(16, 2, 12, 12))
    models = {name: rival.make() for name, rival in rivals.items() if rival.trains}
    for name, model in models.items():
        assert model(x).shape == (6, 5, 3)
        # Blocks of PONITA count little at the start, and what is left is linear.
        assert (broken(model, x, 0) < 1e-4) == (name != "GNN, augmented"), name


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("scale", ["full", "paper"])
def test_models_of_one_table_have_about_equally_many_parameters(scale: str) -> None:
    budget = BUDGETS[scale]
    width, layers, basis = budget.widths.ours, budget.layers, budget.basis
    rivals = particle_rivals(budget.widths, layers, basis, 1, lambda: whole_group(width, layers, basis, 12)).values()
    sizes = [parameters(rival.make()) for rival in rivals if rival.trains]
    sizes += [parameters(steered(budget.widths.irreps, layers, degree)) for degree in (2, 3)]
    assert max(sizes) < (1.25 if scale == "full" else 1.6) * min(sizes)
    potentials = forces.potential_rivals(Run("full", budget=budget), 3).values()
    sizes = [parameters(rival.make()) for rival in potentials]
    assert max(sizes) < 1.25 * min(sizes)


@pytest.mark.parametrize("count", [12, 24])
def test_the_whole_group_is_exact_for_its_rotations_and_sees_more_than_an_axis(count: int) -> None:
    net = WholeGroup(1, 1, rotations=count, width=8, basis=6, layers=2, edge_features=1, layer_scale=1.0).double()
    x = {"pos": randn(3, 4, 3), "vec": randn(3, 4, 1, 3, seed=1), "edge_attr": randn(3, 4, 4, 1, seed=2)}
    net.calibrate_(x)
    assert float(equivariance_error(net, None, x, reduce="max", chunk=12)) < 1e-12
    moving = Symmetry(
        E(3), input={"pos": "points", "vec": "vectors", "edge_attr": "invariant"}, output={"vec": "vectors"}
    )
    assert float(equivariance_error(net, moving, x, elements=5, reduce="max")) > 1e-3  # on a grid alone
    space = net.space
    with torch.no_grad():
        lifted = space(net._cloud(x, None))
    axes, turns = space.rotations[:, :, 2], space.rotations
    same = [(a, b) for a in range(count) for b in range(a) if torch.allclose(axes[a], axes[b], atol=1e-9)]
    assert same  # rotations about one axis are one direction, and two of the whole group
    a, b = same[0]
    assert float((lifted.spatial[:, a] - lifted.spatial[:, b]).abs().max()) > 1e-6
    # Vectors come in as R^T v, and leave as they came in: three times the mean of the third number times R e_z.
    torch.testing.assert_close(lifted.features[:, 0], torch.einsum("ij,ni->nj", turns[0], x["vec"].flatten(0, 1)[:, 0]))
    torch.testing.assert_close(space.vectors(lifted.features[..., 2:], lifted, 12), x["vec"].flatten(0, 1))


# --- numbers that name classes of pairs --------------------------------------------------------------------------------
@pytest.mark.parametrize("space", CLASSES)
def test_pairs_apart_is_zero_for_one_class_alone(space: str) -> None:
    """The measure of the properties: zero for moved pairs, not for others, and not for mirror images in space."""
    pairs = random_pairs(space, 20, seeded())
    n = pairs.r.shape[1]
    turns = SO(n).sample(20, generator=seeded(1), dtype=F64)
    assert float(apart(pairs, pairs.turned(turns)).max()) < 1e-12
    others = random_pairs(space, 20, seeded(2))
    assert float(apart(pairs, others).min()) > 1e-4
    if space in ("R^3xS^2", "SE(3)"):
        mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=F64)).expand(20, 3, 3)
        assert float(apart(pairs, pairs.turned(mirror)).min()) > 1e-4


def test_properties_of_numbers_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run("smoke", budget=BUDGETS["smoke"])
    assert three_numbers_are_not_enough(run) > 0.1
    kept = Pairs.numbers
    wrong = lambda self, space, complete=True: kept(self, space, complete=complete) + 0.01 * self.r[:, :1]  # noqa: E731
    monkeypatch.setattr(Pairs, "numbers", wrong)
    assert invariants_unchanged(run) > 1e-3
    assert complete_numbers_name_the_class(run) > 1e-3
    assert three_numbers_are_not_enough(run) > 0.1  # both have the same r
    monkeypatch.setattr(Pairs, "numbers", lambda self, space, complete=True: kept(self, space))
    assert three_numbers_are_not_enough(run) == 0.0


# --- energies and forces ------------------------------------------------------------------------------------------------
def frames(count: int, seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Molecules of four atoms of two kinds, held together by springs to their middle, in closed form."""
    pos = randn(count, 4, 3, seed=seed)
    pos = pos - pos.mean(1, keepdim=True)
    kinds = torch.eye(2, dtype=F64)[[0, 0, 1, 1]].expand(count, -1, -1)
    return {"pos": pos, "kinds": kinds}, {"energy": pos.square().sum((1, 2)) / 2 - 7, "force": -pos}


def test_potentials_give_the_slope_of_their_energy_and_keep_it_under_motions() -> None:
    x, _ = frames(3)
    run = Run("smoke", budget=BUDGETS["smoke"])
    for name, rival in forces.potential_rivals(run, 2).items():
        torch.manual_seed(0)
        model = rival.make().double().eval()
        found = model(x)
        step = 1e-5 * randn(3, 4, 3, seed=7)
        rise = model({**x, "pos": x["pos"] + step})["energy"] - model({**x, "pos": x["pos"] - step})["energy"]
        torch.testing.assert_close(rise, -2 * (found["force"] * step).sum((1, 2)), rtol=1e-5, atol=1e-12)
        turned, _ = forces.turned(x, {"force": found["force"]}, generator=seeded(1))
        change = float((model(turned)["energy"] - found["energy"]).abs().max())
        assert (change < 1e-10) == (name != forces.OURS), name


def test_energies_and_forces_are_measured_in_thousandths() -> None:
    x, y = frames(120)

    class Springs(torch.nn.Module):
        def forward(self, pos: Tensor, kinds: Tensor) -> Tensor:
            return 0.25 * pos.square().sum((1, 2))

    model = forces.Potential(Springs()).double()
    model.fix_unit(y)
    assert float(model.shift) == pytest.approx(float(y["energy"].mean()))
    size = float(y["force"].square().mean().sqrt())
    row = forces.errors_of(model.eval(), {"": x, "hot": x}, {"": y, "hot": y})
    assert row["force, meV/A"] == pytest.approx(1e3 * float(((1 - size / 2) * y["force"]).abs().mean()))
    assert row["energy, meV, hot"] == pytest.approx(
        1e3 * float((size * 0.25 * x["pos"].square().sum((1, 2)) + y["energy"].mean() - y["energy"]).abs().mean())
    )
    found = model(x)
    expected = ((found["energy"] - y["energy"]) / (4 * size)).square().mean()
    expected = expected + 10 * ((found["force"] - y["force"]) / size).square().mean()
    torch.testing.assert_close(forces.squares(found, y).double(), expected, rtol=1e-5, atol=1e-8)


def test_turned_molecules_have_turned_forces() -> None:
    x, y = frames(5)
    moved, wanted = forces.turned(x, y, generator=seeded(1))
    torch.testing.assert_close(wanted["force"], -moved["pos"])
    assert wanted["energy"] is y["energy"]
    assert not torch.allclose(moved["pos"], x["pos"])


def test_files_train_on_300_kelvin_and_test_on_what_they_hold(shared_data: Path) -> None:
    """Acetylacetone has test files, 3BPA is split; what trains is never what is tested."""
    sizes = Sizes(20, 5, 30)
    split = forces.file_split(shared_data / "mol_acac", sizes, 0)
    assert list(split.test[0]) == ["300K", "600K"]
    assert split.train[0]["pos"].shape == (20, 15, 3)
    assert split.train[0]["kinds"].shape == (20, 15, 3)
    assert float(split.test[1]["600K"]["force"].std()) > 1.2 * float(split.train[1]["force"].std())
    rest = forces.file_split(shared_data / "mol_3bpa", sizes, 0)
    assert list(rest.test[0]) == ["rest"]
    seen = {float(e) for part in (rest.train[1], rest.validation[1][""]) for e in part["energy"]}
    assert len(seen) == 25
    assert not seen & {float(e) for e in rest.test[1]["rest"]["energy"]}


@pytest.mark.extra
def test_ethanol_is_tested_on_trajectories_of_its_own() -> None:
    pytest.importorskip("tblite", reason="needs the extra 'molecules' (tblite)")
    split = forces.split_of(Sizes(4, 2, 3), 0)
    assert list(split.test[0]) == ["300 K", "500 K"]
    assert split.test[0]["500 K"]["pos"].shape == (3, 9, 3)
    assert len({round(float(e), 6) for e in split.train[1]["energy"]}) == 4
    assert float(split.train[1]["force"].sum(1).abs().max()) < 1e-3  # nothing pushes the whole


def test_without_tblite_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tblite.interface", None)
    forces.heated.cache_clear()
    part = forces.forces_part(Run("smoke", budget=BUDGETS["smoke"]))
    assert [claim.id for claim in part.claims] == [name for name, *_ in forces.CLAIMS]
    assert all("erlangen[molecules]" in claim.threshold for claim in part.claims)


def test_kernels_are_calibrated_on_the_training_data_of_the_seed() -> None:
    rival = particle_rivals(Widths(8), 2, 8, 20)[OURS]
    found = []
    for seed in (0, 1):
        data = charges_ahead(30, seed)
        torch.manual_seed(0)
        model = rival.make()
        rival.prepare(model, Split(data, data, data))
        torch.manual_seed(0)
        own = oriented(8, 2, 8, calibrated_on={key: value[:20] for key, value in data[0].items()})
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), own.parameters(), strict=True))
        found.append(model)
    assert not all(torch.equal(a, b) for a, b in zip(*(m.parameters() for m in found), strict=True))


def test_digits_become_nodes_with_neighbors() -> None:
    data = pixels.nodes_of(pixels.turned(digits("train").x[:6], seeded()))
    assert data["pos"].shape == (6, pixels.NODES, 2)
    own = torch.arange(pixels.NODES)[None, :, None]
    assert not bool((data["neighbors"] == own).any())
    assert int(data["neighbors"].min()) >= 0
    assert int(data["neighbors"].max()) < pixels.NODES
    sizes = [sum(p.numel() for p in pixels.network(name).parameters()) for name in pixels.SIZES]
    assert max(sizes) < 1.2 * min(sizes)


def test_denoisers_predict_noise_that_turns_and_have_about_equally_many_parameters() -> None:
    diffusion = molecules.Diffusion(molecules.cosine_betas(10), molecules.CENTERED)
    x, t = molecules.methane(4, seeded()).double(), torch.tensor([0, 3, 6, 9])
    sizes = []
    for net, group in ((molecules.Oriented(generator=seeded(1)), "grid"), (molecules.Pushed(), "all")):
        model = molecules.Denoiser(diffusion, net).double()
        turn = SO(3).sample(1, generator=seeded(2), dtype=F64)[0]
        if group == "grid":
            turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=F64)
        torch.testing.assert_close(model(x @ turn.mT, t), model(x, t) @ turn.mT, rtol=0, atol=1e-10)
        assert float(model(x, t).detach().mean(1).abs().max()) < 1e-12
        sizes.append(parameters(net))
    assert max(sizes) < 1.25 * min(sizes)


def test_molecules() -> None:
    x = molecules.methane(200, seeded())
    assert float(x.mean(1).abs().max()) < 1e-6
    rest = torch.tensor([1.09] * 4 + [1.09 * math.sqrt(8 / 3)] * 6)
    torch.testing.assert_close(molecules.distances(x).mean(0), rest, rtol=0, atol=0.02)
    assert molecules.valid(x) > 0.95
    fake = molecules.gaussian_like(x, 4000, seeded(1))
    torch.testing.assert_close(fake.flatten(1).T.cov(), x.flatten(1).T.cov(), rtol=0, atol=0.06)
    assert molecules.distance_gap(x, x) == 0
    assert molecules.distance_gap(x, x * 1.1) == pytest.approx(float(0.05 * rest[[0, 9]].sum()), rel=0.02)
