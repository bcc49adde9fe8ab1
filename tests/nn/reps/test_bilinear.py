"""BilinearLayer: the layer contract, classical products in closed form, initial size, layout, limits."""

import itertools

import pytest
import torch

from erlangen.errors import RepresentationError, ShapeError
from erlangen.groups import SO, Cyclic, Dihedral, DirectProduct, Lorentz, O, Octahedral, Sp, Symmetric
from erlangen.nn.reps.bilinear import BilinearLayer, _multiply
from erlangen.reps import Irreps, Pseudovector, Quotient, Regular, Rep, Scalar, T, V
from erlangen.testing import check_layer


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERLANGEN_CACHE", "off")


D, S, R, L = Dihedral(4), Symmetric(4), O(3), Lorentz(1, 3)
SR = DirectProduct(S, R)
NODES, ARROWS = V(S).inflate(SR, 0), V(R).inflate(SR, 1)

PAIRS: list[tuple[Rep, Rep]] = [
    (3 * Scalar(R) + 2 * V(R) + T(2)(R) + V(R), Scalar(R) + 2 * V(R) + T(2)(R)),
    (Irreps("3x0e+2x1o+2e+1o")(SO(3)), Irreps("2x0e+1o+3e+2e")(SO(3))),
    (2 * V(R) + Scalar(R), 2 * Pseudovector(R) + V(R)),
    (V(D) + Quotient(D, Cyclic(4)) + Scalar(D), Regular(D) + V(D)),
    (T(2)(S) + 2 * V(S), V(S) + Scalar(S)),
    (NODES @ ARROWS + NODES, ARROWS + NODES + Scalar(SR)),
]


@pytest.mark.parametrize(("rep_in", "rep_out"), PAIRS, ids=repr)
def test_layer_contract(rep_in: Rep, rep_out: Rep, generator: torch.Generator) -> None:
    torch._dynamo.reset()
    layer = BilinearLayer(rep_in, rep_out, generator=generator)
    x = torch.randn(3, rep_in.size, generator=generator)
    check_layer(layer, x)
    check_layer(layer.double(), x.double(), skip=["dtype", "compile"])  # both are checked above


@pytest.mark.parametrize("rep", [2 * V(L) + V(L).dual + T(1, 1)(L) + Scalar(L), 3 * V(Sp(2)) + Scalar(Sp(2))], ids=repr)
def test_layer_contract_of_groups_that_are_not_compact(rep: Rep, generator: torch.Generator) -> None:
    """Rounding grows with the matrices of the elements, whose products reach about 100."""
    layer = BilinearLayer(rep, rep, generator=generator)
    x = torch.randn(3, rep.size, generator=generator, dtype=torch.float64)
    check_layer(layer.double(), x, tol=1e-9, skip=["compile"])  # takes seconds, and is checked above


# --- classical products ----------------------------------------------------------------------------------------------
def in_span(y: torch.Tensor, *vectors: torch.Tensor) -> bool:
    """Whether y ``[B, n]`` is one combination of the given ``[B, n]`` for all samples together."""
    A = torch.stack([v.flatten() for v in vectors], -1)
    residual = y.flatten() - A @ torch.linalg.lstsq(A, y.flatten()[:, None]).solution[:, 0]
    return float(residual.detach().norm()) < 1e-12 * float(y.detach().norm())


def test_inner_products(generator: torch.Generator) -> None:
    layer = BilinearLayer(2 * V(O(5)), Scalar(O(5)), generator=generator).double()
    x = torch.randn(20, 2, 5, generator=generator, dtype=torch.float64)
    a, b = x.unbind(1)
    y = layer(x.flatten(1))
    assert in_span(y, (a * a).sum(-1), (b * b).sum(-1), (a * b).sum(-1))


def test_the_cross_product(generator: torch.Generator) -> None:
    layer = BilinearLayer(2 * V(SO(3)), V(SO(3)), generator=generator).double()
    x = torch.randn(20, 2, 3, generator=generator, dtype=torch.float64)
    assert in_span(layer(x.flatten(1)), torch.linalg.cross(x[:, 0], x[:, 1]))


def test_a_matrix_contracts_a_vector_and_vectors_make_a_matrix(generator: torch.Generator) -> None:
    G = O(4)
    layer = BilinearLayer(T(2)(G) + V(G), V(G) + T(2)(G), generator=generator).double()
    x = torch.randn(20, 20, generator=generator, dtype=torch.float64)
    M, v = x[:, :16].unflatten(-1, (4, 4)), x[:, 16:]
    trace = M.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True)
    y = layer(x)
    assert in_span(y[:, :4], torch.einsum("bij,bj->bi", M, v), torch.einsum("bij,bi->bj", M, v), trace * v)
    outer, eye = v[:, :, None] * v[:, None, :], torch.eye(4, dtype=torch.float64)
    # M times M has six factors and is left out, so that v v^T and |v|^2 remain.
    assert in_span(y[:, 4:], outer.flatten(1), (v.square().sum(-1)[:, None, None] * eye).flatten(1))


