"""Permutations and motions at once: molecules with planes, axes and equal atoms, in both ways of saying it."""

import math
import warnings

import pytest
import torch
from torch import Tensor, nn

import erlangen as er
from erlangen import symmetrize
from erlangen.enforce import SortFrame
from erlangen.enforce.sort_frames import NESTED_TOL
from erlangen.errors import (
    ActionError,
    DegenerateFrameError,
    DegenerateFrameWarning,
    GroupError,
    OrbitError,
    SymmetryError,
)

DTYPES = (torch.float32, torch.float64)
TOL = {torch.float32: 1e-5, torch.float64: 1e-12}


def ring(count: int, radius: float, start: float = 0.0) -> list[list[float]]:
    angles = [start + 2 * math.pi * k / count for k in range(count)]
    return [[radius * math.cos(a), radius * math.sin(a), 0.0] for a in angles]


# Angstrom, and atomic numbers.
MOLECULES: dict[str, tuple[list[list[float]], list[int]]] = {
    "water": ([[0.0, 0.0, 0.1173], [0.0, 0.7572, -0.4692], [0.0, -0.7572, -0.4692]], [8, 1, 1]),
    "carbon dioxide": ([[0.0, 0.0, 0.0], [0.0, 0.0, 1.16], [0.0, 0.0, -1.16]], [6, 8, 8]),
    "hydrogen": ([[0.0, 0.0, 0.37], [0.0, 0.0, -0.37]], [1, 1]),
    "hydrogen cyanide": ([[0.0, 0.0, 0.0], [0.0, 0.0, 1.156], [0.0, 0.0, -1.064]], [6, 7, 1]),
    "formaldehyde": ([[0, 0, -0.53], [0, 0, 0.67], [0, 0.94, -1.12], [0, -0.94, -1.12]], [6, 8, 1, 1]),
    "ethylene": (
        [[0, 0, 0.67], [0, 0, -0.67], [0, 0.92, 1.24], [0, -0.92, 1.24], [0, 0.92, -1.24], [0, -0.92, -1.24]],
        [6, 6, 1, 1, 1, 1],
    ),
    "hydrogen peroxide": ([[0, 0.73, -0.05], [0, -0.73, -0.05], [0.8, 0.9, 0.4], [-0.8, -0.9, 0.4]], [8, 8, 1, 1]),
    "rough": ([[0.1, 0.2, 0.3], [1.0, -0.3, 0.5], [-0.4, 0.8, 1.1], [0.3, 0.4, -1.2]], [6, 7, 8, 1]),
}


class Energy(nn.Module):
    """A network that knows no symmetry at all: it reads coordinates and numbers in their order."""

    def __init__(self, atoms: int, out: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4 * atoms, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, out))

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        return self.net(torch.cat([x["z"] / 8, x["pos"]], -1).flatten(1))


class Dipole(Energy):
    """The same with a vector per atom."""

    def __init__(self, atoms: int) -> None:
        super().__init__(atoms, 3 * atoms)
        self.atoms = atoms

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        return super().forward(x).unflatten(-1, (self.atoms, 3))


def molecule(name: str, dtype: torch.dtype) -> dict[str, Tensor]:
    pos, z = MOLECULES[name]
    return {
        "z": torch.tensor(z, dtype=dtype)[None, :, None],
        "pos": torch.tensor(pos, dtype=dtype)[None] + torch.tensor([0.3, -1.0, 2.0], dtype=dtype),
    }


def moves_of(n: int, count: int, group: er.groups.Group) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    p = er.Symmetric(n).sample(count, generator=generator)
    return p, group.sample(count, generator=generator, dtype=torch.float64)


def product(n: int, group: er.groups.Group, output: object = "invariant") -> er.Symmetry:
    return er.Symmetry(
        er.DirectProduct(er.Symmetric(n), group),
        input={"z": "permuted * invariant", "pos": "permuted * points"},
        output=output,  # pyright: ignore[reportArgumentType]
    )


