"""Dense networks: closed forms of the pressure, sums over distinct indices, small systems, bad input."""

import itertools
import math

import pytest
import torch

from erlangen.errors import ErlangenError, NotConvergedWarning
from erlangen.simulate import parallel_tempering
from erlangen.systems.physics.replica_symmetry_breaking import (
    DenseModel,
    coupling_of,
    hopfield_capacity,
    load_of,
    retrieval_capacity,
    retrieval_energy,
)
from erlangen.systems.physics.replica_symmetry_breaking._spins import (
    descend,
    enumerated,
    gaussian_couplings,
    hebbian_energy,
    hebbian_field,
    mattis_overlap,
    size_factor,
    symmetric_sum,
    three_body,
)
from erlangen.systems.physics.replica_symmetry_breaking._transitions import glass_at, overlap, static_temperature
from erlangen.systems.physics.replica_symmetry_breaking._zero import glass_pressure, ground_state_crossing
from erlangen.systems.physics.replica_symmetry_breaking.experiment import crossing


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spins(*shape: int, seed: int = 0) -> torch.Tensor:
    return 2.0 * torch.randint(2, shape, generator=generator(seed)) - 1


# --- theory ----------------------------------------------------------------------------------------------------------
def test_a_ferromagnet_without_noise() -> None:
    """J = 0: A = ln 2 + ln cosh(beta P m^(P-1)) - beta (P-1) m^P."""
    for P in (2, 3, 4):
        model = DenseModel(P, 0.0, 1.7)
        due = math.log(2 * math.cosh(1.7 * P * 0.6 ** (P - 1))) - 1.7 * (P - 1) * 0.6**P
        assert model.pressure_rs(0.6, 0.3) == pytest.approx(due, rel=1e-14)
        assert model.pressure(0.6, 0.2, 0.4, 0.5) == pytest.approx(due, rel=1e-13)


def test_derivatives_of_the_pressure() -> None:
    """dA/dtheta in closed form, and -dA/dbeta at a solution is the energy."""
    model, x, theta, h = DenseModel(3, 1.0, 2.0), (0.1, 0.2, 0.6), 0.6, 1e-4
    slope = (model.pressure(*x, theta + h) - model.pressure(*x, theta - h)) / (2 * h)
    assert model.theta_slope(*x, theta) == pytest.approx(slope, rel=1e-5)
    for P, start in ((3, (0.0, 0.0, 0.95)), (4, (1.0, 0.9, 0.95))):
        J = 1.0 if P == 3 else 0.8
        solution = DenseModel(P, J, 2.0).solve(*start, 0.6)
        up, down = (DenseModel(P, J, 2.0 + sign * h).pressure(*solution, 0.6) for sign in (1, -1))
        assert DenseModel(P, J, 2.0).energy(*solution, 0.6) == pytest.approx(-(up - down) / (2 * h), rel=1e-6)


def test_cold_pressures_reach_those_at_zero_temperature() -> None:
    """A / beta at beta = 40 with theta = x / beta, against the formula for T = 0."""
    beta, x = 40.0, 1.4
    model = DenseModel(3, 1.0, beta)
    q2 = overlap(3, 1 / beta, x / beta)
    assert model.pressure(0.0, 0.0, q2, x / beta) / beta == pytest.approx(glass_pressure(3, x, 0.0), abs=2e-3)


def test_the_end_of_retrieval_is_where_iteration_finds_none() -> None:
    for P in (3, 4):
        end = retrieval_capacity(P)[0]
        for share, alive in ((0.999, True), (1.001, False)):
            m = 1.0
            for _ in range(20_000):
                m = math.erf(math.sqrt(P / (2 * math.factorial(P) * share * end)) * m ** (P - 1))
            assert (m > 0.5) == alive


def test_retrieval_without_load() -> None:
    assert retrieval_energy(4, 1e-9) == pytest.approx(-1, abs=1e-9)
    assert ground_state_crossing(3) == math.inf


