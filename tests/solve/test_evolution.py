"""Mixtures that evolve in a box: gradients against closed forms, entropy by quadrature, ranks, modes, and bad input."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from erlangen.errors import ErlangenError, ErlangenWarning, ShapeError
from erlangen.solve import BoxMixture, evolve_mixture
from erlangen.solve.evolution import centred_ranks, entropy_gradient, mixture_gradient

F64 = torch.float64
MIXTURE = BoxMixture(
    torch.tensor([-2.0, 0.0], dtype=F64),
    torch.tensor([2.0, 1.0], dtype=F64),
    torch.tensor([[0.3, -0.4], [-0.8, 0.5]], dtype=F64),
    torch.tensor([[0.2, 0.3], [0.25, 0.1]], dtype=F64),
    torch.tensor([0.3, 0.7], dtype=F64),
)

LINE = replace(
    MIXTURE, low=MIXTURE.low[:1], high=MIXTURE.high[:1], means=MIXTURE.means[:, :1], spreads=MIXTURE.spreads[:, :1]
)
"""Its first coordinate, of half width 2."""


def drawn(seed: int, repeats: int = 2000, pairs: int = 4) -> tuple[Tensor, Tensor]:
    """Deviations and samples of both components, many times."""
    half = torch.randn(repeats, 2, pairs, 2, dtype=F64, generator=torch.Generator().manual_seed(seed))
    noise = torch.cat([half, -half], -2)
    return noise, MIXTURE.means[:, None] + MIXTURE.spreads[:, None] * noise


def test_gradients_agree_with_those_of_an_expected_quadratic() -> None:
    """E |u - c|^2 = sum_k w_k (|mu_k - c|^2 + |s_k|^2), so that all derivatives are known; within three standard errors."""
    c = torch.tensor([0.1, 0.2], dtype=F64)
    noise, u = drawn(0)
    values = (u - c).square().sum(-1)
    w = MIXTURE.weights[:, None]
    expected = (
        2 * w * (MIXTURE.means - c),
        2 * w * MIXTURE.spreads,
        ((MIXTURE.means - c).square() + MIXTURE.spreads.square()).sum(-1),
    )
    for found, right in zip(mixture_gradient(values, noise, MIXTURE), expected, strict=True):
        error = (found.mean(0) - right).abs() / (found.std(0) / math.sqrt(len(found)))
        assert float(error.max()) < 3


def test_an_even_function_does_not_move_its_middle() -> None:
    noise, u = drawn(1, repeats=3)
    values = (u - MIXTURE.means[:, None]).square().sum(-1)
    assert float(mixture_gradient(values, noise, MIXTURE)[0].abs().max()) < 1e-14


def test_entropy_against_quadrature_and_the_closed_form() -> None:
    """One dimension, two components: a fine grid. One component: Gaussian entropy + E log(half (1 - tanh^2 u))."""
    u = torch.linspace(-4, 4, 200_001, dtype=F64)[:, None]
    stretch = 2 / torch.cosh(u[:, 0]).square()
    mass = LINE.log_prob(u).exp() * stretch * 8 / 200_000
    assert float(mass.sum()) == pytest.approx(1, abs=1e-6)
    exact = -float((mass * LINE.log_prob(u)).sum())
    assert float(LINE.entropy(200_000, generator=torch.Generator().manual_seed(2))) == pytest.approx(exact, rel=0.01)

    one = BoxMixture(LINE.low, LINE.high, LINE.means[:1], LINE.spreads[:1], torch.ones(1, dtype=F64))
    gauss = 0.5 * math.log(2 * math.pi * math.e * float(one.spreads) ** 2)
    density = torch.exp(-((u[:, 0] - one.means) ** 2) / (2 * one.spreads**2))[0]
    closed = gauss + float((density * stretch.log()).sum() / density.sum())
    assert float(one.entropy(200_000, generator=torch.Generator().manual_seed(3))) == pytest.approx(closed, rel=0.01)


def test_gradients_of_the_entropy_agree_with_differences_of_quadratures() -> None:
    """Along each mean and spread of one dimension."""
    u = torch.linspace(-4, 4, 40_001, dtype=F64)[:, None]
    stretch = 2.0 / torch.cosh(u[:, 0]).square()

    def exact(mixture: BoxMixture) -> float:
        mass = mixture.log_prob(u).exp() * stretch * 8 / 40_000
        return -float((mass * mixture.log_prob(u)).sum())

    half = torch.randn(4000, 2, 4, 1, dtype=F64, generator=torch.Generator().manual_seed(4))
    noise = torch.cat([half, -half], -2)
    samples = LINE.means[:, None] + LINE.spreads[:, None] * noise
    wide = replace(
        LINE,
        means=LINE.means.expand(4000, 2, 1),
        spreads=LINE.spreads.expand(4000, 2, 1),
        weights=LINE.weights.expand(4000, 2),
    )
    found = entropy_gradient(samples, noise, wide)
    for part, name in zip(found, ("means", "spreads"), strict=False):
        for k in range(2):
            nudge = torch.zeros(2, 1, dtype=F64)
            nudge[k] = 1e-4
            difference = (
                exact(replace(LINE, **{name: getattr(LINE, name) + nudge}))
                - exact(replace(LINE, **{name: getattr(LINE, name) - nudge}))
            ) / 2e-4
            error = abs(float(part[:, k].mean()) - difference) / (float(part[:, k].std()) / math.sqrt(4000))
            assert error < 4


def two_peaks(v: Tensor) -> Tensor:
    """Equal peaks at 0.6 and -0.6 in the first coordinate."""
    away = torch.stack([(v - 0.6 * sign * torch.eye(v.shape[-1])[0].to(v)).square().sum(-1) for sign in (1, -1)])
    return torch.exp(-away / 0.05).sum(0)


def test_only_the_order_of_values_matters() -> None:
    start = BoxMixture.start(-torch.ones(2), torch.ones(2), 2, generator=torch.Generator().manual_seed(0))
    start = replace(start, **{f: getattr(start, f).double() for f in ("low", "high", "means", "spreads", "weights")})

    def run(f: Callable[[Tensor], Tensor]) -> BoxMixture:
        return evolve_mixture(f, start, steps=10, generator=torch.Generator().manual_seed(1)).mixture

    plain, bent = run(two_peaks), run(lambda v: 3 * two_peaks(v).exp() - 7)
    torch.testing.assert_close(plain.means, bent.means)
    torch.testing.assert_close(plain.spreads, bent.spreads)
    assert not torch.allclose(plain.means, start.means, atol=0.05)
    assert centred_ranks(torch.tensor([3.0, math.nan, 1.0, 3.0])).tolist() == [0.25, 0, -0.5, 0.25]


def test_several_components_find_both_peaks_and_one_does_not() -> None:
    """Starts are uniform; with six components one side stays empty in one of 32 starts."""
    start = BoxMixture.start(-torch.ones(2), torch.ones(2), 6, batch=(20,), generator=torch.Generator().manual_seed(3))
    found = evolve_mixture(two_peaks, start, steps=60, generator=torch.Generator().manual_seed(4))
    sides = found.mixture.place(found.mixture.means)[..., 0]
    assert float(((sides - 0.6).abs() < 0.15).any(-1).float().mean()) > 0.85
    assert int((((sides - 0.6).abs() < 0.15).any(-1) & ((sides + 0.6).abs() < 0.15).any(-1)).sum()) >= 18
    assert float(found.value.min()) > 0.9
    single = BoxMixture.start(-torch.ones(2), torch.ones(2), 1, batch=(20,), generator=torch.Generator().manual_seed(5))
    alone = evolve_mixture(two_peaks, single, steps=60, limits=(0.01, 0.15), generator=torch.Generator().manual_seed(6))
    drawn = alone.mixture.sample(200, generator=torch.Generator().manual_seed(7))[..., 0]
    assert not bool(((drawn > 0.3).any(-1) & (drawn < -0.3).any(-1)).any())


def test_entropy_keeps_the_mixture_wide() -> None:
    start = BoxMixture.start(-torch.ones(1), torch.ones(1), 1)
    ends = [
        evolve_mixture(
            lambda v: -v.square().sum(-1), start, steps=60, entropy=weight, generator=torch.Generator().manual_seed(0)
        ).mixture.spreads.item()
        for weight in (0.0, 100.0)
    ]
    assert ends[0] < 0.05 < 0.4 < ends[1]


def test_places_stay_in_the_box_and_weights_follow() -> None:
    corner = evolve_mixture(
        lambda v: v.sum(-1),
        BoxMixture.start(
            torch.tensor([-1.0, 5.0]), torch.tensor([1.0, 6.0]), 3, generator=torch.Generator().manual_seed(0)
        ),
        steps=60,
        entropy=0.0,
        move_weights=True,
        generator=torch.Generator().manual_seed(1),
    )
    places = corner.mixture.sample(100, generator=torch.Generator().manual_seed(2))
    assert bool((places >= torch.tensor([-1.0, 5.0])).all() and (places <= torch.tensor([1.0, 6.0])).all())
    assert corner.mixture.weights.sum().item() == pytest.approx(1)
    assert float(corner.mixture.weights.max()) > 0.34
    assert corner.evaluations == 60 * 2 * 10 * 3
    assert corner.history.shape == (60,)
    none = evolve_mixture(lambda v: v.sum(-1), MIXTURE, steps=0)
    assert none.mixture is MIXTURE
    assert none.history.shape == (0,)


def test_a_few_missing_values_are_told_and_many_refused() -> None:
    start = BoxMixture.start(-torch.ones(1), torch.ones(1), 1)

    def holes(share: float) -> Callable[[Tensor], Tensor]:
        def fitness(v: Tensor) -> Tensor:
            values = v.sum(-1)
            values[: int(share * len(values))] = math.nan
            return values

        return fitness

    with pytest.warns(ErlangenWarning, match="1 values of fitness are not finite"):
        found = evolve_mixture(holes(0.05), start, steps=1, generator=torch.Generator().manual_seed(0))
    assert math.isfinite(float(found.value))
    assert bool(found.history.isfinite().all())
    with pytest.raises(ErlangenError, match="30 % of the values of fitness are not finite"):
        evolve_mixture(holes(0.3), start, steps=1)


@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        (lambda: replace(MIXTURE, low=MIXTURE.high), ErlangenError, "is not below high"),
        (lambda: replace(MIXTURE, spreads=0 * MIXTURE.spreads), ErlangenError, "spreads must be positive"),
        (lambda: replace(MIXTURE, weights=MIXTURE.weights / 2), ErlangenError, "sum to 1"),
        (lambda: replace(MIXTURE, means=MIXTURE.means[0]), ShapeError, r"give \[..., K, 2\]"),
        (lambda: replace(MIXTURE, weights=MIXTURE.weights[:1]), ShapeError, "spreads and weights have shapes"),
        (lambda: replace(MIXTURE, high=MIXTURE.high[:1]), ShapeError, "low and high have shapes"),
        (lambda: BoxMixture.start(MIXTURE.low, MIXTURE.high, 0), ErlangenError, "components = 0"),
        (lambda: evolve_mixture(lambda v: v, MIXTURE), ShapeError, "fitness returned shape"),
        (lambda: evolve_mixture(lambda v: v[..., 0], MIXTURE, pairs=0), ErlangenError, "pairs = 0"),
        (lambda: evolve_mixture(lambda v: v[..., 0], MIXTURE, momentum=1.0), ErlangenError, "momentum = 1.0"),
        (lambda: evolve_mixture(lambda v: v[..., 0], MIXTURE, rate=-1.0), ErlangenError, "rate = -1.0"),
        (lambda: evolve_mixture(lambda v: v[..., 0], MIXTURE, steps=-1), ErlangenError, "steps = -1"),
        (lambda: evolve_mixture(lambda v: v[..., 0], MIXTURE, decay=0.0), ErlangenError, "decay = 0.0"),
        (lambda: evolve_mixture(lambda v: v[..., 0], MIXTURE, limits=(0.5, 0.1)), ErlangenError, "limits"),
    ],
)
def test_bad_input(wrong: Callable[[], object], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        wrong()
