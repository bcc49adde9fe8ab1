"""edge_gaunt: against the general product and e3nn's harmonics, at the poles, its derivatives, equivariance, bad input."""

import math
import subprocess
import sys

import e3nn.o3
import pytest
import torch
from torch import Tensor

from erlangen.errors import DegenerateFrameError, DtypeError, IrrepsError, ShapeError
from erlangen.groups import O
from erlangen.irreps import Irreps, gaunt_tensor
from erlangen.nn.products.edge_frame import edge_gaunt, to_polar_axis

F64 = torch.float64
POLES = [[0.0, 1, 0], [0, -1, 0], [0, 3e-5, 0], [0, -2e4, 0], [1e-9, -1, 0], [1, 0, 0], [0, 0, -1], [1e-30, -1e-30, 0]]


def directions(n: int, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    return torch.cat([torch.tensor(POLES, dtype=dtype), torch.randn(n, 3, dtype=dtype, generator=generator)])


def general(x: Tensor, vectors: Tensor, lmax_edge: int, lmax_out: int, weights: Tensor | None = None) -> Tensor:
    unit = vectors / vectors.abs().amax(-1, keepdim=True)
    harmonics = e3nn.o3.spherical_harmonics(list(range(lmax_edge + 1)), unit, normalize=True, normalization="integral")
    if weights is not None:
        harmonics = harmonics * weights.repeat_interleave(2 * torch.arange(lmax_edge + 1) + 1, -1)
    G = gaunt_tensor(math.isqrt(x.shape[-1]) - 1, lmax_edge, lmax_out, dtype=x.dtype)
    return torch.einsum("eca,eb,abd->ecd", x, harmonics, G)


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (F64, 1e-12)])
@pytest.mark.parametrize(
    ("L", "edge", "out"), [(0, 0, 0), (0, 3, 3), (1, 2, 3), (3, 1, 2), (4, 4, 4), (4, 2, 6), (6, 6, 6)]
)
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_the_general_product_for_every_direction(
    L: int, edge: int, out: int, weighted: bool, dtype: torch.dtype, tol: float, generator: torch.Generator
) -> None:
    vectors = directions(30, dtype, generator)
    x = torch.randn(len(vectors), 3, (L + 1) ** 2, dtype=dtype, generator=generator)
    weights = torch.randn(len(vectors), edge + 1, dtype=dtype, generator=generator) if weighted else None
    result = edge_gaunt(x, vectors, out, lmax_edge=edge, weights=weights)
    expected = general(x, vectors, edge, out, weights)
    assert float(((result - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)).max()) < tol


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-6), (F64, 1e-14)])
def test_rotations_to_the_axis(dtype: torch.dtype, tol: float, generator: torch.Generator) -> None:
    vectors = directions(50, dtype, generator)
    R = to_polar_axis(vectors)
    unit = vectors / vectors.abs().amax(-1, keepdim=True)
    unit = unit / unit.norm(dim=-1, keepdim=True)
    assert float(((R @ unit[..., None])[..., 0] - torch.tensor([0.0, 1, 0], dtype=dtype)).abs().max()) < tol
    assert float((R @ R.mT - torch.eye(3, dtype=dtype)).abs().max()) < 4 * tol
    assert float((torch.linalg.det(R) - 1).abs().max()) < 4 * tol


def test_derivatives_are_right_for_every_direction(generator: torch.Generator) -> None:
    """The poles and the equator, where the frame jumps, included; but for its scale the length does not matter."""
    vectors = directions(3, F64, generator)[[0, 1, 4, 5, 6, 8, 9, 10]].requires_grad_()
    x = torch.randn(len(vectors), 1, 4, dtype=F64, generator=generator, requires_grad=True)
    weights = torch.randn(len(vectors), 3, dtype=F64, generator=generator, requires_grad=True)

    def of(x: Tensor, vectors: Tensor, weights: Tensor) -> Tensor:
        return edge_gaunt(x, vectors, 2, weights=weights)

    assert torch.autograd.gradcheck(of, (x, vectors, weights))
    assert torch.autograd.gradgradcheck(of, (x, vectors, weights))


