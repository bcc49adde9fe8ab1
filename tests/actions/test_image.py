"""Groups of the plane on images: torch.rot90, flips, rolls and scipy as oracles."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

import erlangen as er
from erlangen.actions import Field, Image
from erlangen.errors import ActionError, LayoutWarning, ShapeError


def rotation(degrees, dtype=torch.float32):
    a = math.radians(degrees)
    return torch.tensor([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]], dtype=dtype)


@pytest.mark.parametrize("size", [(8, 8), (7, 7)])
@pytest.mark.parametrize("padding", ["zeros", "border", "circular"])
def test_quarter_turns_and_flips_are_bit_exact(size, padding, generator):
    x = torch.randn(2, 3, *size, generator=generator)
    action = Image(padding=padding).on(er.Dihedral(4))
    for k in range(4):
        assert torch.equal(action.act(torch.tensor(k), x), torch.rot90(x, k, (-2, -1)))
        assert torch.equal(Image(padding=padding).on(er.SO(2)).act(rotation(90.0 * k), x), torch.rot90(x, k, (-2, -1)))
    linear = er.Dihedral(4).linear(torch.arange(8), dtype=torch.float64)
    flip = int((linear == torch.tensor([[-1.0, 0], [0, 1.0]])).flatten(1).all(1).nonzero()[0])
    assert torch.equal(action.act(torch.tensor(flip), x), x.flip(-1))


@pytest.mark.parametrize("name", ["Cyclic(4)", "Dihedral(4)"])
def test_left_action_is_bit_exact(name, generator):
    group = er.group(name)
    g, h = group.sample(32, generator=generator), group.sample(32, generator=generator)
    x = torch.randn(32, 9, 9, generator=generator)
    action = Image().on(group)
    assert torch.equal(action.act(group.compose(g, h), x), action.act(g, action.act(h, x)))
    assert bool(action.is_exact(g, x).all())
    assert bool(action.mask(g, x).all())


def test_integer_translations_are_exact():
    """x to the right, y up, in pixels; circular padding is torch.roll."""
    x = torch.arange(30.0).reshape(1, 1, 5, 6)
    g = er.Translation(2).identity()
    g[0, 2], g[1, 2] = 2.0, 1.0
    moved = Image(padding="circular").on(er.Translation(2)).act(g, x)
    assert torch.equal(moved, torch.roll(x, (-1, 2), (-2, -1)))
    zeros = Image().on(er.Translation(2)).act(g, x)
    assert torch.equal(zeros[0, 0, :4, 2:], x[0, 0, 1:, :4])
    assert float(zeros[0, 0, 4].abs().sum() + zeros[0, 0, :, :2].abs().sum()) == 0
    known = torch.zeros(5, 6, dtype=torch.bool)
    known[:4, 2:] = True
    assert torch.equal(Image().on(er.Translation(2)).mask(g, x)[0, 0], known)


@pytest.mark.parametrize(("interpolation", "order"), [("bilinear", 1), ("nearest", 0)])
@pytest.mark.parametrize("degrees", [17.0, -64.0, 135.0])
def test_rotation_against_scipy(interpolation, order, degrees, generator):
    x = torch.randn(17, 17, generator=generator, dtype=torch.float64)
    moved = Image(interpolation).on(er.SO(2)).act(rotation(degrees, torch.float64), x)
    mask = Image(interpolation).on(er.SO(2)).mask(rotation(degrees, torch.float64), x)
    expected = torch.from_numpy(ndimage.rotate(x.numpy(), degrees, reshape=False, order=order, mode="constant"))
    inner = mask & (
        torch.from_numpy(ndimage.rotate(torch.ones(17, 17).numpy(), degrees, reshape=False, order=1)) > 0.999
    )
    assert inner.sum() > 120
    torch.testing.assert_close(moved[inner], expected[inner], rtol=0, atol=1e-9)


def test_affine_warp_against_scipy(generator):
    """A sheared, scaled, shifted image against ndimage.affine_transform with the same map."""
    group = er.Affine(2)
    g = torch.tensor([[1.1, 0.3, 1.5], [-0.2, 0.9, -0.7], [0, 0, 1]], dtype=torch.float64)
    x = torch.randn(21, 15, generator=generator, dtype=torch.float64)
    moved = Image().on(group).act(g, x)
    inverse = torch.linalg.inv(g[:2, :2])
    to_xy = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)  # (row, column) from the middle -> (x, y)
    matrix = to_xy.T @ inverse @ to_xy
    middle = torch.tensor([10.0, 7.0], dtype=torch.float64)
    offset = middle - matrix @ middle - to_xy.T @ inverse @ g[:2, 2]
    expected = ndimage.affine_transform(x.numpy(), matrix.numpy(), offset.numpy(), order=1, mode="constant")
    mask = Image().on(group).mask(g, x)
    torch.testing.assert_close(moved[mask], torch.from_numpy(expected)[mask], rtol=0, atol=1e-9)


def test_circular_bilinear_shift_is_exact_for_band_limited(generator):
    """Bicubic shifts of a slow wave on a torus come close to the closed form, bilinear ones less so."""
    columns = torch.arange(32, dtype=torch.float64)
    x = torch.cos(2 * math.pi * columns / 32).expand(8, 32)
    g = er.Translation(2).identity(dtype=torch.float64)
    g[0, 2] = 0.5
    expected = torch.cos(2 * math.pi * (columns - 0.5) / 32).expand(8, 32)
    errors = {
        kind: float((Image(kind, "circular").on(er.Translation(2)).act(g, x) - expected).abs().max())
        for kind in ("bilinear", "bicubic")
    }
    assert errors["bicubic"] < errors["bilinear"] < 5e-3


def test_mixed_batch_equals_single_elements(generator):
    """Exact and resampled elements in one call agree with one call each, for orbits and for single samples."""
    g = er.SO(2).grid(12)
    x = torch.randn(3, 2, 10, 10, generator=generator)
    action = Image().on(er.SO(2))
    orbit = action.act(g[:, None], x[None])
    assert action.is_exact(g, x).tolist() == [k % 3 == 0 for k in range(12)]
    for k in range(12):
        torch.testing.assert_close(orbit[k], action.act(g[k], x), rtol=0, atol=1e-6)
    each = action.act(g[:3], x)
    for b in range(3):
        torch.testing.assert_close(each[b], orbit[b, b], rtol=0, atol=1e-6)


def test_twelve_times_thirty_degrees_is_not_the_identity(generator):
    """The noise floor of resampling is real: it is what the audit reports beside the model's error."""
    x = torch.randn(1, 33, 33, generator=generator, dtype=torch.float64)
    action = Image().on(er.SO(2))
    moved = x
    for _ in range(12):
        moved = action.act(rotation(30.0, torch.float64), moved)
    disk = ((torch.arange(33) - 16)[:, None] ** 2 + (torch.arange(33) - 16)[None] ** 2) < 14**2
    assert float((moved - x)[:, disk].norm() / x[:, disk].norm()) > 0.1


