"""Steerable convolutions: the kernel constraint, its number of solutions, known operators, turns of smooth fields."""

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erlangen.actions import Field
from erlangen.errors import ActionError, ErlangenError, RepresentationError, ShapeError
from erlangen.groups import SE, SO, Cyclic, Dihedral
from erlangen.measure import assert_equivariant
from erlangen.nn.images.planar import FeatureField, kernel_points, ring_harmonics
from erlangen.nn.images.steerable_conv import (
    GatedNonlinearity2d,
    NormNonlinearity2d,
    SteerableConv2d,
    field_rep,
    steerable_basis,
)
from erlangen.reps import Frequency, Quotient, Regular, Scalar, equivariant_basis
from erlangen.testing import check_layer

HIDDEN = {0: 3, 1: 2, 2: 2}
HIDDEN_SIZE = 3 + 4 + 4


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERLANGEN_CACHE", "off")
    torch.compiler.reset()  # torch compiles one function at most 8 times, and every layer here is another shape


def turn(degrees: float) -> Tensor:
    """An element of SO(2), float64."""
    a = math.radians(degrees)
    return torch.tensor([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]], dtype=torch.float64)


def smooth_fields(channels: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two samples of white noise blurred by a Gaussian of 1.5 pixels in a soft disk, float64; and the disk."""
    t = torch.arange(-8, 9, dtype=torch.float64)
    blur = torch.exp(-(t**2) / (2 * 1.5**2))
    noise = torch.randn(2 * channels, 1, size + 16, size + 16, dtype=torch.float64, generator=generator)
    smooth = F.conv2d(noise, torch.outer(blur, blur)[None, None] / blur.sum() ** 2).reshape(2, channels, size, size)
    radius = kernel_points(size).norm(dim=-1)
    return smooth * torch.sigmoid((size / 2 - 5 - radius) * 1.5), radius < size / 2 - 5


# --- kernels ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("n", "m"), list(product(range(4), repeat=2)))
def test_kernels_obey_the_constraint_at_every_angle(n: int, m: int) -> None:
    """``K(g z) = rho_out(g) K(z) rho_in(g)^-1`` where K is sampled at points that are turned by any angle."""
    points, size = kernel_points(7), 7
    base = steerable_basis(n, m, ring_harmonics(points, size))
    assert len(base) > 0
    for degrees in (17.0, 45.0, 90.0, 200.0):
        g = turn(degrees)
        rho_out, rho_in = (torch.linalg.matrix_power(g, k) if k else torch.ones(1, 1).double() for k in (n, m))
        moved = steerable_basis(n, m, ring_harmonics(points @ g.mT, size))
        expected = torch.einsum("ij,pjkyx,lk->pilyx", rho_out, base, rho_in)
        torch.testing.assert_close(moved, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("n", "m"), list(product(range(3), repeat=2)))
def test_there_are_no_other_kernels(n: int, m: int) -> None:
    """On one ring of 12 points, kernels are the equivariant maps from (points x fields) to fields."""
    group = Cyclic(12)
    rep_in, rep_out = field_rep(group, {m: 1}), field_rep(group, {n: 1})
    solutions = len(equivariant_basis(Regular(group) @ rep_in >> rep_out))
    basis = steerable_basis(n, m, ring_harmonics(kernel_points(11), 11))
    limits = [abs(n - m), abs(n - m)] + ([n + m, n + m] if n and m else [])
    rings = [sum(f <= 2 * radius for radius in range(6)) for f in (limits if n or m else [0])]
    assert solutions == len(rings) == (4 if n and m else 2 if n or m else 1)  # 6 rings from radius 0 to 5
    assert len(basis) == sum(rings)
    assert int(torch.linalg.matrix_rank(basis.flatten(1))) == len(basis)


def test_gradients_and_divergences() -> None:
    """On the ramp ``a z`` a kernel from scalars to vectors gives a multiple of a, or of a turned by 90 degrees."""
    layer = SteerableConv2d({0: 1}, {1: 1}, 3, bias=False).double()
    back = SteerableConv2d({1: 1}, {0: 1}, 3, bias=False).double()
    assert layer.weight.shape == back.weight.shape == (2,)  # the ring of radius 1; that of radius 0 carries no vector
    z = kernel_points(3)
    quarter = turn(90)
    for a in (torch.tensor([1.0, 0.0]).double(), torch.tensor([0.3, -2.0]).double()):
        ramp = (z @ a)[None, None]
        for weight, direction in ((torch.tensor([1.0, 0.0]), a), (torch.tensor([0.0, 1.0]), quarter @ a)):
            with torch.no_grad():
                layer.weight.copy_(weight)
            y = layer(ramp).detach()[0, :, 0, 0]
            torch.testing.assert_close(y, y.norm() * direction / direction.norm(), rtol=1e-12, atol=1e-12)
    outwards = z.movedim(-1, 0)[None]
    around = (z @ quarter.mT).movedim(-1, 0)[None]
    for weight, seen, unseen in (([1.0, 0.0], outwards, around), ([0.0, 1.0], around, outwards)):
        with torch.no_grad():
            back.weight.copy_(torch.tensor(weight))
        assert abs(float(back(seen).detach())) > 1
        assert abs(float(back(unseen).detach())) < 1e-12


# --- the contract ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("fields_in", "fields_out", "kernel_size"),
    [({0: 2}, HIDDEN, 3), (HIDDEN, {1: 2}, 4), (HIDDEN, {0: 2, 3: 1}, 5), ({3: 1}, {1: 1}, 7), ({0: 1}, {0: 2}, 1)],
)
def test_contract_of_convolutions(
    fields_in: dict[int, int], fields_out: dict[int, int], kernel_size: int, generator: torch.Generator
) -> None:
    layer = SteerableConv2d(fields_in, fields_out, kernel_size, padding=1, generator=generator)
    assert (layer.bias is not None) == (0 in fields_out)
    if layer.bias is not None:
        nn.init.normal_(layer.bias, generator=generator)
    x = torch.randn(2, layer.in_size, 7, 7, generator=generator)
    check_layer(layer, x)
    check_layer(layer.double(), x.double(), skip=["dtype", "compile"])  # both are checked above


@pytest.mark.parametrize("fields", [HIDDEN, {0: 2}, {1: 1, 4: 2}], ids=repr)
def test_contract_of_non_linearities(fields: dict[int, int], generator: torch.Generator) -> None:
    norm = NormNonlinearity2d(fields)
    nn.init.normal_(norm.bias, generator=generator)
    x = torch.randn(2, sum(n * (2 if k else 1) for k, n in fields.items()), 5, 5, generator=generator)
    check_layer(norm, x)
    gated = GatedNonlinearity2d(fields)
    gates = sum(n for k, n in fields.items() if k)
    check_layer(gated, torch.cat([x, torch.randn(2, gates, 5, 5, generator=generator)], 1))


def test_strides_that_fit_are_exact(generator: torch.Generator) -> None:
    layer = SteerableConv2d({0: 1}, HIDDEN, 3, padding=1, stride=2, generator=generator)
    assert_equivariant(layer, torch.randn(2, 1, 9, 9, generator=generator))
    with pytest.raises(ShapeError, match="must be a multiple of the stride"):
        layer(torch.zeros(1, 1, 8, 8))


# --- turns between the pixels ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("kernel_size", [3, 5, 7])
def test_turns_by_any_angle_of_smooth_fields(kernel_size: int, generator: torch.Generator) -> None:
    layer = SteerableConv2d(HIDDEN, HIDDEN, kernel_size, padding=kernel_size // 2, generator=generator).double()
    plain = layer.export()
    nn.init.normal_(plain.weight, generator=generator)
    symmetry = layer.symmetry_under(SO(2))
    x, disk = smooth_fields(HIDDEN_SIZE, 33, generator)

    def error(model: nn.Module, degrees: float) -> float:
        g = turn(degrees)
        with torch.no_grad():
            expected = symmetry.output.act(g, model(x))
            return float(((model(symmetry.input.act(g, x)) - expected) * disk).norm() / (expected * disk).norm())

    assert error(layer, 90) < 1e-12
    for degrees in (15, 45, 70, 135):
        assert 1e-4 < error(layer, degrees) < 0.045
        assert error(plain, degrees) > 0.3


def test_norms_of_fields_do_not_depend_on_the_orientation(generator: torch.Generator) -> None:
    net = nn.Sequential(
        SteerableConv2d({0: 1}, GatedNonlinearity2d(HIDDEN).fields_in, 5, padding=2, generator=generator),
        GatedNonlinearity2d(HIDDEN),
        SteerableConv2d(HIDDEN, HIDDEN, 5, padding=2, generator=generator),
        NormNonlinearity2d(HIDDEN),
        SteerableConv2d(HIDDEN, {2: 1}, 5, padding=2, generator=generator),
    ).double()
    x, disk = smooth_fields(1, 33, generator)
    with torch.no_grad():
        upright = net(x)
        for degrees, bound in ((180, 1e-12), (45, 0.1)):
            g = turn(degrees)
            moved = net(FeatureField(field_rep(SO(2), {0: 1}), "bicubic").on(SO(2)).act(g, x))
            expected = FeatureField(field_rep(SO(2), {2: 1}), "bicubic").on(SO(2)).act(g, upright)
            assert float(((moved - expected) * disk).norm()) < bound * float((expected * disk).norm())


# --- sizes, export, non-linearities ----------------------------------------------------------------------------------
@pytest.mark.parametrize("fields_in", [{0: 12}, {1: 8}, {0: 8, 1: 4, 2: 4}], ids=repr)
def test_initial_outputs_are_as_large_as_inputs(fields_in: dict[int, int], generator: torch.Generator) -> None:
    layer = SteerableConv2d(fields_in, {0: 32, 1: 16, 2: 16}, 5, generator=generator)
    y = layer(torch.randn(4, layer.in_size, 20, 20, generator=generator)).detach()
    for part in y.split(32, 1):
        assert 0.75 < float(part.var()) < 1.3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_export_is_a_plain_convolution(dtype: torch.dtype, generator: torch.Generator) -> None:
    layer = SteerableConv2d(HIDDEN, HIDDEN, 3, padding=1, stride=2, generator=generator).to(dtype).eval()
    assert layer.bias is not None
    nn.init.normal_(layer.bias, generator=generator)
    x = torch.randn(2, HIDDEN_SIZE, 9, 9, generator=generator, dtype=dtype)
    plain = layer.export()
    assert type(plain) is nn.Conv2d
    torch.testing.assert_close(plain(x), layer(x), rtol=1e-6, atol=1e-6)
    with torch.no_grad():
        assert layer.kernel()[0] is layer.kernel()[0]
        before = layer(x)
        layer.weight.mul_(-1)
        layer.bias.mul_(-1)
        torch.testing.assert_close(layer(x), -before)


def test_the_bias_moves_scalars_alone() -> None:
    layer = SteerableConv2d({0: 1}, {0: 2, 1: 1}, 3)
    assert layer.bias is not None
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([1.0, -2.0]))
    y = layer(torch.zeros(1, 1, 3, 3)).detach().flatten()
    torch.testing.assert_close(y, torch.tensor([1.0, -2.0, 0.0, 0.0]))
    assert SteerableConv2d({0: 1}, {0: 2}, 3, bias=False).bias is None


def test_norm_non_linearity_in_closed_form() -> None:
    layer = NormNonlinearity2d({0: 2, 1: 3}, eps=1e-6).double()
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([0.5, -1.0, 1.0, -2.0, -6.0]))
    x = torch.tensor([-0.2, 0.7, 3.0, 4.0, 3.0, 4.0, 3.0, 4.0], dtype=torch.float64).reshape(1, 8, 1, 1)
    expected = torch.tensor([0.3, 0.0, 3.6, 4.8, 1.8, 2.4, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(layer(x).detach().flatten(), expected, rtol=1e-9, atol=1e-9)
    zero = torch.zeros(1, 8, 1, 1, dtype=torch.float64, requires_grad=True)
    y = layer(zero)
    assert not bool(y[:, 2:].detach().any())
    assert bool(torch.isfinite(torch.autograd.grad(y.sum(), zero)[0]).all())


def test_gated_non_linearity_in_closed_form() -> None:
    layer = GatedNonlinearity2d({0: 1, 1: 1, 3: 1})
    assert layer.fields_in == {0: 3, 1: 1, 3: 1}
    x = torch.tensor([-1.0, 0.0, 2.0, 1.0, 2.0, 3.0, 4.0]).reshape(1, 7, 1, 1)
    s = 1 / (1 + math.exp(-2.0))
    torch.testing.assert_close(layer(x).flatten(), torch.tensor([0.0, 0.5, 1.0, 3 * s, 4 * s]))


# --- fields ----------------------------------------------------------------------------------------------------------
def test_frequency_one_is_a_vector_field(generator: torch.Generator) -> None:
    g = SO(2).sample(3, generator=generator, dtype=torch.float64)
    x = torch.randn(3, 2, 9, 9, generator=generator, dtype=torch.float64)
    ours, theirs = FeatureField(Frequency(SO(2), 1)).on(SO(2)), Field().on(SO(2))
    torch.testing.assert_close(ours.act(g, x), theirs.act(g, x))
    known, expected = ours.mask(g, x), theirs.mask(g, x)
    assert known is not None
    assert expected is not None
    assert torch.equal(known, expected)
    assert torch.equal(ours.is_exact(g, x), theirs.is_exact(g, x))


def test_frequencies_turn_k_times_as_far(generator: torch.Generator) -> None:
    g = SO(2).sample(5, generator=generator, dtype=torch.float64)
    angle = torch.atan2(g[:, 1, 0], g[:, 0, 0])
    rho = Frequency(SO(2), 3).rho(g)
    torch.testing.assert_close(rho[:, 0, 0], torch.cos(3 * angle))
    torch.testing.assert_close(rho[:, 1, 0], torch.sin(3 * angle))
    torch.testing.assert_close(Frequency(SO(2), 3).drho(torch.ones(1).double()), 3 * turn(90), rtol=1e-9, atol=1e-9)
    assert Frequency(Cyclic(4), 2) == Frequency(Cyclic(4), 2) != Frequency(Cyclic(4), 3)


def test_field_action_moves_pixels_and_channels(generator: torch.Generator) -> None:
    group = Cyclic(4)
    move = FeatureField(Regular(group)).on(group)
    assert move.name == "field(Regular, image)"
    x = torch.randn(2, 8, 5, 5, generator=generator)
    expected = torch.rot90(x, 1, (-2, -1)).unflatten(1, (2, 4)).roll(1, 2).flatten(1, 2)
    assert torch.equal(move.act(torch.tensor(1), x), expected)
    g = group.sample(2, generator=generator)
    both = move.act(g, x)
    assert torch.equal(both, torch.stack([move.act(h, row) for h, row in zip(g, x, strict=True)]))
    orbit = move.act(group.elements()[:, None], x[None])
    assert orbit.shape == (4, 2, 8, 5, 5)
    assert torch.equal(orbit[1], expected)
    assert bool(move.is_exact(group.elements(), x).all())


def test_field_action_of_reflections_and_quotients(generator: torch.Generator) -> None:
    group = Dihedral(4)
    rep = Quotient(group, Dihedral(1))
    move = FeatureField(rep + Scalar(group)).on(group)
    x = torch.randn(1, 5, 4, 4, generator=generator)
    g, h = group.sample(2, generator=generator)
    assert torch.equal(move.act(g, move.act(h, x)), move.act(group.compose(g, h), x))


# --- bad input -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("fields", [{}, {0: 0}, {-1: 2}, {0: 1.5}, {0: True}, [1, 2], None])
def test_malformed_fields(fields: object) -> None:
    with pytest.raises(RepresentationError, match=r"fields_in = .*: give multiplicities by frequency"):
        SteerableConv2d(fields, {0: 1}, 3)  # type: ignore[arg-type]


def test_other_bad_input() -> None:
    with pytest.raises(RepresentationError, match="no kernel of size 3 but zero maps 1 of frequency 0 to frequency 3"):
        SteerableConv2d({0: 1}, {3: 1}, 3)
    with pytest.raises(ErlangenError, match="kernel_size = 0: give an integer of at least 1"):
        SteerableConv2d({0: 1}, {0: 1}, 0)
    with pytest.raises(ShapeError, match=r"\[B, 5, H, W\] is needed: 1 of frequency 0 \+ 2 of frequency 1"):
        SteerableConv2d({1: 2, 0: 1}, {0: 1}, 3)(torch.zeros(1, 4, 5, 5))
    with pytest.raises(ShapeError, match=r"\[B, 3, H, W\] is needed"):
        NormNonlinearity2d({0: 1, 1: 1})(torch.zeros(1, 4, 5, 5))
    with pytest.raises(ErlangenError, match=r"eps = 0.0: give a positive length"):
        NormNonlinearity2d({0: 1}, eps=0.0)
    for group in (Dihedral(4), SE(2), SO(3)):
        with pytest.raises(RepresentationError, match=r"frequencies belong to SO\(2\) and Cyclic\(n\)"):
            Frequency(group, 1)
    with pytest.raises(RepresentationError, match="frequency = 0: give an integer of at least 1"):
        Frequency(SO(2), 0)
    with pytest.raises(ShapeError, match=r"6 channels on axis -3 are no multiple of 4"):
        FeatureField(Regular(Cyclic(4))).on(Cyclic(4)).act(torch.tensor(1), torch.zeros(6, 5, 5))
    with pytest.raises(ActionError, match=r"a representation of Cyclic\(4\), not of Cyclic\(8\)"):
        FeatureField(Regular(Cyclic(4))).on(Cyclic(8))
