"""What an error is measured against: the size of the answers, or how much they vary from sample to sample."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from erlangen.actions import Tree, tree_leaves, tree_map
from erlangen.errors import UnknownNameError
from erlangen.measure.checks import float_dtype, take
from erlangen.measure.evaluate import squares
from erlangen.measure.models import Model
from erlangen.symmetry import Symmetry

Scale = Literal["norm", "spread"]

ROUNDING = 8
"""Machine epsilons of the answer's size that rounding may add to an error."""


def check_scale(scale: str) -> None:
    """Raise unless the name is known."""
    if scale not in ("norm", "spread"):
        raise UnknownNameError(f"scale = {scale!r} is not known; choose 'norm' or 'spread'")


def spread_factors(model: Model, symmetry: Symmetry, elements: Tensor, x: Tree, width: int = 256) -> Tensor | None:
    """``||f(x_b)|| / spread`` of every sample ``[B]``: errors relative to the norm times these are relative to the spread.

    The spread is ``sqrt(sum_b ||f(x_b) - mean f||^2 / (B - 1))``: what the answers vary by. An offset, such as the total
    energy of atoms, is in the norm and not in the spread. ``None`` where there is no spread to compare with: one sample, a
    function that is constant up to rounding, class labels, and resampled answers, whose errors run over known entries alone.
    """
    count = tree_leaves(x)[0].shape[0]
    answers = [model(take(x, slice(start, start + width))) for start in range(0, count, width)]
    answer = tree_map(lambda *leaves: torch.cat(leaves)[None], *answers)
    size = squares(answer)[0].cpu()
    if count == 1 or not all(leaf.is_floating_point() for leaf in tree_leaves(answer)):
        return None
    if symmetry.output.mask(elements[:1, None].to(tree_leaves(answer)[0].device), answer) is not None:
        return None
    # In float64: the mean of many float32 energies would lose the digits in which they differ.
    centred = tree_map(lambda leaf: leaf.double() - leaf.double().mean(1, keepdim=True), answer)
    spread = float(squares(centred).sum()) / (count - 1)
    if spread <= (rounding_of(x) ** 2) * float(size.mean()):
        return None
    return (torch.where(size > 0, size, 1.0) / spread).sqrt()


def rounding_of(x: Tree) -> float:
    """Relative error that rounding may make."""
    return ROUNDING * torch.finfo(float_dtype(x)).eps
