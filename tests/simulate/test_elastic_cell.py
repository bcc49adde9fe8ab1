"""The cell with a void: patch test, small strains, convergence, what is between nodes."""

import sys

import pytest
import torch

from erlangen.errors import ErlangenError, MissingExtraError, NotFiniteError, ShapeError
from erlangen.simulate import elastic_cell, void_radii

ROUND = torch.full((16,), 0.25, dtype=torch.float64)


def some(seed: int = 0) -> torch.Tensor:
    return void_radii(1, generator=torch.Generator().manual_seed(seed))[0]


def test_patch() -> None:
    """What moves linearly at the boundary moves linearly inside, under one stress everywhere: neo-Hooke in closed form."""
    A = torch.tensor([[0.1, 0.05], [-0.02, 0.2]], dtype=torch.float64)
    cell = elastic_cell(some(), rings=4, angles=12, prescribed=A)
    assert float((cell.displacement - cell.pos @ A.mT).abs().max()) < 1e-10
    mu, lam = 1 / 2.6, 0.3 / 1.3 / 0.4
    F = torch.eye(3, dtype=torch.float64)
    F[:2, :2] += A
    J = torch.det(F)
    s = (mu * (F @ F.mT - torch.eye(3)) + lam * J.log() * torch.eye(3)) / J
    deviator = s - torch.eye(3) * s.trace() / 3
    due = (1.5 * deviator.square().sum()).sqrt()
    torch.testing.assert_close(cell.stress, due.expand_as(cell.stress), rtol=1e-10, atol=0)


def test_small_strains_are_those_of_hooke() -> None:
    """The difference is of second order: ten times smaller loads, ten times smaller relative differences."""
    gaps = []
    for traction in (1e-4, 1e-5):
        a, b = (elastic_cell(some(), traction=traction, rings=4, angles=12, linear=which) for which in (False, True))
        pairs = ((a.displacement, b.displacement), (a.stress, b.stress))
        gaps.append([float((one - other).norm() / other.norm()) for one, other in pairs])
    for larger, smaller in zip(*gaps, strict=True):
        assert smaller < 1e-3
        assert larger / smaller == pytest.approx(10, rel=0.1)


def test_refinement_converges() -> None:
    ends = [float(elastic_cell(ROUND, rings=n, angles=2 * n).displacement[:, 1].max()) for n in (4, 8, 16)]
    assert abs(ends[2] - ends[1]) < abs(ends[1] - ends[0]) / 2


def test_mirror_images() -> None:
    """Left and right are alike: a mirrored void has the mirrored fields."""
    radii = some(3)
    mirrored = radii[(32 - torch.arange(64)) % 64]
    a, b = (elastic_cell(r, rings=4, angles=12) for r in (radii, mirrored))
    order = torch.cdist(torch.stack([1 - a.pos[:, 0], a.pos[:, 1]], -1), b.pos).argmin(-1)
    torch.testing.assert_close(b.stress[order], a.stress, rtol=1e-6, atol=1e-9)


def test_nodes_and_what_is_between() -> None:
    cell = elastic_cell(ROUND, rings=4, angles=12)
    assert cell.shape == (9, 24)
    ring = cell.pos[:24] - 0.5
    torch.testing.assert_close(ring.norm(dim=-1), torch.full((24,), 0.25, dtype=torch.float64), rtol=0, atol=1e-12)
    outer = cell.pos[-24:]
    assert float(torch.minimum(outer, 1 - outer).amin(-1).max()) < 1e-12  # on the square
    assert int((cell.displacement[cell.pos[:, 1] < 1e-12].abs().amax(-1) == 0).sum()) == 7
    fine = cell.refined(cell.stress)
    assert fine.shape == (17 * 48,)
    torch.testing.assert_close(fine.reshape(17, 48)[::2, ::2].flatten(), cell.stress, rtol=0, atol=0)
    # Quadratic functions of the indices come out exactly.
    i, j = torch.meshgrid(torch.arange(9.0), torch.arange(24.0), indexing="ij")
    values = cell.refined((i.square() - i * j)[:, :].flatten()).reshape(17, 48)[:, :40]
    i, j = torch.meshgrid(torch.arange(17.0) / 2, torch.arange(48.0) / 2, indexing="ij")
    torch.testing.assert_close(values, (i.square() - i * j)[:, :40], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: elastic_cell(ROUND, angles=10), ErlangenError, "angles = 10: give a multiple of 4"),
        (lambda: elastic_cell(ROUND * 2), ErlangenError, "radii give a void of 0.5 to 0.5"),
        (lambda: elastic_cell(ROUND[None]), ShapeError, r"radii has shape \(1, 16\)"),
        (lambda: elastic_cell(ROUND * torch.nan), NotFiniteError, "radii has 16 values"),
        (lambda: elastic_cell(ROUND, poisson=0.5), ErlangenError, "poisson = 0.5"),
        (lambda: elastic_cell(ROUND, rings=2, angles=8).refined(torch.zeros(3)), ShapeError, "the cell has 80 nodes"),
        (lambda: void_radii(0), ErlangenError, "count = 0"),
    ],
)
def test_bad_input(build, error: type[ErlangenError], message: str) -> None:
    with pytest.raises(error, match=message):
        build()


def test_a_load_that_cannot_be_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    """One step of Newton's method never settles, whatever the part of the load."""
    monkeypatch.setattr("erlangen.simulate.continua.cells.STEPS", 1)
    with pytest.raises(NotFiniteError, match="take a smaller traction"):
        elastic_cell(ROUND, rings=2, angles=8)


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skfem", None)
    with pytest.raises(MissingExtraError, match=r"erlangen\[physics\]"):
        elastic_cell(ROUND)
