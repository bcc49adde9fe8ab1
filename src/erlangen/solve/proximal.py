"""Minimisers of one number that is pulled to data and pressed towards zero."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from erlangen.errors import ErlangenError, ShapeError, check_finite, check_floating, first_index

STEPS = 60
"""Newton's method ends to the last digit long before, but near a double root, where each step only halves the distance."""


def power_prox(y: Tensor, weight: Tensor | float, power: float) -> Tensor:
    """The z >= 0 that minimises ``(z - y)^2 / 2 + weight z^power`` over all of them, for each entry of `y`.

    >>> power_prox(torch.tensor([0.5, 3.0], dtype=torch.float64), 1.0, 1.0).tolist()  # soft threshold
    [0.0, 2.0]
    >>> z = power_prox(torch.tensor([1.4, 3.0], dtype=torch.float64), 1.0, 0.5)
    >>> bool(z[0] == 0), bool((z[1] - 3 + 0.5 / z[1].sqrt()).abs() < 1e-12)
    (True, True)

    On singular values this is the proximal map of the Schatten quasi-norm: layers of a deep linear map that are each decayed
    press on their product by the power 2 / (layers). For a power below one the answer jumps from zero.

    Args:
        y: of any shape; a negative entry gives zero.
        weight: at least zero; broadcasts against `y`.
        power: above 0, at most 1.

    Raises:
        ErlangenError: a negative weight, or another power.
    """
    check_floating(y, "y")
    check_finite(y, "y")
    w = torch.as_tensor(weight, dtype=y.dtype, device=y.device)
    check_finite(w, "weight")
    if bool((w < 0).any()):
        raise ErlangenError(f"weight{list(first_index(w < 0)) or ''} is negative; what presses to zero is not")
    if not (math.isfinite(power) and 0 < power <= 1):
        raise ErlangenError(f"power = {power}; give one above 0 and at most 1")
    try:
        y, w = torch.broadcast_tensors(y, w)
    except RuntimeError:
        raise ShapeError(f"y has shape {tuple(y.shape)} and weight {tuple(w.shape)}, which do not broadcast") from None
    y = y.clamp(min=0)
    if power == 1:
        return (y - w).clamp(min=0)
    # The derivative is convex; it rises right of its lowest point, so that Newton's steps from y fall to the largest root.
    lowest = (w * power * (1 - power)).pow(1 / (2 - power))
    z = y.clone()
    for _ in range(STEPS):
        slope = z - y + w * power * z.pow(power - 1)
        bend = 1 - w * power * (1 - power) * z.pow(power - 2)
        z = torch.where((z > lowest) & (bend > 0), torch.maximum(z - slope / bend, lowest), z)
    value = (z - y).square() / 2 + w * z.pow(power)
    return torch.where((z > lowest) & (value < y.square() / 2), z, 0.0)
