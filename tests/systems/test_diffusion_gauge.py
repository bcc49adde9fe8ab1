"""Gauge freedom: the split against closed forms, dimension of known sets, rivals, and what is refused."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from erlangen.errors import (
    DataError,
    DtypeError,
    ErlangenError,
    MissingExtraError,
    NotFiniteError,
    ShapeError,
    UnknownNameError,
)
from erlangen.generate import GaussianMixture, GradientField, Preconditioned
from erlangen.survey import Split as Data
from erlangen.systems.diffusion.diffusion_gauge import (
    Turned,
    conservativity,
    galerkin_split,
    gauge_residual,
    intrinsic_dimension,
    linear_split,
    singular_values,
)
from erlangen.systems.diffusion.diffusion_gauge._properties import QUARTER, mixture_of, mixture_score
from erlangen.systems.diffusion.diffusion_gauge.data import DIMENSIONS, points, small_digits
from erlangen.systems.diffusion.diffusion_gauge.experiment import SETS
from erlangen.systems.diffusion.diffusion_gauge.rivals import (
    ESTIMATORS,
    Neighbours,
    by_score_svd,
    conservative,
    flipd,
    score_of,
    unconstrained,
)

DOWN = torch.tensor([1.0, 0.5], dtype=torch.float64)


def rng(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def plane(dim: int = 4, flat: int = 2) -> GaussianMixture:
    variances = torch.zeros(1, dim, dtype=torch.float64)
    variances[:, :flat] = 1
    return GaussianMixture(torch.zeros(1, dim).double(), variances)


# --- the split -------------------------------------------------------------------------------------------------------
def test_the_quick_score_is_the_mixtures() -> None:
    for dim in (2, 10):
        mixture, x, sigma = mixture_of(dim), 2 * randn(50, dim), randn(50, seed=1).exp()
        torch.testing.assert_close(mixture_score(mixture)(x, sigma), mixture.score(x, sigma))


def test_a_linear_split_by_hand() -> None:
    """In the plane with the identity as covariance the parts are the symmetric and the skew part."""
    A = torch.tensor([[1.0, 5.0], [-1.0, 2.0]], dtype=torch.float64)
    S, rest = linear_split(A, torch.eye(2, dtype=torch.float64))
    torch.testing.assert_close(S, (A + A.mT) / 2)
    torch.testing.assert_close(rest, (A - A.mT) / 2)


def test_the_weighted_split_is_not_that_of_lebesgue() -> None:
    """A rotation is orthogonal to gradients under a round density, and not under an ellipse."""
    x = torch.cartesian_prod(*(2 * (torch.linspace(-3, 3, 81, dtype=torch.float64),)))

    def gradient_of(ellipse: tuple[float, float]) -> float:
        w = torch.exp(-(x.square() / torch.tensor(ellipse).double()).sum(-1) / 2)
        split = galerkin_split(x @ QUARTER.mT, x, lambda at: at[:, :1] * at[:, 1:], w)
        return float((w[:, None] * split.gradient.square()).sum() / w.sum())

    assert gradient_of((0.3, 0.3)) < 1e-20
    assert gradient_of((0.3, 0.1)) > 1e-2


def test_the_split_of_a_gradient_is_itself() -> None:
    x = randn(300, 3)
    split = galerkin_split(
        torch.stack([2 * x[:, 0], x[:, 2], x[:, 1]], -1),
        x,
        lambda at: torch.cat([at.square(), at * at.roll(1, -1)], -1),
    )
    assert float(split.remainder.norm()) < 1e-10
    torch.testing.assert_close(split.gradient + split.remainder, torch.stack([2 * x[:, 0], x[:, 2], x[:, 1]], -1))


def test_conservativity_by_hand() -> None:
    A = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    x = torch.zeros(3, 2)
    torch.testing.assert_close(conservativity(lambda at: at @ A.mT, x), torch.full((3,), 2.0))
    torch.testing.assert_close(conservativity(lambda at: 3 * at, x), torch.zeros(3))


def test_a_small_curl_is_no_small_gauge_part() -> None:
    """R grad log p of a Gaussian has the residual 0 and much curl; x -> (0, h(x)) has neither gauge nor little curl."""
    gaussian, x = plane(2, 2), randn(40, 2)
    score = lambda at: gaussian.score(at, torch.zeros(len(at)).double())  # noqa: E731
    gauge = lambda at: score(at) @ QUARTER.mT  # noqa: E731
    assert float(gauge_residual(gauge, score, x).abs().max()) < 1e-12
    torch.testing.assert_close(conservativity(gauge, x), torch.full((40,), 2.0).double())
    assert float(gauge_residual(score, score, x).abs().max()) > 1


# --- dimension -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("flat", [1, 2, 3])
def test_dimension_of_a_plane(flat: int) -> None:
    x, _ = plane(4, flat).sample(3, generator=rng())
    found = intrinsic_dimension(plane(4, flat).score, x, steps=20)
    assert found.by_slope.tolist() == found.by_gap.tolist() == [flat] * 3
    assert by_score_svd(plane(4, flat).score, x, 0.01, generator=rng()).tolist() == [flat] * 3
    assert float(flipd(plane(4, flat).score, x, 1e-3).round().mean()) == flat


def test_every_point_has_the_dimension_of_its_part() -> None:
    """A line and a plane, far apart."""
    means = torch.tensor([[-4.0, 0, 0], [4.0, 0, 0]]).double()
    mixture = GaussianMixture(means, torch.tensor([[0.0, 1, 0], [0.0, 1, 1]]).double())
    x = torch.tensor([[-4.0, 0.3, 0], [4.0, 0.3, -0.4]]).double()
    assert intrinsic_dimension(mixture.score, x, high=20.0).by_slope.tolist() == [1, 2]


def test_singular_values_begin_at_one() -> None:
    levels = torch.logspace(0, -1, 41).double()
    values, places = singular_values(plane().score, randn(3, 4), levels)
    assert values.shape == places.shape == (41, 3, 4)
    torch.testing.assert_close(values[0], torch.ones(3, 4).double())
    torch.testing.assert_close(values[1:, 0, -1], levels[1:], rtol=1e-5, atol=0)


@pytest.mark.parametrize("make", [unconstrained, conservative])
def test_networks_are_denoisers(make: Callable[..., Preconditioned]) -> None:
    torch.manual_seed(0)
    model = make(3, 8, 0.6).double()
    x, sigma = randn(5, 3), torch.full((5,), 0.1, dtype=torch.float64)
    torch.testing.assert_close(score_of(model)(x, sigma), (model(x, sigma) - x) / 0.01)
    curl = conservativity(lambda at: model(at, sigma), x).detach()
    assert (float(curl.mean()) < 1e-20) == (make is conservative)


# --- data and neighbours ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", list(DIMENSIONS))
def test_sets_have_their_scale(name: str) -> None:
    x = points(name, 20_000, 2 if name in ("checkerboard", "moons") else 5, rng())
    rank = {"sphere": 3, "swiss roll": 3, "torus": 4}.get(name, 2)
    values = torch.linalg.svdvals(x)
    assert int((values > 1e-2 * values[0]).sum()) == rank
    total = float(x.var(0).sum())
    assert total == pytest.approx(1 if name == "sphere" else rank, rel=0.03)


def test_small_digits() -> None:
    x = small_digits(500, 4, rng())
    assert x.shape == (500, 16)
    assert float(x.std()) == pytest.approx(1)
    assert float(x.mean(0).abs().max()) < 1e-5


@pytest.mark.parametrize("method", list(ESTIMATORS))
def test_neighbours_find_the_dimension_of_a_square_in_five(method: str) -> None:
    turn = torch.linalg.qr(randn(5, 2)).Q
    x = (torch.rand(3000, 2, generator=rng(), dtype=torch.float64) @ turn.mT).float()
    estimator = Neighbours(method)
    estimator.prepare(Data((x, x), (x, x), (x, x)))
    inner = x[((x.double() @ turn) - 0.5).abs().amax(-1) < 0.3]
    assert float(estimator(inner).double().mean()) == pytest.approx(2, abs=0.15)


def test_every_rival_is_in_the_table(smoke: Callable[[str], dict[str, Any]]) -> None:
    rows = smoke("diffusion_gauge")["rows"]
    for name, dim in SETS:
        models = {row["model"] for row in rows if row["part"] == f"{name} in {dim}"}
        assert models >= {"unconstrained", "conservative", *ESTIMATORS}
        nets = [row for row in rows if row["part"] == f"{name} in {dim}" and row["model"] == "conservative"]
        assert {f"accuracy by {how}" for how in ("slope", "gap", "score SVD", "FLIPD")} <= set(nets[0])


# --- bad input -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "error", "word"),
    [
        (lambda x: intrinsic_dimension(plane().score, x, low=0.0), ErlangenError, "low = 0"),
        (lambda x: intrinsic_dimension(plane().score, x, middle=0.005), ErlangenError, "low < middle < high"),
        (lambda x: intrinsic_dimension(plane().score, x, high=1.0), ErlangenError, "does not cover the data"),
        (lambda x: intrinsic_dimension(plane().score, x.float()), DtypeError, r"call x\.double"),
        (lambda x: intrinsic_dimension(plane().score, x[:, :1]), ShapeError, "N of at least 2"),
        (lambda x: intrinsic_dimension(plane().score, x, steps=2), ErlangenError, "steps"),
        (lambda _: intrinsic_dimension(lambda z, _: -z, randn(3, 201)), ErlangenError, "200 at most"),
        (lambda _: Turned(plane(2).score, torch.ones(2, 2)), ErlangenError, "not skew"),
        (lambda _: Turned(plane(2).score, torch.ones(2, 3)), ShapeError, "square"),
        (lambda x: galerkin_split(x[:, :2], x, lambda at: at), ShapeError, r"\[B, N\]"),
        (lambda x: galerkin_split(x / 0, x, lambda at: at), NotFiniteError, "v has"),
        (lambda x: galerkin_split(x[:2], x[:2], lambda at: at @ torch.ones(4, 9).double()), ShapeError, "9 potentials"),
        (lambda _: linear_split(torch.eye(2), torch.eye(3)), ShapeError, "one size"),
        (lambda x: conservativity(torch.ones_like, x), ErlangenError, "does not depend on x"),
        (lambda x: conservativity(lambda at: at, x[0]), ShapeError, r"\[B, N\]"),
        (lambda x: conservativity(lambda at: at, x.long()), DtypeError, "x has dtype"),
        (lambda x: intrinsic_dimension(plane().score, x / 0), NotFiniteError, "x has"),
        (lambda x: intrinsic_dimension(plane().score, x, low=math.nan), ErlangenError, "low = nan"),
        (lambda x: intrinsic_dimension(lambda z, _: z[:, :2], x), ShapeError, "a field keeps the shape"),
        (lambda x: intrinsic_dimension(lambda z, _: z.float(), x), DtypeError, "so that both agree"),
        (lambda x: intrinsic_dimension(lambda z, _: z * math.nan, x), NotFiniteError, "score has led points"),
        (lambda x: singular_values(plane().score, x.float(), DOWN), DtypeError, r"call x\.double"),
        (lambda x: singular_values(plane().score, x, DOWN.flip(0)), ErlangenError, "numbers that decrease"),
        (lambda x: singular_values(plane().score, x, DOWN[:1]), ErlangenError, "at least two"),
        (lambda x: galerkin_split(x, x / 0, lambda at: at), NotFiniteError, "x has"),
        (lambda x: galerkin_split(x, x, lambda at: at.sum(-1)), ShapeError, r"potentials \[B, K\]"),
        (lambda x: galerkin_split(x, x, torch.ones_like), ErlangenError, "basis has no derivative"),
        (lambda x: galerkin_split(x[:0], x[:0], lambda at: at), ErlangenError, "basis has no derivative"),
        (lambda x: galerkin_split(x, x, lambda at: at, -torch.ones(5)), ErlangenError, "not negative"),
        (lambda x: galerkin_split(x, x, lambda at: at, torch.ones(4)), ErlangenError, "each of 5 samples"),
        (lambda _: linear_split(torch.eye(2), torch.zeros(2, 2)), ErlangenError, "positive definite"),
        (lambda _: linear_split(torch.eye(2), torch.tensor([[1.0, 0.5], [0, 1]])), ErlangenError, "not symmetric"),
        (lambda _: linear_split(torch.eye(2), torch.eye(2).double()), DtypeError, "convert one of them"),
        (lambda _: linear_split(torch.eye(2) / 0, torch.eye(2)), NotFiniteError, "A has"),
        (lambda _: Turned(plane(2).score, torch.eye(2) / 0), NotFiniteError, "R has"),
        (lambda _: Turned(plane(2).score, QUARTER, math.nan), ErlangenError, "c = nan"),
        (lambda x: Turned(plane().score, QUARTER)(x, torch.ones(5)), ShapeError, "R is for 2 dimensions"),
        (lambda x: gauge_residual(lambda at: at[:, :2], lambda at: at, x), ShapeError, "fields keep the shape"),
        (lambda x: by_score_svd(plane().score, x, 0.0), ErlangenError, "sigma = 0"),
        (lambda x: flipd(plane().score, x, -1.0), ErlangenError, "sigma = -1"),
        (lambda x: by_score_svd(plane().score, x, 0.1, samples=2), ErlangenError, "samples"),
        (lambda _: Neighbours("kNN"), DataError, "known are"),
        (lambda _: points("cube", 3, 3, rng()), UnknownNameError, "known are"),
        (lambda _: GradientField(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))), ErlangenError, "smooth"),
    ],
)
def test_what_is_refused(call: Callable[[Tensor], object], error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        call(randn(5, 4))


def test_one_point_and_none() -> None:
    x, _ = plane().sample(2, generator=rng())
    one = intrinsic_dimension(plane().score, x[:1], steps=20)
    assert one.by_slope.tolist() == one.by_gap.tolist() == [2]
    assert intrinsic_dimension(plane().score, x[:0], steps=20).slopes.shape == (0, 4)
    assert conservativity(lambda at: at, x[:0]).shape == (0,)


def test_an_estimator_whose_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skdim.id", None)
    with pytest.raises(MissingExtraError, match=r"scikit-dimension.*erlangen\[dimension\]"):
        Neighbours("MLE")


def test_estimators_of_neighbours_are_the_formulas_of_their_papers() -> None:
    """Maximum likelihood: the mean log ratio of the farthest of k distances to the others; TwoNN: a line through the origin."""
    x = torch.rand(400, 3, generator=rng(), dtype=torch.float64)
    apart = torch.cdist(x, x).fill_diagonal_(math.inf).sort(-1).values
    likelihood, two = Neighbours("MLE", k=12), Neighbours("TwoNN")
    for estimator in (likelihood, two):
        estimator.prepare(Data((x, x), (x, x), (x, x)))
    logs = (apart[:30, 11:12] / apart[:30, :11]).log()
    torch.testing.assert_close(likelihood(x[:30]), 1 / logs.mean(-1))
    ratios = (apart[:, 1] / apart[:, 0]).log().sort().values[:360]
    level = -(1 - torch.arange(1, 361, dtype=torch.float64) / 400).log()
    torch.testing.assert_close(two(x[:1])[0], (ratios @ level) / (ratios @ ratios))


def test_a_field_without_derivative() -> None:
    """It looks its values up, as one under no_grad or from another library does."""
    score = plane().score

    class Table(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x: Tensor, sigma: Tensor) -> Tensor:
            return score(x, sigma)

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            del ctx, inputs, output

        @staticmethod
        def jvp(ctx: Any, x: Tensor, _: Any) -> Tensor:
            del ctx
            return torch.zeros_like(x)

    with pytest.raises(ErlangenError, match="no derivative by x"):
        intrinsic_dimension(Table.apply, randn(5, 4))


def test_too_few_samples_for_neighbours() -> None:
    x = randn(10, 2)
    estimator = Neighbours("MLE")
    estimator.prepare(Data((x, x), (x, x), (x, x)))
    with pytest.raises(DataError, match="10 samples for k = 20"):
        estimator(x)
