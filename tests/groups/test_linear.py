"""Matrix Lie groups: axioms, exponential and logarithm, Haar measure, against scipy and closed forms."""

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from erlangen.errors import GroupElementError, GroupError, MatrixFunctionError, ShapeError
from erlangen.groups.linear import CSO, SL, SO, GLPlus, Lorentz, O, Scaling, TrivialGroup
from erlangen.groups.matrix import MatrixGroup

TOL = {torch.float32: 1e-5, torch.float64: 1e-12}
COMPACT = [SO(2), SO(3), SO(4), SO(5), O(2), O(3), O(4), TrivialGroup(3)]
NON_COMPACT = [SL(2), SL(3), GLPlus(1), GLPlus(2), GLPlus(3), Scaling(1), Scaling(3), CSO(2), CSO(3)]
NON_COMPACT += [Lorentz(1, 1), Lorentz(1, 2), Lorentz()]
GROUPS = COMPACT + NON_COMPACT
CONNECTED = [group for group in GROUPS if not isinstance(group, O)]


def named(groups: list[MatrixGroup]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("group", groups, ids=str)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def size(A: torch.Tensor) -> torch.Tensor:
    return torch.linalg.matrix_norm(A)


def distance(A: torch.Tensor, B: torch.Tensor, scale: torch.Tensor | float = 1.0) -> float:
    """Largest error of a batch, relative to `scale` (the size of the factors for products)."""
    return (size(A - B) / scale).max().item()


# --- algebra ------------------------------------------------------------------------------------------------
@named(GROUPS)
@given(seed=st.integers(0, 10_000), dtype=st.sampled_from([torch.float32, torch.float64]))
@settings(deadline=None, max_examples=10)
def test_axioms(group: MatrixGroup, seed: int, dtype: torch.dtype) -> None:
    a, b, c = group.sample((3, 8), generator=rng(seed), dtype=dtype)
    e = group.identity(dtype=dtype)
    scale = size(a) * size(b) * size(c)
    tol = 2 * TOL[dtype]
    assert distance(group.compose(group.compose(a, b), c), group.compose(a, group.compose(b, c)), scale) < tol
    assert torch.equal(group.compose(a, e), a)
    assert torch.equal(group.compose(e, a), a)
    condition = size(a) * size(group.inverse(a))
    assert distance(group.compose(a, group.inverse(a)), e, condition) < tol
    assert distance(group.compose(group.inverse(a), a), e, condition) < tol
    for g in (a, group.compose(a, b), group.inverse(a), e):
        assert group.contains(g).all()
        assert g.dtype == dtype
    product = group.linear(group.compose(a, b))
    assert distance(product, group.linear(a) @ group.linear(b), size(a) * size(b)) < tol


@named(GROUPS)
def test_broadcasting_and_shapes(group: MatrixGroup) -> None:
    n = group.space_dim
    g = group.sample((4, 1), generator=rng())
    h = group.sample((1, 5), generator=rng(1))
    assert group.compose(g, h).shape == (4, 5, n, n)
    assert group.contains(group.compose(g, h)).shape == (4, 5)
    assert group.batch_shape(g) == (4, 1)
    assert group.sample(0).shape == (0, n, n)
    assert group.log_haar_weight(g).shape == (4, 1)
    assert group.exp(torch.zeros(2, 3, group.dim)).shape == (2, 3, n, n)
    assert group.translation(g) is None
    with pytest.raises(ShapeError, match="elements of"):
        group.contains(torch.zeros(n + 1, n + 1))
    with pytest.raises(ShapeError, match="algebra coordinates"):
        group.exp(torch.zeros(group.dim + 1))


@named(GROUPS)
def test_contains_rejects(group: MatrixGroup) -> None:
    n = group.space_dim
    bad = [torch.full((n, n), math.nan), torch.zeros(n, n)]
    if n > 1:
        bad.append(torch.eye(n) + torch.diag(torch.full((n - 1,), 0.1), 1) * (1 if "L(" not in group.name else -100))
    for matrix in bad[:2] if isinstance(group, (SL, GLPlus)) else bad:
        assert not group.contains(matrix)
    assert not group.contains(torch.eye(n, dtype=torch.int64))
    with pytest.raises(GroupElementError, match=r"g\[1\] is not an element"):
        group.check(torch.stack([torch.eye(n), bad[0]]))


def test_contains_tells_the_components_apart() -> None:
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
    assert O(3).contains(flip)
    assert not SO(3).contains(flip)
    assert not CSO(3).contains(2 * flip)
    assert CSO(3).contains(2 * torch.eye(3))
    assert not SO(3).contains(1.01 * torch.eye(3))
    assert not SL(3).contains(1.01 * torch.eye(3))
    assert GLPlus(2).contains(torch.tensor([[0.0, -3.0], [1.0, 0.0]]))
    assert not GLPlus(3).contains(flip)
    assert not Scaling(3).contains(-torch.eye(3))
    lorentz = Lorentz(1, 3)
    for sign in ([-1.0, 1, 1, 1], [1.0, -1, 1, 1], [-1.0, -1, 1, 1], [-1.0, -1, -1, -1]):
        assert not lorentz.contains(torch.diag(torch.tensor(sign)))


# --- exponential and logarithm ------------------------------------------------------------------------------
@named(CONNECTED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exp_of_log(group: MatrixGroup, dtype: torch.dtype) -> None:
    a = 0.7 * torch.randn(50, group.dim, generator=rng(), dtype=torch.float64).to(dtype)
    g = group.exp(a)
    assert group.contains(g).all()
    assert distance(group.exp(group.log(g)), g, size(g)) < TOL[dtype]
    h = group.sample(50, generator=rng(2), dtype=dtype)
    if not isinstance(group, (SL, GLPlus)):  # the exponential of these is not onto
        assert distance(group.exp(group.log(h)), h, size(h)) < TOL[dtype] * 100 ** isinstance(group, Lorentz)


@named(CONNECTED)
def test_log_of_exp_and_scipy(group: MatrixGroup) -> None:
    a = 0.3 * torch.randn(20, group.dim, generator=rng(), dtype=torch.float64)
    assert torch.allclose(group.log(group.exp(a)), a, atol=1e-12)
    A = group.hat(a)
    assert torch.allclose(group.vee(A), a, atol=1e-14)
    expected = np.stack([scipy.linalg.expm(m) for m in A.numpy()])
    assert np.allclose(group.exp(a).numpy(), expected, rtol=1e-12, atol=1e-13)


@named(CONNECTED)
def test_the_algebra_is_closed_and_orthogonal(group: MatrixGroup) -> None:
    basis = group.lie_algebra
    assert basis.shape == (group.dim, group.space_dim, group.space_dim)
    flat = basis.flatten(1)
    gram = flat @ flat.T
    assert torch.allclose(gram, torch.diag(gram.diagonal()), atol=1e-14)
    if isinstance(group, (SL, GLPlus)):
        assert torch.allclose(gram.diagonal(), torch.ones(group.dim, dtype=torch.float64))
    brackets = basis[:, None] @ basis[None] - basis[None] @ basis[:, None]
    assert torch.allclose(group.hat(group.vee(brackets)), brackets, atol=1e-14)


@named([SO(3), SL(2), GLPlus(2), CSO(3), Lorentz(1, 3)])
def test_adjoint_is_a_homomorphism_and_volume_preserving(group: MatrixGroup) -> None:
    g, h = group.sample((2, 10), generator=rng(), dtype=torch.float64)
    Ad = group.adjoint
    assert torch.allclose(Ad(g @ h), Ad(g) @ Ad(h), rtol=1e-9, atol=1e-9)
    assert torch.allclose(torch.linalg.det(Ad(g)).abs(), group.modular_function(g), rtol=1e-9)


def test_dimensions() -> None:
    dims = {SO(4): 6, O(3): 3, SL(3): 8, GLPlus(3): 9, Scaling(3): 1, CSO(3): 4, Lorentz(1, 3): 6}
    dims |= {TrivialGroup(2): 0, Lorentz(1, 1): 1}
    for group, dim in dims.items():
        assert group.dim == dim
        assert torch.linalg.matrix_rank(group.lie_algebra.flatten(1)) == dim if dim else True


def test_so3_coordinates_are_rotation_vectors() -> None:
    vectors = Rotation.random(100, random_state=0).as_rotvec()
    vectors[:2] = [[1e-9, 0, 2e-9], [0, math.pi - 1e-9, 0]]
    R = SO(3).exp(torch.tensor(vectors))
    assert np.allclose(R.numpy(), Rotation.from_rotvec(vectors).as_matrix(), atol=1e-14)
    assert np.allclose(SO(3).log(R).numpy(), vectors, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("theta", [0.0, 1e-6, 1e-3, 3.0, math.pi - 1e-3, math.pi - 1e-7, math.pi])
def test_so3_log_is_accurate_near_0_and_pi(theta: float, dtype: torch.dtype) -> None:
    axis = torch.tensor([[1.0, 2.0, -2.0], [0.0, 0.0, 3.0], [-3.0, 0.0, 0.0]], dtype=torch.float64) / 3
    R = SO(3).exp((theta * axis).to(dtype))
    log = SO(3).log(R).double()
    assert log.norm(dim=-1).tolist() == pytest.approx([theta] * 3, rel=TOL[dtype], abs=1e-14)
    assert distance(SO(3).exp(log), R.double()) < TOL[dtype]


def test_so2_log_is_the_angle() -> None:
    theta = torch.linspace(-3.14, 3.14, 21, dtype=torch.float64)
    assert torch.allclose(SO(2).log(SO(2).exp(theta[:, None]))[:, 0], theta, atol=1e-14)
    assert SO(2).exp(torch.tensor([math.pi / 2])).tolist()[1][0] == pytest.approx(1)  # counter-clockwise


def test_gradients_of_exp_and_log() -> None:
    for group in (SO(2), SO(3), SO(4), CSO(3), Lorentz(1, 2)):
        a = (0.5 * torch.randn(2, group.dim, generator=rng(), dtype=torch.float64)).requires_grad_()
        assert torch.autograd.gradcheck(lambda a, group=group: group.log(group.exp(a)), (a,))
        zero = torch.zeros(1, group.dim, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda a, group=group: group.log(group.exp(a)), (zero,))
    for rotvec in ([0.0, 0.0, 0.0], [1e-5, 0.0, 0.0], [0.0, 0.2, -1.0]):
        a = torch.tensor([rotvec], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradgradcheck(SO(3).exp, (a,))


def test_missing_logarithms() -> None:
    flip = torch.stack([torch.eye(3), torch.diag(torch.tensor([-1.0, 1.0, 1.0]))])
    with pytest.raises(GroupElementError, match=r"g\[1\] has determinant -1.*reflections"):
        O(3).log(flip)
    shear = torch.tensor([[-1.0, 1.0], [0.0, -1.0]])
    with pytest.raises(MatrixFunctionError, match="principal logarithm"):
        SL(2).log(shear)


def test_o_n_is_so_n_and_a_reflection() -> None:
    for n in (2, 3, 4):
        (flip,) = O(n).discrete_generators
        assert O(n).contains(flip)
        assert torch.linalg.det(flip) == -1
        R = SO(n).sample(5, generator=rng())
        assert torch.allclose(O(n).exp(O(n).log(R)), R, atol=1e-5)
    assert len(SO(3).discrete_generators) == 0


# --- sampling and Haar measure ------------------------------------------------------------------------------
@named(GROUPS)
def test_sampling_is_reproducible_in_every_dtype(group: MatrixGroup) -> None:
    double = group.sample((2, 3), generator=rng(5), dtype=torch.float64)
    single = group.sample((2, 3), generator=rng(5), dtype=torch.float32)
    assert torch.equal(double.float(), single)
    assert torch.equal(double, group.sample((2, 3), generator=rng(5), dtype=torch.float64))
    assert group.sample(2).dtype == torch.get_default_dtype()


def angles(R: torch.Tensor) -> np.ndarray:
    return Rotation.from_matrix(R.numpy()).magnitude()


def angle_cdf(t: np.ndarray) -> np.ndarray:
    """Distribution of the rotation angle of Haar-random rotations: density (1 - cos t) / pi on [0, pi]."""
    return (t - np.sin(t)) / math.pi


@pytest.mark.parametrize("move", ["none", "left", "right", "inverse"])
def test_so3_samples_are_haar(move: str) -> None:
    R = SO(3).sample(4000, generator=rng(1), dtype=torch.float64)
    h = SO(3).exp(torch.tensor([0.3, -1.0, 0.5], dtype=torch.float64))
    moved = {"none": R, "left": h @ R, "right": R @ h, "inverse": R.mT}[move]
    assert scipy.stats.kstest(angles(moved), angle_cdf).pvalue > 0.01


def test_the_angle_test_can_fail() -> None:
    """A uniform angle about a uniform axis is the classical wrong way."""
    wrong = np.random.default_rng(0).uniform(0, math.pi, 4000)
    assert scipy.stats.kstest(wrong, angle_cdf).pvalue < 1e-6


def test_so2_samples_are_uniform() -> None:
    theta = SO(2).log(SO(2).sample(4000, generator=rng(), dtype=torch.float64))[:, 0]
    uniform = scipy.stats.uniform(-math.pi, 2 * math.pi)
    assert scipy.stats.kstest(theta.numpy(), uniform.cdf).pvalue > 0.01


@named([SO(2), SO(3), SO(4), SO(5), O(2), O(3), O(4)])
def test_moments_of_haar_measure(group: MatrixGroup) -> None:
    """E tr g = 0; E (tr g)^2 = 1 for the irreducible real representation, 2 for SO(2) (Diaconis 1994)."""
    g = group.sample(40_000, generator=rng(3), dtype=torch.float64)
    h = group.sample(1, generator=rng(4), dtype=torch.float64)[0]
    second = 2.0 if group == SO(2) else 1.0
    for moved in (g, h @ g, g @ h):
        trace = moved.diagonal(dim1=-2, dim2=-1).sum(-1)
        assert abs(trace.mean().item()) < 5 * math.sqrt(second / 40_000)
        assert trace.square().mean().item() == pytest.approx(second, abs=5 * trace.square().std().item() / 200)
    if isinstance(group, O):
        assert abs(torch.linalg.det(g).mean().item()) < 0.025


def smooth(g: torch.Tensor) -> torch.Tensor:
    """A rapidly decaying, asymmetric test function on a group of matrices."""
    n = g.shape[-1]
    target = torch.linspace(-0.3, 0.4, n * n, dtype=g.dtype).view(n, n) + torch.eye(n, dtype=g.dtype)
    return (-0.15 * (size(g - target).square() + size(torch.linalg.inv(g) - target.mT).square())).exp()


def standard_errors(weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> float:
    """Difference of the integrals of a and b over its standard error."""
    difference = weight * (a - b)
    return abs(difference.mean() / (difference.std() / math.sqrt(len(a)))).item()


HAAR_CASES = [SL(2), SL(3, scale=0.4), GLPlus(2), GLPlus(3), Scaling(2), CSO(2), CSO(3), Lorentz(1, 1)]
HAAR_CASES += [Lorentz(1, 2), Lorentz(1, 3), GLPlus(2, scale=0.8)]


@named(HAAR_CASES)
def test_weights_turn_the_proposal_into_haar_measure(group: MatrixGroup) -> None:
    g = group.sample(100_000, generator=rng(6), dtype=torch.float64)
    h = group.exp(0.25 / (1 + (group.dim > 3)) * torch.ones(group.dim, dtype=torch.float64))
    log_weight = group.log_haar_weight(g)
    weight = (log_weight - log_weight.mean()).exp()
    plain = smooth(g)
    for moved in (smooth(h @ g), smooth(g @ h), smooth(group.inverse(g))):
        assert standard_errors(weight, plain, moved) < 5
    assert standard_errors(torch.ones_like(weight), plain, smooth(h @ g)) > 10  # negative control


@named([SL(2, scale=0.9), SL(3, scale=0.6), Lorentz(1, 2, scale=0.8), Lorentz(1, 3, scale=0.8)])
def test_the_sinh_factor_is_needed(group: MatrixGroup) -> None:
    g = group.sample(100_000, generator=rng(6), dtype=torch.float64)
    h = group.exp(0.25 / (1 + (group.dim > 3)) * torch.ones(group.dim, dtype=torch.float64))
    squares = torch.linalg.svdvals(g).log().square().sum(-1)
    if isinstance(group, Lorentz):  # a boost has the singular values exp(+-|eta|), so this is 2 |eta|^2
        squares = squares / 2
    flat = squares / (2 * group.scale**2)  # one over the Gaussian alone, without the sinh factor
    assert standard_errors(group.log_haar_weight(g).exp(), smooth(g), smooth(h @ g)) < 4
    assert standard_errors(flat.exp(), smooth(g), smooth(h @ g)) > 5


def test_compact_groups_need_no_weight() -> None:
    assert (SO(3).log_haar_weight(SO(3).sample(4)) == 0).all()


# --- grids --------------------------------------------------------------------------------------------------
def test_grids() -> None:
    circle = SO(2).grid(8, dtype=torch.float64)
    expected = torch.arange(8) * math.pi / 4
    assert torch.allclose(SO(2).log(circle)[:5, 0], expected[:5].double(), atol=1e-14)
    assert torch.equal(circle[0], torch.eye(2, dtype=torch.float64))
    for group in (SO(2), SO(3), O(2), O(3)):
        for n in (1, 2, 7, 64):
            g = group.grid(n)
            assert g.shape == (n, *group.shape)
            assert group.contains(g).all()
            assert torch.equal(g, group.grid(n))
        det = torch.linalg.det(group.grid(64))
        assert abs(det.sum().item()) < 1e-3 if isinstance(group, O) else (det > 0).all()
        assert (torch.cdist(group.grid(64).flatten(1), group.grid(64).flatten(1)) < 0.05).sum() == 64


def test_groups_without_a_grid_say_so() -> None:
    for group in (SO(4), O(4), SL(2), Scaling(2), Lorentz()):
        with pytest.raises(GroupError, match="no quasi-uniform grid"):
            group.grid(10)
    with pytest.raises(GroupError, match="positive integer"):
        SO(3).grid(0)


# --- construction -------------------------------------------------------------------------------------------
def test_names_and_equality() -> None:
    names = ["SO(3)", "O(2)", "SL(2)", "GL+(2)", "Scaling(3)", "Lorentz(1,3)", "CSO(3)"]
    groups = [SO(3), O(2), SL(2), GLPlus(2), Scaling(3), Lorentz(1, 3), CSO(3)]
    assert [group.name for group in groups] == names
    assert SO(3) == SO(3)
    assert SO(3) != O(3)
    assert Scaling(3) != Scaling(3, scale=0.3)
    assert Scaling(3, scale=0.3).name == "Scaling(3, scale=0.3)"
    assert len({SO(3), SO(3), SO(2)}) == 2


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SO(1), "SO needs an integer dimension of at least 2, got 1"),
        (lambda: SO(2.0), "got 2.0"),  # pyright: ignore
        (lambda: O(0), "at least 2"),
        (lambda: SL(True), "got True"),
        (lambda: GLPlus(0), "at least 1"),
        (lambda: Scaling(2, scale=0.0), "scale must be a positive number"),
        (lambda: SL(2, scale=math.nan), "scale must be a positive number"),
        (lambda: Lorentz(2, 3), "p = 1"),
        (lambda: Lorentz(1, 0), "at least 1"),
    ],
)
def test_bad_constructions(build, message: str) -> None:
    with pytest.raises(GroupError, match=message):
        build()


def test_singular_matrices_have_no_inverse() -> None:
    with pytest.raises(GroupElementError, match=r"g\[1\] is singular"):
        GLPlus(2).inverse(torch.stack([torch.eye(2), torch.ones(2, 2)]))


def test_the_trivial_group() -> None:
    group = TrivialGroup(2)
    assert group.elements().tolist() == [[[1, 0], [0, 1]]]
    assert group.order == 1
    assert not group.contains(-torch.eye(2))