def test_gradients_equal_those_of_the_general_product_at_the_poles(generator: torch.Generator) -> None:
    vectors = torch.tensor(POLES[:2], dtype=F64, requires_grad=True)
    x = torch.randn(2, 2, 25, dtype=F64, generator=generator)
    cotangent = torch.randn(2, 2, 25, dtype=F64, generator=generator)
    ours, theirs = (
        torch.autograd.grad((out * cotangent).sum(), vectors)[0]
        for out in (edge_gaunt(x, vectors, 4), general(x, vectors, 4, 4))
    )
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-12


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (F64, 1e-12)])
def test_equivariance_under_reflections_too(dtype: torch.dtype, tol: float, generator: torch.Generator) -> None:
    g = O(3).sample(100, generator=generator, dtype=dtype)
    assert bool((torch.linalg.det(g) < 0).any())
    vectors = torch.randn(100, 3, dtype=dtype, generator=generator)
    x = torch.randn(100, 2, 16, dtype=dtype, generator=generator)
    weights = torch.randn(100, 3, dtype=dtype, generator=generator)
    irreps_in, irreps_out = Irreps.spherical_harmonics(3), Irreps.spherical_harmonics(4)
    moved = edge_gaunt(irreps_in.act(g[:, None], x), (g @ vectors[..., None])[..., 0], 4, weights=weights)
    expected = irreps_out.act(g[:, None], edge_gaunt(x, vectors, 4, weights=weights))
    assert float((moved - expected).norm() / expected.norm()) < tol


def test_vmap_compile_and_empty_batch(generator: torch.Generator) -> None:
    torch._dynamo.reset()
    vectors = torch.randn(4, 3, dtype=F64, generator=generator)
    x = torch.randn(4, 2, 9, dtype=F64, generator=generator)
    expected = edge_gaunt(x, vectors, 2)
    by_row = torch.func.vmap(lambda a, b: edge_gaunt(a, b, 2))(x, vectors)
    compiled = torch.compile(lambda a, b: edge_gaunt(a, b, 2), fullgraph=True, backend="eager")(x, vectors)
    for other in (by_row, compiled):
        torch.testing.assert_close(other, expected, rtol=1e-12, atol=1e-12)
    assert edge_gaunt(x[:0], vectors[:0], 3).shape == (0, 2, 16)


def test_nan_weights_stay_in_their_rows(generator: torch.Generator) -> None:
    vectors, x = torch.randn(3, 3, generator=generator), torch.randn(3, 2, 9, generator=generator)
    weights = torch.ones(3, 3)
    weights[1, 2] = math.nan
    finite = torch.isfinite(edge_gaunt(x, vectors, 2, weights=weights)).flatten(1).all(1)
    assert finite.tolist() == [True, False, True]


def test_bad_input() -> None:
    x, r = torch.randn(3, 2, 9), torch.randn(3, 3)
    zero = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 0]])
    with pytest.raises(DegenerateFrameError, match=r"edge \[1\] has length zero .*\(2 such edges\)"):
        edge_gaunt(x, zero, 2)
    for lmax_out in (5, -1, 1.0, True):
        with pytest.raises(IrrepsError, match=r"lmax_out is .* 0\.\.4"):
            edge_gaunt(x, r, lmax_out)  # pyright: ignore[reportArgumentType]
    with pytest.raises(IrrepsError, match="lmax_edge is 17"):
        edge_gaunt(x, r, 2, lmax_edge=17)
    with pytest.raises(IrrepsError, match="x has degree 13"):
        edge_gaunt(torch.randn(3, 2, 196), r, 2)
    with pytest.raises(ShapeError, match=r"weights has shape \(3, 2\)"):
        edge_gaunt(x, r, 2, lmax_edge=2, weights=torch.ones(3, 2))
    with pytest.raises(ShapeError, match="one row per edge"):
        edge_gaunt(x, r, 2, weights=torch.ones(2, 3))
    with pytest.raises(ShapeError, match=r"signals \[\.\.\., C"):
        edge_gaunt(torch.randn(3, 2, 8), r, 2)
    with pytest.raises(ShapeError, match="vectors has shape"):
        edge_gaunt(x, r[:2], 2)
    with pytest.raises(DtypeError, match="vectors has dtype"):
        edge_gaunt(x, r.double(), 2)
    with pytest.raises(DtypeError, match="x has dtype"):
        edge_gaunt(x.long(), r, 2)


def test_layers_are_imported_without_the_compiler() -> None:
    code = "import sys, erlangen.nn; sys.exit('torch._dynamo' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
