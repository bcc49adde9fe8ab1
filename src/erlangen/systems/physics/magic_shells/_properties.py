"""What holds exactly: tables and closed forms of designs, orbits and stabilizers, axes, stars; energies and balance."""

from __future__ import annotations

import itertools
import math
from functools import cache
from typing import Any

import torch
from torch import Tensor

from erlangen.geometry import icosahedral_shell
from erlangen.geometry.shells import Part
from erlangen.groups import SE, Icosahedral, burnside, orbits, subgroups_up_to_conjugacy
from erlangen.simulate import Assembly, shell_energy
from erlangen.survey import Run, exact, largest, number
from erlangen.systems.physics.magic_shells._target import assembly_of, target_of
from erlangen.systems.physics.magic_shells.method import (
    AXES,
    ORDERS,
    ShellDesign,
    best_symmetry,
    is_magic,
    unsafe_axes,
)

TABLE = {
    (1, 0): ((1, 1), (3, 3), (4, 6), (5, 9), (8, 10), (20, 30), "T"),
    (1, 1): ((1, 2), (5, 8), (10, 16), (15, 24), (20, 30), (60, 90), "D2"),
    (2, 0): ((2, 2), (8, 10), (14, 20), (20, 30), (28, 40), (80, 120), "C3"),
    (2, 1): ((3, 4), (13, 18), (24, 36), (35, 54), (48, 70), (140, 210), "T"),
    (3, 0): ((3, 5), (15, 23), (30, 46), (45, 69), (60, 90), (180, 270), "D2"),
    (2, 2): ((4, 6), (20, 30), (40, 60), (60, 90), (80, 120), (240, 360), "C1"),
    (3, 1): ((5, 7), (23, 33), (44, 66), (65, 99), (88, 130), (260, 390), "T"),
    (4, 0): ((6, 8), (28, 40), None, None, None, None, "C3"),
    (3, 2): ((7, 10), (33, 48), None, None, None, None, "T"),
    (4, 1): ((7, 11), (35, 53), None, None, None, None, "D2"),
    (5, 0): ((9, 13), (43, 63), None, None, None, None, "T"),
}
"""Kinds of triangles and of edges for I, T, D3, D2, C3, C1, and the best subgroup, counted by brute force."""

UP_TO_49 = [(h, k) for h in range(1, 8) for k in range(h + 1) if h * h + h * k + k * k <= 49]
UP_TO_7 = [(h, k) for h in range(1, 8) for k in range(8)]
PARTS: tuple[Part, ...] = ("faces", "edges", "vertices")

shell_of = cache(icosahedral_shell)


@exact(tol=0)
def tables_of_designs(run: Run[Any]) -> float:
    """Numbers of kinds of triangles and edges, and best subgroups, that differ from the table of eleven shells, T = 1 to 25."""
    wrong = 0
    for (h, k), (*counts, best) in TABLE.items():
        wrong += best_symmetry(h, k) != best
        for name, due in zip(("I", "T", "D3", "D2", "C3", "C1"), counts, strict=True):
            design = ShellDesign(shell_of(h, k), name)
            wrong += due is not None and (design.species, design.interactions) != due
    return wrong


@exact(tol=0)
def closed_forms_up_to_49(run: Run[Any]) -> float:
    """Kinds of triangles other than (20 T + 4 n3 [three-fold axes meet triangles]) / |G|, of edges other than (30 T + 2 n2 \
    [two-fold axes meet edges]) / |G|, with n2 and n3 axes in G; all nine subgroups, T up to 49."""
    axes = {"C2": (1, 0), "C3": (0, 1), "D2": (3, 0), "D3": (3, 1), "D5": (5, 0), "T": (3, 4), "I": (15, 10)}
    wrong = 0
    for (h, k), (name, order) in itertools.product(UP_TO_49, ORDERS.items()):
        two, three = axes.get(name, (0, 0))
        unsafe, T = unsafe_axes(h, k), h * h + h * k + k * k
        design = ShellDesign(shell_of(h, k), name)
        wrong += design.species * order != 20 * T + 4 * three * (3 not in unsafe)
        wrong += design.interactions * order != 30 * T + 2 * two * (2 not in unsafe)
    return wrong


