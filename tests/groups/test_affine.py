"""Groups with translations: axioms, exponential and logarithm, left Haar measure, modular function."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from erlangen.errors import GroupElementError, GroupError, MatrixFunctionError, ShapeError
from erlangen.groups.affine import SE, Affine, E, SemidirectProduct, Similarity, Translation
from erlangen.groups.finite import Dihedral, Icosahedral, Octahedral
from erlangen.groups.linear import SL, SO, Lorentz, Scaling
from erlangen.groups.permutations import Symmetric

TOL = {torch.float32: 1e-5, torch.float64: 1e-12}
LIE = [Translation(1), Translation(3), SE(2), SE(3), SE(4), E(2), E(3), Similarity(2), Similarity(3), Affine(1)]
LIE += [Affine(2), Affine(3), SemidirectProduct(Scaling(2)), SemidirectProduct(SL(2)), SemidirectProduct(Lorentz())]
FINITE = [SemidirectProduct(Dihedral(6)), SemidirectProduct(Octahedral()), SemidirectProduct(Icosahedral())]
GROUPS = LIE + FINITE
UNIMODULAR = {"Translation(1)", "Translation(3)", "SE(2)", "SE(3)", "SE(4)", "E(2)", "E(3)"}
UNIMODULAR |= {group.name for group in [*FINITE, SemidirectProduct(SL(2)), SemidirectProduct(Lorentz())]}


def named(groups: list[SemidirectProduct]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("group", groups, ids=str)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def size(A: torch.Tensor) -> torch.Tensor:
    return torch.linalg.matrix_norm(A)


def distance(A: torch.Tensor, B: torch.Tensor, scale: torch.Tensor | float = 1.0) -> float:
    return (size(A - B) / scale).max().item()


# --- algebra ------------------------------------------------------------------------------------------------
@named(GROUPS)
@given(seed=st.integers(0, 10_000), dtype=st.sampled_from([torch.float32, torch.float64]))
@settings(deadline=None, max_examples=8)
def test_axioms(group: SemidirectProduct, seed: int, dtype: torch.dtype) -> None:
    a, b, c = group.sample((3, 8), generator=rng(seed), dtype=dtype)
    e = group.identity(dtype=dtype)
    tol = 2 * TOL[dtype]
    scale = size(a) * size(b) * size(c)
    assert distance(group.compose(group.compose(a, b), c), group.compose(a, group.compose(b, c)), scale) < tol
    assert torch.equal(group.compose(a, e), a)
    condition = size(a) * size(group.inverse(a))
    assert distance(group.compose(a, group.inverse(a)), e, condition) < tol
    assert distance(group.compose(group.inverse(a), a), e, condition) < tol
    for g in (a, group.compose(a, b), group.inverse(a), e):
        assert group.contains(g).all()
        assert g.dtype == dtype


@named(GROUPS)
def test_acts_on_points_as_a_homomorphism(group: SemidirectProduct) -> None:
    g, h = group.sample((2, 5), generator=rng(), dtype=torch.float64)
    x = torch.randn(7, group.space_dim, generator=rng(1), dtype=torch.float64)

    def move(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return x @ group.linear(g).mT + group.translation(g)[:, None]

    moved = move(g, move(h, x))
    assert torch.allclose(move(group.compose(g, h), x), moved, rtol=1e-12, atol=1e-11)
    assert torch.allclose(move(group.inverse(g), move(g, x)), x.expand_as(moved), rtol=1e-12, atol=1e-10)


@named(GROUPS)
def test_shapes_broadcasting_and_join(group: SemidirectProduct) -> None:
    n = group.space_dim
    g, h = group.sample((4, 1), generator=rng()), group.sample((1, 5), generator=rng(1))
    assert group.compose(g, h).shape == (4, 5, n + 1, n + 1)
    assert group.inverse(g).shape == g.shape
    assert group.log_haar_weight(g).shape == (4, 1)
    assert group.modular_function(g).shape == (4, 1)
    assert group.sample(0).shape == (0, n + 1, n + 1)
    assert torch.equal(group.join(group.linear(g), group.translation(g)), g)
    assert group.join(group.linear(g), torch.zeros(5, n)).shape == (4, 5, n + 1, n + 1)
    assert group.exp(torch.zeros(2, 3, group.dim)).shape == (2, 3, n + 1, n + 1)
    with pytest.raises(ShapeError, match="joins"):
        group.join(torch.zeros(n + 1, n + 1), torch.zeros(n))


@named(GROUPS)
def test_contains_rejects(group: SemidirectProduct) -> None:
    e = group.identity()
    wrong = []
    for index, value in (((-1, 0), 1.0), ((-1, -1), 2.0), ((0, -1), math.nan), ((0, 0), -7.0)):
        wrong.append(e.clone())
        wrong[-1][index] = value
    assert group.contains(torch.stack([e, *wrong])).tolist() == [True, False, False, False, False]
    assert not group.contains(e.long())
    with pytest.raises(GroupElementError, match=r"g\[1\] is not an element"):
        group.check(torch.stack([e, wrong[0]]))
    with pytest.raises(ShapeError, match="elements of"):
        group.contains(torch.eye(group.space_dim))


def test_sampling_is_reproducible_in_every_dtype() -> None:
    for group in GROUPS:
        double = group.sample((2, 3), generator=rng(5), dtype=torch.float64)
        assert torch.equal(double.float(), group.sample((2, 3), generator=rng(5), dtype=torch.float32))


# --- exponential and logarithm ------------------------------------------------------------------------------
@named(GROUPS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exp_and_log(group: SemidirectProduct, dtype: torch.dtype) -> None:
    a = (0.4 * torch.randn(20, group.dim, generator=rng(), dtype=torch.float64)).to(dtype)
    g = group.exp(a)
    expected = np.stack([scipy.linalg.expm(A) for A in group.hat(a).double().numpy()])
    assert group.contains(g).all()
    assert distance(g.double(), torch.tensor(expected), size(g)) < TOL[dtype]
    assert torch.allclose(group.log(g), a, rtol=10 * TOL[dtype], atol=10 * TOL[dtype])
    assert torch.allclose(group.vee(group.hat(a)), a, atol=TOL[dtype])


@pytest.mark.parametrize("theta", [0.0, 1e-7, 3.0, math.pi - 1e-6, math.pi])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rigid_motions_have_logarithms_up_to_pi(theta: float, dtype: torch.dtype) -> None:
    axis = torch.tensor([2.0, -1.0, 2.0], dtype=dtype) / 3
    for group, rotation in ((SE(2), torch.tensor([theta], dtype=dtype)), (SE(3), theta * axis)):
        g = group.exp(torch.cat([rotation, torch.linspace(-1, 2, group.space_dim, dtype=dtype)]))
        log = group.log(g)
        assert log[: group.H.dim].norm().item() == pytest.approx(
            theta, rel=TOL[dtype], abs=1e-6 if dtype == torch.float32 else 1e-13
        )
        assert distance(group.exp(log), g, size(g)) < TOL[dtype]


def test_planar_screw_in_closed_form() -> None:
    """A quarter turn with velocity (1, 0) moves the origin along a quarter circle of radius 2 / pi."""
    g = SE(2).exp(torch.tensor([math.pi / 2, 1.0, 0.0], dtype=torch.float64))
    assert SE(2).translation(g).tolist() == pytest.approx([2 / math.pi, 2 / math.pi])


def test_missing_logarithms() -> None:
    mirror = torch.stack([torch.eye(3), torch.diag(torch.tensor([-1.0, 1.0, 1.0]))])
    with pytest.raises(GroupElementError, match=r"g\[1\] has determinant -1"):
        E(2).log(mirror)
    with pytest.raises(GroupElementError, match=r"g\[1\] is not the identity.*discrete"):
        SemidirectProduct(Dihedral(6)).log(mirror)
    shear = torch.tensor([[-1.0, 1.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]])
    with pytest.raises(MatrixFunctionError, match="principal logarithm"):
        Affine(2).log(shear)


def test_finite_linear_parts_must_be_elements() -> None:
    g = torch.eye(3).repeat(2, 1, 1)
    g[1, 0, 0] = 1.5
    with pytest.raises(GroupElementError, match=r"g\[1\] is no element of Dihedral"):
        SemidirectProduct(Dihedral(6)).inverse(g)


@named(GROUPS)
def test_discrete_generators(group: SemidirectProduct) -> None:
    generators = group.discrete_generators
    assert generators.shape[1:] == group.shape
    assert len(generators) == len(group.H.discrete_generators)
    assert group.contains(generators).all()
    assert (group.translation(generators) == 0).all()


def test_gradients() -> None:
    for group in (SE(3), Similarity(2), Affine(2)):
        a = (0.4 * torch.randn(2, group.dim, generator=rng(), dtype=torch.float64)).requires_grad_()
        assert torch.autograd.gradcheck(lambda a, group=group: group.log(group.exp(a)), (a,))


# --- measure ------------------------------------------------------------------------------------------------
@named(GROUPS)
def test_modular_function_is_one_over_the_determinant(group: SemidirectProduct) -> None:
    g = group.sample(20, generator=rng(2), dtype=torch.float64)
    expected = 1 / torch.linalg.det(group.linear(g)).abs()
    assert torch.allclose(group.modular_function(g), expected, rtol=1e-9)
    assert group.is_unimodular == (group.name in UNIMODULAR)
    if group.is_unimodular:
        assert torch.allclose(expected, torch.ones_like(expected), rtol=1e-9)


def test_modular_function_is_the_jacobian_of_right_translation() -> None:
    """For the ax + b group, left Haar measure is da db / a^2; right translation by (a0, b0) scales it by 1 / a0."""
    group = Affine(1)
    g0 = torch.tensor([[1.7, 0.4], [0.0, 1.0]], dtype=torch.float64)

    def right(p: torch.Tensor) -> torch.Tensor:
        g = torch.stack([p, torch.tensor([0.0, 1.0], dtype=torch.float64)])
        return (g @ g0)[0]

    p = torch.tensor([0.6, -1.1], dtype=torch.float64)
    jacobian = torch.linalg.det(torch.func.jacrev(right)(p)).abs()
    numeric = jacobian * p[0] ** 2 / right(p)[0] ** 2
    assert group.modular_function(g0).item() == pytest.approx(numeric.item())
    assert numeric.item() == pytest.approx(1 / 1.7)


def smooth(g: torch.Tensor) -> torch.Tensor:
    """A rapidly decaying, asymmetric test function on homogeneous matrices."""
    n = g.shape[-1] - 1
    target = torch.linspace(-0.3, 0.4, n * n, dtype=g.dtype).view(n, n) + torch.eye(n, dtype=g.dtype)
    h, t = g[..., :n, :n], g[..., :n, n]
    distance = size(h - target).square() + size(torch.linalg.inv(h) - target.mT).square()
    return (-0.2 * distance - 0.7 * (t - 0.2).square().sum(-1)).exp()


def standard_errors(weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> float:
    difference = weight * (a - b)
    return abs(difference.mean() / (difference.std() / math.sqrt(len(a)))).item()


HAAR = [Translation(2), SE(2), SE(3), Similarity(2), Similarity(3), Affine(1), Affine(2), FINITE[0]]


@named(HAAR)
def test_weights_turn_the_proposal_into_left_haar_measure(group: SemidirectProduct) -> None:
    g = group.sample(100_000, generator=rng(6), dtype=torch.float64)
    h = group.exp(torch.full((group.dim,), 0.25, dtype=torch.float64))
    log_weight = group.log_haar_weight(g)
    weight = (log_weight - log_weight.mean()).exp()
    f = smooth(g)
    assert standard_errors(weight, f, smooth(h @ g)) < 5
    assert standard_errors(torch.ones_like(weight), f, smooth(h @ g)) > 10  # negative control


@named([Similarity(2), Affine(1), Affine(2)])
def test_right_translation_scales_left_haar_measure_by_the_modular_function(group: SemidirectProduct) -> None:
    """The integral of f(g h) is Delta(h^-1) times that of f(g)."""
    g = group.sample(100_000, generator=rng(6), dtype=torch.float64)
    h = group.exp(torch.full((group.dim,), 0.25, dtype=torch.float64))
    weight = group.log_haar_weight(g).exp()
    f, moved = smooth(g), smooth(g @ h)
    delta = group.modular_function(group.inverse(h))
    assert abs(delta.log().item()) > 0.1
    assert standard_errors(weight, delta * f, moved) < 5
    assert standard_errors(weight, f, moved) > 5  # negative control: the group is not unimodular


# --- construction -------------------------------------------------------------------------------------------
def test_names_and_equality() -> None:
    names = ["Translation(2)", "SE(3)", "E(2)", "Similarity(2)", "Affine(3)"]
    assert [g.name for g in (Translation(2), SE(3), E(2), Similarity(2), Affine(3))] == names
    assert SE(3) == SE(3)
    assert SE(3) != SemidirectProduct(SO(3))
    assert SemidirectProduct(SO(3)) == SemidirectProduct(SO(3))
    assert SE(3).dim == 6
    assert Similarity(3).dim == 7
    assert Affine(2).dim == 6
    assert Translation(2, 0.5).name == "Translation(2, scale=0.5)"
    assert SE(2, translation_scale=3.0) != SE(2)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SE(1), "SO needs an integer dimension"),
        (lambda: Translation(0), "Translation needs an integer dimension"),
        (lambda: SE(2, translation_scale=0.0), "translation_scale must be a positive number"),
        (lambda: SemidirectProduct(SE(2)), "cannot be read off"),
        (lambda: SemidirectProduct(Symmetric(3)), "cannot be read off"),
    ],
)
def test_bad_constructions(build, message: str) -> None:
    with pytest.raises(GroupError, match=message):
        build()


def test_no_grid() -> None:
    with pytest.raises(GroupError, match="no quasi-uniform grid"):
        SE(3).grid(5)


@pytest.mark.parametrize("group", [SE(3), Affine(2), SO(4), Lorentz()], ids=str)
def test_autocast_changes_no_digit(group) -> None:
    def everything() -> list[torch.Tensor]:
        g, h = group.sample((2, 5), generator=rng(3))
        a = 0.3 * torch.randn(5, group.dim, generator=rng(4))
        parts = [group.compose(g, h), group.inverse(g), group.exp(a), group.log(group.exp(a)), group.adjoint(g)]
        return [*parts, group.contains(g), group.log_haar_weight(g)]

    plain = everything()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = everything()
    assert all(torch.equal(a, b) for a, b in zip(plain, inside, strict=True))
