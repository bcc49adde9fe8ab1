"""Energies of shells of triangles against closed forms, differences and motions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import erlangen as er
from erlangen.errors import DtypeError, ErlangenError, NotFiniteError, ShapeError
from erlangen.simulate import fold_angles, shell_energy

ICOSAHEDRON = math.pi - math.acos(-math.sqrt(5) / 3)
"""Angle between the normals of neighbouring faces, 41.81 degrees."""


def hinge(angle: float) -> tuple[Tensor, Tensor, Tensor]:
    """Two unit triangles with one side in common, folded by an angle, downwards from the xy plane where it is positive."""
    height = math.sqrt(3) / 2
    pos = torch.tensor(
        [[0.0, 0, 0], [1, 0, 0], [0.5, height, 0], [0.5, -height * math.cos(angle), -height * math.sin(angle)]]
    )
    return pos.double(), torch.tensor([[0, 1, 2], [1, 0, 3]]), torch.tensor([3, -1, -1, 0, -1, -1])


@pytest.mark.parametrize("angle", [-3.0, -1.0, 0.0, 0.3, 2.5])
def test_a_hinge_has_its_angle(angle: float) -> None:
    pos, faces, twins = hinge(angle)
    expected = torch.zeros(6, dtype=torch.float64)
    expected[[0, 3]] = angle
    torch.testing.assert_close(fold_angles(pos, faces, twins), expected)
    energy = shell_energy(pos, faces, twins, angles=0.5, stretch=7.0, bend=3.0, binding=-2.0)
    torch.testing.assert_close(energy, torch.tensor(1.5 * (angle - 0.5) ** 2 - 2).double())


def test_rest_values_of_the_two_sides_are_averaged() -> None:
    pos, faces, twins = hinge(0.4)
    one_sided = torch.tensor([0.8, 9, 9, 0.0, 9, 9]).double()
    energy = shell_energy(pos, faces, twins, angles=one_sided, stretch=1.0, bend=3.0, binding=-one_sided)
    torch.testing.assert_close(energy, torch.tensor(-0.4).double())


def test_the_icosahedron_is_at_rest_at_its_own_angle() -> None:
    shell = er.geometry.icosahedral_shell(1)
    inside_out = shell.pos * torch.tensor([-1.0, 1, 1]).double()
    angles = fold_angles(shell.pos, shell.faces, shell.twins)
    torch.testing.assert_close(angles, torch.full_like(angles, ICOSAHEDRON))
    torch.testing.assert_close(fold_angles(inside_out, shell.faces, shell.twins), -angles)
    energy = shell_energy(shell.pos, shell.faces, shell.twins, angles=ICOSAHEDRON, stretch=300.0, bend=30.0)
    assert abs(float(energy)) < 1e-20
    swollen = shell_energy(1.1 * shell.pos, shell.faces, shell.twins, angles=ICOSAHEDRON, stretch=300.0, bend=30.0)
    torch.testing.assert_close(float(swollen), 60 * 150 * 0.01)


def test_motions_and_renumbering_leave_the_energy(generator: torch.Generator) -> None:
    shell = er.geometry.icosahedral_shell(2, 1)
    pos = shell.pos + 0.1 * torch.randn(5, *shell.pos.shape, generator=generator, dtype=torch.float64)
    how = {"angles": 0.2, "stretch": 30.0, "bend": 3.0, "binding": -1.0}
    energy = shell_energy(pos, shell.faces, shell.twins, **how)
    assert energy.shape == (5,)
    g = er.groups.SE(3).sample(5, generator=generator, dtype=torch.float64)
    turned = pos @ er.groups.SE(3).linear(g, dtype=torch.float64).mT + 3.0
    torch.testing.assert_close(shell_energy(turned, shell.faces, shell.twins, **how), energy)
    for row in shell.moved("vertices", torch.tensor([7, 31])):
        torch.testing.assert_close(shell_energy(pos[:, row], shell.faces, shell.twins, **how), energy)


def test_slopes_are_right(generator: torch.Generator) -> None:
    """Open, bound and bent sides, by differences of positions and rest values."""
    pos, faces, twins = hinge(0.7)
    pos = pos + 0.1 * torch.randn(4, 3, generator=generator, dtype=torch.float64)

    def energy(x: Tensor, length: Tensor, angle: Tensor, bond: Tensor) -> Tensor:
        return shell_energy(x, faces, twins, lengths=length, angles=angle, stretch=5.0, bend=2.0, binding=bond)

    numbers = [torch.rand(6, generator=generator, dtype=torch.float64) + 0.5 for _ in range(3)]
    inputs = [value.requires_grad_() for value in (pos, *numbers)]
    assert torch.autograd.gradcheck(energy, inputs)
    assert torch.autograd.gradgradcheck(energy, inputs)


def test_what_is_refused() -> None:
    pos, faces, twins = hinge(0.1)
    one_way = twins.clone()
    one_way[3] = -1
    for change, error, words in (
        ({"pos": pos[0]}, ShapeError, r"pos has shape \(3,\)"),
        ({"pos": pos * float("nan")}, NotFiniteError, "pos"),
        ({"pos": pos.long()}, DtypeError, "pos"),
        ({"faces": faces.int()}, DtypeError, "faces has dtype"),
        ({"faces": faces + 1}, ErlangenError, "vertices are 0 to 3"),
        ({"twins": twins[:3]}, ShapeError, r"pass \[F, 3\] and \[3 F\]"),
        ({"twins": twins - 1}, ErlangenError, "or -1"),
        ({"twins": one_way}, ErlangenError, "each must be the other's"),
        ({"lengths": torch.ones(5)}, ShapeError, r"lengths has shape \(5,\)"),
        ({"lengths": 0.0}, ErlangenError, "lengths must be positive"),
        ({"angles": float("inf")}, NotFiniteError, "angles"),
        ({"bend": -1.0}, ErlangenError, "bend = -1.0"),
    ):
        given = {"pos": pos, "faces": faces, "twins": twins, "stretch": 1.0, "bend": 1.0} | change
        with pytest.raises(error, match=words):
            shell_energy(**given)  # pyright: ignore[reportArgumentType]
