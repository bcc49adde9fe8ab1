"""Equiangular basis vectors: a classifier head without learned weights, one fixed unit vector for each class.

Shen, Sun and Wei (2023). All |w_i . w_j| are at most a small alpha; what a network says of class k is the cosine of its output
with w_k, over a temperature.
"""

from __future__ import annotations

import math
import warnings

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from erlangen.errors import (
    CollapseWarning,
    DataError,
    ErlangenError,
    NotConvergedWarning,
    ShapeError,
    check_finite,
    check_floating,
    check_integer,
    first_index,
)
from erlangen.geometry import coherence, orthogonal_frame, paley_etf, simplex_etf, spread_vectors, welch_bound
from erlangen.symmetry import Symmetry
from erlangen.tracing import is_traced

SLACK = 1e-4
"""How far above its threshold the generation of the paper may stop."""


class EquiangularHead(nn.Module):
    """Logits ``[B, K]`` of outputs ``[B, dim]``: cosines with fixed vectors over a temperature. Nothing in it is trained.

    >>> head = EquiangularHead(equiangular_basis(10, 16))
    >>> len(list(head.parameters())), head(torch.randn(4, 16)).shape
    (0, torch.Size([4, 10]))

    The vectors are a buffer, saved with the state and restored bit for bit. An output of length zero has no direction; all its
    logits are zero, and `CollapseWarning` says so.

    Args:
        basis: unit vectors ``[K, dim]``.
        temperature: above zero.
        normalise: divide the rows of the basis by their lengths first.

    Raises:
        ErlangenError: rows that are no unit vectors, or a temperature that is not positive.
    """

    basis: Tensor

    def __init__(self, basis: Tensor, temperature: float = 0.07, *, normalise: bool = False) -> None:
        super().__init__()
        if basis.ndim != 2 or not basis.numel():
            raise ShapeError(f"basis has shape {tuple(basis.shape)}; give unit vectors [K, dim]")
        check_floating(basis, "basis")
        check_finite(basis, "basis")
        if not (math.isfinite(temperature) and temperature > 0):
            raise ErlangenError(f"temperature = {temperature}; give a positive number")
        lengths = basis.double().norm(dim=-1)
        if normalise:
            if bool((lengths == 0).any()):
                raise ErlangenError(
                    f"basis[{first_index(lengths == 0)[0]}] has length 0 and no direction; remove the row"
                )
            basis = (basis.double() / lengths[:, None]).to(basis.dtype)
        elif float((lengths - 1).abs().max()) > 10 * torch.finfo(basis.dtype).eps ** 0.75:
            row = int((lengths - 1).abs().argmax())
            raise ErlangenError(f"basis[{row}] has length {float(lengths[row]):.6g}, not 1; pass normalise=True")
        self.temperature = temperature
        self.register_buffer("basis", basis.detach().clone())
        self.symmetry = Symmetry(f"Scaling({basis.shape[1]})", input="vectors", output="invariant")

    @override
    def forward(self, features: Tensor) -> Tensor:
        return self.cosines(features) / self.temperature

    def cosines(self, features: Tensor) -> Tensor:
        """Cosines ``[..., K]``; in float32 at least, because a small temperature makes much of rounding."""
        if features.shape[-1:] != self.basis.shape[1:]:
            raise ShapeError(
                f"features has shape {tuple(features.shape)}; the basis has vectors of {self.basis.shape[1]}"
            )
        exact = torch.promote_types(torch.promote_types(features.dtype, self.basis.dtype), torch.float32)
        features, lengths = features.to(exact), features.to(exact).norm(dim=-1, keepdim=True)
        if not is_traced():
            _tell_zeros(lengths)
        direction = features / torch.where(lengths > 0, lengths, 1.0)
        return direction @ self.basis.to(exact).mT

    def predict(self, features: Tensor) -> Tensor:
        """The class ``[...]`` with the largest cosine, which is the one at the smallest angle."""
        return self.cosines(features).argmax(-1)

    def loss(self, features: Tensor, target: Tensor, *, label_smoothing: float = 0.1) -> Tensor:
        """Cross-entropy of the logits with classes ``[B]``, or with shares of classes ``[B, K]`` as mixed pictures have them.

        Raises:
            DataError: a class that there is not, shares that do not sum to one, or as many shares as dimensions where K is meant.
        """
        K = len(self.basis)
        if target.is_floating_point():
            if target.shape[-1:] != (K,):
                raise DataError(
                    f"target has shape {tuple(target.shape)}; shares are of {K} classes, whatever the width is"
                )
            if not bool(((target.sum(-1) - 1).abs() <= 1e-3).all() & (target >= 0).all()):  # NaN is neither
                raise DataError(
                    "target has shares that do not sum to 1, or are negative; mix one-hot labels by weights that do and are not"
                )
        elif bool(((target < 0) | (target >= K)).any()):
            index = first_index((target < 0) | (target >= K))
            raise DataError(f"target{list(index)} = {int(target[index])}, but classes are 0 to {K - 1}")
        return nn.functional.cross_entropy(self(features), target, label_smoothing=label_smoothing)


