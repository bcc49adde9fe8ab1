"""Actions on coordinates: laws, broadcasting, scipy as the oracle."""

import itertools

import pytest
import torch
from scipy.spatial.transform import Rotation

import erlangen as er
from erlangen.actions import SPD, DirectSum, Factors, Invariant, Permuted, Points, Pseudovectors, Vectors, parse_action
from erlangen.errors import ActionError, DtypeError, ShapeError, SymmetryError, UnknownNameError

DTYPES = [torch.float32, torch.float64]


def assert_close(a, b, dtype=torch.float64):
    torch.testing.assert_close(a, b, rtol=0, atol=2e-5 if dtype == torch.float32 else 1e-11)


def test_a_series_of_numbers_needs_no_other_axis(generator):
    series = er.actions.Sequence(Invariant(), time_axis=-1).on(er.SO(2))
    x = torch.randn(5, 7, generator=generator)
    assert torch.equal(series.act(er.SO(2).sample(5, generator=generator), x), x)
    with pytest.raises(ActionError, match="time_axis must be -2 or less"):
        er.actions.Sequence(Vectors(), time_axis=-1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "spec", ["points", "vectors", "pseudovectors", "spd", "points + vectors", "2*vectors + invariant(4)"]
)
@pytest.mark.parametrize("name", ["SO(3)", "O(3)", "SE(3)", "E(3)", "Octahedral", "Similarity(3)"])
def test_left_action(spec, name, dtype, generator):
    """act(gh, x) = act(g, act(h, x)), and the identity does nothing."""
    group = er.group(name)
    action = parse_action(spec).on(group)
    width = action.action.width(group)
    x = torch.randn(5, 7, width, generator=generator, dtype=dtype)
    if spec == "spd":
        x = torch.randn(5, 3, 3, generator=generator, dtype=dtype)
        x = x @ x.mT
    g, h = (group.sample(5, generator=generator, dtype=dtype) for _ in range(2))
    assert_close(action.act(group.compose(g, h), x), action.act(g, action.act(h, x)), dtype)
    identity = group.identity(dtype=dtype) if group.element_dtype is None else group.identity()
    assert_close(action.act(identity, x), x, dtype)
    assert_close(action.inverse_act(g, action.act(g, x)), x, dtype)


def test_points_against_scipy(generator):
    rotation = Rotation.random(4, rng=0)
    g = torch.eye(4, dtype=torch.float64).repeat(4, 1, 1)
    g[:, :3, :3] = torch.from_numpy(rotation.as_matrix())
    g[:, :3, 3] = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    x = torch.randn(4, 9, 3, generator=generator, dtype=torch.float64)
    moved = Points().on(er.SE(3)).act(g, x)
    turned = Vectors().on(er.SE(3)).act(g, x)
    for i in range(4):
        expected = torch.from_numpy(rotation[i].apply(x[i].numpy()))
        assert_close(turned[i], expected)
        assert_close(moved[i], expected + g[i, :3, 3])


def test_pseudovectors_are_cross_products(generator):
    """The cross product of two vectors is a pseudovector: it keeps its sign under an inversion."""
    group = er.O(3)
    g = group.sample(16, generator=generator, dtype=torch.float64)
    assert (torch.linalg.det(g) < 0).any()
    a, b = torch.randn(2, 16, 3, generator=generator, dtype=torch.float64)
    vectors, axial = Vectors().on(group), Pseudovectors().on(group)
    assert_close(torch.linalg.cross(vectors.act(g, a), vectors.act(g, b)), axial.act(g, torch.linalg.cross(a, b)))


def test_spd_eigenvalues_and_definiteness(generator):
    """Congruence by a rotation keeps the eigenvalues; by any invertible matrix it keeps definiteness."""
    x = torch.randn(6, 4, 4, generator=generator, dtype=torch.float64)
    x = x @ x.mT + torch.eye(4, dtype=torch.float64)
    rotations = er.SO(4).sample(6, generator=generator, dtype=torch.float64)
    assert_close(torch.linalg.eigvalsh(SPD().on(er.SO(4)).act(rotations, x)), torch.linalg.eigvalsh(x))
    linear = er.GLPlus(4).sample(6, generator=generator, dtype=torch.float64)
    assert (torch.linalg.eigvalsh(SPD().on(er.GLPlus(4)).act(linear, x)) > 0).all()