@exact(tol=0)
def shells_are_spheres(run: Run[Any]) -> float:
    """Shells with V - E + F other than 2, other than 20 T triangles, or other than twelve vertices of five triangles, all \
    others of six; h from 1 to 7, k from 0 to 7."""
    wrong = 0
    for h, k in UP_TO_7:
        shell = shell_of(h, k)
        spread = torch.bincount(shell.coordination, minlength=7).tolist()
        wrong += len(shell.weights) - len(shell.edges) + len(shell.faces) != 2
        wrong += len(shell.faces) != 20 * shell.T or spread != [0] * 5 + [12, 10 * shell.T - 10]
    return wrong


@exact(tol=1e-12)
def mirror_images(run: Run[Any]) -> float:
    """Largest distance of a vertex of the mirrored shell (h, k) to the nearest of (k, h), edges of length 1; h and k up to 4."""
    mirror = torch.tensor([-1.0, 1, 1], dtype=torch.float64)
    return largest(
        float(torch.cdist(shell_of(h, k).pos * mirror, shell_of(k, h).pos, compute_mode="donot_use_mm_for_euclid_dist")
              .min(1).values.max())
        for h in range(1, 5) for k in range(1, 5)
    )  # fmt: skip


@cache
def _elements() -> dict[str, Tensor]:
    return {one.name: one.members[0] for one in subgroups_up_to_conjugacy(Icosahedral())}


@exact(tol=0)
def orbits_times_stabilizers(run: Run[Any]) -> float:
    """Faces, edges and vertices for which members of the orbit times elements that fix them are not |G|; all nine subgroups, \
    T = 1, 3, 4, 7, 13."""
    wrong = 0
    for (h, k), name, part in itertools.product(((1, 0), (1, 1), (2, 0), (2, 1), (3, 1)), AXES, PARTS):
        moved = shell_of(h, k).moved(part, _elements()[name])
        label = orbits(moved)
        fixed = (moved == torch.arange(moved.shape[1])).sum(0)
        wrong += int((torch.bincount(label)[label] * fixed != ORDERS[name]).sum())
    return wrong


@exact(tol=0)
def burnside_counts_orbits(run: Run[Any]) -> float:
    """Differences of Burnside's mean number of fixed things and the number of orbits found; faces, edges and vertices, all nine \
    subgroups, T up to 13."""
    wrong = 0
    for (h, k), name, part in itertools.product(UP_TO_49, AXES, PARTS):
        if h * h + h * k + k * k <= 13:
            moved = shell_of(h, k).moved(part, _elements()[name])
            wrong += burnside(moved) != int(orbits(moved).max()) + 1
    return wrong


