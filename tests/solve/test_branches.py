"""Roots along paths against closed forms, and monodromy about branch points."""

import numpy as np
import pytest

from erlangen.errors import ErlangenError, NotFiniteError, ShapeError
from erlangen.solve import root_branch


def test_a_root_that_moves_past_others() -> None:
    """(z - t)(z + 1)(z - 3i): from t = -3 to 3 the first root passes above no other."""
    t = np.linspace(-3, 3, 400) + 0.5j
    path = np.stack([np.poly([a, -1, 3j]) for a in t])
    assert np.allclose(root_branch(path, t[0]), t, atol=1e-10)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_cube_root_comes_back_after_three_turns(turns: int) -> None:
    t = np.linspace(0, 2 * np.pi * turns, 200)
    path = np.stack([np.ones(200), np.zeros(200), np.zeros(200), -np.exp(1j * t)], 1)
    assert root_branch(path, 1.0)[-1] == pytest.approx(np.exp(2j * np.pi * turns / 3), abs=1e-12)


def test_a_linear_polynomial() -> None:
    assert root_branch([[2, -4], [4, -4]], 0).tolist() == [2, 1]


def test_what_cannot_be_followed() -> None:
    t = np.linspace(1, -1, 41)
    with pytest.raises(ErlangenError, match=r"coefficients\[\d+\].*smaller steps.*around the branch point"):
        root_branch(np.stack([np.ones(41), np.zeros(41), -t], 1), 1.0)
    with pytest.raises(ShapeError, match=r"shape \(3,\)"):
        root_branch([1, 2, 3], 0)
    with pytest.raises(NotFiniteError, match="coefficients"):
        root_branch([[1, np.nan]], 0)
    with pytest.raises(ErlangenError, match=r"coefficients\[1, 0\] is zero"):
        root_branch([[1, 2], [0, 2]], 0)
