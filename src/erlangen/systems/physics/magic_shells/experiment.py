"""What is measured of programmable shells: properties of designs, and assembly of small shells with several designs."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Generator

from erlangen.geometry import icosahedral_shell
from erlangen.survey import Claim, Part, Result, Run, Table, properties, sweep
from erlangen.systems.physics.magic_shells._properties import PROPERTIES
from erlangen.systems.physics.magic_shells._target import grown, is_target, wrong_vertices
from erlangen.systems.physics.magic_shells.method import ShellDesign, best_symmetry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STRETCH, BEND, BINDING = 300.0, 30.0, -7.0
"""In units of kT: the engine's moduli, and the strongest of its bonds."""

RATES = {
    1: {"insertion": 0.012, "wedge": 0.012, "hole": 0.03, "fusion": 0.02, "fusion2": 0.003, "edge": 0.02},
    3: {"insertion": 0.004, "wedge": 0.004, "hole": 0.01, "fusion": 0.008, "fusion2": 0.001, "edge": 0.008},
    4: {"insertion": 0.0035, "wedge": 0.0035, "hole": 0.008, "fusion": 0.006, "fusion2": 0.0007, "edge": 0.006},
}
"""Of moves, by T: as large as the numbers of sites allow."""

DESIGNS = {(1, 0): ("I", "D5", "T", "D2", "C1"), (1, 1): ("I", "T", "D5", "D2", "C1"), (2, 0): ("I", "C3", "C1")}

MIXED = {(1, 0): ("D5",), (1, 1): ("T", "D5"), (2, 0): ()}
"""Designs with vertices on axes and off, which are made with softer bends, too, where wrong vertices cost less."""


@dataclass(frozen=True)
class Budget:
    """What a run spends.

    Attributes:
        shells: h and k of what is assembled.
        activities: logarithms of the sum of activities of all species, the same for all designs.
        bends: bending moduli; those below `BEND` for `MIXED` designs alone.
        runs: of each design at each activity.
        steps: of each run at most, by T.
    """

    shells: tuple[tuple[int, int], ...]
    activities: tuple[float, ...]
    bends: tuple[float, ...]
    runs: int
    steps: dict[int, int]


BUDGETS = {
    "smoke": Budget(((1, 0), (1, 1), (2, 0)), (2.0,), (BEND,), 1, {1: 2000, 3: 500, 4: 500}),
    "full": Budget(
        ((1, 0), (1, 1), (2, 0)), (-2.0, 0.0, 2.0, 4.0), (10.0, BEND), 12, {1: 300_000, 3: 600_000, 4: 600_000}
    ),
    "paper": Budget(
        ((1, 0), (1, 1), (2, 0)),
        (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0),
        (10.0, BEND),
        64,
        dict.fromkeys((1, 3, 4), 31_000_000_000),
    ),
}


def name_of(h: int, k: int, symmetry: str, bend: float, activity: float) -> str:
    """Of a row."""
    return f"T = {h * h + h * k + k * k}, {symmetry}, bend {bend:g}, activity {activity:g}"


def row(run: Run[Budget], h: int, k: int, symmetry: str, bend: float, activity: float, _: int) -> Mapping[str, Any]:
    """How many runs end with the complete shell, and which vertices are wrong in what all runs end with."""
    b, design = run.budget, ShellDesign(icosahedral_shell(h, k), symmetry)
    T = design.shell.T
    complete, closed, overgrown, on, off, steps = 0, 0, 0, 0, 0, 0
    for n in range(b.runs):
        state, made = grown(
            design, b.steps[T], stretch=STRETCH, bend=bend, binding=BINDING, activity=activity, step=0.1, reach=0.1,
            rates=RATES[T], generator=Generator().manual_seed(7919 * run.seed + n),
        )  # fmt: skip
        wrong = wrong_vertices(design, state)
        complete, closed = complete + is_target(design, state), closed + (state.open_sides == 0)
        overgrown += state.open_sides > 0 and len(state.faces) >= 30 * T
        on, off, steps = on + wrong["on"], off + wrong["off"], steps + made
    share = complete / b.runs
    return {
        "species": design.species,
        "interactions": design.interactions,
        "runs": b.runs,
        "complete": complete,
        "share complete": share,
        "standard error": math.sqrt(share * (1 - share) / b.runs),
        "closed": closed,
        "overgrown": overgrown,
        "wrong vertices on axes": on,
        "wrong vertices off axes": off,
        "vertices on axes, share": float((design.vertex_axes > 1).double().mean()),
        "steps, mean": steps / b.runs,
    }


