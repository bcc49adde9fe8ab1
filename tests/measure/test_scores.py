"""Accuracy, relative change and rank correlation by hand, against scipy, and bad input."""

import math
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import nn

from erlangen.errors import DataError, ErlangenError, ShapeError, UnknownNameError
from erlangen.measure import accuracy, distance_correlation, relative_change, spearman


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("batch", [1, 3, 7, 100])
def test_accuracy_does_not_depend_on_the_batch(batch: int) -> None:
    x, y = torch.randn(7, 3, generator=rng()), torch.arange(7) % 3
    right = sum(int(row.argmax()) == int(label) for row, label in zip(x, y, strict=True))
    assert 0 < right < 7
    assert accuracy(nn.Identity(), x, y, batch=batch) == pytest.approx(100 * right / 7)


def test_accuracy_of_trees_and_of_one_logit() -> None:
    class Difference(nn.Module):
        def forward(self, x: dict[str, torch.Tensor]) -> torch.Tensor:
            assert not torch.is_grad_enabled()
            return x["a"] - x["b"]

    x = {"a": torch.tensor([[1.0], [2.0], [3.0], [4.0]]), "b": torch.tensor([[2.0], [1.0], [1.0], [1.0]])}
    assert accuracy(Difference(), x, torch.tensor([0, 1, 1, 0]), batch=3) == 75


def test_relative_changes_by_hand() -> None:
    b = torch.tensor([[[3.0], [4.0]], [[0.0], [10.0]]])
    a = b + torch.tensor([[[0.0], [1.0]], [[1.5], [0.0]]])
    assert relative_change(a, b) == pytest.approx(0.2)  # 1 / 5 and 1.5 / 10
    assert relative_change(a, b, over="batch") == pytest.approx(math.sqrt(3.25 / 125))
    assert relative_change(a, b, over="entries") == pytest.approx(0.15)
    assert relative_change(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 4.0])) == pytest.approx(0.5)
    assert relative_change(torch.tensor(3.0), torch.tensor(2.0)) == pytest.approx(0.5)


@pytest.mark.parametrize("over", ["samples", "batch", "entries"])
def test_nothing_to_compare_with_and_not_a_number(over: str) -> None:
    zeros = torch.zeros(2, 3)
    assert relative_change(zeros, zeros, over=over) == 0  # type: ignore[arg-type]
    assert relative_change(zeros[:0], zeros[:0], over=over) == 0  # type: ignore[arg-type]
    assert relative_change(zeros + torch.tensor([1.0, 0.0, 0.0]), zeros, over=over) >= 1  # type: ignore[arg-type]
    assert math.isnan(relative_change(torch.full((2, 3), math.nan), torch.ones(2, 3), over=over))  # type: ignore[arg-type]


def test_it_is_float64() -> None:
    b = torch.full((1, 1), 1.0)
    assert relative_change(b + 2**-23, b) == 2**-23
    assert relative_change(b.double() + 2**-50, b.double()) == 2**-50


def test_rank_correlation_against_scipy() -> None:
    a, b = torch.randint(0, 5, (2, 40), generator=rng()).double()
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a.numpy(), b.numpy())[0], abs=1e-12)
    assert spearman(a, 3 * a.exp()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: spearman(torch.ones(4), torch.arange(4.0)), DataError, "no ranks"),
        (lambda: spearman(torch.ones(2), torch.ones(2)), DataError, "at least 3"),
        (lambda: relative_change(torch.ones(2, 3), torch.ones(2, 1)), ShapeError, r"a has shape \(2, 3\)"),
        (
            lambda: relative_change(torch.ones(2), torch.ones(2), over="rows"),
            UnknownNameError,
            "samples, batch, entries",
        ),
        (lambda: accuracy(nn.Identity(), torch.ones(4, 2), torch.zeros(3).long()), ShapeError, "answers of shape"),
        (lambda: accuracy(nn.Identity(), torch.ones(0, 2), torch.zeros(0).long()), DataError, "no samples"),
        (lambda: accuracy(nn.Identity(), torch.ones(4, 2), torch.zeros(4).long(), batch=0), ErlangenError, "batch = 0"),
    ],
)
def test_bad_input(call: Callable[[], object], error: type[ErlangenError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_distance_correlation_is_its_definition() -> None:
    x, y = torch.randn(12, 2, dtype=torch.float64), torch.randn(12, 3, dtype=torch.float64)
    n = range(12)

    def entries(z: torch.Tensor) -> list[list[float]]:
        a = [[float((z[i] - z[j]).norm()) for j in n] for i in n]
        rows = [sum(row) / 12 for row in a]
        return [[a[i][j] - rows[i] - rows[j] + sum(rows) / 12 for j in n] for i in n]

    def mean_product(a: list[list[float]], b: list[list[float]]) -> float:
        return sum(a[i][j] * b[i][j] for i in n for j in n) / 144

    A, B = entries(x), entries(y)
    due = (mean_product(A, B) / (mean_product(A, A) * mean_product(B, B)) ** 0.5) ** 0.5
    assert distance_correlation(x, y) == pytest.approx(due, rel=1e-10)
    turn = torch.linalg.qr(torch.randn(2, 2, dtype=torch.float64)).Q
    assert distance_correlation(3 * x @ turn + 5, y) == pytest.approx(due, rel=1e-10)
    assert distance_correlation(x, -2 * x + 1) == pytest.approx(1, abs=1e-12)
    big = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    assert distance_correlation(big[:, 0], big[:, 1]) < 0.12
    for bad in ((x, y[:11]), (x[:1], y[:1]), (0 * x, y)):
        with pytest.raises(DataError):
            distance_correlation(*bad)