def _tell_zeros(lengths: Tensor) -> None:
    if bool((lengths == 0).any()):
        where = first_index(lengths[..., 0] == 0)
        warnings.warn(
            f"features{list(where)} is zero and has no direction; its logits are 0", CollapseWarning, stacklevel=4
        )


def coherence_loss(W: Tensor, threshold: float, *, slice_rows: int | None = None) -> Tensor:
    """What the paper's generation descends: the sum of relu(|w_i . w_j| - threshold) over all ordered pairs i != j.

    Zero exactly where all pairs are within the threshold. The rows enter as they are; `generate_basis` keeps them at length one.

    Args:
        W: ``[K, dim]``.
        threshold: tau.
        slice_rows: rows that are multiplied at a time, for less memory; all of them without it.

    Raises:
        ShapeError: W is no matrix.
        ErlangenError: no rows at a time.
    """
    if W.ndim != 2 or not W.numel():
        raise ShapeError(f"W has shape {tuple(W.shape)}; give vectors [K, dim]")
    if slice_rows is not None:
        check_integer("slice_rows", slice_rows, 1)
    total = W.new_zeros(())
    for rows in torch.arange(len(W), device=W.device).split(slice_rows or len(W)):
        sizes = (W[rows] @ W.mT).abs()
        others = torch.arange(len(W), device=W.device) != rows[:, None]
        total = total + (torch.relu(sizes - threshold) * others).sum()
    return total


def generate_basis(
    n_classes: int,
    dim: int,
    threshold: float,
    *,
    steps: int = 100_000,
    lr: float = 1e-3,
    slice_rows: int = 130,
    generator: Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, int]:
    """The paper's generation: random unit vectors, steps down `coherence_loss`, each followed by a projection to length one.

    Returns:
        The vectors ``[n_classes, dim]``, with all |cosines| at most ``threshold + 1e-4``, and the number of steps it took. They
        are found in `dtype`, or in float64 and rounded at the end where that is half precision.

    Raises:
        ErlangenError: a threshold below the Welch bound, or a rate that is not positive.

    Warns with `NotConvergedWarning` where the steps are spent before.
    """
    _check_alpha(n_classes, dim, threshold, "threshold")
    check_integer("steps", steps, 0)
    if not 0 < lr < math.inf:
        raise ErlangenError(f"lr = {lr}; give a positive number")
    inside = torch.float32 if dtype == torch.float32 else torch.float64
    rows = torch.randn(n_classes, dim, generator=generator, dtype=torch.float64).to(inside)
    rows = rows / rows.norm(dim=-1, keepdim=True)
    for step in range(steps + 1):
        largest = float((rows @ rows.mT).abs().fill_diagonal_(0).max())
        if largest <= threshold + SLACK:
            return rows.to(dtype), step
        if step == steps:
            warnings.warn(
                f"after {steps} steps the largest |cosine| is {largest:.4f}, over the threshold {threshold}; take more "
                "steps, or a larger threshold",
                NotConvergedWarning,
                stacklevel=2,
            )
            break
        rows.requires_grad_()
        (slope,) = torch.autograd.grad(coherence_loss(rows, threshold, slice_rows=slice_rows), rows)
        moved = rows.detach() - lr * slope
        rows = moved / moved.norm(dim=-1, keepdim=True)
    return rows.to(dtype), steps


