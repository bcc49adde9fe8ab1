"""What is measured: identities of the group at infinity, and eight Lagrangians with the symmetries that are found in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import sympy as sp
import torch

from erlangen.equations import noether_current
from erlangen.equations.circle import circle_points, hill_trace
from erlangen.survey import Claim, Part, Result, Run, largest, properties, sweep
from erlangen.systems.physics.asymptotic_symmetries._properties import PROPERTIES, circle_map, space
from erlangen.systems.physics.asymptotic_symmetries._theories import THEORIES, Theory, kepler, runge_lenz
from erlangen.systems.physics.asymptotic_symmetries.method import Vacuum

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Budget:
    """What a run spends: vacua that are moved along their orbits."""

    orbits: int


BUDGETS = {"smoke": Budget(4), "full": Budget(200), "paper": Budget(200)}


def theories_part(run: Run[Budget]) -> Part:
    """Eight Lagrangians: what is found, what is known, and currents whose divergence vanishes on solutions."""

    def row(theory: Theory, _: int) -> Mapping[str, Any]:
        lagrangian, fields = theory.symmetries()
        currents = [noether_current(field, lagrangian) for field in fields]  # an error where one does not close
        return {"found": len(fields), "known": theory.known, "currents": len(currents)}

    shown = dict(list(THEORIES.items())[:1]) if run.dry else THEORIES
    table = sweep("theories", {name: partial(row, theory) for name, theory in shown.items()}, run=run, once=True)
    claims = [
        Claim.number(
            f"{name.replace(' ', '-').lower()}-has-its-algebra",
            f"{name}: dimension of the algebra that is found among polynomials of degree {theory.degree}; {theory.reason}.",
            measured=float(table[name, "found"][0]),
            expected=theory.known,
        )
        for name, theory in shown.items()
    ]
    hidden = [
        sp.simplify(noether_current(field, kepler()[1], boundary=(edge,))[0] - vector) == 0
        for field, edge, vector in runge_lenz()
    ]
    claims.append(
        Claim.number(
            "kepler-has-a-hidden-vector",
            "Components of the Runge-Lenz vector v x L - r/|r| that are the current of a symmetry with velocities in it.",
            measured=float(sum(hidden)),
            expected=2.0,
        )
    )
    return table.part(*claims)


def orbits_part(run: Run[Budget]) -> Part:
    """Vacua along their orbits: how much the aspects change, and how little the invariant does."""
    generator = run.generator()

    def row(_: int) -> Mapping[str, Any]:
        start, g = space(generator), circle_map(generator)
        moved = start.superrotated(g)
        traces = [float(hill_trace(one.theta)) for one in (start, moved)]
        return {
            "smallest slope of the map": float(g.slopes()[0].min()),
            "change of Theta": float((moved.theta - start.theta).abs().max()),
            "trace": traces[0],
            "change of the trace": abs(traces[1] - traces[0]) / max(1.0, abs(traces[0])),
        }

    table = sweep("orbits", {f"orbit {k}": row for k in range(run.budget.orbits)}, run=run, once=True)
    worst = largest(one["change of the trace"] for one in table.rows)
    return table.part(
        Claim.exact(
            "orbits-keep-the-monodromy",
            "Largest change of Hill's trace, over its size or 1, along orbits of random vacua under random maps.",
            measured=float(worst),
            tol=1e-8,
        )
    )


def experiment(run: Run[Budget]) -> Result:
    """Properties, theories, orbits."""
    unmeasured = Claim.not_measurable(
        "coordinate-free-charges",
        "Charges are manifestly independent of coordinates, by conformal completion.",
        published=None,
        reason="it is a derivation, not a number: here charges are those in Bondi's coordinates, to which it leads",
    )
    return Result.of(properties(run, *PROPERTIES), theories_part(run), orbits_part(run), Part([], [unmeasured]))


def figure(result: Result) -> Figure:
    """Aspects of one orbit: Minkowski space and how maps of the circle move it."""
    from erlangen import plots

    angle, generator, flat = circle_points(), torch.Generator().manual_seed(0), Vacuum.constant(-1.0)
    spaces = {"Minkowski space": flat} | {f"moved, {k}": flat.superrotated(circle_map(generator)) for k in (1, 2, 3, 4)}
    curves = {name: list(zip(angle.tolist(), one.theta.tolist(), strict=True)) for name, one in spaces.items()}
    return plots.line(curves, "angle", "mass aspect")