def test_the_minkowski_product(generator: torch.Generator) -> None:
    layer = BilinearLayer(V(L), Scalar(L), generator=generator).double()
    p = torch.randn(20, 4, generator=generator, dtype=torch.float64)
    assert in_span(layer(p), p[:, 0] ** 2 - p[:, 1:].square().sum(-1))


def test_products_of_irreps_are_those_of_the_selection_rules(generator: torch.Generator) -> None:
    """1o x 1o reaches 0e, 1e and 2e; 2e x 1o reaches 1o, 2o and 3o; nothing else."""
    targets = Irreps("0e+0o+1e+1o+2e+2o+3e+3o")
    layer = BilinearLayer(Irreps("2x1o")(R), targets(R), generator=generator)
    y = layer(torch.randn(4, 6, generator=generator))
    reached = [str(b.ir) for b, s in zip(targets, targets.slices(), strict=True) if bool(y[:, s].any())]
    assert reached == ["0e", "1e", "2e"]
    layer = BilinearLayer(Irreps("2e")(R) + V(R), targets(R), generator=generator)
    x = torch.randn(4, 8, generator=generator)
    odd = [s for b, s in zip(targets, targets.slices(), strict=True) if b.ir.p == -1]
    flipped = torch.cat([x[:, :5], -x[:, 5:]], -1)
    for s in odd:
        torch.testing.assert_close(layer(flipped)[:, s], -layer(x)[:, s])


def test_it_is_quadratic(generator: torch.Generator) -> None:
    layer = BilinearLayer(*PAIRS[0], generator=generator).double()
    x = torch.randn(4, layer.rep_in.size, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(layer(-3 * x), 9 * layer(x))


# --- size, layout, limits --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("rep_in", "rep_out"), [PAIRS[0], (16 * V(O(5)) + 16 * Scalar(O(5)), V(O(5)) + Scalar(O(5)))])
def test_initial_outputs_have_variance_one(rep_in: Rep, rep_out: Rep) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, rep_in.size, generator=generator)
    with torch.no_grad():
        squares = [BilinearLayer(rep_in, rep_out, generator=generator)(x).square().mean() for _ in range(30)]
    assert 0.5 < float(torch.stack(squares).mean()) < 2


def test_copies_in_several_runs_are_mixed_together(generator: torch.Generator) -> None:
    """V + Scalar + V is 2*V + Scalar in another order, in and out."""
    apart, together = V(R) + Scalar(R) + V(R), 2 * V(R) + Scalar(R)
    first, second = BilinearLayer(apart, apart, generator=generator), BilinearLayer(together, together)
    second.load_state_dict(first.state_dict())
    x = torch.randn(3, 7, generator=generator)
    order = [0, 1, 2, 4, 5, 6, 3]
    torch.testing.assert_close(second(x[:, order]), first(x)[:, order])


@pytest.mark.parametrize("sizes", list(itertools.permutations([2, 3, 5])), ids=repr)
def test_every_order_of_contraction(sizes: tuple[int, int, int], generator: torch.Generator) -> None:
    k, i, j = sizes
    shapes = ([4, k, i, j], [6, 4, 7, i], [6, 4, 7, j])
    basis, left, right = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    expected = torch.einsum("dkij,bdmi,bdmj->bmk", basis, left, right)
    torch.testing.assert_close(_multiply(basis, left, right), expected)


def test_bad_input() -> None:
    with pytest.raises(RepresentationError, match=r"V@V x V@V -> V@V of O\(6\) has 46,656 entries.*max_factors=5"):
        BilinearLayer(T(2)(O(6)), T(2)(O(6)), max_factors=6)
    with pytest.raises(RepresentationError, match=r"Regular x Regular -> Regular.*13,824 entries.*permute coordinates"):
        BilinearLayer(Regular(Octahedral()), Regular(Octahedral()))
    with pytest.raises(RepresentationError, match=r"no product of two parts of V of O\(3\) with at most 4 .* reaches"):
        BilinearLayer(V(R), V(R))
    with pytest.raises(RepresentationError, match="of SO"):
        BilinearLayer(V(R), V(SO(3)))
    for bad in (-1, 2.5, True):
        with pytest.raises(RepresentationError, match="max_factors"):
            BilinearLayer(V(R), Scalar(R), max_factors=bad)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ShapeError, match=r"x has shape \(2, 4\), but V has vectors \[\.\.\., 3\]"):
        BilinearLayer(V(R), Scalar(R))(torch.ones(2, 4))
