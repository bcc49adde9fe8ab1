"""Configurations of vectors: simplices and frames, how coherent they are, and how far two of them lie apart up to O(d).

Rows are vectors. What is measured here does not change when all rows are turned by one Q in O(d).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from erlangen.errors import ErlangenError, ShapeError, check_finite, check_floating, check_integer, first_index
from erlangen.geometry._nearest import nearest_rotation


def simplex_etf(n: int, dim: int | None = None, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """The n corners of a regular simplex about zero, unit rows ``[n, dim]``: every two have the cosine -1/(n - 1).

    >>> W = simplex_etf(4)
    >>> W.shape, torch.allclose(W @ W.mT, (4 * torch.eye(4) - 1).double() / 3)
    (torch.Size([4, 3]), True)

    The simplex is the equiangular tight frame that neural collapse ends in (Papyan, Han and Donoho 2020).

    Args:
        n: vectors, at least 2.
        dim: at least n - 1, which is the default; what is beyond is zero.
        dtype: of the result; computed in float64.

    Raises:
        ErlangenError: fewer than two vectors, or too small a `dim`.
    """
    check_integer("n", n, 2)
    dim = (
        n - 1
        if dim is None
        else check_integer("dim", dim, n - 1, hint=f"{n} corners of a simplex span {n - 1} dimensions")
    )
    # Helmert's rows are an orthonormal basis of the complement of the ones vector; the corners are its columns, scaled.
    k = torch.arange(1, n, dtype=torch.float64)
    helmert = torch.tril(torch.ones(n - 1, n, dtype=torch.float64))
    helmert[torch.arange(n - 1), torch.arange(1, n)] = -k
    helmert = helmert / (k * (k + 1)).sqrt()[:, None]
    corners = helmert.mT * math.sqrt(n / (n - 1))
    return torch.nn.functional.pad(corners, (0, dim - n + 1)).to(dtype)


def orthogonal_frame(
    lengths: Tensor | Sequence[float] | int,
    dim: int | None = None,
    *,
    generator: Generator | None = None,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Orthogonal rows ``[n, dim]`` of given lengths (a general orthogonal frame where these differ).

    >>> orthogonal_frame([3.0, 0.0, 1.0]).norm(dim=1).tolist()
    [3.0, 0.0, 1.0]

    Args:
        lengths: ``[n]``, none negative, or n for unit rows.
        dim: at least n, the default.
        generator: draws the frame from the uniform (Haar) measure; without it the rows lie along the axes.
        dtype: of the result; computed in float64.

    Raises:
        ErlangenError: a negative length, or too small a `dim`.
        NotFiniteError: NaN or Inf among the lengths.
    """
    if isinstance(lengths, int):
        lengths = torch.ones(check_integer("lengths", lengths, 1), dtype=torch.float64)
    lengths = torch.as_tensor(lengths, dtype=torch.float64)
    if lengths.ndim != 1 or not len(lengths):
        raise ShapeError(f"lengths has shape {tuple(lengths.shape)}; give [n] or a number of unit vectors")
    check_finite(lengths, "lengths")
    if bool((lengths < 0).any()):
        index = first_index(lengths < 0)[0]
        raise ErlangenError(f"lengths[{index}] = {float(lengths[index])}: a length is not negative")
    n = len(lengths)
    dim = n if dim is None else check_integer("dim", dim, n, hint=f"{n} orthogonal vectors need {n} dimensions")
    frame = torch.eye(n, dim, dtype=torch.float64)
    if generator is not None:
        Q, R = torch.linalg.qr(torch.randn(dim, n, generator=generator, dtype=torch.float64))
        frame = (Q * R.diagonal().sign()).mT  # the signs make the factorisation unique, hence Q uniform
    return (lengths[:, None] * frame).to(dtype)


def coherence(W: Tensor, *, signed: bool = False) -> Tensor:
    """The largest cosine between two rows of ``[..., n, d]``, by absolute value (lines) or with its sign (directions).

    >>> coherence(simplex_etf(3)).item(), coherence(simplex_etf(3), signed=True).item()  # doctest: +ELLIPSIS
    (0.5..., -0.5...)

    Raises:
        ShapeError: fewer than two rows.
        ErlangenError: a row of zeros; it has no direction.
    """
    cosines = _cosines(W)
    values = cosines if signed else cosines.abs()
    n = W.shape[-2]
    return values.masked_fill(torch.eye(n, dtype=torch.bool, device=W.device), -torch.inf).amax((-2, -1))


def frame_potential(W: Tensor) -> Tensor:
    """Sum of the squared cosines of all pairs of rows of ``[..., n, d]``, each with itself too.

    At least n^2/d, with equality for tight frames, and at least n (Benedetto and Fickus 2003).
    """
    return _cosines(W).square().sum((-2, -1))


def welch_bound(n: int, dim: int) -> float:
    """No n lines in R^dim have a smaller coherence: sqrt((n - dim)/(dim (n - 1))), 0 where n <= dim (Welch 1974).

    >>> welch_bound(4, 3)  # the simplex
    0.3333333333333333
    """
    check_integer("n", n, 1)
    check_integer("dim", dim, 1)
    return 0.0 if n <= dim else math.sqrt((n - dim) / (dim * (n - 1)))


