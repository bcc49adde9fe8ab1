"""What is measured of dense networks: transitions of the literature, a phase diagram, descent at T = 0, tempering."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Generator

from erlangen.simulate import correlated_mean, parallel_tempering
from erlangen.survey import Part, Result, Run, properties, sweep
from erlangen.systems.physics.replica_symmetry_breaking._properties import PROPERTIES
from erlangen.systems.physics.replica_symmetry_breaking._spins import (
    descend,
    gaussian_couplings,
    mattis_overlap,
    size_factor,
    three_body,
)
from erlangen.systems.physics.replica_symmetry_breaking._transitions import (
    dynamic_temperature,
    gardner_temperature,
    glass_at,
    static_temperature,
)
from erlangen.systems.physics.replica_symmetry_breaking._transitions import overlap as glass_overlap
from erlangen.systems.physics.replica_symmetry_breaking._zero import hopfield_capacity, retrieval_capacity
from erlangen.systems.physics.replica_symmetry_breaking.method import DenseModel, coupling_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOADS = (0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.05, 0.06)
"""alpha of the descents with four-body couplings."""

PAIR_LOADS = (0.10, 0.12, 0.13, 0.14, 0.15, 0.16, 0.18)
"""alpha of the descents of Hopfield's model."""

RETRIEVED = 0.8
"""Overlap that counts as retrieved."""

COLD, COLDER = 0.5, 0.3
"""Temperatures of the three-body glass that are compared with theory."""


@dataclass(frozen=True)
class Budget:
    """What a run spends.

    Attributes:
        bodies: P of the transitions.
        temperatures, loads: of the phase diagram.
        sizes: N of the descents with four-body couplings.
        pairs: N of Hopfield's model.
        draws: of patterns at each load.
        spins, samples, sweeps, replicas: of parallel tempering with three-body couplings.
    """

    bodies: tuple[int, ...]
    temperatures: int
    loads: int
    sizes: tuple[int, ...]
    pairs: int
    draws: int
    spins: int
    samples: int
    sweeps: int
    replicas: int


BUDGETS = {
    "smoke": Budget((3,), 2, 4, (20, 30), 100, 2, 12, 2, 20, 4),
    "full": Budget((3, 4, 6), 30, 30, (40, 60, 80), 500, 20, 64, 8, 3000, 12),
    "paper": Budget((3, 4, 6), 60, 60, (40, 60, 80, 120), 2000, 100, 96, 32, 100_000, 16),
}


# --- theory ----------------------------------------------------------------------------------------------------------
def transitions_part(run: Run[Budget]) -> Part:
    """Temperatures of the pure glass, J = 1, to the digits of the literature."""

    def row(P: int, _: int) -> Mapping[str, Any]:
        static = static_temperature(P)
        found = {"T_d": dynamic_temperature(P), "T_c": static, "q2 at T_c": glass_overlap(P, static, 1.0)}
        if P == 3:
            cold = glass_at(3, 0.5)
            found |= {"T_G": gardner_temperature(3), "theta at T = 0.5": cold.theta, "q2 at T = 0.5": cold.q2}
            found |= {f"energy at T = {T:g}": glass_at(3, T).energy for T in (0.5, 0.4, 0.3)}
        return found

    table = sweep("transitions", {f"P = {P}": functools.partial(row, P) for P in run.budget.bodies}, run=run, once=True)
    values = (
        (3, "T_d", 0.68160, 1e-5), (3, "T_c", 0.651385, 1e-6), (3, "q2 at T_c", 0.81352, 2e-5), (3, "T_G", 0.240260, 1e-5),
        (3, "theta at T = 0.5", 0.70995, 1e-5), (3, "q2 at T = 0.5", 0.89310, 1e-5), (3, "energy at T = 0.5", -0.79338, 1e-5),
        (3, "energy at T = 0.4", -0.80307, 1e-5), (3, "energy at T = 0.3", -0.80883, 1e-5),
        (4, "T_d", 0.67841, 1e-5), (4, "T_c", 0.61688, 1e-5), (4, "q2 at T_c", 0.94809, 2e-5),
        (6, "T_d", 0.72747, 1e-5), (6, "T_c", 0.60330, 1e-5),
    )  # fmt: skip
    return table.part(
        *(
            table.number(
                f"p{P}-{column.lower().replace(' = ', '-').replace(' ', '-').replace('_', '-').replace('.', '-')}",
                f"Glass with J = 1 and P = {P}: {column}.",
                table[f"P = {P}", column],
                expected=value,
                tol=tol,
                published=value,
            )
            for P, column, value, tol in values
            if P in run.budget.bodies
        )
    )


