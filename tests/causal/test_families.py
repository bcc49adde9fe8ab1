"""Families of interventions against single interventions of `LinearSEM`."""

from __future__ import annotations

import pytest
import torch
from torch import Generator

from erlangen.causal import Intervention, InterventionFamily, LinearSEM, ancestors, random_dag, random_linear_sem
from erlangen.errors import DataError, ErlangenError, UnknownNameError


def rng(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def model(seed: int = 0) -> LinearSEM:
    omega = 0.5 + torch.rand(7, generator=rng(seed), dtype=torch.float64)
    return random_linear_sem(random_dag(7, 12, generator=rng(seed)), omega=omega, generator=rng(), dtype=torch.float64)


@pytest.mark.parametrize("rows", ["keep", "soft", "hard"])
def test_a_family_draws_interventions(rows) -> None:
    sem, sites = model(), (1, 4)
    family = InterventionFamily(sem, sites, rows, weights=(0.2, 0.7), variances=(2.0, 3.0))
    drawn = family.draw(20, generator=rng(3))
    covariance = drawn.covariance()
    assert torch.equal(covariance, family.draw(20, generator=rng(3)).covariance())
    for k in range(20):
        W, v = drawn.weights[k], drawn.variances[k]
        new = {} if rows == "keep" else {i: W[:, i] for i in sites}
        due = sem.intervened(Intervention(rows=new, variances={i: float(v[i]) for i in sites})).covariance()
        assert torch.allclose(covariance[k], due, atol=1e-12)
    others = [i for i in range(7) if i not in sites]
    assert torch.equal(drawn.weights[:, :, others], sem.weights[:, others].expand(20, -1, -1))
    assert bool(((drawn.variances[:, list(sites)] >= 2) & (drawn.variances[:, list(sites)] <= 3)).all())
    if rows == "soft":
        causes = drawn.weights[:, :, list(sites)]
        assert torch.equal((causes != 0).all(0), sem.weights[:, list(sites)] != 0)
        sizes = causes[causes != 0].abs()
        assert float(sizes.min()) >= 0.2
        assert float(sizes.max()) <= 0.7
        assert bool((causes < 0).any())
        assert bool((causes > 0).any())
    if rows == "hard":
        apart = ~ancestors(sem.weights)[4] & (torch.arange(7) != 4)
        assert float(covariance[:, 4, apart].abs().max()) < 1e-12


def test_what_is_kept_is_kept() -> None:
    sem = model(1)
    drawn = InterventionFamily(sem, (2,)).draw(3, generator=rng())
    assert sem.omega is not None
    assert torch.equal(drawn.variances, sem.omega.expand(3, -1))
    assert InterventionFamily(sem, tuple(range(7))).in_degree == int((sem.weights != 0).sum(0).max())


def test_cycles_without_equilibrium_are_refused() -> None:
    cycle = LinearSEM(torch.tensor([[0.0, 0.5], [0.25, 0.0]], dtype=torch.float64))
    settled = InterventionFamily(cycle, (1,), weights=(0.5, 0.5)).draw(8, generator=rng()).covariance()
    assert bool(torch.linalg.eigvalsh(settled).min() > 0)
    family = InterventionFamily(cycle, (1,), weights=(4.0, 4.0))  # 4 * 0.25 = 1 where the sign is plus
    with pytest.raises(ErlangenError, match=r"intervention \d: I - weights .* draw other weights"):
        family.draw(20, generator=rng()).covariance()


def test_families_that_are_none() -> None:
    sem = model()
    for sites in ((), (7,), (1, 1), (-1,)):
        with pytest.raises(DataError, match=r"sites .* nodes 0 to 6"):
            InterventionFamily(sem, sites)
    with pytest.raises(UnknownNameError, match="keep, soft, hard"):
        InterventionFamily(sem, (1,), "do")  # pyright: ignore
    with pytest.raises(ErlangenError, match="changes nothing; give variances"):
        InterventionFamily(sem, (1,), "keep")
    with pytest.raises(DataError, match=r"weights = \(2, 1\)"):
        InterventionFamily(sem, (1,), weights=(2, 1))
    with pytest.raises(DataError, match=r"variances = \(0, 1\)"):
        InterventionFamily(sem, (1,), variances=(0, 1))
    correlated = LinearSEM(torch.zeros(2, 2), torch.tensor([[1.0, 0.5], [0.5, 1.0]]))
    with pytest.raises(DataError, match="diagonal omega"):
        InterventionFamily(correlated, (1,))
    with pytest.raises(ErlangenError, match="n = 0"):
        InterventionFamily(sem, (1,)).draw(0)