def gram_distance(X: Tensor, Y: Tensor, *, scaled: bool = True) -> Tensor:
    """How far two configurations ``[..., n, d]`` and ``[..., n, e]`` are from one another up to O(d): by their Gram matrices.

    >>> X = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> Q = orthogonal_frame(3, generator=torch.Generator().manual_seed(1))
    >>> bool(gram_distance(X, 2 * X @ Q) < 1e-12)
    True

    Args:
        X: rows; the order of the rows counts, the space that they lie in does not (d and e may differ).
        Y: rows, as many.
        scaled: divide both Gram matrices by their Frobenius norms first, so that a common factor does not count.

    Returns:
        Frobenius norms ``[...]`` of the difference, between 0 and 2 where scaled.

    Raises:
        ShapeError: different numbers of rows.
        ErlangenError: a configuration of zeros where scaled.
    """
    for name, A in (("X", X), ("Y", Y)):
        _check_rows(A, name)
    if X.shape[-2] != Y.shape[-2]:
        raise ShapeError(f"X has {X.shape[-2]} rows and Y {Y.shape[-2]}; configurations are compared row by row")
    grams = [A @ A.mT for A in (X, Y)]
    if scaled:
        norms = [gram.flatten(-2).norm(dim=-1) for gram in grams]
        for name, norm in zip("XY", norms, strict=True):
            if bool((norm == 0).any()):
                raise ErlangenError(
                    f"{name}{list(first_index(norm == 0)) or ''} is zero and has no shape; use scaled=False"
                )
        grams = [gram / norm[..., None, None] for gram, norm in zip(grams, norms, strict=True)]
    return (grams[0] - grams[1]).flatten(-2).norm(dim=-1)


def principal_angles(U: Tensor, V: Tensor) -> Tensor:
    """Angles between the spaces that the columns of ``[..., d, p]`` and ``[..., d, q]`` span, ascending, in radians.

    >>> principal_angles(torch.eye(3)[:, :2], torch.eye(3)[:, 1:]).tolist()  # doctest: +ELLIPSIS
    [0.0, 1.57...]

    Small angles come from sines and large ones from cosines, so both are right to the last digits (Björck and Golub 1973).

    Raises:
        ShapeError: columns in different spaces, or more columns than dimensions.
        ErlangenError: columns that depend on one another.
    """
    large, small = _basis(U, "U"), _basis(V, "V")
    if large.shape[-2] != small.shape[-2]:
        raise ShapeError(f"U lies in {large.shape[-2]} dimensions and V in {small.shape[-2]}; give both [..., d, p]")
    if large.shape[-1] < small.shape[-1]:
        large, small = small, large
    inner = large.mT @ small
    cosines = torch.linalg.svdvals(inner).clamp(max=1.0)
    sines = torch.linalg.svdvals(small - large @ inner).clamp(max=1.0).flip(-1)
    return torch.where(cosines > math.sqrt(0.5), sines.asin(), cosines.acos())


def subspace_similarity(U: Tensor, V: Tensor) -> Tensor:
    """Mean squared cosine of the principal angles, ``[...]``: 1 where one space holds the other, 0 where they are orthogonal."""
    return principal_angles(U, V).cos().square().mean(-1)


def procrustes(X: Tensor, Y: Tensor, *, proper: bool = False) -> Tensor:
    """The orthogonal ``[..., d, d]`` R that brings ``X @ R.mT`` closest to Y, both ``[..., n, d]`` (Schönemann 1966).

    >>> X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> R = orthogonal_frame(3, generator=torch.Generator().manual_seed(1))
    >>> torch.allclose(procrustes(X, X @ R.mT), R)
    True

    Weights, shifts and scales, and how well the points determine them: `erlangen.geometry.align`.

    Args:
        X: rows.
        Y: rows, as many.
        proper: rotations alone (Kabsch 1976).

    Raises:
        ShapeError: different shapes.
    """
    for name, A in (("X", X), ("Y", Y)):
        _check_rows(A, name)
    if X.shape[-2:] != Y.shape[-2:]:
        raise ShapeError(f"X has shape {tuple(X.shape)} and Y {tuple(Y.shape)}; rows correspond to rows")
    return nearest_rotation(Y.mT @ X, proper=proper)[0]


def _check_rows(A: Tensor, name: str) -> None:
    if A.ndim < 2 or not A.shape[-1]:
        raise ShapeError(f"{name} has shape {tuple(A.shape)}; give vectors as rows [..., n, d]")
    check_floating(A, name)
    check_finite(A, name)


def _cosines(W: Tensor) -> Tensor:
    _check_rows(W, "W")
    if W.shape[-2] < 2:
        raise ShapeError(f"W has shape {tuple(W.shape)}; an angle needs two rows at least")
    norms = W.norm(dim=-1, keepdim=True)
    if bool((norms == 0).any()):
        raise ErlangenError(f"W{list(first_index(norms[..., 0] == 0))} is zero and has no direction; remove the row")
    unit = W / norms
    return unit @ unit.mT


def _basis(U: Tensor, name: str) -> Tensor:
    _check_rows(U, name)
    if U.shape[-1] > U.shape[-2]:
        raise ShapeError(
            f"{name} has shape {tuple(U.shape)}: more columns than dimensions; vectors that span are columns"
        )
    Q, R = torch.linalg.qr(U)
    diagonal = R.diagonal(dim1=-2, dim2=-1).abs()
    loose = diagonal <= 10 * torch.finfo(U.dtype).eps * U.shape[-2] * diagonal.amax(-1, keepdim=True)
    if bool(loose.any()):
        raise ErlangenError(
            f"{name}: column {first_index(loose)[-1]} depends on those before it; give independent columns"
        )
    return Q
