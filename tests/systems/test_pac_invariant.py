"""Invariant predictors: closed forms by hand, calculators, search, gradients of the objective, and what is refused."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import check_grad
from torch import Generator, Tensor

from erlangen.causal import InterventionFamily, LinearSEM
from erlangen.errors import (
    DataError,
    DegenerateFrameWarning,
    DtypeError,
    ErlangenError,
    ErlangenWarning,
    NotFiniteError,
    ShapeError,
    UnknownNameError,
)
from erlangen.systems.causal.pac_invariant import (
    Environments,
    SubsetClass,
    certify,
    excess_interval,
    excess_risk,
    half_gradient,
    samples_agnostic,
    samples_finite,
    samples_vc,
    search_linear,
    search_subsets,
    tau_finite,
    vc_bound,
)
from erlangen.systems.causal.pac_invariant._bounds import covariance_functions, vc_ambient, vc_dimension_free
from erlangen.systems.causal.pac_invariant._cases import random_case
from erlangen.systems.causal.pac_invariant._finite import within
from erlangen.systems.causal.pac_invariant.method import best_weights
from erlangen.systems.causal.pac_invariant.rivals import irm_v1, pooled_regression


def generator(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def chain() -> LinearSEM:
    """X1 -> Y -> X2 with weights 2 and 1."""
    return LinearSEM(torch.tensor([[0.0, 2, 0], [0, 0, 1], [0, 0, 0]], dtype=torch.float64))


def noisy(low: float = 0.5, high: float = 4.0) -> InterventionFamily:
    """The noise of X2 is changed."""
    return InterventionFamily(chain(), (2,), "keep", variances=(low, high))


def environments(n: int = 8, seed: int = 0) -> Environments:
    case = random_case(8, generator(seed), effect=True)
    return Environments.draw(case.family, case.target, n, generator=generator(seed))


EYE = torch.eye(2, dtype=torch.float64)
FLAT = Environments(torch.tensor([1.0, 1, 0]).diag()[None], 0)


# --- populations -----------------------------------------------------------------------------------------------------
def test_a_chain_by_hand() -> None:
    """var Y = 5, var X2 = 5 + v: X2 alone predicts with 5 / (5 + v), and leaves 5 v / (5 + v)."""
    one = Environments.draw(noisy(3, 3), 1, 1)
    assert torch.allclose(one.xx[0], torch.tensor([[1.0, 2], [2, 8]], dtype=torch.float64))
    assert torch.equal(one.xy[0], torch.tensor([2.0, 5], dtype=torch.float64))
    assert float(one.yy) == 5
    effect = EYE[1:]
    assert float(best_weights(one, effect)) == pytest.approx(5 / 8)
    w = torch.tensor([0.5], dtype=torch.float64)
    assert float(one.risk(effect.mT @ w)) == pytest.approx(5 - 2 * 0.5 * 5 + 0.25 * 8)
    assert float(half_gradient(one, effect, w)) == pytest.approx(8 * 0.5 - 5)
    assert float(excess_risk(one, effect, w)) == pytest.approx((0.5 - 5 / 8) ** 2 * 8)
    both = best_weights(one, EYE)[0]  # noise of Y has variance 1, that of X2 variance 3: X2 counts for a quarter
    assert torch.allclose(both, torch.tensor([1.5, 0.25], dtype=torch.float64))


def test_batches_are_single_calls() -> None:
    one = environments()
    phi = torch.randn(5, 2, 7, generator=generator(), dtype=torch.float64)
    w = torch.randn(5, 2, generator=generator(1), dtype=torch.float64)
    for function in (excess_risk, half_gradient):
        due = torch.stack([function(one, phi[k], w[k]) for k in range(5)])
        assert torch.allclose(function(one, phi, w), due, rtol=1e-12)


def test_a_class_of_subsets_is_its_predictors() -> None:
    one = environments()
    predictors = SubsetClass.fit(environments(3, 5), 3)
    assert len(predictors) == 7 + 21 + 35
    excess, norms, left = predictors.excess_risk(one), predictors.gradient_norm(one), predictors.residual_risk(one)
    for index in (0, 6, 7, 40, 62):
        phi, w = predictors.predictor(index)
        assert [int(row.argmax()) for row in phi] == list(predictors.subset(index))
        assert torch.allclose(excess[index], excess_risk(one, phi, w), rtol=1e-9)
        assert torch.allclose(norms[index], half_gradient(one, phi, w).norm(dim=-1), rtol=1e-9)
        assert torch.allclose(left[index], one.risk(phi.mT @ w) - excess[index], rtol=1e-9)
        assert torch.allclose(predictors.coefficients[index], phi.mT @ w)
    few = predictors.kept(excess.amax(1) < excess.amax(1).median())
    assert len(few) == 31
    assert float(few.excess_risk(one).amax()) < float(excess.amax(1).median())
    assert predictors.kept(torch.zeros(63, dtype=torch.bool)).excess_risk(one).shape == (0, 8)
    with pytest.raises(IndexError, match="63 predictors"):
        predictors.subset(63)


def test_the_gradient_depends_on_the_basis() -> None:
    """In units of a thousand the gradient of the same predictor is a thousandth: its predicate says less and less."""
    seen = Environments.draw(noisy(), 1, 10, generator=generator())
    small = seen.mixed(torch.tensor([[1.0, 0], [0, 1e-3]], dtype=torch.float64))
    plain = Environments.observational(chain(), 1)
    ours = [
        SubsetClass.fit(one, 1)
        for one in (plain, plain.mixed(torch.tensor([[1.0, 0], [0, 1e-3]], dtype=torch.float64)))
    ]
    by_gradient = [within(c, e, 0.05, predicate="gradient")[1].all() for c, e in zip(ours, (seen, small), strict=True)]
    by_risk = [within(c, e, 0.01)[1].all() for c, e in zip(ours, (seen, small), strict=True)]
    assert (bool(by_gradient[0]), bool(by_gradient[1])) == (False, True)
    assert (bool(by_risk[0]), bool(by_risk[1])) == (False, False)


def test_samples_come_near_the_population() -> None:
    drawn = noisy().draw(3, generator=generator())
    tables = [LinearSEM(W, v).sample(40_000, generator=generator(1)) for W, v in zip(*drawn, strict=True)]
    due = Environments(drawn.covariance(), 1)
    for centre in (False, True):
        one = Environments.from_samples(tables, 1, centre=centre)
        assert torch.allclose(one.covariance, due.covariance, rtol=0.05, atol=0.05)
        assert one.samples is not None
        assert one.samples.tolist() == [40_000 - centre] * 3
    moved = Environments.from_samples([X + 5 for X in tables], 1, centre=True)
    assert torch.allclose(moved.covariance, one.covariance, atol=1e-9)
    assert torch.allclose(moved.covariance[0], tables[0].T.cov(), atol=1e-9)


# --- calculators -----------------------------------------------------------------------------------------------------
def test_sizes_by_hand() -> None:
    assert samples_finite(1024, 0.1, 0.05) == 100
    assert samples_finite(64, 0.1, 0.05) == 72
    assert tau_finite(1024, 100, 0.05) < 0.1 < tau_finite(1024, 99, 0.05)
    assert vc_ambient(10, 3, "gradient") == 421
    assert samples_vc(421, 0.1, 0.05) == 236_514
    assert samples_vc(1, 0.9, 1e-300) == math.ceil(4 / 0.9 * math.log2(2e300))  # few dimensions, much confidence
    assert samples_agnostic(10, 0.1, math.exp(-5), constant=2) == 3000
    assert [covariance_functions(s, 2) for s in (1, 2)] == [6, 45]
    assert covariance_functions(3, 3) == 2080
    assert covariance_functions(2, 2, variances=True) == 135
    assert vc_dimension_free(1, 2) == 22


def test_sizes_are_monotone() -> None:
    for one, grow in ((samples_finite, (5, 50, 500)), (samples_vc, (5, 50, 500))):
        values = [one(size, 0.1, 0.05) for size in grow]
        assert values == sorted(values)
        assert len(set(values)) == 3
        by_tau = [one(50, tau, 0.05) for tau in (0.01, 0.1, 0.5)]
        by_delta = [one(50, 0.1, delta) for delta in (1e-30, 1e-4, 0.5)]
        assert by_tau == sorted(by_tau, reverse=True)
        assert len(set(by_tau)) == 3
        assert by_delta == sorted(by_delta, reverse=True)
    by_delta = [samples_finite(50, 0.1, delta) for delta in (1e-30, 1e-4, 0.5)]
    assert len(set(by_delta)) == 3


def test_bounds_of_a_family() -> None:
    graph = torch.zeros(40, 40, dtype=torch.float64)
    graph[0, 1] = graph[1, 2] = 0.5
    family = InterventionFamily(LinearSEM(graph), (1,))
    found = vc_bound(family, 2, "gradient")
    assert found == (vc_ambient(40, 2, "gradient"), vc_dimension_free(1, 1), vc_dimension_free(1, 1))
    wide = vc_bound(InterventionFamily(LinearSEM(torch.zeros(80, 80)), (1,), "hard", variances=(1, 2)), 2, "gradient")
    assert wide.dimension_free == 2 * 3 // 2 + 1  # a covariance is a constant plus a multiple of one variance
    assert vc_bound(family, 2) == (vc_ambient(40, 2), None, vc_ambient(40, 2))
    cycle = LinearSEM(torch.tensor([[0.0, 0.5], [0.5, 0.0]]))
    with pytest.raises(ErlangenError, match="cycles"):
        vc_bound(InterventionFamily(cycle, (0,)), 1)


def test_a_class_built_to_be_tight() -> None:
    """64 independent violations with chance 0.102, 72 interventions."""
    draws = torch.rand(3000, 64, generator=generator(), dtype=torch.float64)
    passed = (draws < (1 - 0.102) ** 72).any(1).double().mean()  # the chance that none of 72 is a violation
    due = 1 - (1 - 0.898**72) ** 64
    assert float(passed) == pytest.approx(due, abs=3 * math.sqrt(due * (1 - due) / 3000))
    assert due < 0.05


def test_intervals_close_around_what_is_measured() -> None:
    excess, residual = torch.tensor([0.3], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)
    widths = []
    for n in (100, 10_000, 10_000_000):
        low, high = excess_interval(excess, residual, torch.tensor([n]), 3, 0.05)
        assert float(low) < 0.3 < float(high)
        widths.append(float(high - low))
    assert widths[0] > widths[1] > widths[2]
    assert widths[2] < 5e-3


# --- search ----------------------------------------------------------------------------------------------------------
def test_search_finds_the_cause_of_a_chain() -> None:
    seen = Environments.draw(noisy(), 1, 10, generator=generator())
    found = search_subsets(seen, 0.0)
    assert [found.tried.subset(int(k)) for k in found.accepted.nonzero()[:, 0]] == [(0,)]
    assert found.intersection == (0,)
    assert torch.allclose(found.predictor.coefficients, torch.tensor([2.0, 0], dtype=torch.float64))
    loose = search_subsets(seen, 100.0)
    assert bool(loose.accepted.all())
    assert loose.intersection == ()
    assert loose.tried.subset(int(loose.best or 0)) == (0, 1)  # the least pooled risk
    nothing = search_subsets(
        Environments.draw(InterventionFamily(chain(), (2,), "soft"), 1, 4, generator=generator()), 0.0
    )
    assert nothing.best is not None


def test_none_is_accepted() -> None:
    """X2 alone, and what comes closest."""
    only = Environments(Environments.draw(noisy(), 1, 10, generator=generator()).covariance[:, 1:, 1:], 0)
    found = search_subsets(only, 0.0)
    assert found.best is None
    assert found.intersection is None
    assert torch.equal(found.predictor.phi, torch.eye(1, dtype=torch.float64))


def test_greedy_search_takes_one_away_at_a_time() -> None:
    seen = environments(12, 3)
    found = search_subsets(seen, 0.05, greedy=True)
    sets = [set(found.tried.subset(k)) for k in range(len(found.tried))]
    assert [len(one) for one in sets] == [7, 6, 5, 4, 3, 2, 1]
    assert all(small < large for large, small in itertools.pairwise(sets))
    every = search_subsets(seen, 0.05)
    accepted = {every.tried.subset(int(k)) for k in every.accepted.nonzero()[:, 0]}
    assert {tuple(sorted(sets[int(k)])) for k in found.accepted.nonzero()[:, 0]} <= accepted
    assert len(search_subsets(seen, 0.05, greedy=True, at_most=3).tried) == 3


def test_samples_are_tested_and_not_taken_for_populations() -> None:
    family = noisy()
    drawn = family.draw(6, generator=generator())
    for n, due in ((20, True), (20_000, False)):  # few samples do not refute the effect, many do
        tables = [LinearSEM(W, v).sample(n, generator=generator(2)) for W, v in zip(*drawn, strict=True)]
        seen = Environments.from_samples(tables, 1)
        found = search_subsets(seen, 0.01)
        assert bool(found.accepted[0])
        assert bool(found.accepted[1]) == due
        plain = SubsetClass.fit(Environments.observational(chain(), 1))
        assert bool(certify(plain, seen, 0.05).accepted[0]) != due  # and few do not certify the cause


def linear_objective(seen: Environments, phi: Tensor, w: Tensor, penalty: float) -> float:
    excess = excess_risk(seen, phi, w)
    return float(seen.pooled.risk(phi.mT @ w) + penalty * excess.mean())


def test_the_linear_representation() -> None:
    seen = Environments.draw(noisy(), 1, 10, generator=generator())
    cause = torch.tensor([2.0, 0], dtype=torch.float64)
    found = search_linear(seen, 1, 1e4, generator=generator())
    assert found.objective == pytest.approx(linear_objective(seen, *found.predictor, 1e4), rel=1e-8)
    # The only invariant row is the cause; the penalty is of the fourth power in what is added to it.
    off = [
        float((search_linear(seen, 1, penalty, generator=generator()).predictor.coefficients - cause).abs().max())
        for penalty in (1e2, 1e4, 1e6)
    ]
    assert off[0] > off[1] > off[2]
    assert off[2] < 0.05
    free = search_linear(seen, 2, 0.0, generator=generator())
    assert torch.allclose(free.predictor.coefficients, pooled_regression(seen).coefficients, atol=1e-4)


def test_gradients_of_both_objectives(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, worst = environments(), []

    def instead(value: Any, start: Any, **_: Any) -> Any:
        x = start + np.linspace(-0.5, 0.5, len(start))
        slope = np.linalg.norm(value(x)[1])
        worst.append(check_grad(lambda y: value(y)[0], lambda y: value(y)[1], x) / slope)
        return type("Found", (), {"x": x, "fun": value(x)[0]})

    monkeypatch.setattr("erlangen.systems.causal.pac_invariant._search.minimize", instead)
    monkeypatch.setattr("erlangen.systems.causal.pac_invariant.rivals.minimize", instead)
    search_linear(seen, 3, 7.0, generator=generator())
    irm_v1(seen, 7.0, generator=generator())
    assert len(worst) == 6
    assert max(worst) < 1e-5


def test_irm_without_penalty_is_the_pooled_regression() -> None:
    seen = environments()
    free = irm_v1(seen, 0.0, generator=generator())
    assert torch.allclose(free.coefficients, pooled_regression(seen).coefficients, atol=1e-4)
    # With a penalty each environment's derivative in a factor comes near zero.
    tight = irm_v1(seen, 1e5, generator=generator())
    assert float(half_gradient(seen, *tight).abs().max()) < 0.1 * float(half_gradient(seen, *free).abs().max()) + 1e-2


def test_no_features_predict_zero() -> None:
    seen = environments()
    empty = pooled_regression(seen, ())
    assert torch.equal(seen.risk(empty.coefficients), seen.yy)
    assert torch.equal(excess_risk(seen, *empty), torch.zeros(8, dtype=torch.float64))


# --- bad input -------------------------------------------------------------------------------------------------------
def test_interventions_that_are_none() -> None:
    with pytest.raises(DataError, match=r"sites = \(2,\) include the target 2; intervene on other nodes"):
        Environments.draw(noisy(), 2, 5)
    with pytest.raises(ErlangenError, match="n = 0"):
        Environments.draw(noisy(), 1, 0)
    with pytest.raises(ErlangenError, match="no equilibrium"):
        LinearSEM(torch.tensor([[0.0, 2.0], [0.5, 0.0]]))
    with pytest.raises(ShapeError, match="n >= 1"):
        Environments(torch.zeros(0, 3, 3), 1)
    with pytest.raises(DataError, match="target = 3"):
        Environments(torch.eye(3)[None], 3)
    with pytest.raises(DataError, match=r"covariance\[1\] is not symmetric"):
        Environments(torch.stack([torch.eye(2), torch.tensor([[1.0, 1], [0, 1]])]), 0)


def test_representations_that_are_singular() -> None:
    seen = environments()
    row = torch.randn(1, 7, generator=generator(), dtype=torch.float64)
    w = torch.tensor([0.3], dtype=torch.float64)
    due = excess_risk(seen, row, w)
    with pytest.warns(DegenerateFrameWarning, match="pseudo-inverse is taken; drop rows"):
        twice = excess_risk(seen, torch.cat([row, 2 * row]), torch.tensor([0.1, 0.1], dtype=torch.float64))
    assert torch.allclose(twice, due, rtol=1e-9)
    with pytest.warns(DegenerateFrameWarning, match="singular"):
        nothing = excess_risk(seen, 0 * row, w)
    assert torch.equal(nothing, torch.zeros_like(nothing))
    more = torch.randn(9, 7, generator=generator(), dtype=torch.float64)
    with pytest.warns(DegenerateFrameWarning, match="singular"):
        excess_risk(seen, more, more[:, 0])


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, math.nan])
def test_chances_are_between_zero_and_one(value: float) -> None:
    calls = (
        lambda: samples_finite(5, value, 0.05),
        lambda: samples_finite(5, 0.1, value),
        lambda: tau_finite(5, 10, value),
        lambda: samples_vc(5, value, 0.05),
        lambda: samples_vc(5, 0.1, value),
        lambda: samples_agnostic(5, 0.1, value, constant=1),
        lambda: samples_agnostic(5, value, 0.1, constant=1),
        lambda: certify(SubsetClass.fit(Environments.observational(chain(), 1)), environments(), 0.1, delta=value),
        lambda: excess_interval(torch.ones(1), torch.ones(1), torch.tensor([10]), 1, value),
    )
    for call in calls:
        with pytest.raises(ErlangenError, match=r"(tau|delta|level) = .* give a number between 0 and 1"):
            call()


def test_arguments_that_do_not_fit() -> None:
    seen = Environments.draw(noisy(), 1, 5, generator=generator())
    predictors = SubsetClass.fit(Environments.observational(chain(), 1))
    with pytest.raises(ErlangenError, match=r"eps = -0\.1; give a number that is not negative"):
        certify(predictors, seen, -0.1)
    with pytest.raises(ErlangenError, match="eps = nan"):
        search_subsets(seen, math.nan)
    with pytest.raises(UnknownNameError, match="risk, gradient"):
        certify(predictors, seen, 0.1, predicate="norm")  # pyright: ignore
    with pytest.raises(ShapeError, match=r"phi has shape \(1, 3\); give \[p, 2\]"):
        excess_risk(seen, torch.ones(1, 3), torch.ones(1))
    with pytest.raises(ShapeError, match="a number for each row"):
        half_gradient(seen, torch.ones(2, 2), torch.ones(1))
    with pytest.raises(ShapeError, match="a column for each latent feature"):
        seen.mixed(torch.ones(2, 3))
    with pytest.raises(ErlangenError, match="max_subsets = 2; give a smaller at_most, or search greedily"):
        SubsetClass.fit(seen, max_subsets=2)
    with pytest.raises(ErlangenError, match="constant = 0"):
        samples_agnostic(5, 0.1, 0.1, constant=0)
    with pytest.raises(UnknownNameError, match="predicate"):
        vc_ambient(5, 1, "both")  # pyright: ignore
    with pytest.raises(ShapeError, match="rows = 3; give 1 to 2"):
        search_linear(seen, 3, 1.0)
    with pytest.raises(ErlangenError, match="penalty = -1"):
        search_linear(seen, 1, -1.0)
    with pytest.raises(ErlangenError, match="more samples than rows"):
        excess_interval(torch.ones(1), torch.ones(1), torch.tensor([3]), 3, 0.1)


@pytest.mark.parametrize(
    ("call", "error", "word"),
    [
        (
            lambda s: Environments(torch.tensor([[[1.0, 2], [2, 1]]]), 0),
            DataError,
            r"covariance\[0\] has a correlation above",
        ),
        (lambda s: Environments(-torch.eye(2)[None], 0), DataError, "negative variance"),
        (lambda s: Environments(torch.eye(2).long()[None], 0), DtypeError, r"call covariance\.double"),
        (lambda s: Environments(torch.eye(2).half()[None], 0), DtypeError, r"call covariance\.double"),
        (lambda s: Environments(torch.eye(2)[None], 1.0), DataError, "target = 1.0"),  # pyright: ignore
        (lambda s: Environments(torch.eye(2)[None], 0, torch.tensor([5, 6])), ShapeError, "each of 1 environments"),
        (lambda s: Environments(torch.eye(2)[None], 0, torch.tensor([0])), ShapeError, "positive number"),
        (lambda s: s[0:0], ShapeError, "n >= 1"),
        (lambda s: s.mixed(EYE * math.nan), NotFiniteError, "covariance has"),
        (lambda s: excess_risk(s, EYE * math.nan, torch.ones(2)), NotFiniteError, "phi has"),
        (lambda s: half_gradient(s, EYE, torch.ones(2) * math.inf), NotFiniteError, "w has"),
        (lambda s: certify(SubsetClass.fit(s[:2]), environments(), 0.1), ShapeError, "predictors are for 2 features"),
        (
            lambda s: certify(SubsetClass.fit(s[:2]), Environments(s.covariance.float(), 1), 0.1),
            ShapeError,
            "same .* dtype",
        ),
        (lambda s: search_subsets(s, 0.1, level=2.0), ErlangenError, "level = 2.0"),
        (lambda s: search_subsets(s, 0.1, at_most=0), ErlangenError, "at_most = 0"),
        (lambda s: search_linear(s, 1.5, 1.0), ShapeError, "rows = 1.5"),  # pyright: ignore
        (lambda s: search_linear(s, 1, math.inf), ErlangenError, "penalty = inf"),
        (lambda s: irm_v1(s, math.nan), ErlangenError, "penalty = nan"),
        (lambda s: search_linear(FLAT, 1, 1.0), DataError, "feature 1 is constant"),
        (lambda s: irm_v1(FLAT, 1.0), DataError, "feature 1 is constant"),
        (
            lambda s: excess_interval(torch.full((1,), math.nan), torch.ones(1), torch.ones(1) * 9, 1, 0.1),
            NotFiniteError,
            "excess",
        ),
        (lambda s: Environments.from_samples([torch.full((9, 3), math.nan)], 1), NotFiniteError, r"tables\[0\]"),
    ],
)
def test_what_is_no_environment_or_predictor(
    call: Callable[[Environments], object], error: type[Exception], word: str
) -> None:
    with pytest.raises(error, match=word):
        call(Environments.draw(noisy(), 1, 5, generator=generator()))


def test_one_environment_and_no_rows() -> None:
    seen = Environments.draw(noisy(), 1, 1, generator=generator())
    assert bool(search_subsets(seen, 1e-9).accepted.all())  # each is fitted to the only environment
    assert torch.equal(excess_risk(seen, torch.zeros(0, 2), torch.zeros(0)), torch.zeros(1, dtype=torch.float64))


def test_certificates_from_the_same_environments_are_refused() -> None:
    seen = environments()
    with pytest.raises(ErlangenError, match="finite bound void; fit them on the observational environment"):
        certify(SubsetClass.fit(seen[:4], 2), seen, 0.05)
    assert len(certify(SubsetClass.fit(seen[:4], 2), seen[4:], 0.05).accepted) == 28


def test_tables_that_do_not_fit() -> None:
    X, Y = chain().sample(50, generator=generator()), chain().sample(60, generator=generator(1))
    with pytest.raises(DataError, match="tables is empty"):
        Environments.from_samples([], 1)
    with pytest.raises(DataError, match=r"tables\[1\] has shape .* columns are missing"):
        Environments.from_samples([X, Y[:, :2]], 1)
    with pytest.raises(DataError, match="more samples than variables"):
        Environments.from_samples([X, Y[:3]], 1)
    with pytest.raises(DataError, match=r"names\[1\] has the columns in another order"):
        Environments.from_samples([X, Y], 1, names=["abc", "acb"])
    with pytest.raises(DataError, match=r"names\[1\] has other columns .*'c', 'd'"):
        Environments.from_samples([X, Y], 1, names=["abc", "abd"])
    with pytest.raises(DataError, match="names has 1 lists for 2 tables"):
        Environments.from_samples([X, Y], 1, names=["abc"])
    with pytest.warns(ErlangenWarning, match=r"tables\[1\]: the mean of column 2 .* centre=True"):
        Environments.from_samples([X, Y + torch.tensor([0.0, 0, 9])], 1)
    with pytest.raises(ErlangenError, match='"gradient" has no interval'):
        certify(
            SubsetClass.fit(Environments.observational(chain(), 1)),
            Environments.from_samples([X], 1),
            0.1,
            predicate="gradient",
        )