@pytest.mark.parametrize(
    ("g_batch", "x_shape", "out_shape"),
    [
        ((), (5, 7, 3), (5, 7, 3)),
        ((5,), (5, 7, 3), (5, 7, 3)),
        ((4, 1), (1, 5, 7, 3), (4, 5, 7, 3)),
        ((4, 5), (1, 5, 3), (4, 5, 3)),
        ((4,), (1, 7, 3), (4, 7, 3)),
        ((5,), (5, 0, 3), (5, 0, 3)),
    ],
)
def test_broadcasting(g_batch, x_shape, out_shape, generator):
    """Batch axes of g stand against the first axes of x; compared with a loop."""
    group = er.SE(3)
    g = group.sample(g_batch or 1, generator=generator, dtype=torch.float64).reshape(*g_batch, 4, 4)
    x = torch.randn(x_shape, generator=generator, dtype=torch.float64)
    out = Points().on(group).act(g, x)
    assert tuple(out.shape) == out_shape
    for at in itertools.product(*[range(n) for n in out_shape[: len(g_batch)]]):
        gi = g[tuple(min(i, n - 1) for i, n in zip(at, g_batch, strict=True))]
        xi = x[tuple(min(i, n - 1) for i, n in zip(at, x_shape, strict=False))]
        assert_close(out[at], xi @ gi[:3, :3].mT + gi[:3, 3])


def test_axis_of_coordinates(generator):
    g = er.SO(3).sample(2, generator=generator, dtype=torch.float64)
    x = torch.randn(2, 3, 50, generator=generator, dtype=torch.float64)
    assert_close(Vectors(axis=-2).on(er.SO(3)).act(g, x), g @ x)


def test_invariant_expands_over_the_orbit():
    g = er.SO(3).sample((4, 1))
    out = Invariant().on(er.SO(3)).act(g, {"label": torch.arange(5)[None], "box": torch.ones(1, 5, 2)})
    assert out["label"].shape == (4, 5)
    assert out["box"].shape == (4, 5, 2)


def test_direct_sum_moves_each_summand(generator):
    group = er.E(3)
    g = group.sample(2, generator=generator, dtype=torch.float64)
    x = torch.randn(2, 6, 10, generator=generator, dtype=torch.float64)
    moved = parse_action("points + vectors + invariant").on(group).act(g, x)
    assert_close(moved[..., :3], Points().on(group).act(g, x[..., :3]))
    assert_close(moved[..., 3:6], Vectors().on(group).act(g, x[..., 3:6]))
    assert torch.equal(moved[..., 6:], x[..., 6:])


def test_factors_of_a_product(generator):
    group = er.group("Symmetric(6) x SE(3)")
    action = Factors((Permuted(), Points())).on(group)
    g, h = (group.sample(3, generator=generator, dtype=torch.float64) for _ in range(2))
    x = torch.randn(3, 6, 3, generator=generator, dtype=torch.float64)
    assert_close(action.act(group.compose(g, h), x), action.act(g, action.act(h, x)))
    permutation, motion = group.split(g)
    moved = action.act(g, x)
    for i in range(3):
        for node in range(6):
            expected = x[i, node] @ motion[i, :3, :3].T + motion[i, :3, 3]
            assert_close(moved[i, permutation[i, node]], expected)


def test_tree_of_actions(generator):
    sym = er.Symmetry(
        "SE(3)", input={"pos": "points", "vel": "vectors", "charge": "invariant"}, output=("points", "invariant")
    )
    g = er.SE(3).sample(2, generator=generator)
    x = {"vel": torch.randn(2, 4, 3), "pos": torch.randn(2, 4, 3), "charge": torch.ones(2, 4)}
    moved = sym.input.act(g, x)
    assert list(moved) == list(x)
    assert torch.equal(moved["charge"], x["charge"])
    assert_close(moved["pos"], Points().on(er.SE(3)).act(g, x["pos"]), torch.float32)
    pair = sym.output.act(g, (x["pos"], x["charge"]))
    assert isinstance(pair, tuple)


