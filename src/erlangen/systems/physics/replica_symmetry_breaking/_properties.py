"""What holds exactly, or to the digits of the literature: limits of the pressure, symmetries, the sampler, small systems."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import torch

from erlangen.simulate import spin_sweep
from erlangen.survey import Run, bound, exact, largest, number
from erlangen.systems.physics.replica_symmetry_breaking._spins import (
    enumerated,
    gaussian_couplings,
    hebbian_energy,
    hebbian_field,
    size_factor,
)
from erlangen.systems.physics.replica_symmetry_breaking._transitions import glass_at, overlap
from erlangen.systems.physics.replica_symmetry_breaking._zero import (
    glass_ground_state,
    ground_state_crossing,
    hopfield_capacity,
    retrieval_capacity,
    retrieval_energy,
)
from erlangen.systems.physics.replica_symmetry_breaking.method import DenseModel, coupling_of

CASES = ((2, 0.8, 1.5, 0.3, 0.4), (3, 1.0, 2.0, 0.0, 0.6), (4, 0.9, 1.2, 0.7, 0.5))
"""P, J, beta, m and an overlap."""


@exact(tol=1e-12)
def one_overlap_is_rs(run: Run[Any]) -> float:
    """Largest difference of the 1RSB pressure at q1 = q2 = q to the RS pressure; P = 2, 3, 4 and theta = 0.2, 0.7."""
    return largest(
        abs(DenseModel(P, J, b).pressure(m, q, q, theta) - DenseModel(P, J, b).pressure_rs(m, q))
        for (P, J, b, m, q), theta in itertools.product(CASES, (0.2, 0.7))
    )


@exact(tol=1e-12)
def theta_one_is_rs(run: Run[Any]) -> float:
    """Largest difference of the 1RSB pressure at theta = 1 to the RS pressure at q1, for two q2; P = 2, 3, 4."""
    return largest(
        abs(DenseModel(P, J, b).pressure(m, q, q2, 1.0) - DenseModel(P, J, b).pressure_rs(m, q))
        for (P, J, b, m, q), q2 in itertools.product(CASES, (0.7, 0.95))
    )


@exact(tol=1e-6)
def solutions_are_stationary(run: Run[Any]) -> float:
    """Largest derivative of the 1RSB pressure by m, q1 and q2, by differences, at fixed points with and without retrieval; \
    P = 2, 3, 4."""
    worst: list[float] = []
    for P, J, beta, start, theta in (
        (2, 0.5, 2.0, (1.0, 0.9, 0.95), 0.5),
        (2, 1.0, 2.0, (0.0, 0.3, 0.8), 0.4),
        (3, 1.0, 2.0, (0.0, 0.0, 0.9), 0.7),
        (3, 0.6, 1.5, (1.0, 0.8, 0.9), 0.5),
        (4, 0.8, 1.5, (1.0, 0.8, 0.9), 0.5),
    ):
        model = DenseModel(P, J, beta)
        x = model.solve(*start, theta)
        h = 1e-4
        for k in range(3):
            if x[k] < 2 * h or (k > 0 and x[2] - x[1] < 2 * h):
                continue  # at the border of the overlaps' range
            up, down = (
                model.pressure(*(value + sign * h * (k == j) for j, value in enumerate(x)), theta=theta)
                for sign in (1, -1)
            )
            worst.append(abs(up - down) / (2 * h))
    return largest(worst)


@exact(tol=1e-12)
def hot_is_paramagnetic(run: Run[Any]) -> float:
    """Largest of m, q and the difference of A to ln 2 + beta^2 J^2/4, where iteration from m = q = 0.9 ends at beta = 0.4; \
    P = 2, 3, 4, J = 1."""
    worst: list[float] = []
    for P in (2, 3, 4):
        model = DenseModel(P, 1.0, 0.4)
        m, q = 0.9, 0.9
        for _ in range(400):
            m, q = model.update_rs(m, q)
        worst += [m, q, abs(model.pressure_rs(m, q) - math.log(2) - 0.04)]
    return largest(worst)


@bound(at_most=0.01)
def many_bodies_are_random_energies(run: Run[Any]) -> float:
    """Largest relative difference of A at P = 20, where iteration from q = 0.9 ends at T = 0.75 and 1, to ln 2 + beta^2/4."""
    worst: list[float] = []
    for T in (0.75, 1.0):
        model, q = DenseModel(20, 1.0, 1 / T), 0.9
        for _ in range(200):
            q = model.update_rs(0.0, q)[1]
        worst.append(abs(model.pressure_rs(0.0, q) / (math.log(2) + 1 / (4 * T * T)) - 1))
    return largest(worst)


@exact(tol=0)
def static_transition_of_three_bodies(run: Run[Any]) -> float:
    """Signs of dA/dtheta at theta = 1 that are wrong, P = 3, J = 1: below zero at T = 0.6523, above at T = 0.6503."""
    slopes = [DenseModel(3, 1.0, 1 / T).theta_slope(0.0, 0.0, overlap(3, T, 1.0), 1.0) for T in (0.6523, 0.6503)]
    return float((slopes[0] >= 0) + (slopes[1] <= 0))


@exact(tol=0)
def stability_of_three_bodies(run: Run[Any]) -> float:
    """Signs of the replicon that are wrong, P = 3, J = 1, theta extremal: above zero at T = 0.2423, below at T = 0.2383."""
    return float((glass_at(3, 0.2423).replicon <= 0) + (glass_at(3, 0.2383).replicon >= 0))


@number(0.78847, tol=1e-5)
def sk_pressure_with_replica_symmetry(run: Run[Any]) -> float:
    """A / beta of the SK model with replica symmetry at beta = 15."""
    model, q = DenseModel(2, 1.0, 15.0), 0.9
    for _ in range(300):
        q = model.update_rs(0.0, q)[1]
    return model.pressure_rs(0.0, q) / 15


def _zero_temperature(name: str, statement: str, expected: float, tol: float, value: Any) -> Any:
    """A property that is a number of the literature."""

    def measure(run: Run[Any]) -> float:
        return float(value())

    measure.__name__, measure.__doc__ = name, statement
    return number(expected, tol=tol, published=expected)(measure)


GROUND = functools.cache(glass_ground_state)

LITERATURE = [
    _zero_temperature(f"{words}_of_p{P}", f"{text}, P = {P}.", value, tol, lambda P=P, of=of: of(P))
    for words, text, of, values in (
        (
            "end_of_retrieval",
            "Load at which the RS retrieval branch ends at T = 0",
            lambda P: retrieval_capacity(P)[0],
            ((3, 0.126095, 5e-7), (4, 0.0329767, 5e-8), (6, 1.313996e-3, 5e-10), (8, 2.771832e-5, 5e-12)),
        ),
        (
            "overlap_at_the_end",
            "Overlap m at the end of the RS retrieval branch at T = 0",
            lambda P: retrieval_capacity(P)[2],
            ((3, 0.83848, 5e-6), (4, 0.91792, 5e-6), (6, 0.96199, 5e-6)),
        ),
        (
            "glass_energy",
            "Energy of the 1RSB glass at T = 0, J = 1",
            lambda P: GROUND(P)[0],
            ((2, -0.765259, 5e-6), (3, -0.813535, 1e-6), (4, -0.825471, 1e-6), (6, -0.831276, 1e-6)),
        ),
        (
            "breaking_point",
            "x = theta beta of the 1RSB glass at T = 0, J = 1",
            lambda P: GROUND(P)[1],
            ((2, 1.3608, 5e-4), (3, 1.38356, 1e-5)),
        ),
        ("inner_overlap", "q1 of the 1RSB glass at T = 0, J = 1", lambda P: GROUND(P)[2], ((2, 0.4768, 5e-4),)),
        (
            "ground_state_crossing",
            "Load above which the 1RSB glass lies below the retrieval state at T = 0",
            ground_state_crossing,
            ((4, 0.031714, 1e-6), (6, 1.01060e-3, 1e-8)),
        ),
    )
    for P, value, tol in values
] + [
    _zero_temperature(
        "hopfield_end_of_retrieval", "Load at which retrieval of Hopfield's model ends at T = 0, RS.", 0.1379056, 5e-8,
        lambda: hopfield_capacity()[0],
    ),
    _zero_temperature(
        "hopfield_overlap_at_the_end", "Overlap m at the end of retrieval of Hopfield's model at T = 0, RS.", 0.96742, 5e-6,
        lambda: hopfield_capacity()[1],
    ),
]  # fmt: skip


@exact(tol=0)
def three_bodies_retrieve_to_the_end(run: Run[Any]) -> float:
    """Loads, of 20 up to the end of the RS retrieval branch at T = 0, where the 1RSB glass has the lower energy; P = 3."""
    end = retrieval_capacity(3)[0] * (1 - 1e-9)
    loads = [end * (k + 1) / 20 for k in range(20)]
    return float(sum(retrieval_energy(3, a) >= GROUND(3)[0] * coupling_of(a, 3) for a in loads))


# --- small systems ---------------------------------------------------------------------------------------------------
@bound(at_most=1)
def enumeration_has_the_annealed_pressure(run: Run[Any]) -> float:
    """Difference of E log Z / N - ln 2, N = 14, 60 draws of Gaussian couplings, to f beta^2/4, over 3 standard errors plus \
    1.5 % of it; the largest over P = 3, 4 and beta = 0.3, 0.6, 0.9."""
    g, worst = run.generator(), []
    for P in (3, 4):
        energies = gaussian_couplings(60, 14, P, g) @ enumerated(14, P).double().mT
        for beta in (0.3, 0.6, 0.9):
            A = torch.logsumexp(-beta * energies, 1) / 14 - math.log(2)
            due = size_factor(P, 14) * beta**2 / 4
            worst.append(abs(float(A.mean()) - due) / (3 * float(A.std()) / 60**0.5 + 0.015 * due))
    return largest(worst)


@bound(at_most=1.05)
def variance_of_hebbian_energies(run: Run[Any]) -> float:
    """Larger of ratio and inverse: the mean of H^2 over all states, N = 12, P = 4, and 40 draws of K = 0.05 N^3 patterns, and \
    N f J^2/2."""
    g, N, P = run.generator(), 12, 4
    K = round(0.05 * N ** (P - 1))
    states = enumerated(N, 1)
    total = 0.0
    for _ in range(40):
        patterns = 2.0 * torch.randint(2, (K, N), generator=g) - 1
        total += float(hebbian_energy(states, patterns, P).square().mean()) / 40
    ratio = total / (N * size_factor(P, N) * coupling_of(K / N ** (P - 1), P) ** 2 / 2)
    return max(ratio, 1 / ratio)


@exact(tol=1e-12)
def energies_do_not_know_the_gauge(run: Run[Any]) -> float:
    """Largest relative change of Hebbian energies when spins and all patterns are multiplied by one pattern; P = 2, 3, 4."""
    g = run.generator()
    patterns = 2.0 * torch.randint(2, (30, 14), generator=g) - 1
    s = 2.0 * torch.randint(2, (8, 14), generator=g) - 1
    worst: list[float] = []
    for P in (2, 3, 4):
        before = hebbian_energy(s, patterns, P)
        after = hebbian_energy(s * patterns[0], patterns * patterns[0], P)
        worst.append(float((after - before).abs().max() / before.abs().max()))
    return largest(worst)


@exact(tol=1e-12)
def turning_all_spins_over(run: Run[Any]) -> float:
    """Largest relative difference of H(-s) to (-1)^P H(s), P = 2, 3, 4: even P has the symmetry, odd P has not."""
    g = run.generator()
    patterns = 2.0 * torch.randint(2, (30, 14), generator=g) - 1
    s = 2.0 * torch.randint(2, (8, 14), generator=g) - 1
    worst: list[float] = []
    for P in (2, 3, 4):
        before = hebbian_energy(s, patterns, P)
        worst.append(float((hebbian_energy(-s, patterns, P) - (-1) ** P * before).abs().max() / before.abs().max()))
    return largest(worst)


@bound(at_most=0.01)
def sampler_reaches_the_equilibrium(run: Run[Any]) -> float:
    """Larger total variation of Metropolis and heat bath to the exact distribution of a network with 8 spins, P = 3, 3 \
    patterns, beta = 0.3; 100,000 chains, sweeps 6 to 25."""
    g, N, P = run.generator(), 8, 3
    patterns = 2.0 * torch.randint(2, (3, N), generator=g) - 1
    exact_ = torch.softmax(-0.3 * hebbian_energy(enumerated(N, 1), patterns, P), 0)
    worst: list[float] = []
    for rule in ("heat bath", "metropolis"):
        s = 2.0 * torch.randint(2, (100_000, N), generator=g) - 1
        counts = torch.zeros(2**N, dtype=torch.float64)
        for sweep in range(25):
            s = spin_sweep(s, lambda s, i: hebbian_field(s, i, patterns, P), 0.3, rule=rule, generator=g)
            if sweep >= 5:
                counts += torch.bincount(((s < 0).long() << torch.arange(N)).sum(1), minlength=2**N)
        worst.append(float((counts / counts.sum() - exact_).abs().sum()) / 2)
    return largest(worst)


PROPERTIES = (
    one_overlap_is_rs, theta_one_is_rs, solutions_are_stationary, hot_is_paramagnetic, many_bodies_are_random_energies,
    static_transition_of_three_bodies, stability_of_three_bodies, sk_pressure_with_replica_symmetry, *LITERATURE,
    three_bodies_retrieve_to_the_end, enumeration_has_the_annealed_pressure, variance_of_hebbian_energies,
    energies_do_not_know_the_gauge, turning_all_spins_over, sampler_reaches_the_equilibrium,
)  # fmt: skip