def equiangular_basis(
    n_classes: int,
    dim: int,
    *,
    alpha: float | None = None,
    signed: bool = False,
    steps: int = 400,
    generator: Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Unit vectors ``[n_classes, dim]`` of small coherence: exact where a construction is known, else by descent.

    >>> round(coherence(equiangular_basis(6, 3, dtype=torch.float64)).item(), 6)  # the diagonals of an icosahedron
    0.447214

    Orthonormal for K <= dim, the simplex for K = dim + 1, Paley's frame for K = 2 dim where there is one; all in float64.

    Args:
        n_classes: K.
        dim: width of the network's output.
        alpha: largest |cosine| (cosine, where signed) that is allowed.
        signed: keep directions apart and not lines: for K <= dim + 1 then the simplex, whose cosines are -1 / (K - 1).
        steps, generator: of the descent.
        dtype: of the result.

    Raises:
        ErlangenError: an alpha below the Welch bound (the message names the width that could do), or that the descent misses.
    """
    check_integer("n_classes", n_classes, 1)
    check_integer("dim", dim, 1)
    if alpha is not None:
        _check_alpha(n_classes, dim, alpha, "alpha", signed=signed)
    if n_classes == 1 or (n_classes <= dim and not signed):
        basis = orthogonal_frame(n_classes, dim, generator=generator)
    elif n_classes <= dim + 1:
        basis = simplex_etf(n_classes, dim)
    elif n_classes == 2 * dim and not signed and _has_paley(dim):
        basis = paley_etf(dim)
    else:
        basis = spread_vectors(n_classes, dim, signed=signed, steps=steps, generator=generator)
    if alpha is not None and n_classes > 1 and (reached := float(coherence(basis, signed=signed))) > alpha + 1e-6:
        raise ErlangenError(
            f"alpha = {alpha}: the vectors found have {reached:.4f}; take more steps, or a larger alpha or width"
        )
    return basis.to(dtype)


def extend_basis(
    basis: Tensor, more: int, *, signed: bool = False, steps: int = 400, generator: Generator | None = None
) -> Tensor:
    """A basis with `more` vectors for new classes; the old ones stay, bit for bit, and with them the old cosines.

    Args:
        basis: unit vectors ``[K, dim]``.
        more: vectors that are added.
        signed, steps, generator: as for `equiangular_basis`.

    Raises:
        ShapeError, ErlangenError: a basis that is no matrix, or rows that are no unit vectors.
    """
    check_integer("more", more, 1)
    if basis.ndim != 2 or not basis.numel():
        raise ShapeError(f"basis has shape {tuple(basis.shape)}; give unit vectors [K, dim]")
    n, dim = basis.shape
    return spread_vectors(
        n + more, dim, signed=signed, steps=steps, fixed=basis, generator=generator, dtype=basis.dtype
    )


def _has_paley(dim: int) -> bool:
    try:
        paley_etf(dim)
    except ErlangenError:
        return False
    return True


def _check_alpha(n_classes: int, dim: int, alpha: float, name: str, *, signed: bool = False) -> None:
    floor = -1.0 if signed else 0.0
    if not floor <= alpha <= 1:
        raise ErlangenError(
            f"{name} = {alpha}: give the largest {'cosine' if signed else '|cosine|'}, from {floor:g} to 1"
        )
    if n_classes == 1:
        return
    if signed:
        # Unit vectors have sum_ij w_i . w_j >= 0, so the mean of the cosines of pairs is at least -1 / (K - 1); more than
        # dim + 1 directions cannot all keep apart by more than a right angle.
        least = -1 / (n_classes - 1) if n_classes <= dim + 1 else 0.0
        if alpha < least - 1e-12:
            raise ErlangenError(
                f"{name} = {alpha}: of {n_classes} directions in {dim} dimensions two have a cosine of at least {least:.4f}"
            )
        return
    least = welch_bound(n_classes, dim)
    if alpha < least - 1e-12:
        enough = next(d for d in range(1, n_classes + 1) if welch_bound(n_classes, d) <= alpha)
        raise ErlangenError(
            f"{name} = {alpha}: {n_classes} lines in {dim} dimensions have a |cosine| of at least {least:.4f} (Welch "
            f"bound); {name} takes dim = {enough} at least"
        )