def test_hopfields_equations_at_the_end() -> None:
    """m = erf(y), with y = m / sqrt(2 alpha r), sqrt(r) = 1/(1 - C), C = sqrt(2/(pi alpha r)) exp(-y^2)."""
    alpha, m = hopfield_capacity()
    low, high = 0.5, 4.0
    for _ in range(80):
        y = (low + high) / 2
        low, high = (y, high) if math.erf(y) < m else (low, y)
    root = m / (y * math.sqrt(2 * alpha))
    assert root * (1 - math.sqrt(2 / math.pi / alpha) / root * math.exp(-y * y)) == pytest.approx(1, abs=1e-6)


def test_the_glass_below_its_transition() -> None:
    static = static_temperature(3)
    found = glass_at(3, 0.5)
    assert found.theta < 1
    assert found.pressure < math.log(2) + 1  # A is least in theta, RS is theta = 1
    assert overlap(3, static + 0.05, 1.0) == 0
    with pytest.raises(ErlangenError, match=r"no glass with theta below 1 at P = 3; T_c = 0\.651385"):
        glass_at(3, static + 1e-3)


@pytest.mark.parametrize("P", [3, 4])
def test_the_glass_is_found_up_to_its_transition(P: int) -> None:
    """theta rises to one and the energy stays above the paramagnet's, which it meets there; q2 jumps."""
    static = static_temperature(P)
    found = [glass_at(P, share * static) for share in (0.4, 0.7, 0.85, 0.93, 0.98, 0.999)]
    thetas, energies = [g.theta for g in found], [g.energy for g in found]
    assert thetas == sorted(thetas)
    assert thetas[-1] == pytest.approx(1, abs=0.01)
    assert energies == sorted(energies)
    assert all(g.q2 > 0.8 for g in found)
    assert energies[-1] == pytest.approx(-0.5 / static, abs=3e-3)
    assert all(
        g.energy > -0.5 / (share * static) for g, share in zip(found, (0.4, 0.7, 0.85, 0.93, 0.98), strict=False)
    )


# --- spins -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_sums_over_distinct_indices(k: int) -> None:
    x = spins(7)
    due = sum(float(torch.stack([x[i] for i in chosen]).prod()) for chosen in itertools.combinations(range(7), k))
    assert float(symmetric_sum(x.double().sum(), 7, k)) == pytest.approx(due)


@pytest.mark.parametrize("P", [2, 3, 4])
def test_fields_are_changes_of_energy(P: int) -> None:
    s, patterns = spins(5, 10), spins(12, 10, seed=1)
    for i in range(10):
        turned = s.clone()
        turned[:, i] *= -1
        change = hebbian_energy(turned, patterns, P) - hebbian_energy(s, patterns, P)
        assert torch.allclose(change, 2 * s[:, i] * hebbian_field(s, i, patterns, P), atol=1e-12)


def test_a_pattern_has_the_energy_of_its_overlap() -> None:
    """One pattern: -N f."""
    xi = spins(1, 20)
    assert float(hebbian_energy(xi[0], xi, 4)) == pytest.approx(-20 * size_factor(4, 20), rel=1e-12)


def test_descent_ends_where_no_field_disagrees() -> None:
    patterns = spins(60, 16)
    s = descend(spins(16, seed=2), patterns, 3, generator=generator())
    assert all(float(s[i] * hebbian_field(s, i, patterns, 3)) >= 0 for i in range(16))
    assert mattis_overlap(descend(patterns[0], patterns[:1], 4, generator=generator()), patterns[0], 4) == 1


def test_three_body_tensors() -> None:
    couplings = gaussian_couplings(2, 7, 3, generator())
    J, s = three_body(couplings, 7), enumerated(7, 1).double()
    due = enumerated(7, 3).double() @ couplings[0]
    assert torch.allclose(torch.einsum("abc,sa,sb,sc->s", J[0], s, s, s) / 6, due, atol=1e-12)


