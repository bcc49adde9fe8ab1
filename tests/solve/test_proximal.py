"""The pull to data against a power of the size: closed forms, a grid, and where the answer jumps."""

import pytest
import torch

from erlangen.errors import DtypeError, ErlangenError, NotFiniteError, ShapeError
from erlangen.solve import power_prox


def value(z: torch.Tensor, y: torch.Tensor, weight: float, power: float) -> torch.Tensor:
    return (z - y).square() / 2 + weight * z.pow(power)


@pytest.mark.parametrize("power", [0.1, 0.25, 1 / 3, 0.5, 2 / 3, 0.9, 1.0])
def test_nothing_on_a_grid_is_lower(power: float) -> None:
    y = torch.linspace(0, 4, 81, dtype=torch.float64)
    grid = torch.linspace(0, 5, 20_001, dtype=torch.float64)[:, None]
    for weight in (0.0, 0.3, 1.0, 2.5):
        z = power_prox(y, weight, power)
        lowest = value(grid, y, weight, power).amin(0)
        assert float((value(z, y, weight, power) - lowest).max()) <= 1e-12
        inside = z > 0
        slope = (z - y + weight * power * z.pow(power - 1))[inside]
        assert not bool(inside.any()) or float(slope.abs().max()) < 1e-10


def test_the_soft_threshold_and_no_weight() -> None:
    y = torch.tensor([-1.0, 0.5, 1.0, 3.0])
    torch.testing.assert_close(power_prox(y, 1.0, 1.0), torch.tensor([0.0, 0.0, 0.0, 2.0]))
    torch.testing.assert_close(power_prox(y, 0.0, 0.5), y.clamp(min=0))


@pytest.mark.parametrize("weight", [0.2, 1.0, 7.0])
def test_the_root_jumps_where_half_thresholding_does(weight: float) -> None:
    """For the power 1/2 the jump is at 3/2 w^(2/3), from 0 to w^(2/3): by hand, and Xu et al. (2012) in other units."""
    edge, jump = 1.5 * weight ** (2 / 3), weight ** (2 / 3)
    below, above = power_prox(torch.tensor([edge * (1 - 1e-9), edge * (1 + 1e-9)], dtype=torch.float64), weight, 0.5)
    assert float(below) == 0
    assert float(above) == pytest.approx(jump, rel=1e-6)


def test_weights_broadcast() -> None:
    y, weight = torch.rand(3, 1, dtype=torch.float64) + 2, torch.tensor([0.1, 0.5], dtype=torch.float64)
    z = power_prox(y, weight, 0.5)
    assert z.shape == (3, 2)
    torch.testing.assert_close(z[:, 1], power_prox(y[:, 0], 0.5, 0.5))


@pytest.mark.parametrize(
    ("y", "weight", "power", "error", "words"),
    [
        (torch.ones(2), -1.0, 0.5, ErlangenError, "weight is negative"),
        (torch.ones(2), torch.tensor([1.0, -1.0]), 0.5, ErlangenError, r"weight\[1\] is negative"),
        (torch.ones(2), 1.0, 0.0, ErlangenError, "power = 0"),
        (torch.ones(2), 1.0, 1.5, ErlangenError, "power = 1.5"),
        (torch.ones(2), torch.ones(3), 0.5, ShapeError, "do not broadcast"),
        (torch.ones(2, dtype=torch.int64), 1.0, 0.5, DtypeError, "y has dtype"),
        (torch.tensor([torch.nan]), 1.0, 0.5, NotFiniteError, "y has 1 values"),
    ],
)
def test_bad_input(y, weight, power, error, words) -> None:
    with pytest.raises(error, match=words):
        power_prox(y, weight, power)
