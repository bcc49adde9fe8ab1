"""Lines and directions that keep apart: equiangular tight frames by number theory, packings by descent."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from erlangen.errors import ErlangenError, ShapeError, check_finite, check_floating, check_integer

START, END = 10.0, 300.0
"""How sharply the largest cosine counts: at the first step, and at the last."""


def paley_etf(dim: int, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """2 dim unit vectors ``[2 dim, dim]`` with all cosines +-1/sqrt(2 dim - 1), the smallest coherence there can be.

    >>> W = paley_etf(3)  # the six diagonals of an icosahedron
    >>> cosines = (W @ W.mT - torch.eye(6)).abs()
    >>> bool((cosines.sum(1) - 5**0.5).abs().max() < 1e-12)
    True

    They come from the symmetric conference matrix of Paley (1933), which there is where 2 dim - 1 is a prime or its square and
    one more than a multiple of four: dim = 3, 5, 7, 9, 13, 15, 19, 21, 25, 27, ...

    Raises:
        ErlangenError: another dimension.
    """
    check_integer("dim", dim, 2)
    q = 2 * dim - 1
    character = _quadratic_character(q)
    if character is None or q % 4 != 1:
        raise ErlangenError(
            f"dim = {dim}: 2 dim - 1 = {q} is no prime or square of one that is 1 modulo 4; choose 3, 5, 7, 9, 13, ..., or "
            "use spread_vectors"
        )
    C = torch.zeros(2 * dim, 2 * dim, dtype=torch.float64)
    C[0, 1:] = C[1:, 0] = 1
    C[1:, 1:] = character
    # C^2 = (2 dim - 1) I, so half of the eigenvalues are positive; their space holds the frame.
    _, vectors = torch.linalg.eigh(C)
    return (math.sqrt(2) * vectors[:, dim:]).to(dtype)


def spread_vectors(
    n: int,
    dim: int,
    *,
    signed: bool = False,
    steps: int = 400,
    lr: float = 0.02,
    fixed: Tensor | None = None,
    generator: Generator | None = None,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """n unit vectors ``[n, dim]`` whose largest cosine is small, by descent from random ones.

    >>> from erlangen.geometry import coherence, welch_bound
    >>> W = spread_vectors(6, 3, generator=torch.Generator().manual_seed(0))
    >>> bool(coherence(W) < 1.02 * welch_bound(6, 3))
    True

    What is minimised is a smooth maximum of the cosines of all pairs, which sharpens from step to step, by Adam with a rate that
    falls to zero; the best vectors of all steps are returned. A local minimum is what comes out.

    Args:
        n: vectors, with those that are fixed.
        dim: at least 1.
        signed: keep directions apart, by the largest cosine; else lines, by the largest absolute one.
        steps: of Adam.
        lr: rate at the first step.
        fixed: the first rows ``[m, dim]``, unit vectors that stay as they are, bit for bit.
        generator: of the random start.
        dtype: of the result; float32 computes in float32, anything else in float64.

    Raises:
        ErlangenError: fixed rows that are no unit vectors, or more than n.
    """
    check_integer("n", n, 2)
    check_integer("dim", dim, 1)
    check_integer("steps", steps, 0)
    inside = torch.float32 if dtype == torch.float32 else torch.float64
    kept = torch.zeros(0, dim, dtype=inside) if fixed is None else _checked(fixed, n, dim).to(inside)
    free = torch.randn(n - len(kept), dim, generator=generator, dtype=torch.float64).to(inside)
    free.requires_grad_()
    eye = 2 * torch.eye(n, dtype=inside)
    optimizer = torch.optim.Adam([free], lr=lr)

    def rows() -> Tensor:
        return torch.cat([kept, free / free.norm(dim=-1, keepdim=True)])

    best, least = rows().detach(), math.inf
    for step in range(steps + 1):
        W = rows()
        cosines = W @ W.mT
        sizes = (cosines if signed else cosines.abs()) - eye
        largest = float(sizes.detach().max())
        if largest < least:
            best, least = W.detach(), largest
        if step == steps or not len(free):
            break
        done = step / steps
        sharp = START * (END / START) ** done
        optimizer.param_groups[0]["lr"] = lr * (1 - done)
        optimizer.zero_grad()
        (torch.logsumexp(sharp * sizes.flatten(), 0) / sharp).backward()
        optimizer.step()
    found = best.to(dtype)
    if fixed is not None:
        found = torch.cat([fixed.to(dtype), found[len(fixed) :]])
    return found


def _checked(fixed: Tensor, n: int, dim: int) -> Tensor:
    check_floating(fixed, "fixed")
    check_finite(fixed, "fixed")
    if fixed.ndim != 2 or fixed.shape[1] != dim or len(fixed) > n:
        raise ShapeError(f"fixed has shape {tuple(fixed.shape)}; give at most n = {n} rows of dim = {dim}")
    lengths = fixed.detach().double().norm(dim=-1)
    if len(fixed) and float((lengths - 1).abs().max()) > 1e-5:
        row = int((lengths - 1).abs().argmax())
        raise ErlangenError(f"fixed[{row}] has length {float(lengths[row]):.6g}; divide the rows by their lengths")
    return fixed.detach()


def _quadratic_character(q: int) -> Tensor | None:
    """chi(a - b) ``[q, q]`` of the field of q elements: 1 for squares, -1 for others, 0 on the diagonal; None without a field."""
    root = math.isqrt(q)
    p, degree = (root, 2) if root * root == q else (q, 1)
    if p < 3 or any(p % k == 0 for k in range(2, math.isqrt(p) + 1)):
        return None
    roots = {x * x % p for x in range(1, p)}
    r = next(x for x in range(2, p) if x not in roots)  # the field of p^2 elements adds a square root of it
    elements = [(a, b) for b in range(p if degree == 2 else 1) for a in range(p)]
    squares = {((a * a + r * b * b) % p, 2 * a * b % p) for a, b in elements} - {(0, 0)}
    table = torch.zeros(q, q, dtype=torch.float64)
    for i, (a, b) in enumerate(elements):
        for j, (c, d) in enumerate(elements):
            if i != j:
                table[i, j] = 1.0 if ((a - c) % p, (b - d) % p) in squares else -1.0
    return table