@exact(tol=0)
def orbit_sizes_add_up(run: Run[Any]) -> float:
    """Difference of the sum of |G| over the stabilizers of one member of each orbit to 20 T, 30 T and 10 T + 2; all nine \
    subgroups, T = 1, 3, 4, 7."""
    wrong = 0
    for (h, k), name, part in itertools.product(((1, 0), (1, 1), (2, 0), (2, 1)), AXES, PARTS):
        T, moved = h * h + h * k + k * k, shell_of(h, k).moved(part, _elements()[name])
        fixed = (moved == torch.arange(moved.shape[1])).sum(0)
        first = {label: n for n, label in reversed(list(enumerate(orbits(moved).tolist())))}
        total = sum(ORDERS[name] // int(fixed[n]) for n in first.values())
        wrong += abs(total - {"faces": 20 * T, "edges": 30 * T, "vertices": 10 * T + 2}[part])
    return wrong


@exact(tol=0)
def axes_through_vertices(run: Run[Any]) -> float:
    """Shells for which the closed form of which axes go through vertices differs from the places of vertices; h 1 to 7, k 0 to \
    7."""
    return sum(
        set(ShellDesign(shell_of(h, k), "I").vertex_axes.tolist()) - {1} != set(unsafe_axes(h, k)) for h, k in UP_TO_7
    )


@exact(tol=0)
def stars_are_multiples_of_sectors(run: Run[Any]) -> float:
    """Vertices around which other numbers of triangles close up, by trying all that fit, up to 8, than multiples of z / n on an \
    n-fold axis; one vertex of each kind, all nine subgroups, T = 1, 3, 4 (C1: the first three)."""
    wrong = 0
    for (h, k), name in itertools.product(((1, 0), (1, 1), (2, 0)), AXES):
        design = ShellDesign(shell_of(h, k), name)
        kinds = orbits(design.shell.moved("vertices", design.elements)).tolist()
        first = list({kind: v for v, kind in reversed(list(enumerate(kinds)))}.values())
        for v in first[:3] if name == "C1" else first:
            sector = int(design.shell.coordination[v]) // int(design.vertex_axes[v])
            wrong += design.stars(v) != list(range(sector, 9, sector))
    return wrong


@exact(tol=0)
def subgroups_of_rotations(run: Run[Any]) -> float:
    """Numbers of subgroups other than 15 C2, 10 C3, 6 C5, 5 D2, 10 D3, 6 D5, 5 T, 1 C1 and 1 I; sizes of classes of elements \
    other than 1, 12, 12, 15, 20."""
    due = {"C1": 1, "C2": 15, "C3": 10, "D2": 5, "C5": 6, "D3": 10, "D5": 6, "T": 5, "I": 1}
    found = {one.name: one.count for one in subgroups_up_to_conjugacy(Icosahedral())}
    group, every = Icosahedral(), torch.arange(60)
    conjugate = torch.stack([group.compose(group.compose(torch.full((60,), g), every), group.inverse(torch.full((60,), g)))
                             for g in range(60)])  # fmt: skip
    sizes = sorted(torch.bincount(orbits(conjugate)).tolist())
    return (
        sum(found.get(name) != count for name, count in due.items())
        + (len(found) != 9)
        + (sizes != [1, 12, 12, 15, 20])
    )


@exact(tol=0)
def magic_sizes_below_50(run: Run[Any]) -> float:
    """Triangulation numbers below 50 on which T is magic by one of the two, the rule or the list 1, 7, 13, 19, 25, 31, 37, 43, \
    49; shells with k up to h up to 7."""
    magic = {h * h + h * k + k * k for h, k in UP_TO_49 if is_magic(h, k)}
    return len(magic ^ {1, 7, 13, 19, 25, 31, 37, 43, 49})


@exact(tol=1e-12)
def fewer_interactions(run: Run[Any]) -> float:
    """Largest difference of the interactions of single addresses over those of the tetrahedral design to 60 T / (5 T + 1); \
    magic T up to 49."""
    return largest(
        abs(ShellDesign(shell_of(h, k), "C1").interactions / ShellDesign(shell_of(h, k), "T").interactions - 60 * T / (5 * T + 1))
        for h, k in UP_TO_49 if is_magic(h, k) for T in [h * h + h * k + k * k]
    )  # fmt: skip


@number(12, tol=0.1, published=12)
def twelve_times_fewer(run: Run[Any]) -> float:
    """Interactions of single addresses over those of the tetrahedral design, T = 49."""
    shell = shell_of(5, 3)
    return ShellDesign(shell, "C1").interactions / ShellDesign(shell, "T").interactions


@exact(tol=0)
def targets_satisfy_their_designs(run: Run[Any]) -> float:
    """Half-edges of complete shells that are not opposite the label they bind, or whose triangle is no subunit of its species; \
    all nine subgroups, T = 1, 3, 4, 7."""
    wrong = 0
    for (h, k), name in itertools.product(((1, 0), (1, 1), (2, 0), (2, 1)), AXES):
        design = ShellDesign(shell_of(h, k), name)
        wrong += int((design.partners[design.labels] != design.labels[design.shell.twins]).sum())
        target = target_of(design)
        closed = assembly_of(design, start=target, stretch=300.0, bend=30.0, binding=-5.0, activity=0.0)
        wrong += int((design.partners[closed.labels(target)] != closed.labels(target)[target.twins]).sum())
    return wrong


@exact(tol=1e-12)
def icosahedron_is_at_rest(run: Run[Any]) -> float:
    """Elastic energy of the icosahedron with rest angles pi minus acos(-sqrt(5)/3), moduli 300 and 30."""
    shell = shell_of(1, 0)
    rest = math.pi - math.acos(-math.sqrt(5) / 3)
    return float(shell_energy(shell.pos, shell.faces, shell.twins, angles=rest, stretch=300.0, bend=30.0))


@exact(tol=1e-10)
def energy_is_invariant(run: Run[Any]) -> float:
    """Largest relative change of the energy of a disordered shell, T = 7, under 20 motions of SE(3)."""
    shell, generator = shell_of(2, 1), run.generator()
    pos = shell.pos + 0.1 * torch.randn(shell.pos.shape, generator=generator, dtype=torch.float64)

    def energy(x: Tensor) -> Tensor:
        return shell_energy(x, shell.faces, shell.twins, angles=0.2, stretch=300.0, bend=30.0, binding=-5.0)

    g = SE(3).sample(20, generator=generator, dtype=torch.float64)
    moved = pos @ SE(3).linear(g, dtype=torch.float64).mT + torch.randn(
        20, 1, 3, generator=generator, dtype=torch.float64
    )
    return float((energy(moved) / energy(pos) - 1).abs().max())


def _busy(run: Run[Any], name: str, offset: int) -> Assembly:
    """Half a design in which moves of all kinds are frequent."""
    design = ShellDesign(shell_of(1, 0), name)
    return assembly_of(
        design, stretch=40.0, bend=5.0, binding=-3.0, activity=1.0, largest=40, generator=run.generator(offset),
        rates={"insertion": 0.006, "wedge": 0.006, "hole": 0.02, "fusion": 0.015, "fusion2": 0.003, "edge": 0.02},
    )  # fmt: skip


@exact(tol=1e-9)
def moves_change_the_energy_by_what_they_say(run: Run[Any]) -> float:
    """Largest difference of the change of energy by which a move is accepted to that of the whole energy; 10,000 steps on \
    shells with the design I."""
    shell, worst = _busy(run, "I", 1), 0.0
    before, counts = shell.energy(shell.state), shell.accepted
    for _ in range(10_000):
        shell.run(1, until_closed=False)
        now = shell.accepted
        if not torch.equal(now, counts):
            after = shell.energy(shell.state)
            if int(now[0]) == int(counts[0]):
                worst = largest(worst, abs(float(after - before) - shell.last_change))
            before, counts = after, now
    return worst


@exact(tol=0)
def only_designed_pairs_bind(run: Run[Any]) -> float:
    """Bonds between labels that are no pair of the design, in 300 states of assemblies with the designs T and C3, T = 1."""
    wrong = 0
    for offset, name in enumerate(("T", "C3")):
        shell = _busy(run, name, 2 + offset)
        for _ in range(150):
            shell.run(200, until_closed=False)
            state = shell.state
            labels, bound = shell.labels(state), state.twins >= 0
            wrong += int((shell.partners[labels[bound]] != labels[state.twins[bound]]).sum())
    return wrong


PROPERTIES = (
    tables_of_designs, closed_forms_up_to_49, shells_are_spheres, mirror_images, orbits_times_stabilizers,
    burnside_counts_orbits, orbit_sizes_add_up, axes_through_vertices, stars_are_multiples_of_sectors, subgroups_of_rotations,
    magic_sizes_below_50, fewer_interactions, twelve_times_fewer, targets_satisfy_their_designs, icosahedron_is_at_rest,
    energy_is_invariant, moves_change_the_energy_by_what_they_say, only_designed_pairs_bind,
)  # fmt: skip
