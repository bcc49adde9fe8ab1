"""Matrix sensing: descent against closed forms, the gauge group, and what is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import erlangen as er
from erlangen.errors import ErlangenError, ErlangenWarning, NotFiniteError, ShapeError
from erlangen.groups import GLPlus, O
from erlangen.systems.learning.matrix_sensing import (
    AllEntries,
    GaugeStep,
    GaussianSensing,
    RankOneSensing,
    SomeEntries,
    gauge_step,
    imbalance,
    recover,
)
from erlangen.systems.learning.matrix_sensing._photograph import photograph
from erlangen.systems.learning.matrix_sensing.experiment import BUDGETS, start, target

EVERYTHING = AllEntries((12, 12))


def randn(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def low_rank(seed: int = 0) -> Tensor:
    return target(12, (1.0, 0.8), torch.Generator().manual_seed(seed))


# --- measurements ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "sensing",
    [
        AllEntries((4, 6)),
        SomeEntries(randn(4, 6) > 0),
        GaussianSensing.draw(9, (4, 6), generator=torch.Generator().manual_seed(1)),
        RankOneSensing.draw(9, (4, 6), generator=torch.Generator().manual_seed(2)),
    ],
)
def test_the_adjoint_is_the_transposed_matrix(sensing: Any) -> None:
    """The map written out as a matrix, and its transpose."""
    basis = torch.eye(24, dtype=torch.float64).unflatten(-1, (4, 6))
    rows = sensing(basis)  # [24, m]
    back = sensing.adjoint(torch.eye(sensing.m, dtype=torch.float64)).flatten(-2)  # [m, 24]
    assert torch.allclose(rows.mT, back, atol=1e-13)


@pytest.mark.parametrize("kind", [GaussianSensing, RankOneSensing])
def test_the_mean_of_the_normal_map_is_the_identity(kind: Any) -> None:
    sensing = kind.draw(40_000, (3, 4), generator=torch.Generator().manual_seed(0))
    x = randn(3, 4, seed=3)
    assert float((sensing.adjoint(sensing(x)) - x).norm() / x.norm()) < 0.05


def test_a_rank_one_measurement_is_an_inner_product() -> None:
    sensing, x = RankOneSensing.draw(5, (3, 4), generator=torch.Generator().manual_seed(0)), randn(3, 4)
    dense = torch.einsum("mi,mj->mij", sensing.a, sensing.b) / 5**0.5
    assert torch.allclose(sensing(x), GaussianSensing(dense)(x))


# --- the group -------------------------------------------------------------------------------------------------------
def test_gl_moves_the_path_and_not_the_product() -> None:
    """F G^T is the same under (F B, G B^-T), but where descent leads is not: only O(k) is a symmetry of the path."""
    matrix, (left, right) = low_rank(), start(12, 5, 0.3, torch.Generator().manual_seed(1))
    b = GLPlus(5).sample(1, generator=torch.Generator().manual_seed(0))[0].double()
    moved = (left @ b, right @ torch.linalg.inv(b).mT)
    assert torch.allclose(moved[0] @ moved[1].mT, left @ right.mT, atol=1e-12)
    ends = [
        recover(EVERYTHING, EVERYTHING(matrix), f, rate=0.05, steps=100, target=matrix) for f in ((left, right), moved)
    ]
    assert float((ends[0].errors - ends[1].errors).abs().max()) > 1e-3


def test_the_gauge_step_is_an_element_of_gl() -> None:
    left, right = start(12, 5, 0.3, torch.Generator().manual_seed(1))
    new_left, new_right = gauge_step((left, right), 0.7)
    b = torch.linalg.lstsq(left, new_left).solution
    assert torch.allclose(left @ b, new_left, atol=1e-12)
    assert torch.allclose(right @ torch.linalg.inv(b).mT, new_right, atol=1e-12)


def test_the_gauge_step_commutes_with_rotations() -> None:
    left, right = start(12, 5, 0.3, torch.Generator().manual_seed(1))
    q = O(5).sample(1, generator=torch.Generator().manual_seed(2))[0].double()
    for turned, plain in zip(gauge_step((left @ q, right @ q), 0.5), gauge_step((left, right), 0.5), strict=True):
        assert torch.allclose(turned, plain @ q, atol=1e-12)


def test_the_imbalance_is_the_charge_of_a_linear_network() -> None:
    """x -> F (G^T x) as two layers of torch: what the kernel finds conserved of it is F^T F - G^T G."""
    left, right = start(7, 3, 1.0, torch.Generator().manual_seed(0), columns=6)
    net = nn.Sequential(nn.Linear(6, 3, bias=False), nn.Linear(3, 7, bias=False)).double()
    net.load_state_dict({"0.weight": right.mT, "1.weight": left})
    charges = er.actions.weight_streams(net, torch.zeros(1, 6, dtype=torch.float64)).charges(net.state_dict())
    (charge,) = charges.values()
    assert torch.allclose(charge, -imbalance((left, right)), atol=1e-12)


# --- descent ---------------------------------------------------------------------------------------------------------
def test_zero_is_a_fixed_point() -> None:
    zero = torch.zeros(12, 4, dtype=torch.float64)
    end = recover(EVERYTHING, EVERYTHING(low_rank()), zero, rate=0.1, steps=50).factors
    assert isinstance(end, Tensor)
    assert not end.any()


def test_rectangles_are_recovered_from_few_gaussian_measurements() -> None:
    g = torch.Generator().manual_seed(0)
    matrix = randn(15, 2) @ randn(2, 10, seed=1) / 20
    sensing = GaussianSensing.draw(120, (15, 10), generator=g)  # of 150 entries, 46 degrees of freedom
    found = recover(sensing, sensing(matrix), start(15, 2, 0.1, g, columns=10), rate=0.3, steps=3000)
    assert isinstance(found.factors, tuple)
    left, right = found.factors
    assert float((left @ right.mT - matrix).norm() / matrix.norm()) < 1e-6
    assert found.errors[-1] == pytest.approx(float((sensing(left @ right.mT) - sensing(matrix)).square().sum()))


def test_preconditioning_follows_its_formula() -> None:
    matrix, first = low_rank(), randn(12, 3)
    end = recover(EVERYTHING, EVERYTHING(matrix), first, rate=0.2, steps=1, damping=0.3).factors
    gradient = (first @ first.mT - matrix) @ first
    weight = torch.linalg.inv(first.mT @ first + 0.3 * torch.eye(3, dtype=torch.float64))
    assert isinstance(end, Tensor)
    assert torch.allclose(end, first - 0.2 * gradient @ weight, atol=1e-12)


def test_preconditioning_does_not_mind_bad_conditions() -> None:
    matrix, first = target(12, (1.0, 0.01), torch.Generator().manual_seed(0)), 0.1 * randn(12, 2)
    y = EVERYTHING(matrix)
    plain, scaled = (
        recover(EVERYTHING, y, first, rate=0.3, steps=300, target=matrix, damping=d).errors for d in (None, "residual")
    )
    assert scaled[-1] < 1e-3 * plain[-1]


def test_steps_to_a_level() -> None:
    matrix = low_rank()
    found = recover(EVERYTHING, EVERYTHING(matrix), 0.1 * randn(12, 2), rate=0.3, steps=400, target=matrix, until=1e-10)
    step = int(found.steps_to(1e-6))
    assert found.errors[step] <= 1e-6 < found.errors[step - 1]
    assert found.steps_to(1e-30) == np.inf
    assert found.errors[-1] <= 1e-10 < found.errors[-2]


def test_when_the_gauge_step_is_taken() -> None:
    matrix, pair = low_rank(), start(12, 4, 0.1, torch.Generator().manual_seed(0))
    y = EVERYTHING(matrix)
    found = recover(EVERYTHING, y, pair, rate=0.1, steps=400, gauge=GaugeStep(0.5, close=0.05))
    assert found.gauge_at is not None
    assert found.errors[found.gauge_at] <= 0.05 * y.square().sum() < found.errors[found.gauge_at - 1]
    late = recover(EVERYTHING, y, pair, rate=0.1, steps=400, gauge=GaugeStep(0.5, after=300))
    assert late.gauge_at == 300


def test_the_photograph_has_the_rank_that_was_asked() -> None:
    values = torch.linalg.svdvals(photograph(24, 3))
    assert float(values[0]) == pytest.approx(1)
    assert float(values[2]) > 1e-3
    assert float(values[3]) < 1e-12


# --- the experiment --------------------------------------------------------------------------------------------------
def test_all_methods_on_all_measurements(smoke: Callable[[str], dict[str, Any]]) -> None:
    rows = smoke("matrix_sensing")["rows"]
    budget = BUDGETS["smoke"]
    for part in ("population", "gaussian", "rank-one"):
        models = {row["model"] for row in rows if row["part"] == part}
        for scale in budget.scales:
            kinds = ("symmetric", "asymmetric", "gauge step", "preconditioned")
            assert models >= {f"{kind} k={k} scale {scale:g}" for kind in kinds for k in budget.columns}
            assert f"symmetric k={budget.rank} scale {scale:g}" in models


# --- bad input -------------------------------------------------------------------------------------------------------
def test_a_rate_that_is_too_large() -> None:
    with pytest.raises(NotFiniteError, match=r"rate = 3: the error grew from .* about 0\.33, a third of 1/sigma_1"):
        recover(EVERYTHING, EVERYTHING(low_rank()), randn(12, 3), rate=3, steps=100)


@pytest.mark.parametrize(
    ("changes", "error", "word"),
    [
        ({"start": randn(12, 1)}, ErlangenError, "k = 1 columns, the target has rank 2"),
        ({"start": randn(11, 3)}, ShapeError, "start has the shapes"),
        ({"start": (randn(12, 3), randn(12, 4))}, ShapeError, "start has the shapes"),
        ({"y": randn(10)}, ShapeError, "144 measurements"),
        ({"target": -low_rank()}, ErlangenError, "positive semi-definite"),
        ({"target": randn(12, 3) @ randn(3, 12, seed=1)}, ErlangenError, "positive semi-definite"),
        ({"target": randn(3, 3)}, ShapeError, "target has shape"),
        ({"rate": 0.0}, ErlangenError, "rate = 0"),
        ({"steps": 0}, ErlangenError, "steps = 0"),
        ({"damping": -1.0}, ErlangenError, "damping = -1"),
        ({"gauge": GaugeStep(0.5)}, ErlangenError, r"give \(F, G\)"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], error: type[Exception], word: str) -> None:
    given: dict[str, Any] = {"y": EVERYTHING(low_rank()), "start": randn(12, 3), "rate": 0.1, "steps": 5}
    given |= {"target": low_rank()} | changes
    with pytest.raises(error, match=word):
        recover(EVERYTHING, given.pop("y"), given.pop("start"), **given)


def test_a_gauge_step_needs_full_rank() -> None:
    left = randn(12, 3)
    left[:, 2] = left[:, 1]
    with pytest.raises(ErlangenError, match="no element of GL"):
        gauge_step((left, randn(12, 3)), 0.5)
    with pytest.raises(ErlangenError, match="beta = 0"):
        gauge_step((randn(12, 3), randn(12, 3)), 0)
    with pytest.raises(ErlangenError, match="as many columns as rows"):
        gauge_step((randn(2, 3), randn(12, 3)), 0.5)


def test_warnings() -> None:
    few = GaussianSensing.draw(20, (12, 12), generator=torch.Generator().manual_seed(0))
    with pytest.warns(ErlangenWarning, match="do not determine it"):
        recover(few, few(low_rank()), randn(12, 2) / 10, rate=0.01, steps=1, target=low_rank())
    single = low_rank().float()
    with pytest.warns(ErlangenWarning, match="use float64"):
        recover(
            EVERYTHING, EVERYTHING(single), 0.1 * randn(12, 2).float(), rate=0.1, steps=6000, target=single, until=1e-3
        )


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: SomeEntries(torch.zeros(3, 3, dtype=torch.bool)), "some of them true"),
        (lambda: SomeEntries(torch.ones(3, 3)), "booleans"),
        (lambda: GaussianSensing(torch.ones(3, 3)), r"\[m, n1, n2\]"),
        (lambda: RankOneSensing(torch.ones(3, 3), torch.ones(2, 3)), r"\[m, n1\]"),
        (lambda: GaussianSensing.draw(0, (3, 3)), "m = 0"),
        (lambda: AllEntries((0, 3)), "n1"),
    ],
)
def test_bad_measurements(make: Callable[[], object], word: str) -> None:
    with pytest.raises(ErlangenError, match=word):
        make()