def swirl(size, components="up"):
    """The rotation field (-y, x) about the middle: it is invariant under every rotation."""
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    x, y = axis.expand(size, size), -axis[:, None].expand(size, size)
    return torch.stack((-y, x if components == "up" else -x))


@pytest.mark.parametrize("components", ["up", "down"])
def test_swirl_is_invariant_under_rotation(components):
    """The classic sign test: with y down a rotation must turn vectors the other way."""
    field = swirl(21, components)
    action = Field(components=components).on(er.SO(2))
    assert torch.equal(action.act(torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64), field), field)
    g = rotation(33.0, torch.float64)
    mask = action.mask(g, field).expand_as(field)
    torch.testing.assert_close(action.act(g, field)[mask], field[mask], rtol=0, atol=1e-10)


def test_field_reverses_under_reflection():
    """A swirl changes its sense under a mirror; a radial field does not."""
    group = er.Dihedral(4)
    linear = group.linear(torch.arange(8), dtype=torch.float64)
    mirrors = torch.arange(8)[torch.linalg.det(linear) < 0]
    field = swirl(9)
    radial = torch.stack((field[1], -field[0]))
    action = Field().on(group)
    assert torch.equal(action.act(mirrors, field.expand(4, -1, -1, -1)), -field.expand(4, -1, -1, -1))
    assert torch.equal(action.act(mirrors, radial.expand(4, -1, -1, -1)), radial.expand(4, -1, -1, -1))