def retrieval(P: int, alpha: float, T: float, m: float, q: float) -> tuple[float, float]:
    """m and q of the RS retrieval state, iterated from a start."""
    model = DenseModel(P, coupling_of(alpha, P), 1 / T)
    for _ in range(400):
        new_m, new_q = model.update_rs(m, q)
        change = abs(new_m - m) + abs(new_q - q)
        m, q = new_m, new_q
        if change < 1e-9 or m < 0.3:
            break
    return (m, q) if m >= 0.3 else (0.0, 0.0)


def diagram_part(run: Run[Budget]) -> Part:
    """P = 4: at each temperature the loads to which retrieval exists and is the state of the largest pressure, and the glass."""
    b, P = run.budget, 4
    loads = np.linspace(0.002, 0.044, b.loads)
    static = static_temperature(P)

    def glass_pressure(alpha: float, T: float) -> float:
        """A of the 1RSB glass, or of the paramagnet above its transition; temperatures scale with J."""
        t = T / coupling_of(alpha, P)
        return math.log(2) + 1 / (4 * t * t) if t >= static - 1e-4 else glass_at(P, round(t, 6)).pressure

    def row(T: float, _: int) -> Mapping[str, Any]:
        m, q = 1.0, 1.0
        exists, stable = 0.0, 0.0
        for alpha in loads.tolist():
            m, q = retrieval(P, alpha, T, m, q)  # continued in the load
            if not m:
                break
            exists = alpha
            if DenseModel(P, coupling_of(alpha, P), 1 / T).pressure_rs(m, q) >= glass_pressure(alpha, T):
                stable = alpha
        glass = (T / static) ** 2 / (2 * math.factorial(P))
        return {"T": T, "retrieval to": exists, "of largest pressure to": stable, "glass from": glass}

    temperatures = np.linspace(0.05, 1.0, b.temperatures).tolist()
    table = sweep(
        "phase diagram", {f"T = {T:.3f}": functools.partial(row, T) for T in temperatures}, run=run, once=True
    )
    names = table.models
    exists = np.array([table[name, "retrieval to"] for name in names])
    stable = np.array([table[name, "of largest pressure to"] for name in names])
    step = float(loads[1] - loads[0])
    return table.part(
        table.number(
            "cold-end-of-retrieval",
            "Phase diagram, P = 4: largest load of the grid with a retrieval state at T = 0.05, against the end of its branch "
            "at T = 0, within two steps of the grid.",
            exists[0],
            expected=0.0329767,
            tol=round(2 * 0.042 / 29, 6),
        ),
        table.same(
            "retrieval-shrinks-with-temperature",
            "Phase diagram, P = 4: pairs of neighbouring temperatures of which the higher one has retrieval at larger loads.",
            np.array([float((np.diff(exists[:, 0]) > 0.5 * step).sum())]),
            0.0,
            tol=0,
        ),
        table.same(
            "largest-pressure-within-retrieval",
            "Phase diagram, P = 4: temperatures at which the state of largest pressure is retrieval beyond the end of retrieval.",
            np.array([float((stable > exists).sum())]),
            0.0,
            tol=0,
        ),
    )


