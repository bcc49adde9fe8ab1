"""The price of freedom: what products of irreps can and cannot do, by closed forms and e3nn."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from e3nn import o3
from torch import Tensor

from erlangen.errors import GridError
from erlangen.groups import O
from erlangen.irreps import Irrep, Irreps, S2Grid
from erlangen.nn import IrrepsNetwork, TensorProduct
from erlangen.survey import Run
from erlangen.systems.molecules.price_of_freedom import _products as system
from erlangen.systems.molecules.price_of_freedom import experiment, rivals

RULES = [(name, rule, road) for name, (rule, road) in system.PRODUCTS.items()]


def product() -> tuple[TensorProduct, tuple[Tensor, Tensor], dict[str, object]]:
    layer = TensorProduct("2x0e+2x1o", "0e+1o", rule="vector", form="depthwise")
    return layer, (torch.randn(4, layer.irreps_x.dim), torch.randn(4, layer.irreps_y.dim)), {}


LAYERS = {"TensorProduct": product}


def randn(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- the experiment --------------------------------------------------------------------------------------------------
def test_rows_have_all_baselines(smoke: Callable[[str], dict[str, Any]]) -> None:
    rows = smoke("price_of_freedom")["rows"]
    models = {part: {row["model"] for row in rows if row["part"] == part} for part in ("products", "tetris", "n-body")}
    assert models["products"] == set(system.PRODUCTS)
    assert models["tetris"] == set(rivals.TETRIS)
    assert models["n-body"] == {*rivals.N_BODY, "rest", "constant velocity"}
    single = {(row["model"], row["L"]): row for row in rows if row.get("setting") == "SISO"}
    assert single["gaunt, grid", 1]["output irreps"] == 0  # 1 x 1 -> 1e is the cross product
    assert single["gaunt, grid", 2]["output irreps"] == single["cg", 1]["output irreps"] == 1


@pytest.mark.parametrize("scale", ["smoke", "full", "paper"])
def test_sizes_of_networks_match(scale: str) -> None:
    assert experiment.n_body_equal_parameters(Run(budget=experiment.BUDGETS[scale])) < 1.05


def test_errors_at_equal_time_by_hand() -> None:
    """The fast one has finished after 3 seconds, when the slow one has had one epoch, and its first counts in any case."""
    curves = {"fast": [(1.0, 0.5), (3.0, 0.4)], "slow": [(2.0, 0.3), (4.0, 0.1)], "late": [(9.0, 0.7)]}
    runs: list[dict[str, Any]] = [{"model": name, "seed": 0, "curve": curve} for name, curve in curves.items()]
    rows = experiment.at_equal_time([*runs, {"model": "guess", "seed": 0}])
    assert [row.get("validation mse at equal time") for row in rows] == [0.4, 0.3, 0.7, None]
    assert [row.get("validation mse") for row in rows] == [0.4, 0.1, 0.7, None]


# --- expressivity and triples ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("L", [1, 2, 3, 4])
def test_paths_are_those_of_e3nn(L: int) -> None:
    irreps = o3.Irreps.spherical_harmonics(L)
    count = o3.FullTensorProduct(irreps, irreps).irreps_out.num_irreps
    assert count == system.ALL_PATHS[L]
    assert TensorProduct(str(irreps), str(irreps), rule="cg", form="elementwise").expressivity() == count
    keep = [f"{l}{'eo'[l % 2]}" for l in range(2 * L + 1)]
    assert o3.FullTensorProduct(irreps, irreps, filter_ir_out=keep).irreps_out.num_irreps == system.natural_paths(L)


@pytest.mark.parametrize("L", [0, 1, 2, 3])
def test_expressivity(L: int) -> None:
    ranks = {name: product.expressivity() for name, _, _ in RULES if (product := system.product_of(name, "MIMO", L))}
    assert ranks["cg"] == ranks["cg_sparse"] == ranks["matrix"] == system.natural_paths(L)
    assert {ranks[name] for name in ranks if name.startswith("gaunt")} == {4 * L + 1}
    assert 4 * L + 1 <= ranks["vector"] <= system.natural_paths(L)


def test_triples_obey_the_triangle_and_signals_are_even() -> None:
    product = TensorProduct(system.natural(3), system.natural(3), rule="cg", form="elementwise")
    allowed = {k for k in itertools.product(range(4), range(4), range(7)) if abs(k[0] - k[1]) <= k[2] <= k[0] + k[1]}
    assert {key for key, size in system.couplings(product).items() if size > 1e-10} == allowed
    for name in ("gaunt, dense", "gaunt, grid", "gaunt, fourier"):
        signals = system.product_of(name, "MIMO", 3)
        assert signals is not None
        found = system.couplings(signals)
        assert {key for key, size in found.items() if size > 1e-10} == {key for key in allowed if sum(key) % 2 == 0}
        assert all(
            signals.interacts(*key) == (found[key] > 1e-10) for key in [(1, 1, 0), (1, 1, 2), (2, 1, 3), (2, 1, 2)]
        )


# --- the operations --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "rule", "road"), RULES)
def test_products_move_with_o3(name: str, rule: str, road: str) -> None:
    product = system.product_of(name, "MIMO", 4)
    assert product is not None
    g = O(3).sample(100, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for dtype, tol in ((torch.float64, 1e-11), (torch.float32, 1e-5)):
        x, y = (randn(1, 25, seed=s) for s in (2, 3))
        expected = product.irreps_out.act(g, product(x, y))
        moved = product(*(product.irreps_x.act(g, z).to(dtype) for z in (x, y))).double()
        assert float((moved - expected).norm() / expected.norm()) < tol


@pytest.mark.parametrize(("name", "rule", "road"), RULES)
def test_gradients(name: str, rule: str, road: str) -> None:
    product = system.product_of(name, "MIMO", 2)
    assert product is not None
    inputs = [randn(2, 9, seed=s).requires_grad_() for s in (4, 5)]
    assert torch.autograd.gradcheck(product, inputs)


@pytest.mark.parametrize("L", [1, 3, 5])
def test_sparse_is_dense(L: int) -> None:
    dense, sparse = (system.product_of(name, "MIMO", L) for name in ("cg", "cg_sparse"))
    assert dense is not None
    assert sparse is not None
    x, y = (randn(10, (L + 1) ** 2, seed=s) for s in (6, 7))
    torch.testing.assert_close(sparse(x, y), dense(x, y), rtol=1e-12, atol=1e-12)
    assert sparse.flops() < dense.flops()


def test_grid_one_below_the_smallest_is_inexact() -> None:
    """Degree 6 needs 4 x 7 nodes at L = 2 with outputs to degree 2; fewer polar or azimuthal ones alias."""
    args = (system.natural(2), system.natural(2), system.natural(2))
    exact = TensorProduct(*args, rule="gaunt", form="elementwise", road="dense")
    x, y = (randn(20, 9, seed=s) for s in (8, 9))
    good = TensorProduct(*args, rule="gaunt", form="elementwise", grid=S2Grid(4, 7))
    torch.testing.assert_close(good(x, y), exact(x, y), rtol=1e-12, atol=1e-12)
    for coarse in (S2Grid(3, 7), S2Grid(4, 6)):
        with pytest.raises(GridError, match="too coarse"):
            TensorProduct(*args, rule="gaunt", form="elementwise", grid=coarse)
        wrong = TensorProduct(*args, rule="gaunt", form="elementwise", grid=coarse, exact=False)(x, y)
        assert float((wrong - exact(x, y)).abs().max()) > 1e-3


def test_vector_rule_is_the_cross_product_of_fields() -> None:
    """Constant fields a and b (degree 1 with l = 0): the product at 1e has only the cross product, 1o x 1o -> 1o nothing."""
    assert system.vector_is_cross_product(Run()) < 1e-12
    a = randn(5, 3, seed=10)
    same = TensorProduct("1o", "1o", rule="vector", form="elementwise", keep=["1e"])(a, a)
    assert float(same.abs().max()) < 1e-12


# --- mirror images ---------------------------------------------------------------------------------------------------
def test_pieces_of_the_pair_are_mirror_images_and_no_others_are() -> None:
    pieces = torch.tensor(rivals.PIECES, dtype=torch.float64)
    mirrored = pieces[0] * torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
    assert set(map(tuple, mirrored.tolist())) == set(map(tuple, pieces[1].tolist()))
    distances = [torch.cdist(p, p).flatten().sort().values for p in pieces]
    same = {(i, j) for i, j in itertools.combinations(range(8), 2) if torch.allclose(distances[i], distances[j])}
    assert same == {(0, 1)}
    # Both are chains of four cubes; the volume that their three steps span is the same from either end.
    steps = pieces[:2, [1, 0, 2, 3]].diff(dim=1)
    volumes = torch.linalg.det(steps)
    torch.testing.assert_close(volumes, torch.linalg.det(-steps.flip(1)))
    assert sorted(volumes.tolist()) == [-1.0, 1.0]


@pytest.mark.parametrize("name", [name for name in rivals.TETRIS if name not in rivals.SEPARATES])
def test_no_weights_separate_mirror_images_without_odd_paths(name: str) -> None:
    pieces = torch.tensor(rivals.PIECES[:2], dtype=torch.float64)
    for seed in range(3):
        model = rivals.TetrisNetwork(name, torch.Generator().manual_seed(seed)).double()
        turned = pieces @ O(3).sample(1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)[0].mT
        answers = model(torch.cat([pieces, turned])).detach()
        assert float(answers.abs().max()) > 1e-3
        assert float((answers - answers[:1]).abs().max()) < 1e-10


@pytest.mark.parametrize("name", rivals.SEPARATES)
def test_odd_paths_give_mirror_images_opposite_pseudoscalars(name: str) -> None:
    model = rivals.TetrisNetwork(name, torch.Generator().manual_seed(0)).double()
    a, b = model(torch.tensor(rivals.PIECES[:2], dtype=torch.float64)).detach()
    assert float((a - b).abs().max()) > 1e-8
    torch.testing.assert_close(a[[1, 0, 2, 3, 4, 5, 6, 7]], b, rtol=1e-9, atol=1e-12)


def test_three_layers_are_needed() -> None:
    """a . (b x c) is of third order in directions: after two layers there is no pseudoscalar from scalars."""
    hidden = Irreps([(2, Irrep(l, p)) for l in range(3) for p in (1, -1)])
    with pytest.raises(ValueError, match="do not reach 0o"):
        IrrepsNetwork("0e", hidden, "0e+0o", layers=2, cutoff=2.0)
    assert IrrepsNetwork("0e", hidden, "0o", layers=3, cutoff=2.0).hidden[1].count("1e") == 2
