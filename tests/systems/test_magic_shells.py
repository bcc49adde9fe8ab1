"""Designs of shells against hand counts, complete shells at rest, the census of wrong vertices, bad input."""

from __future__ import annotations

import pytest
import torch

from erlangen.errors import ErlangenError, UnknownNameError
from erlangen.geometry import icosahedral_shell
from erlangen.simulate import ShellState
from erlangen.systems.physics.magic_shells import ShellDesign, best_symmetry, is_magic, unsafe_axes
from erlangen.systems.physics.magic_shells._target import assembly_of, grown, is_target, target_of, wrong_vertices
from erlangen.systems.physics.magic_shells.experiment import RATES
from erlangen.systems.physics.magic_shells.method import AXES

HOW = {"stretch": 300.0, "bend": 30.0, "binding": -7.0}


def test_the_icosahedron_with_one_kind() -> None:
    design = ShellDesign(icosahedral_shell(1), "I")
    assert design.subunits.tolist() == [[0, 0, 0]]
    assert design.partners.tolist() == [0]
    assert design.vertex_axes.tolist() == [5] * 12
    assert design.stars(0, 6) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("symmetry", list(AXES))
@pytest.mark.parametrize(("h", "k"), [(1, 0), (1, 1), (2, 1)])
def test_complete_shells_are_designed(h: int, k: int, symmetry: str) -> None:
    """A start that binds what is no pair, or is no sphere, would be refused; lengths and angles of a label are one number."""
    design = ShellDesign(icosahedral_shell(h, k), symmetry)
    target = target_of(design)
    closed = assembly_of(design, activity=0.0, start=target, **HOW)
    assert closed.closed
    assert float(closed.energy(target)) == pytest.approx(-7 * 30 * design.shell.T, abs=1e-9)
    assert torch.equal(closed.labels(target), design.subunits[target.species].flatten())
    assert is_target(design, target)
    assert float(closed.potentials.exp().sum()) == pytest.approx(1)


def test_wrong_vertices_are_found_where_they_are() -> None:
    """An octahedron and a tetrahedron of a design with one kind: all inner vertices are wrong, all on axes."""
    design = ShellDesign(icosahedral_shell(1), "I")
    corners = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    faces = torch.tensor([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])
    sides = {(a, b): n for n, (a, b) in enumerate(torch.stack([faces, faces.roll(-1, 1)], -1).flatten(0, 1).tolist())}
    twins = torch.tensor([sides[b, a] for a, b in sides])
    tetrahedron = ShellState(corners, faces, twins, torch.zeros(4, dtype=torch.int64))
    assert wrong_vertices(design, tetrahedron) == {"on": 4, "off": 0}
    assert not is_target(design, tetrahedron)
    target = target_of(design)
    assert wrong_vertices(design, target) == {"on": 0, "off": 0}


def test_off_axes_nothing_but_multiples_closes() -> None:
    """With single addresses a wrong vertex would need twice the triangles: none appears in what grows, complete or not."""
    design = ShellDesign(icosahedral_shell(1), "C1")
    for seed in range(3):
        how = {**HOW, "rates": RATES[1], "activity": 2.0, "generator": torch.Generator().manual_seed(seed)}
        state, _ = grown(design, 20_000, **how)
        assert wrong_vertices(design, state) == {"on": 0, "off": 0}


def test_growth_ends() -> None:
    """Complete, at a large activity with one design; after the steps it was given, at a small one."""
    design = ShellDesign(icosahedral_shell(1), "T")
    how = {**HOW, "rates": RATES[1], "step": 0.1, "reach": 0.1}
    state, made = grown(design, 200_000, activity=0.0, generator=torch.Generator().manual_seed(0), **how)
    assert is_target(design, state)
    assert made < 200_000
    state, made = grown(design, 3000, activity=-20.0, generator=torch.Generator().manual_seed(0), **how)
    assert made == 3000
    assert len(state.faces) < 3


# --- bad input -------------------------------------------------------------------------------------------------------
def test_shells_and_designs_that_are_none() -> None:
    for ask in (unsafe_axes, best_symmetry, is_magic):
        with pytest.raises(ErlangenError, match="h = 0, k = 0"):
            ask(0, 0)
        with pytest.raises(ErlangenError, match="h = -1"):
            ask(-1, 2)
    with pytest.raises(ErlangenError, match="h = 0, k = 0"):
        icosahedral_shell(0, 0)
    with pytest.raises(UnknownNameError, match="symmetry = 'O'"):
        ShellDesign(icosahedral_shell(1), "O")
    design = ShellDesign(icosahedral_shell(1), "T")
    with pytest.raises(ErlangenError, match="vertices 0 to 11"):
        design.stars(12)
    with pytest.raises(ErlangenError, match="largest"):
        design.stars(0, 0)
    with pytest.raises(ErlangenError, match="binding is above 0"):
        assembly_of(design, activity=0.0, stretch=300.0, bend=30.0, binding=1.0)
    with pytest.raises(ErlangenError, match="fuse = 2"):
        assembly_of(design, activity=0.0, fuse=2.0, **HOW)