def assembly_part(run: Run[Budget]) -> Part:
    """Every design of every shell at every activity; claims about the activity that is best for a design."""
    b = run.budget
    cells = [
        (h, k, symmetry, bend, activity)
        for h, k in b.shells for symmetry in DESIGNS[h, k] for bend in b.bends for activity in b.activities
        if bend == BEND or symmetry in MIXED[h, k]
    ]  # fmt: skip
    table = sweep("assembly", {name_of(*c): functools.partial(row, run, *c) for c in cells}, run=run, once=True)
    claims = [claim for h, k in b.shells for claim in _yield_claims(table, b, h, k)]
    return table.part(*claims, _census_claim(table, cells))


def _yield_claims(table: Table, b: Budget, h: int, k: int) -> list[Claim]:
    """The design that the rule predicts, beside I and C1; each at its own best activity, at the stiffer bend."""

    def best(symmetry: str) -> np.ndarray[Any, Any]:
        return np.max([table[name_of(h, k, symmetry, BEND, a), "share complete"] for a in b.activities], axis=0)

    T, rule = h * h + h * k + k * k, best_symmetry(h, k)
    ours, most, least = best(rule), best("I"), best("C1")
    error = np.sqrt((ours * (1 - ours) + least * (1 - least)) / b.runs + 1e-12)
    words = f"Assembly, T = {T}, design {rule}, each design at its best activity: "
    claims = [
        table.bound(
            f"t{T}-yield-not-below-i",
            words + "share of complete shells less that of the design I.",
            ours - most,
            at_least=0,
        ),
        table.bound(
            f"t{T}-yield-as-single-addresses",
            words + "share of complete shells below that of C1, in standard errors of the difference.",
            (least - ours) / error,
            at_most=2,
        ),
    ]
    if T == 1:
        claims.insert(0, table.bound("t1-closes", words + "share of complete shells.", ours, at_least=0.05))
    return claims


def _census_claim(table: Table, cells: list[tuple[int, int, str, float, float]]) -> Claim:
    """Designs that have vertices on axes and others: whether wrong ones are on axes more often than vertices are."""
    cases: dict[float, tuple[int, int]] = {}
    for cell in cells:
        name = name_of(*cell)
        share = float(table[name, "vertices on axes, share"][0])
        if 0 < share < 1:
            on, off = (int(table[name, f"wrong vertices {where} axes"][0]) for where in ("on", "off"))
            found = cases.get(share, (0, 0))
            cases[share] = (found[0] + on, found[1] + off)
    # One test for all: independent counts, each with its own share; the sum on axes is compared by convolution.
    total: list[float] = [1.0]
    for share, (on, off) in cases.items():
        n = on + off
        one = [math.comb(n, j) * share**j * (1 - share) ** (n - j) for j in range(n + 1)]
        total = np.convolve(total, one).tolist()
    seen = sum(on for on, _ in cases.values())
    tail = min(1.0, math.fsum(total[seen:]))
    return table.bound(
        "wrong-vertices-are-on-axes",
        "Assembly, designs with vertices on axes and off: probability that as many wrong inner vertices are on axes if they "
        "were anywhere, one-sided.",
        np.array([tail]),
        at_most=0.05,
    )


def experiment(run: Run[Budget]) -> Result:
    """Properties, then assembly; a dry run takes few steps."""
    few = replace(run, budget=BUDGETS["smoke"]) if run.dry else run
    return Result.of(
        properties(run, *PROPERTIES),
        assembly_part(few),
        Part(
            [],
            [
                Claim.not_measurable(
                    "t7-assembles-best-with-t",
                    "Assembly, T = 7: the tetrahedral design closes as often as that of single addresses, with a twelfth of "
                    "the interactions.",
                    published=None,
                    reason="the authors' engine gives runs of this shell up to 3e10 steps, and its input for T = 7 is not public",
                )
            ],
        ),
    )


def figure(result: Result) -> Figure:
    """Share of complete shells by activity, for every design at the stiffer bend."""
    from erlangen import plots

    curves: dict[str, list[tuple[float, float]]] = {}
    for line in result.rows:
        if line["part"] == "assembly" and f"bend {BEND:g}," in str(line["model"]):
            name, activity = str(line["model"]).split(f", bend {BEND:g}, activity ")
            curves.setdefault(name, []).append((float(activity), float(str(line["share complete"]))))
    return plots.line(curves, "logarithm of the activity", "share of complete shells")
