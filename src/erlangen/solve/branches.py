"""Roots followed along a path: one branch of a polynomial's zeros, through the complex plane."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from erlangen.errors import ErlangenError, NotFiniteError, ShapeError


def root_branch(coefficients: ArrayLike, start: complex, *, clear: float = 0.5) -> NDArray[np.complex128]:
    """Follow one root of a polynomial whose coefficients change step by step.

    >>> t = np.linspace(0, np.pi, 50)  # z^2 = exp(2 i t), from z = 1: half a turn of z for a whole one of its square
    >>> path = np.stack([np.ones(50), np.zeros(50), -np.exp(2j * t)], 1)
    >>> bool(abs(root_branch(path, 1.0)[-1] + 1) < 1e-12)
    True

    At each step the root nearest to the last one is taken, and the step is refused where another root is nearly as near:
    two branches that meet, or too coarse a path.

    Args:
        coefficients: ``[T, n + 1]``, highest power first, as in `numpy.roots`; real or complex, the first not zero.
        start: near the wanted root of the first polynomial.
        clear: the chosen root has to be nearer than this share of the distance to the next one.

    Returns:
        The roots, complex ``[T]``, each polished by Newton's method.

    Raises:
        ShapeError: `coefficients` is no matrix with at least two columns.
        NotFiniteError: a coefficient is NaN or infinite.
        ErlangenError: a leading coefficient is zero, or two roots cannot be told apart.
    """
    table = np.asarray(coefficients, dtype=np.complex128)
    if table.ndim != 2 or table.shape[1] < 2 or not len(table):
        raise ShapeError(f"coefficients have the shape {table.shape}; give [T, n + 1], highest power first")
    if not np.isfinite(table).all():
        raise NotFiniteError("coefficients have NaN or infinite entries; leave these steps of the path out")
    if (table[:, 0] == 0).any():
        raise ErlangenError(
            f"coefficients[{int(np.argmax(table[:, 0] == 0))}, 0] is zero; a root goes to infinity there"
        )
    found, last = np.empty(len(table), dtype=np.complex128), complex(start)
    for step, roots in enumerate(_all_roots(table)):
        order = np.argsort(abs(roots - last))
        near = roots[order[0]]
        if len(roots) > 1:
            other = roots[order[1]]
            if abs(near - last) > clear * abs(other - last) or abs(near - other) < 1e-12 * abs(near):
                raise ErlangenError(
                    f"coefficients[{step}]: the roots {near:.6g} and {other:.6g} are about as far from the last one, "
                    f"{last:.6g}; take smaller steps, or a path that goes around the branch point"
                )
        found[step] = last = complex(near)
    value, slope = np.zeros_like(found), np.zeros_like(found)
    for column in table.T:  # Horner's rule for the polynomial and its derivative
        value, slope = value * found + column, slope * found + value
    step = np.divide(value, slope, out=np.zeros_like(value), where=slope != 0)
    found -= step
    return found


def _all_roots(table: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Eigenvalues of the companion matrices, ``[T, n]``."""
    degree = table.shape[1] - 1
    companion = np.zeros((len(table), degree, degree), dtype=np.complex128)
    companion[:, 0] = -table[:, 1:] / table[:, :1]
    rows = np.arange(degree - 1)
    companion[:, rows + 1, rows] = 1
    return np.asarray(np.linalg.eigvals(companion), dtype=np.complex128)
