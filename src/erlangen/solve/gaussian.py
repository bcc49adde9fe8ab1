"""Expectations over a standard normal variable, by nodes and weights."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from erlangen.errors import ErlangenError, UnknownNameError, check_integer


def normal_nodes(
    n: int, rule: Literal["hermite", "uniform"] = "hermite", *, reach: float = 8.5
) -> tuple[Tensor, Tensor]:
    """Nodes z and weights w of ``E f(z) = sum w f(z)`` for a standard normal z.

    >>> z, w = normal_nodes(20)
    >>> round(float((w * z**4).sum()), 12)
    3.0
    >>> z, w = normal_nodes(400, "uniform")
    >>> round(float((w * z.abs()).sum() / (2 / torch.pi) ** 0.5), 3)  # a kink
    1.0

    Args:
        n: how many.
        rule: "hermite" is exact for polynomials of degree 2n - 1, and wrong in the third digit for a kink, however large n is;
            "uniform" is the trapezoidal rule, which resolves whatever is wider than a few steps.
        reach: ends of the uniform grid.

    Returns:
        Two tensors ``[n]``, float64; the weights add up to one.

    Raises:
        UnknownNameError: another rule.
        ErlangenError: n below 1 (2 for a grid), or `reach` is not positive.
    """
    if rule == "hermite":
        import numpy as np

        check_integer("n", n, 1)
        z, w = np.polynomial.hermite_e.hermegauss(n)
        return torch.from_numpy(z), torch.from_numpy(w / w.sum())
    if rule != "uniform":
        raise UnknownNameError(f"rule = {rule!r}: choose 'hermite' or 'uniform'")
    check_integer("n", n, 2)
    if not (math.isfinite(reach) and reach > 0):
        raise ErlangenError(f"reach = {reach}: give a positive number")
    z = torch.linspace(-reach, reach, n, dtype=torch.float64)
    w = torch.exp(-z * z / 2)
    return z, w / w.sum()


def log_cosh(x: Tensor) -> Tensor:
    """``log cosh x`` without overflow.

    >>> round(float(log_cosh(torch.tensor(1000.0, dtype=torch.float64))), 9)
    999.306852819
    """
    size = x.abs()
    return size + torch.log1p(torch.exp(-2 * size)) - math.log(2)