def test_function_as_action():
    sym = er.Symmetry("Cyclic(2)", input=lambda g, x: torch.where(g[:, None] == 1, -x, x), output="invariant")
    g = torch.tensor([0, 1])
    assert torch.equal(sym.input.act(g, torch.ones(2, 3)), torch.tensor([[1.0] * 3, [-1.0] * 3]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("points", Points()),
        ("vectors(axis=-2)", Vectors(axis=-2)),
        ("2*vectors", DirectSum((Vectors(), Vectors()))),
        ("points+vectors", DirectSum((Points(), Vectors()))),
        ("trajectory", DirectSum((Points(), Vectors()))),
        ("invariant(3)", Invariant(3)),
        ("permuted * points", Factors((Permuted(), Points()))),
        ("sequence(points, -3)", er.actions.Sequence(Points(), -3)),
        ("image(interpolation=bicubic, padding=circular)", er.actions.Image("bicubic", "circular")),
        ("rolled(axes=(-1,))", er.actions.Rolled((-1,))),
    ],
)
def test_grammar(text, expected):
    assert parse_action(text) == expected


@pytest.mark.parametrize(
    "action", ["points", "vectors(axis=-2)", "invariant(3)", "image(padding=circular)", "points + 2*vectors"]
)
def test_names_parse_back(action):
    parsed = parse_action(action)
    assert parse_action(parsed.name) == parsed


def test_gradients_reach_x_and_g(generator):
    x = torch.randn(2, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    g = er.SE(3).sample(2, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda g, x: parse_action("points").on(er.SE(3)).act(g, x), (g, x))


def test_empty_batch():
    assert Points().on(er.SO(3)).act(torch.eye(3), torch.zeros(0, 5, 3)).shape == (0, 5, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Points().on(er.SO(3)).act(torch.eye(3), torch.zeros(2, 4)), ShapeError, "acts on 3 coordinates"),
        (lambda: Points().on(er.SO(3)).act(torch.eye(3), torch.zeros(2, 3).long()), DtypeError, r"x.float\(\)"),
        (lambda: Points().on(er.SO(3)).act(torch.eye(2), torch.zeros(2, 3)), ShapeError, "elements of SO\\(3\\)"),
        (
            lambda: Points().on(er.SO(3)).act(torch.eye(3).expand(2, 2, 3, 3), torch.zeros(3)),
            ShapeError,
            "batch axes of g",
        ),
        (lambda: Points().on(er.Shifts(4)), ActionError, "'image' or 'rolled'"),
        (lambda: Points(axis=0), ActionError, "from the end"),
        (
            lambda: Points().on(er.SO(3)).act(torch.eye(3), {"a": torch.zeros(3)}),
            ActionError,
            "dict or tuple of actions",
        ),
        (lambda: SPD().on(er.SO(3)).act(torch.eye(3), torch.zeros(2, 3, 4)), ShapeError, "matrices"),
        (lambda: parse_action("invariant + invariant").on(er.SO(3)), ActionError, "open width"),
        (
            lambda: parse_action("vectors + vectors").on(er.SO(3)).act(torch.eye(3), torch.zeros(2, 7)),
            ShapeError,
            "needs 6",
        ),
        (lambda: parse_action("vectors(axis=-2) + points"), ActionError, "last axis"),
        (lambda: parse_action("ponits"), UnknownNameError, "did you mean 'points'"),
        (lambda: parse_action("points("), UnknownNameError, "cannot be read"),
        (lambda: parse_action("points(axes=3)"), ActionError, "axes"),
        (lambda: parse_action("0*points"), ActionError, "multiplicity"),
        (lambda: parse_action(3), ActionError, "give an action"),
        (lambda: parse_action({}), SymmetryError, "empty tree"),
        (lambda: parse_action("permuted * points").on(er.SO(3)), ActionError, "DirectProduct"),
        (lambda: er.actions.Sequence(Points(), -1), ActionError, "time_axis"),
        (
            lambda: parse_action({"pos": "points"}).on(er.SO(3)).act(torch.eye(3), {"position": torch.zeros(1, 3)}),
            SymmetryError,
            "same keys",
        ),
        (lambda: parse_action({"a": "image"}).on(er.SO(3)), ActionError, "entry 'a'"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
