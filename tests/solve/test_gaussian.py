"""Normal expectations against moments, kinks and closed forms."""

import math

import pytest
import torch

from erlangen.errors import ErlangenError, UnknownNameError
from erlangen.solve import log_cosh, normal_nodes


@pytest.mark.parametrize(("rule", "n"), [("hermite", 12), ("uniform", 300)])
def test_moments(rule, n: int) -> None:
    z, w = normal_nodes(n, rule)
    for k, due in ((0, 1), (1, 0), (2, 1), (4, 3), (6, 15), (8, 105)):
        assert float((w * z**k).sum()) == pytest.approx(due, abs=1e-9)


def test_exponentials() -> None:
    z, w = normal_nodes(60)
    assert float((w * torch.exp(1.3 * z)).sum()) == pytest.approx(math.exp(1.3**2 / 2), rel=1e-12)


def test_kinks_need_the_grid() -> None:
    """E log cosh(b z) / b to sqrt(2/pi) at large b: Hermite with 80 nodes is wrong where the grid is right."""
    due = math.sqrt(2 / math.pi)
    errors = [
        abs(float((w * log_cosh(1e4 * z)).sum()) / 1e4 - due)
        for z, w in (normal_nodes(80), normal_nodes(20_001, "uniform"))
    ]
    assert errors[0] > 1e-3
    assert errors[1] < 1e-4


def test_log_cosh() -> None:
    x = torch.tensor([-700.0, -3.0, 0.0, 1e-4, 2.0], dtype=torch.float64)
    assert torch.allclose(log_cosh(x), torch.log(torch.cosh(x)), atol=1e-15, rtol=1e-13)
    assert float(log_cosh(torch.tensor(-1e300, dtype=torch.float64))) == 1e300


def test_bad_rules() -> None:
    with pytest.raises(UnknownNameError, match="'hermite' or 'uniform'"):
        normal_nodes(5, "simpson")  # pyright: ignore
    with pytest.raises(ErlangenError, match="n = 0"):
        normal_nodes(0)
    with pytest.raises(ErlangenError, match="reach = -1"):
        normal_nodes(5, "uniform", reach=-1)
