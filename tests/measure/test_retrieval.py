"""Ranks of the right candidate against loops, closed forms for chance, and R^2 against scikit-learn."""

import pytest
import torch
from sklearn.metrics import r2_score

from erlangen.errors import DataError, DtypeError, ErlangenError, ShapeError
from erlangen.measure import r_squared, retrieval


def test_against_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    q, c = (torch.randn(30, *shape, generator=generator) for shape in ((5,), (12, 5)))
    right = torch.randint(12, (30,), generator=generator)
    ranks = []
    for i in range(30):
        scores = torch.nn.functional.cosine_similarity(q[i].double(), c[i].double(), dim=-1)
        ranks.append(1 + scores.argsort(descending=True).tolist().index(int(right[i])))
    got = retrieval(q, c, right, at=(1, 5, 12))
    assert got.mrr == pytest.approx(sum(1 / r for r in ranks) / 30)
    assert got.hits == {k: pytest.approx(sum(r <= k for r in ranks) / 30) for k in (1, 5, 12)}
    shared = retrieval(q, c[0], right)
    assert shared.mrr == pytest.approx(retrieval(q, c[:1].expand(30, 12, 5), right).mrr)


def test_chance_level_of_fifty() -> None:
    level = sum(1 / k for k in range(1, 51)) / 50  # 0.08998
    views = torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
    nothing = retrieval(torch.ones(50, 8), torch.ones(50, 8), torch.arange(50))
    assert nothing.mrr == pytest.approx(level, abs=1e-12)
    assert nothing.hits == {1: pytest.approx(0.02), 5: pytest.approx(0.1)}
    assert nothing.random == (nothing.mrr, {1: 0.02, 5: 0.1})
    # A predictor that ignores what is asked and answers with one of the views: right once, then ranks 2, ..., 50.
    copied = retrieval(views[:1].expand(50, 8), views, torch.arange(50))
    assert copied.mrr == pytest.approx(level, abs=1e-12)
    assert retrieval(views, views, torch.arange(50)).mrr == 1.0


def test_r_squared_with_one_mean_and_by_component() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(50, 3, generator=generator)
    found = y + 0.3 * torch.randn(50, 3, generator=generator)
    assert r_squared(found[:, 0], y[:, 0]) == pytest.approx(r2_score(y[:, 0], found[:, 0]))
    assert r_squared(found, y) == pytest.approx(r2_score(y.flatten(), found.flatten()))
    assert r_squared(y.mean().expand_as(y), y) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda x: retrieval(x, x[:, :2], torch.arange(4)),
            ShapeError,
            r"query has shape \(4, 3\) and candidates \(4, 2\)",
        ),
        (lambda x: retrieval(x, x, torch.arange(3)), ShapeError, "one index per query"),
        (lambda x: retrieval(x, x, torch.arange(4.0)), DtypeError, "right has dtype torch.float32"),
        (lambda x: retrieval(x, x, torch.arange(4) + 1), DataError, "each from 0 to 3"),
        (lambda x: retrieval(x[:0], x, torch.arange(0)), DataError, "at least one index"),
        (lambda x: retrieval(x, x, torch.arange(4), at=(0,)), ErlangenError, "give ranks from 1"),
        (lambda x: retrieval(x / 0, x, torch.arange(4)), DataError, "NaN or Inf"),
        (lambda x: r_squared(x, x[:2]), ShapeError, "found has shape"),
        (lambda x: r_squared(x, torch.ones(4, 3)), DataError, "y has no variation"),
        (lambda x: r_squared(x[:0], x[:0]), DataError, "y has no variation"),
    ],
)
def test_bad_input_is_named(call, error, match) -> None:
    with pytest.raises(error, match=match):
        call(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