# --- simulation ------------------------------------------------------------------------------------------------------
def retrieved(P: int, N: int, alpha: float, seed: int) -> float:
    """Overlap at which descent from a pattern with 10 % of its spins turned over ends."""
    g = Generator().manual_seed(seed)
    K = max(1, round(alpha * N ** (P - 1)))
    patterns = 2.0 * torch.randint(2, (K, N), generator=g) - 1
    s = patterns[0].clone()
    s[torch.randperm(N, generator=g)[: N // 10]] *= -1
    return mattis_overlap(descend(s, patterns, P, generator=g), patterns[0], P)


def crossing(loads: tuple[float, ...], shares: list[float], level: float) -> float:
    """Where the share first falls below a level, on the line between loads; the last load if it never does."""
    for (a, x), (b, y) in zip(zip(loads, shares, strict=True), zip(loads[1:], shares[1:], strict=True), strict=False):
        if x >= level > y:
            return a + (b - a) * (x - level) / (x - y)
    return loads[0] if shares[0] < level else loads[-1]


def descent_part(run: Run[Budget]) -> Part:
    """Zero temperature: at which load half of the patterns are still retrieved, by size."""
    b = run.budget

    def row(P: int, N: int, loads: tuple[float, ...], _: int) -> Mapping[str, Any]:
        overlaps = [[retrieved(P, N, a, run.seed + 7919 * d) for d in range(b.draws)] for a in loads]
        shares = [float(np.mean(np.array(line) > RETRIEVED)) for line in overlaps]
        due = size_factor(P, N) * retrieval_capacity(P)[0] if P > 2 else hopfield_capacity()[0]
        half = crossing(loads, shares, 0.5)
        return {
            "draws": b.draws,
            **{f"retrieved at {a:g}": share for a, share in zip(loads, shares, strict=True)},
            "half": half,
            "predicted": due,
            "half over predicted": half / due,
            "from 0.9 to 0.1, over half": (crossing(loads, shares, 0.1) - crossing(loads, shares, 0.9)) / half,
        }

    methods = {f"P = 4, N = {N}": functools.partial(row, 4, N, LOADS) for N in b.sizes}
    four = sweep("descent", methods, run=run, once=True)
    pair = sweep(
        "Hopfield", {f"P = 2, N = {b.pairs}": functools.partial(row, 2, b.pairs, PAIR_LOADS)}, run=run, once=True
    )
    names = list(methods)
    inverse = np.array([1 / N for N in b.sizes])
    halves = np.array([four[name, "half over predicted"][0] for name in names])
    limit = float(np.polyfit(inverse, halves, 1)[1])
    claims = [
        four.number(
            f"half-retrieval-{word}",
            f"Descent, P = 4, {text} size: load at which half of the draws are retrieved, over f alpha_c of replica symmetry, "
            "f = prod (1 - j/N).",
            four[name, "half over predicted"],
            expected=1,
            tol=0.3,
        )
        for word, text, name in (("middle", "next to largest", names[-2]), ("large", "largest", names[-1]))
    ]
    claims.append(
        four.number(
            "half-retrieval-extrapolated",
            "Descent, P = 4: load at which half of the draws are retrieved, over f alpha_c, on the line in 1/N through all "
            "sizes, at 1/N = 0.",
            np.array([limit]),
            expected=1,
            tol=0.3,
        )
    )
    control = pair.number(
        "hopfield-half-retrieval",
        "Descent, P = 2: load at which half of the draws are retrieved, over alpha_c of replica symmetry.",
        pair[f"P = 2, N = {b.pairs}", "half over predicted"],
        expected=1,
        tol=0.3,
    )
    rows = [*four.rows, *pair.rows]
    return Part(rows, [*claims, control])


def tempering_part(run: Run[Budget]) -> Part:
    """P = 3: energies of a glass of finite size against RS and 1RSB, at J_eff = sqrt(f), from two starts."""
    b = run.budget
    N = b.spins
    f = size_factor(3, N)
    temperatures = torch.linspace(COLDER, 1.1, b.replicas, dtype=torch.float64)
    temperatures[int((temperatures - COLD).abs().argmin())] = COLD

    @functools.cache
    def found(start: str) -> Any:
        g = run.generator(1)
        J = three_body(gaussian_couplings(b.samples, N, 3, g), N)
        shape = (b.samples, b.replicas, N)
        s = torch.ones(shape, dtype=torch.float64)
        if start == "random":
            s = 2.0 * torch.randint(2, shape, generator=g).double() - 1

        def field(s: Any, i: int) -> Any:
            return ((s @ J[:, i]) * s).sum(-1) / 2

        def energy(s: Any) -> Any:
            # The i-th field counts each triple with i once.
            return -torch.stack([s[..., i] * field(s, i) for i in range(N)]).sum(0) / 3

        return parallel_tempering(s, field, energy, 1 / temperatures, b.sweeps, generator=g)

    def row(k: int, _: int) -> Mapping[str, Any]:
        T = float(temperatures[k])
        kept = [found(start).energies[b.sweeps // 2 :, :, k] / N for start in ("ordered", "random")]
        means = torch.stack([x.mean(0) for x in kept])  # [start, sample]
        error = float(means.mean(0).std() / b.samples**0.5)
        times = [correlated_mean(x[:, d]).time for x in kept for d in range(b.samples)]
        root = math.sqrt(f)
        t = T / root
        rs = -root / (2 * t)
        broken = root * glass_at(3, round(t, 6)).energy if t < 0.651 else rs
        E = float(means.mean())
        return {
            "T": T,
            "energy": E,
            "standard error": error,
            "RS": rs,
            "1RSB": broken,
            "difference to 1RSB": abs(E - broken),
            "difference to RS": abs(E - rs),
            "difference over 3 errors + 1/N": abs(E - broken) / (3 * error + 1 / N),
            "difference of starts": float((means[0] - means[1]).mean().abs()),
            "difference of starts over 3 errors + 1/N": float((means[0] - means[1]).mean().abs()) / (3 * error + 1 / N),
            "longest autocorrelation, sweeps": max(times),
            "swaps with the next": float(found("random").swaps[min(k, b.replicas - 2)]),
        }

    names = {f"T = {float(T):.3f}": functools.partial(row, k) for k, T in enumerate(temperatures)}
    table = sweep("tempering", names, run=run, once=True)
    cold, colder = f"T = {COLD:.3f}", f"T = {COLDER:.3f}"
    energies = np.array([table[name, "energy"][0] for name in names])
    claims = []
    for word, name, T in (("cold", cold, COLD), ("colder", colder, COLDER)):
        claims += [
            table.bound(
                f"tempering-{word}",
                f"Tempering, P = 3, T = {T}: difference of the energy to 1RSB at J = sqrt(f), over three standard errors + 1/N.",
                table[name, "difference over 3 errors + 1/N"],
                at_most=1,
            ),
            table.ratio(
                f"broken-symmetry-is-nearer-{word}",
                f"Tempering, P = 3, T = {T}: difference of the energy to 1RSB over that to RS.",
                table[name, "difference to 1RSB"],
                table[name, "difference to RS"],
                below=1,
            ),
            table.bound(
                f"two-starts-agree-{word}",
                f"Tempering, P = 3, T = {T}: difference of the energies from ordered and random spins, over three standard "
                "errors plus 1/N.",
                table[name, "difference of starts over 3 errors + 1/N"],
                at_most=1,
            ),
        ]
    return table.part(
        *claims,
        table.bound(
            "energy-rises-with-temperature",
            "Tempering, P = 3: least change of the energy from one temperature to the next.",
            np.array([float(np.diff(energies).min())]),
            at_least=0,
        ),
    )


# --- all -------------------------------------------------------------------------------------------------------------
def experiment(run: Run[Budget]) -> Result:
    """The parts; a dry run takes few loads, sizes and sweeps."""
    few = replace(run, budget=BUDGETS["smoke"]) if run.dry else run
    return Result.of(
        properties(run, *PROPERTIES),
        transitions_part(few),
        diagram_part(few),
        descent_part(few),
        tempering_part(few),
    )


def figure(result: Result) -> Figure:
    """Phase diagram of four-body couplings: lines in load and temperature."""
    from erlangen import plots

    curves: dict[str, list[tuple[float, float]]] = {}
    for row in result.rows:
        if row["part"] == "phase diagram":
            for column in ("retrieval to", "of largest pressure to", "glass from"):
                curves.setdefault(column, []).append((float(str(row[column])), float(str(row["T"]))))
    return plots.line(curves, "load alpha", "temperature")