def test_tempering_of_three_body_glasses() -> None:
    """Energies of four glasses with ten spins, against enumeration."""
    N, g = 10, generator(5)
    couplings = gaussian_couplings(4, N, 3, g)
    betas = torch.tensor([0.7, 1.3, 2.0], dtype=torch.float64)
    states = -couplings @ enumerated(N, 3).double().mT  # [4, 2^N]
    weights = torch.softmax(-betas[:, None, None] * states, -1)
    exact = (weights * states).sum(-1).mT
    J = three_body(couplings, N)[None]

    def field(s: torch.Tensor, i: int) -> torch.Tensor:
        return ((s @ J[:, :, i]) * s).sum(-1) / 2

    def energy(s: torch.Tensor) -> torch.Tensor:
        return -torch.stack([s[..., i] * field(s, i) for i in range(N)]).sum(0) / 3

    found = (
        parallel_tempering(spins(60, 4, 3, N).double(), field, energy, betas, 150, generator=g).energies[50:].mean(0)
    )
    assert bool(((found.mean(0) - exact).abs() < 5 * found.std(0) / 60**0.5).all())


def test_mean_energies_of_states_do_not_exceed_the_annealed_bound() -> None:
    """Jensen: E ln Z <= N ln 2 + N f beta^2/4, up to three errors of 200 draws."""
    energies = gaussian_couplings(200, 10, 3, generator(1)) @ enumerated(10, 3).double().mT
    for beta in (0.5, 2.0, 5.0):
        logs = torch.logsumexp(-beta * energies, 1)
        assert (
            float(logs.mean())
            <= 10 * (math.log(2) + size_factor(3, 10) * beta**2 / 4) + 3 * float(logs.std()) / 200**0.5
        )


def test_where_a_share_falls() -> None:
    assert crossing((1.0, 2.0, 3.0), [1.0, 0.75, 0.25], 0.5) == 2.5
    assert crossing((1.0, 2.0), [0.2, 0.1], 0.5) == 1.0
    assert crossing((1.0, 2.0), [0.9, 0.8], 0.5) == 2.0


# --- bad input -------------------------------------------------------------------------------------------------------
def test_models_that_are_none() -> None:
    with pytest.raises(ErlangenError, match="P = 1"):
        DenseModel(1, 1.0, 1.0)
    for beta in (0.0, -1.0, math.inf):
        with pytest.raises(ErlangenError, match=r"beta = .*above zero"):
            DenseModel(3, 1.0, beta)
    with pytest.raises(ErlangenError, match="J = -1"):
        DenseModel(3, -1.0, 1.0)
    model = DenseModel(3, 1.0, 1.0)
    for theta in (0.0, 1.2):
        with pytest.raises(ErlangenError, match=r"theta = .*above 0"):
            model.pressure(0.0, 0.1, 0.2, theta)
    with pytest.raises(ErlangenError, match="q1 <= q2"):
        model.pressure(0.0, 0.5, 0.2, 0.5)
    with pytest.warns(NotConvergedWarning, match="steps = 2"):
        model.solve(1.0, 0.5, 0.9, 0.5, steps=2)


def test_loads_and_sizes() -> None:
    assert coupling_of(load_of(1920, 40, 4), 4) == pytest.approx(1.2)
    with pytest.raises(ErlangenError, match=r"K = alpha N\^\(P-1\)"):
        load_of(2_000_000, 100, 4)
    with pytest.raises(ErlangenError, match="at most 30 spins"):
        enumerated(31, 3)
    with pytest.raises(ErlangenError, match="entries other than"):
        hebbian_energy(torch.zeros(5), spins(2, 5), 3)
    with pytest.raises(ErlangenError, match="no symmetry for odd P"):
        mattis_overlap(spins(5), spins(5), 3, up_to_sign=True)
    with pytest.raises(ErlangenError, match="hopfield_capacity"):
        retrieval_capacity(2)
    with pytest.raises(ErlangenError, match="retrieval ends at"):
        retrieval_energy(4, 0.04)
    with pytest.raises(ErlangenError, match="SK"):
        static_temperature(2)
    with pytest.raises(ErlangenError, match="k = 5"):
        symmetric_sum(torch.ones(1), 6, 5)
