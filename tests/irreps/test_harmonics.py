"""Real harmonics against e3nn, scipy and closed forms; derivatives of any order; the edges of float range."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import sph_harm_y

from erlangen.errors import DtypeError, IrrepsError, ShapeError
from erlangen.irreps import MAX_DEGREE, spherical_harmonics
from erlangen.irreps.harmonics import NORMALIZATIONS, _traceable


def points(*size: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*size, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def scipy_harmonics(lmax: int, x: torch.Tensor) -> torch.Tensor:
    """Orthonormal real harmonics, polar axis y, from scipy's complex ones, whose Condon-Shortley sign is undone."""
    first, polar, second = x[..., 2].numpy(), x[..., 1].numpy(), x[..., 0].numpy()
    theta = np.arctan2(np.hypot(first, second), polar)
    phi = np.arctan2(second, first)
    columns = []
    for l in range(lmax + 1):
        for m in range(-l, l + 1):
            value = sph_harm_y(l, abs(m), theta, phi) * (-1) ** m
            columns.append(value.real if m == 0 else np.sqrt(2) * (value.real if m > 0 else value.imag))
    return torch.from_numpy(np.stack(columns, -1))


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 2e-13), (torch.float32, 2e-5)])
def test_all_degrees_equal_scipy(dtype: torch.dtype, tol: float) -> None:
    x = points(500, dtype=torch.float32).double()  # both dtypes hold the same points
    Y = spherical_harmonics(MAX_DEGREE, x.to(dtype))
    assert Y.dtype == dtype
    torch.testing.assert_close(Y.double(), scipy_harmonics(MAX_DEGREE, x), rtol=0, atol=tol)


@pytest.mark.parametrize("lmax", [0, 1, 2, 7])
def test_the_form_for_compilers_equals_scipy(lmax: int) -> None:
    x = points(50)
    expected = scipy_harmonics(lmax, x)
    torch.testing.assert_close(_traceable(x, lmax, True, "integral"), expected, rtol=0, atol=1e-13)
    degrees = torch.tensor([l for l in range(lmax + 1) for _ in range(2 * l + 1)])
    solid = x.norm(dim=-1, keepdim=True) ** degrees * expected
    torch.testing.assert_close(_traceable(x, lmax, False, "integral"), solid, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("normalize", [True, False])
def test_values_and_gradients_equal_e3nn(normalization: str, normalize: bool) -> None:
    o3 = pytest.importorskip("e3nn.o3")
    x = points(4, 50).requires_grad_()
    peer = o3.spherical_harmonics(list(range(12)), x, normalize, normalization)
    ours = spherical_harmonics(11, x, normalize, normalization)
    torch.testing.assert_close(ours, peer, rtol=1e-11, atol=1e-11)
    weights = torch.randn_like(peer)
    (expected,) = torch.autograd.grad(peer, x, weights)
    (found,) = torch.autograd.grad(ours, x, weights)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-9)