def nested(model: nn.Module, n: int, group: er.groups.Group) -> nn.Module:
    nodes = er.Symmetry(er.Symmetric(n), input={"z": "permuted", "pos": "permuted"}, output="invariant")
    space = er.Symmetry(group, input={"z": "invariant", "pos": "points"}, output="invariant")
    return symmetrize(symmetrize(model, nodes), space)


@pytest.mark.parametrize("way", ["nested", "product"])
@pytest.mark.parametrize("group", [er.E(3), er.SE(3)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MOLECULES)
def test_molecules_keep_their_energy(name, dtype, group, way):
    """A hundred motions and orders of planar, linear and symmetric molecules, without a warning."""
    x = molecule(name, dtype)
    n = x["pos"].shape[1]
    net = Energy(n).to(dtype).requires_grad_(False)
    model = nested(net, n, group) if way == "nested" else symmetrize(net, product(n, group))
    assert model.certificate == "exact"
    p, g = moves_of(n, 100, group)
    space = er.Symmetry(group, input="points", output="invariant")
    moved = space.input.act(g, x["pos"].double().expand(100, -1, -1))
    shuffled = {
        "pos": er.actions.Permuted().on(er.Symmetric(n)).act(p, moved).to(dtype),
        "z": er.actions.Permuted().on(er.Symmetric(n)).act(p, x["z"].expand(100, -1, -1)),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        here, there = model(x), model(shuffled)
    assert float((there - here).norm(dim=-1).max() / here.norm()) < TOL[dtype]
    bent = {"z": x["z"], "pos": x["pos"] * torch.tensor([1.0, 1.2, 0.8], dtype=dtype)}
    assert float((model(bent) - here).norm() / here.norm()) > 1e-3  # it has not become a constant


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["water", "carbon dioxide", "ethylene", "rough"])
def test_vectors_of_atoms_follow(name, dtype):
    x = molecule(name, dtype)
    n = x["pos"].shape[1]
    model = symmetrize(Dipole(n).to(dtype).requires_grad_(False), product(n, er.E(3), "permuted * vectors"))
    p, g = moves_of(n, 50, er.E(3))
    sym = model.symmetry
    both = sym.group.join(p, g)
    wide = {key: value.double().expand(50, -1, -1) for key, value in x.items()}
    moved = {key: value.to(dtype) for key, value in sym.input.act(both, wide).items()}
    expected = sym.output.act(both, model(x).double().expand(50, -1, -1))
    assert float((model(moved) - expected).norm() / expected.norm()) < TOL[dtype]


def test_the_audit_takes_the_declared_product():
    x = molecule("rough", torch.float64)
    x = {key: value.expand(3, -1, -1) for key, value in x.items()}
    model = symmetrize(Energy(4).double(), product(4, er.E(3)))
    assert er.equivariance_error(model, None, x, elements=60, reduce="max") < 1e-12
    assert er.equivariance_error(model.model, model.symmetry, x, elements=60, reduce="max") > 1e-3
    assert set(model.state_dict()) == {f"model.model.{key}" for key in Energy(4).state_dict()}
    assert "Symmetric(4) x E(3)" in repr(model)


def test_padded_molecules_with_a_mask():
    """Water in a batch with formaldehyde gets the energy that it has alone."""

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Energy(4).double()

        def forward(self, x: dict[str, Tensor], mask: Tensor) -> Tensor:
            return self.net({key: value * mask[..., None] for key, value in x.items()})

    model = symmetrize(Masked(), product(4, er.E(3)))
    water, other = molecule("water", torch.float64), molecule("formaldehyde", torch.float64)
    room = {key: torch.cat([value, torch.full_like(value[:, :1], 7.0)], 1) for key, value in water.items()}
    batch = {key: torch.cat([room[key], other[key]]) for key in room}
    mask = torch.tensor([[True, True, True, False], [True] * 4])
    energy = model(batch, mask=mask)
    front = {key: value.roll(1, 1) for key, value in room.items()}
    alone = model(front, mask=mask[:1].roll(1, 1))
    torch.testing.assert_close(alone[0], energy[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(model(other, mask=mask[1:])[0], energy[1], rtol=0, atol=1e-12)
    g = er.E(3).sample(2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    moved = {"z": batch["z"], "pos": er.actions.Points().on(er.E(3)).act(g, batch["pos"])}
    torch.testing.assert_close(model(moved, mask=mask), energy, rtol=0, atol=1e-12)


@pytest.mark.parametrize("way", ["nested", "product"])
def test_benzene_and_single_atoms_are_named(way):
    """A ring has no principal axes in its plane, and an atom none at all: nothing passes in silence."""
    benzene = {
        "pos": torch.tensor([*ring(6, 1.39), *ring(6, 2.48)], dtype=torch.float64)[None],
        "z": torch.tensor([6.0] * 6 + [1.0] * 6, dtype=torch.float64)[None, :, None],
    }
    net = Energy(12).double()
    model = nested(net, 12, er.E(3)) if way == "nested" else symmetrize(net, product(12, er.E(3)))
    with pytest.warns(DegenerateFrameWarning, match="sample 0 of x .* does not determine its frame"):
        model(benzene)
    atom = {"pos": torch.ones(1, 1, 3, dtype=torch.float64), "z": torch.ones(1, 1, 1, dtype=torch.float64)}
    net = Energy(1).double()
    model = nested(net, 1, er.E(3)) if way == "nested" else symmetrize(net, product(1, er.E(3)))
    with pytest.raises(DegenerateFrameError, match="sample 0 of x has no frame"):
        model(atom)
    allowed = symmetrize(net, product(1, er.E(3)), on_degenerate="allow")
    expected = net({"z": atom["z"], "pos": torch.zeros(1, 1, 3, dtype=torch.float64)})
    for shift in (0.0, 5.0, -1e3):
        moved = {"z": atom["z"], "pos": atom["pos"] + shift}
        torch.testing.assert_close(allowed(moved), expected, rtol=0, atol=1e-12)


# --- order -----------------------------------------------------------------------------------------------------------
def test_the_order_that_keeps_neither_symmetry_is_refused():
    space = er.Symmetry(er.E(3), input={"z": "invariant", "pos": "points"}, output="invariant")
    nodes = er.Symmetry(er.Symmetric(4), input={"z": "permuted", "pos": "permuted"}, output="invariant")
    with pytest.raises(SymmetryError, match=r"E\(3\), which moves what Symmetric\(4\) would sort"):
        symmetrize(symmetrize(Energy(4), space), nodes)
    by_number = er.Symmetry(er.Symmetric(4), input={"z": "permuted", "pos": "invariant"}, output="invariant")
    symmetrize(symmetrize(Energy(4), space), by_number)  # sorted by what does not move
    turns = er.Symmetry(er.O(3), input={"z": "invariant", "pos": "points"}, output="invariant")
    steps = er.Symmetry(er.Translation(3), input={"z": "invariant", "pos": "points"}, output="invariant")
    with pytest.raises(SymmetryError, match="moves the origin that the frame of"):
        symmetrize(symmetrize(Energy(4), steps), turns)
    x = molecule("rough", torch.float64)
    model = symmetrize(symmetrize(Energy(4).double(), turns), steps)
    assert er.equivariance_error(model, space, x, reduce="max") < 1e-12


def test_sorting_inside_of_another_frame_tolerates_its_rounding():
    nodes = er.Symmetry(er.Symmetric(3), input="permuted", output="invariant")
    space = er.Symmetry(er.E(3), input="points", output="invariant")
    inner = symmetrize(nn.Sequential(nn.Flatten(), nn.Linear(9, 1)), nodes)
    assert inner.frame.tol == 0
    symmetrize(nn.Sequential(inner), space)
    assert inner.frame.tol == NESTED_TOL
    x = torch.tensor([[[1e-17, 2.0], [-1e-17, 1.0], [0.0, 3.0]]], dtype=torch.float64)
    pair = er.Symmetry(er.Symmetric(3), input="permuted", output="invariant")
    assert SortFrame(pair)(x).elements[0, 0].tolist() == [1, 2, 0]  # bit by bit, by the first column
    assert SortFrame(pair, tol=NESTED_TOL)(x).elements[0, 0].tolist() == [1, 0, 2]  # by the second one
    equal = torch.tensor([[[1.0], [1.0 + 1e-15], [2.0]]], dtype=torch.float64)
    assert SortFrame(pair)(equal).elements.shape[1] == 1
    assert SortFrame(pair, tol=NESTED_TOL)(equal).elements.shape[1] == 2


# --- other products --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("group", "input_action", "shape"),
    [
        ("Symmetric(5) x SO(3)", "permuted * vectors", (5, 3)),
        ("SO(3) x Symmetric(5)", "vectors * permuted", (5, 3)),
        ("Symmetric(5) x Translation(2)", "permuted * points", (5, 2)),
        ("O(3) x Scaling(3) x Symmetric(4)", "vectors * vectors * permuted", (4, 3)),
        ("Cyclic(4) x Symmetric(7)", "points * permuted", (7, 2)),
        ("SO(3) x SO(2)", {"a": "vectors * invariant", "b": "invariant * vectors"}, None),
        ("Symmetric(8) x Symmetric(3)", "permuted(axis=-2) * permuted(axis=-1)", (8, 3)),
    ],
)
def test_other_products(group, input_action, shape, generator):
    sym = er.Symmetry(group, input=input_action, output="invariant")
    if shape is None:
        x = {"a": torch.randn(3, 4, 3, generator=generator), "b": torch.randn(3, 5, 2, generator=generator)}
        net = nn.Sequential(nn.Linear(22, 8), nn.Tanh(), nn.Linear(8, 2)).double()
        x = {key: value.double() for key, value in x.items()}

        def read(x):
            return net(torch.cat([x["a"].flatten(1), x["b"].flatten(1)], 1))
    else:
        x = torch.randn(3, *shape, generator=generator, dtype=torch.float64)
        read = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 8), nn.Tanh(), nn.Linear(8, 2)).double()
    model = symmetrize(read, sym)
    assert model.certificate == "exact"
    assert model.symmetry == sym
    assert er.equivariance_error(read, sym, x, elements=50, reduce="max") > 1e-2
    assert er.equivariance_error(model, None, x, elements=50, reduce="max") < 1e-11


def test_products_that_cannot_be_taken_apart():
    sym = er.Symmetry("Symmetric(8) x E(3)", input=lambda g, x: x, output="invariant")
    with pytest.raises(ActionError, match="cannot be taken apart"):
        symmetrize(nn.Identity(), sym)
    turned = er.Symmetry("Cyclic(30) x Cyclic(30)", input=lambda g, x: x, output="invariant")
    assert len(symmetrize(nn.Identity(), turned).frame.elements) == 900  # small enough to be averaged as a whole
    sym = er.Symmetry("Symmetric(8) x Symmetric(9)", input="permuted * permuted(axis=-1)", output="invariant")
    with pytest.raises(GroupError, match="neither can sort it"):
        symmetrize(nn.Identity(), sym)
    lorentz = er.Symmetry("Symmetric(4) x Lorentz(1,3)", input="permuted * vectors", output="invariant")
    with pytest.raises((GroupError, OrbitError), match=r"not compact|infinite"):
        symmetrize(nn.Identity(), lorentz)
    sampled = er.Symmetry("Symmetric(8) x SO(3)", input={"a": "permuted * invariant"}, output="invariant")
    with pytest.raises(OrbitError, match="infinite: pass samples=k"):
        symmetrize(nn.Identity(), sampled)
    assert symmetrize(nn.Identity(), sampled, samples=5).certificate == "statistical"
