"""Icosahedral shells: Euler's formula, Caspar and Klug's numbers, rotations against the places of vertices in space."""

from __future__ import annotations

import itertools

import pytest
import torch

import erlangen as er
from erlangen.errors import ErlangenError, GroupError, UnknownNameError
from erlangen.geometry import icosahedral_shell

SIZES = [(h, k) for h, k in itertools.product(range(8), repeat=2) if h + k]


@pytest.mark.parametrize(("h", "k"), SIZES)
def test_numbers_of_vertices_edges_and_faces(h: int, k: int) -> None:
    shell = icosahedral_shell(h, k)
    T = h * h + h * k + k * k
    counts = (shell.T, len(shell.pos), len(shell.edges), len(shell.faces))
    assert counts == (T, 10 * T + 2, 30 * T, 20 * T)
    assert len(shell.pos) - len(shell.edges) + len(shell.faces) == 2
    assert shell.coordination.bincount(minlength=7).tolist() == [0, 0, 0, 0, 0, 12, 10 * T - 10]
    assert torch.equal(shell.twins[shell.twins], torch.arange(60 * T))
    assert torch.equal(shell.half_edges[shell.twins], shell.half_edges.flip(1))


@pytest.mark.parametrize(("h", "k"), [(1, 0), (1, 1), (2, 1), (0, 3), (4, 2)])
def test_faces_look_outward_and_facets_are_flat(h: int, k: int) -> None:
    shell = icosahedral_shell(h, k)
    assert float(torch.linalg.det(shell.pos[shell.faces]).min()) > 0
    # Edges within a facet have length 1; those that are bent over an edge of the icosahedron are shorter.
    length = (shell.pos[shell.edges[:, 0]] - shell.pos[shell.edges[:, 1]]).norm(dim=-1)
    assert float(length.max()) < 1 + 1e-12
    if k == 0:
        torch.testing.assert_close(length, torch.ones_like(length))
    corners = shell.pos[shell.coordination == 5]
    torch.testing.assert_close(corners.norm(dim=-1), torch.full((12,), float(shell.corners.norm(dim=-1)[0])).double())


@pytest.mark.parametrize(("h", "k"), [(1, 0), (1, 1), (2, 1), (3, 2), (5, 0)])
def test_rotations_move_vertices_as_they_move_places(h: int, k: int) -> None:
    shell, group = icosahedral_shell(h, k), er.groups.Icosahedral()
    moved = shell.moved("vertices")
    torch.testing.assert_close(shell.pos[moved], shell.pos @ group.matrices.mT)
    assert torch.equal(shell.half_edges[shell.moved("half_edges")], moved[:, shell.half_edges])
    assert torch.equal(shell.edges[shell.moved("edges")].sort(-1).values, moved[:, shell.edges].sort(-1).values)
    assert torch.equal(shell.faces[shell.moved("faces")].sort(-1).values, moved[:, shell.faces].sort(-1).values)
    g, a = torch.arange(60), torch.tensor(17)
    after = moved[group.compose(g, a.expand(60))]
    assert torch.equal(after, moved[:, moved[a]])


@pytest.mark.parametrize(("h", "k"), [(2, 1), (3, 1), (1, 3)])
def test_the_other_hand_is_the_mirror_image(h: int, k: int) -> None:
    """Shells (h, k) and (k, h) are mirror images, and no rotation takes one to the other."""
    right, left = icosahedral_shell(h, k).pos, icosahedral_shell(k, h).pos
    mirrored = right * torch.tensor([-1.0, 1.0, 1.0]).double()
    assert float((mirrored[:, None] - left[None]).norm(dim=-1).amin(1).max()) < 1e-9
    turned = right @ er.groups.Icosahedral().matrices.mT
    assert float(torch.cdist(turned, left.expand(60, -1, -1)).amin(2).amax(1).min()) > 1e-3


def test_what_is_refused() -> None:
    for h, k in ((0, 0), (-1, 2), (1.5, 0), (200, 0)):
        with pytest.raises(ErlangenError, match=r"h = "):
            icosahedral_shell(h, k)  # pyright: ignore[reportArgumentType]
    shell = icosahedral_shell(1)
    with pytest.raises(UnknownNameError, match="choose vertices"):
        shell.moved("corners")  # pyright: ignore[reportArgumentType]
    for elements in (torch.tensor([60]), torch.tensor([[0]]), torch.tensor([0.0])):
        with pytest.raises(GroupError, match="0 to 59"):
            shell.moved("faces", elements)