def test_low_degrees_in_closed_form() -> None:
    x = points(20)
    a, b, c = x.unbind(-1)
    Y = spherical_harmonics(2, x, normalize=False, normalization="norm")
    s = 3**0.5
    expected = [
        torch.ones_like(a), a, b, c,
        s * a * c, s * a * b, b * b - (a * a + c * c) / 2, s * b * c, s / 2 * (c * c - a * a),
    ]  # fmt: skip
    torch.testing.assert_close(Y, torch.stack(expected, -1), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_length_of_each_degree(normalization: str) -> None:
    Y = spherical_harmonics(MAX_DEGREE, points(30), normalization=normalization)
    for l in range(MAX_DEGREE + 1):
        square = {"integral": (2 * l + 1) / (4 * np.pi), "component": 2 * l + 1, "norm": 1}[normalization]
        length = Y[:, l * l : (l + 1) ** 2].square().sum(-1)
        torch.testing.assert_close(length, torch.full_like(length, square), rtol=1e-12, atol=0)


@given(st.floats(0.1, 4.0), st.integers(0, 8))
def test_solid_harmonics_are_homogeneous(scale: float, l: int) -> None:
    x = points(5)
    Y, scaled = (spherical_harmonics([l], p, normalize=False) for p in (x, scale * x))
    torch.testing.assert_close(scaled, scale**l * Y, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("lmax", [0, 1, 2, 5])
def test_derivatives_of_all_orders(lmax: int, normalize: bool) -> None:
    x = points(3).requires_grad_()

    def function(x: torch.Tensor) -> torch.Tensor:
        return spherical_harmonics(lmax, x, normalize)

    assert torch.autograd.gradcheck(function, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, x, check_fwd_over_rev=True)


def test_third_derivative_of_a_cubic() -> None:
    # Degree 3, m = 3 in "norm" is sqrt(5/8) (z^3 - 3 z x^2): its third derivative in z is 6 sqrt(5/8).
    def f(z: torch.Tensor) -> torch.Tensor:
        x = torch.stack([torch.full_like(z, 0.3), torch.full_like(z, -0.2), z])
        return spherical_harmonics(3, x, normalize=False, normalization="norm")[-1]

    z = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    y = f(z)
    for _ in range(3):
        (y,) = torch.autograd.grad(y, z, create_graph=True)
    torch.testing.assert_close(y.detach(), torch.tensor(6 * (5 / 8) ** 0.5, dtype=torch.float64))


def test_laplacian_of_solid_harmonics_vanishes() -> None:
    hessian = torch.func.vmap(torch.func.hessian(lambda p: spherical_harmonics(6, p, normalize=False)))(points(4))
    laplacian = hessian.diagonal(dim1=-2, dim2=-1).sum(-1)
    assert laplacian.abs().max() < 1e-11 * hessian.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_vectors_have_value_and_gradient_zero(dtype: torch.dtype) -> None:
    x = torch.zeros(2, 3, dtype=dtype)
    x[1] = torch.tensor([1.0, 2.0, 3.0])
    x.requires_grad_()
    Y = spherical_harmonics(4, x)
    assert bool((Y[0, 1:] == 0).all())
    assert Y[0, 0].item() == pytest.approx((4 * np.pi) ** -0.5)
    (grad,) = torch.autograd.grad(Y.square().sum() + Y.sum(), x, create_graph=True)
    assert bool((grad[0] == 0).all())
    assert bool((grad[1] != 0).all())
    (second,) = torch.autograd.grad(grad.sum(), x)
    assert bool(torch.isfinite(second).all())


def test_solid_gradient_at_zero_is_that_of_degree_one() -> None:
    x = torch.zeros(3, dtype=torch.float64)
    J = torch.func.jacrev(lambda p: spherical_harmonics(3, p, normalize=False, normalization="norm"))(x)
    expected = torch.zeros(16, 3, dtype=torch.float64)
    expected[1:4] = torch.eye(3)
    torch.testing.assert_close(J, expected)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_direction_survives_extreme_lengths(size: float) -> None:
    x = points(10, dtype=torch.float32)
    small = (x * size).requires_grad_()
    Y = spherical_harmonics(5, small)
    torch.testing.assert_close(Y, spherical_harmonics(5, x), rtol=0, atol=2e-6)
    (grad,) = torch.autograd.grad(Y.sum(), small)
    (usual,) = torch.autograd.grad(spherical_harmonics(5, x.requires_grad_()).sum(), x)
    torch.testing.assert_close(grad * size, usual, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("normalize", [True, False])
def test_blocks_agree_with_single_points(normalize: bool) -> None:
    x = points(30_011, dtype=torch.float32).requires_grad_()  # several blocks and a remainder
    weights = torch.randn(30_011, 49)
    Y = spherical_harmonics(6, x, normalize)
    (grad,) = torch.autograd.grad(Y, x, weights)
    for i in (0, 12_345, 30_010):
        p = x[i].detach().requires_grad_()
        y = spherical_harmonics(6, p, normalize)
        torch.testing.assert_close(Y[i], y, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(grad[i], torch.autograd.grad(y, p, weights[i])[0], rtol=1e-4, atol=1e-4)


def test_shapes_degrees_and_empty_batches() -> None:
    x = points(2, 3)
    Y = spherical_harmonics(4, x)
    assert Y.shape == (2, 3, 25)
    torch.testing.assert_close(spherical_harmonics([3, 1], x), torch.cat([Y[..., 9:16], Y[..., 1:4]], -1))
    assert spherical_harmonics(2, x[:0]).shape == (0, 3, 9)
    assert spherical_harmonics([], x).shape == (2, 3, 0)
    empty = x[:0].clone().requires_grad_()
    spherical_harmonics(2, empty).sum().backward()
    assert empty.grad is not None
    assert empty.grad.shape == (0, 3, 3)
    torch.testing.assert_close(spherical_harmonics(3, x.mT.contiguous().mT), spherical_harmonics(3, x))


def test_vmap_and_compile_equal_eager() -> None:
    x = points(6).requires_grad_()
    for normalize in (True, False):

        def function(p: torch.Tensor, normalize: bool = normalize) -> torch.Tensor:
            return spherical_harmonics(4, p, normalize)

        Y = function(x)
        torch.testing.assert_close(torch.func.vmap(function)(x), Y)
        torch.testing.assert_close(torch.func.vmap(function, in_dims=1)(x.T), Y)
        reverse = torch.func.vmap(torch.func.jacrev(function))(x)
        torch.testing.assert_close(torch.func.vmap(torch.func.jacfwd(function))(x), reverse)
        compiled = torch.compile(function, fullgraph=True, backend="eager")(x)
        torch.testing.assert_close(compiled, Y)
        torch.testing.assert_close(torch.autograd.grad(compiled.sum(), x), torch.autograd.grad(Y.sum(), x))


def test_constants_made_in_inference_mode_serve_training() -> None:
    with torch.inference_mode():
        spherical_harmonics(7, points(2), normalization="component")
    x = points(2).requires_grad_()
    spherical_harmonics(7, x, normalization="component").sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (IrrepsError, "-1", (-1, torch.zeros(3))),
        (IrrepsError, "17", (17, torch.zeros(3))),
        (IrrepsError, "1.5", ([0, 1.5], torch.zeros(3))),
        (IrrepsError, "True", (True, torch.zeros(3))),
        (IrrepsError, "quantum", (1, torch.zeros(3), True, "quantum")),
        (ShapeError, r"\(3, 2\)", (1, torch.zeros(3, 2))),
        (DtypeError, "float16", (1, torch.zeros(3, dtype=torch.float16))),
        (DtypeError, "bfloat16", (1, torch.zeros(3, dtype=torch.bfloat16))),
        (DtypeError, "int64", (1, torch.zeros(3, dtype=torch.int64))),
    ],
)
def test_bad_input(error: type[Exception], match: str, arguments: tuple[object, ...]) -> None:
    with pytest.raises(error, match=match):
        spherical_harmonics(*arguments)  # type: ignore[arg-type]