def test_sequence_follows_a_flow(generator):
    """Frame t of a moving picture is rolled by t times the velocity; frame 0 stays."""
    flow = er.Flow(er.Shifts(8, 8), torch.tensor([[1, 0], [0, 1]]))
    action = er.actions.Sequence(er.actions.Rolled(), -4).on(flow)
    x = torch.randn(2, 5, 1, 8, 8, generator=generator)
    g = torch.tensor([[1, 2], [0, -3]])
    moved = action.act(g, x)
    for b in range(2):
        for t in range(5):
            assert torch.equal(moved[b, t], torch.roll(x[b, t], (t * int(g[b, 0]), t * int(g[b, 1])), (-2, -1)))


def test_rotating_sequence(generator):
    flow = er.Flow(er.SO(3), torch.tensor([[0.0, 0.0, 1.0]]))
    x = torch.randn(4, 6, 7, 3, generator=generator, dtype=torch.float64)
    g = torch.tensor([[0.3], [-0.1], [0.0], [1.0]], dtype=torch.float64)
    moved = er.actions.Sequence(er.actions.Points(), -3).on(flow).act(g, x)
    for t in range(6):
        turn = er.SO(3).exp(t * g * torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
        torch.testing.assert_close(moved[:, t], x[:, t] @ turn.mT, rtol=0, atol=1e-12)


def test_frames_see_whole_sequences(generator):
    """A moving cloud is put into one frame for all times; under a flow there is none."""
    sym = er.Symmetry("SE(3)", input="sequence(points, -3)", output="invariant")
    x = torch.randn(3, 6, 5, 3, generator=generator, dtype=torch.float64)
    er.assert_equivariant(er.symmetrize(nn.Sequential(nn.Flatten(), nn.Linear(90, 2)).double(), sym), x)
    flow = er.Flow(er.SO(3), torch.tensor([[0.0, 0.0, 1.0]]))
    assert er.actions.Sequence(er.actions.Points(), -3).on(flow).parts(x) == []


# --- exactness on the very shape -------------------------------------------------------------------------------------
SHAPES = [(8, 8), (7, 7), (6, 8), (6, 7), (7, 9), (1, 5)]


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("name", ["Cyclic(1)", "Cyclic(2)", "Cyclic(4)", "Dihedral(1)", "Dihedral(2)", "Dihedral(4)"])
@pytest.mark.parametrize("padding", ["zeros", "border", "circular"])
def test_exact_or_refused_on_every_shape(name, size, padding, generator):
    """numpy's rot90 and fliplr decide which elements keep the shape; those are exact, the others refused."""
    group, x = er.group(name), torch.randn(2, *size, generator=generator)
    action = Image(padding=padding).on(group)
    linear = group.linear(group.elements(), dtype=torch.float64)
    for g, matrix in zip(group.elements(), linear, strict=True):
        keeps = size[0] == size[1] or abs(float(matrix[0, 0])) > 0.5  # a diagonal matrix turns no side into another
        assert bool(action.is_exact(g, x)) == keeps
        if keeps:
            turned = [np.rot90(x.numpy(), k, (-2, -1)) for k in range(4)]
            views = turned + [np.flip(t, -1) for t in turned]
            assert any(v.shape == x.shape and np.array_equal(action.act(g, x).numpy(), v) for v in views)
            assert torch.equal(action.act(group.inverse(g), action.act(g, x)), x)
        else:
            with pytest.raises(ActionError, match=rf"H = {size[0]} and W = {size[1]} pixels"):
                action.act(g, x)


def test_brightness_of_rectangles_is_invariant_or_refused(generator):
    """Where the action loses no pixel, sums of pixels are invariant; elsewhere nothing claims to be exact."""
    x = torch.rand(3, 1, 6, 8, generator=generator)

    def brightness(x):
        return x.mean((-2, -1))

    for name in ("Cyclic(2)", "Dihedral(2)"):
        sym = er.Symmetry(name, input="image", output="invariant")
        assert er.audit(brightness, sym, x, progress=False).worst_error < 1e-6
        assert er.symmetrize(brightness, sym).certificate == "exact"
    for name in ("Cyclic(4)", "Dihedral(4)"):
        sym = er.Symmetry(name, input="image", output="invariant")
        for call in (
            lambda sym=sym: er.audit(brightness, sym, x, progress=False),
            lambda sym=sym: er.discover(brightness, [sym], x),
            lambda sym=sym: er.symmetrize(brightness, sym)(x),
            lambda sym=sym: er.augment(sym)(x.repeat(30, 1, 1, 1)),
        ):
            with pytest.raises(ActionError, match="H = 6 and W = 8"):
                call()


def test_shears_of_a_torus_are_exact_where_they_close_around_it():
    """Arnold's cat map permutes a square torus; a shear permutes an oblong one only if around it is around it again."""
    action = Image(padding="circular").on(er.SL(2))
    cases = [
        ((7, 7), [[1, 1], [1, 2]], True),
        ((8, 8), [[1, 1], [1, 2]], False),  # the middle lies between pixels: the map leads between pixels
        ((4, 8), [[1, 2], [0, 1]], True),  # once around upwards is once around sideways
        ((4, 8), [[1, 0], [2, 1]], True),
        ((5, 7), [[1, 1], [0, 1]], False),
        ((5, 7), [[1, 7], [0, 1]], True),
        ((5, 7), [[1, 0], [5, 1]], True),
    ]
    for size, rows, exact in cases:
        g = torch.tensor(rows, dtype=torch.float64)
        x = torch.arange(float(size[0] * size[1])).reshape(1, *size)
        assert bool(action.is_exact(g, x)) == exact, (size, rows)
        if exact:
            moved = action.act(g, x)
            assert sorted(moved.flatten().tolist()) == x.flatten().tolist()
            assert torch.equal(action.inverse_act(g, moved), x)
            assert not bool(Image().on(er.SL(2)).is_exact(g, x))


@pytest.mark.parametrize(("padding", "exact"), [("circular", True), ("border", False), ("zeros", False)])
def test_integer_translations_lose_content_unless_on_a_torus(padding, exact, generator):
    group, x = er.Translation(2), torch.rand(2, 1, 5, 6, generator=generator)
    g = group.join(torch.eye(2), torch.tensor([[0.0, 0.0], [2.0, -1.0], [0.5, 0.0]]))
    action = Image(padding=padding).on(group)
    assert action.is_exact(g, x).tolist() == [True, exact, False]
    back = action.inverse_act(g[1], action.act(g[1], x))
    assert torch.equal(back, x) == exact
    sym = er.Symmetry(group, input=Image(padding=padding), output="invariant")
    report = er.audit(lambda x: x.mean((-2, -1)), sym, x, elements=g[:2], progress=False)
    assert (report.resampling is None) == exact
    assert (report.worst_error < 1e-6) == exact


@pytest.mark.parametrize("name", ["Cyclic(3)", "Cyclic(8)", "Cyclic(16)", "Dihedral(3)", "Dihedral(6)", "SO(2)"])
@pytest.mark.parametrize("size", [(8, 8), (7, 7)])
def test_groups_that_interpolate_are_never_certified(name, size, generator):
    """The whole orbit is averaged, and still the result is not invariant: module and audit both say so."""
    x = torch.rand(2, 1, *size, generator=generator)
    net = nn.Sequential(nn.Flatten(), nn.Linear(size[0] * size[1], 3), nn.Tanh())
    sym = er.Symmetry(name, input="image", output="invariant")
    model = er.symmetrize(net, sym, "orbit", samples=8 if name == "SO(2)" else None)
    report = er.audit(model, sym, x, progress=False)
    assert report.worst_error > 1e-4
    assert model.certificate == report.certificate == "statistical"
    assert report.resampling["input"] > 1e-3
    (found,) = er.discover(model, [sym], x)
    assert found.resampling == pytest.approx(report.resampling["model"])


@pytest.mark.parametrize("name", ["Cyclic(4)", "Dihedral(4)", "Dihedral(2)"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["image", "field", "dict", "sequence", "sum"])
def test_certificates_agree_and_are_true(name, dtype, kind, generator):
    """What is certified is exact: worst error over all elements at the promised rounding."""
    x = torch.rand(3, 2, 6, 6, generator=generator, dtype=dtype)
    net = nn.Sequential(nn.Flatten(), nn.Linear(72, 4), nn.Tanh(), nn.Linear(4, 2)).to(dtype)
    given = {
        "image": ("image", x, net),
        "field": ("field", x, net),
        "dict": ({"a": "image", "b": "invariant"}, {"a": x, "b": x[:, 0, 0]}, lambda d: net(d["a"]) + d["b"][:, :2]),
        "sequence": ("sequence(image, -3)", x, net),
        "sum": ("vectors + invariant", x[:, 0, 0], nn.Linear(6, 2).to(dtype)),
    }
    action, data, model = given[kind]
    sym = er.Symmetry(name, input=action, output="invariant")
    model = er.symmetrize(model, sym, "orbit")
    report = er.audit(model, sym, data, progress=False)
    assert model.certificate == report.certificate == "exact"
    assert report.worst_error < (1e-12 if dtype == torch.float64 else 1e-5)
    for wide in ("image", "field"):
        if kind == wide and name != "Dihedral(2)":
            with pytest.raises(ActionError, match="H = 6 and W = 4"):
                model(x[..., :4])


def test_an_inexact_output_is_not_certified(generator):
    """Points go in exactly, but the picture that comes out is turned by interpolation."""
    pixels = torch.stack(torch.meshgrid(torch.arange(7.0), torch.arange(7.0), indexing="ij"), -1) - 3

    def draw(x):
        here = torch.stack([pixels[..., 1], -pixels[..., 0]], -1)
        return torch.exp(-(here - x[:, None, None, 0]).square().sum(-1))

    x = torch.randn(2, 1, 2, generator=generator)
    for name, certificate in (("Cyclic(4)", "exact"), ("Cyclic(8)", "statistical")):
        sym = er.Symmetry(name, input="points", output="image")
        report = er.audit(draw, sym, x, progress=False)
        assert report.certificate == certificate == er.symmetrize(draw, sym).certificate
        assert (report.worst_error < 1e-5) == (certificate == "exact")


# --- derivatives by the element --------------------------------------------------------------------------------------
def shifted(t, x, action):
    """x moved by t pixels to the right."""
    g = torch.stack((1 + 0 * t, 0 * t, t, 0 * t, 1 + 0 * t, 0 * t, 0 * t, 0 * t, 1 + 0 * t)).reshape(3, 3)
    return action.on(er.Translation(2)).act(g, x)


@pytest.mark.parametrize("padding", ["zeros", "border", "circular"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("start", [0.0, 1.0, -2.0])
def test_a_ramp_that_moves_to_the_right_falls_by_its_slope(start, interpolation, padding):
    ramp = torch.arange(9, dtype=torch.float64).expand(4, 9)
    t = torch.tensor(start, dtype=torch.float64)
    value, slope = torch.func.jvp(
        lambda t: shifted(t, ramp, Image(interpolation, padding)), (t,), (torch.ones_like(t),)
    )
    assert torch.equal(slope[:, 3:6], -torch.ones(4, 3, dtype=torch.float64))
    assert torch.equal(value, shifted(t, ramp, Image(interpolation, padding)))
    backward = torch.autograd.functional.jacobian(lambda t: shifted(t, ramp, Image(interpolation, padding)), t)
    torch.testing.assert_close(backward, slope)
    with torch.autograd.forward_ad.dual_level():
        dual = shifted(torch.autograd.forward_ad.make_dual(t, torch.ones_like(t)), ramp, Image(interpolation, padding))
        assert torch.equal(torch.autograd.forward_ad.unpack_dual(dual).tangent, slope)


@pytest.mark.parametrize("name", ["SO(2)", "SE(2)", "Scaling(2)", "Affine(2)"])
@pytest.mark.parametrize("action", [Image(), Image(padding="circular"), Field(), Field(components="down")], ids=str)
def test_derivative_at_elements_on_the_grid_is_the_mean_of_both_sides(name, action, generator):
    """Off the grid everything is resampled; a step to each side of an element on the grid is the reference."""
    group = er.group(name)
    x = torch.randn(2, 7, 7, generator=generator, dtype=torch.float64)
    x = torch.nn.functional.pad(x, (2, 2, 2, 2))
    direction = torch.randn(group.dim, generator=generator, dtype=torch.float64)
    start = group.identity(dtype=torch.float64)
    if name in ("SO(2)", "SE(2)"):
        quarter = torch.zeros(group.dim, dtype=torch.float64)
        quarter[0 if name == "SO(2)" else _turning(group)] = math.pi / 2
        start = group.exp(quarter)

    def moved(t):
        return action.on(group).act(group.compose(start, group.exp(t * direction)), x)

    zero, h = torch.zeros((), dtype=torch.float64), 1e-3
    assert bool(action.on(group).is_exact(start, x))
    assert not bool(action.on(group).is_exact(group.compose(start, group.exp(h * direction)), x))
    expected = (moved(zero + h) - moved(zero - h)) / (2 * h)
    slope = torch.func.jvp(moved, (zero,), (torch.ones_like(zero),))[1]
    torch.testing.assert_close(slope, expected, rtol=0, atol=2e-2 * float(expected.abs().max()))
    assert float(expected.abs().max()) > 0.1


def _turning(group):
    """The index of the generator of rotations."""
    return next(i for i, e in enumerate(torch.eye(group.dim)) if float(group.linear(group.exp(e))[0, 1].abs()) > 0.1)


def test_derivatives_by_the_picture_and_by_both_at_once(generator):
    x = torch.randn(5, 6, generator=generator, dtype=torch.float64)
    t = torch.zeros((), dtype=torch.float64)
    by_x = torch.autograd.functional.jacobian(lambda x: shifted(t.clone().requires_grad_(), x, Image()), x)
    assert torch.equal(by_x.reshape(30, 30), torch.eye(30, dtype=torch.float64))  # once, not twice
    tangent = torch.randn(5, 6, generator=generator, dtype=torch.float64)
    one = torch.ones_like(t)

    def along(x):
        return torch.func.jvp(lambda t: shifted(t, x, Image()), (t,), (one,))[1]

    inner = torch.func.jvp(along, (x,), (tangent,))[1]
    outer = torch.func.jvp(
        lambda t: torch.func.jvp(lambda x: shifted(t, x, Image()), (x,), (tangent,))[1], (t,), (one,)
    )[1]
    torch.testing.assert_close(inner, along(tangent))  # linear in the picture
    torch.testing.assert_close(outer, inner)


def test_nearest_is_flat():
    ramp = torch.arange(9.0).expand(4, 9)
    t = torch.zeros((), requires_grad=True)
    assert not shifted(t, ramp, Image("nearest")).requires_grad


def test_a_learned_shift_that_starts_at_the_identity_finds_its_place():
    axis = torch.arange(32, dtype=torch.float64)
    picture = torch.exp(-((axis - 15.5) ** 2 + (axis[:, None] - 15.5) ** 2) / 40)
    target = shifted(torch.tensor(2.3, dtype=torch.float64), picture, Image())
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([t], lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        (shifted(t, picture, Image()) - target).square().sum().backward()
        optimizer.step()
    assert t.item() == pytest.approx(2.3, abs=0.02)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Image().on(er.SO(3)), ActionError, "group of the plane"),
        (lambda: Image("linear"), ActionError, "choose one of nearest, bilinear, bicubic"),
        (lambda: Image(padding="reflect"), ActionError, "zeros, border, circular"),
        (lambda: Field(components="left"), ActionError, "'up' or 'down'"),
        (lambda: Field().on(er.SO(2)).act(torch.eye(2), torch.zeros(3, 5, 5)), ShapeError, "2 components"),
        (lambda: Image().on(er.SO(2)).act(torch.eye(2), torch.zeros(5)), ShapeError, "at least 2 data axes"),
        (lambda: Image().on(er.Shifts(4, 4)).act(torch.tensor([0, 1]), torch.zeros(5, 5)), ShapeError, "shifts 4"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- channels last ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("group", ["C4", "D4", "SO(2)", "SE(2)", "Shifts(6, 6)"])
@pytest.mark.parametrize("size", [(2, 6, 6, 3), (6, 6, 3)])
def test_channels_last_moves_as_channels_first(group, size, generator):
    first, last = (er.actions.parse_action(text).on(er.group(group)) for text in ("image", 'image(channels="last")'))
    x = torch.randn(5, *size, generator=generator)
    g = first.group.sample(5, generator=generator)
    assert torch.equal(last.act(g, x), first.act(g, x.movedim(-1, -3)).movedim(-3, -1))
    assert torch.equal(last.is_exact(g, x), first.is_exact(g, x.movedim(-1, -3)))
    ours, theirs = last.mask(g, x), first.mask(g, x.movedim(-1, -3))
    assert (ours is None) == (theirs is None)
    if ours is not None:
        assert torch.equal(ours.expand(x.shape), theirs.movedim(-3, -1).expand(x.shape))
    known = torch.rand(x.shape, generator=generator) > 0.2
    moved = first.action.move_mask(first.group, g, known.movedim(-1, -3), x.movedim(-1, -3)).movedim(-3, -1)
    assert torch.equal(last.action.move_mask(last.group, g, known, x), moved)
    assert 0 < float(moved.double().mean()) < 1


def test_channels_last_turns_as_rot90(generator):
    x = torch.randn(4, 8, 8, 3, generator=generator)
    action = Image(channels="last").on(er.Cyclic(4))
    assert torch.equal(
        action.act(torch.arange(4), x), torch.stack([torch.rot90(p, k, (0, 1)) for k, p in enumerate(x)])
    )
    assert action.name == "image(channels=last)"
    assert er.actions.parse_action(action.name) == action.action
    sym = er.Symmetry("C4", input="image(channels=last)", output="invariant")
    assert er.assert_equivariant(lambda x: x.mean((1, 2)), x, sym) < 1e-6
    with pytest.raises(ActionError, match="channels = 'middle': choose one of first, last"):
        Image(channels="middle")
    with pytest.raises(ShapeError, match="at least 3 data axes"):
        action.act(torch.arange(4), x[..., 0])


@pytest.mark.parametrize("shape", [(2, 32, 32, 3), (2, 28, 28, 1), (2, 8, 12, 4)])
def test_what_looks_like_channels_last_is_told(shape):
    action = Image(padding="circular").on(er.Translation(2))
    with pytest.warns(LayoutWarning, match=rf"pictures of {shape[1]} x {shape[2]} pixels .*image\(channels=\"last\"\)"):
        action.act(torch.eye(3).expand(2, 3, 3), torch.zeros(shape))


@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (2, 16, 8, 8), (2, 1, 9, 3), (2, 4, 4, 4), (2, 9, 3)])
def test_what_does_not_is_not(shape):
    Image().on(er.Cyclic(2)).act(torch.tensor([0, 1]), torch.zeros(shape))  # warnings are errors here
